package cri

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/clock"
)

const (
	defaultPeriod = 10 * time.Second // relist beside the event stream
	blindPeriod   = time.Second      // relist when the runtime has no event stream
	redial        = time.Second      // pause before the event stream is opened again
	refreshers    = 4
)

// CacheConfig is what a Cache needs.
type CacheConfig struct {
	Client *Client
	// Changed is called, without locks held, after the state of a pod changed.
	Changed func(types.UID)
	Clock   clock.Clock
	Log     *slog.Logger
	Period  time.Duration // of the relist; 10 s unless set
}

// Cache remembers the runtime's pods.
type Cache struct {
	cfg   CacheConfig
	ready chan struct{}

	mu     sync.Mutex
	pods   map[types.UID]entry
	ticket uint64 // numbers the reads of the runtime, so that an older answer never overwrites a newer one
	queued map[types.UID]bool
	queue  chan types.UID
	blind  bool // the runtime has no event stream
}

type entry struct {
	pod    *Pod
	ticket uint64
	digest uint64
}

// NewCache checks the configuration and returns a Cache that knows nothing until Run.
func NewCache(cfg CacheConfig) (*Cache, error) {
	if cfg.Client == nil || cfg.Changed == nil || cfg.Clock == nil || cfg.Log == nil {
		return nil, fmt.Errorf("runtime cache: Client, Changed, Clock and Log are required")
	}
	if cfg.Period == 0 {
		cfg.Period = defaultPeriod
	}
	return &Cache{
		cfg:    cfg,
		ready:  make(chan struct{}),
		pods:   map[types.UID]entry{},
		queued: map[types.UID]bool{},
		queue:  make(chan types.UID, 4096),
	}, nil
}

// Ready is closed after the first complete list.
func (c *Cache) Ready() <-chan struct{} { return c.ready }

// Get returns what is known of a pod, an empty Pod when nothing is.
func (c *Cache) Get(uid types.UID) *Pod {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.pods[uid]; ok {
		return e.pod
	}
	return &Pod{UID: uid}
}

// All returns every known pod.
func (c *Cache) All() []*Pod {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]*Pod, 0, len(c.pods))
	for _, e := range c.pods {
		out = append(out, e.pod)
	}
	return out
}

// Run keeps the cache true until ctx ends.
func (c *Cache) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.relistLoop(ctx) })
	g.Go(func() error { return c.eventLoop(ctx) })
	for range refreshers {
		g.Go(func() error { return c.refreshLoop(ctx) })
	}
	return g.Wait()
}

func (c *Cache) relistLoop(ctx context.Context) error {
	first := true
	for {
		err := c.relist(ctx)
		if err != nil && ctx.Err() == nil {
			c.cfg.Log.Warn("listing the runtime's pods", "error", err)
		}
		if err == nil && first {
			first = false
			close(c.ready)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-c.cfg.Clock.After(c.period(first)):
		}
	}
}

func (c *Cache) period(first bool) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if first || c.blind {
		return min(blindPeriod, c.cfg.Period)
	}
	return c.cfg.Period
}

func (c *Cache) eventLoop(ctx context.Context) error {
	for ctx.Err() == nil {
		err := c.readEvents(ctx)
		blind := status.Code(err) == codes.Unimplemented
		c.mu.Lock()
		if blind && !c.blind {
			c.cfg.Log.Warn("the runtime has no event stream, listing every second instead", "error", err)
		}
		c.blind = blind
		c.mu.Unlock()
		pause := redial
		if blind {
			pause = time.Minute
		}
		select {
		case <-ctx.Done():
		case <-c.cfg.Clock.After(pause):
		}
	}
	return nil
}

func (c *Cache) readEvents(ctx context.Context) error {
	stream, err := c.cfg.Client.GetContainerEvents(ctx, &runtimeapi.GetEventsRequest{})
	if err != nil {
		return err
	}
	for {
		ev, err := stream.Recv()
		if err != nil {
			return err
		}
		if uid := ev.GetPodSandboxStatus().GetMetadata().GetUid(); uid != "" && c.Get(types.UID(uid)).news(ev) {
			c.enqueue(ctx, types.UID(uid))
		}
	}
}

// news says whether an event tells something that is not known. Most events report what the agent itself did and has read.
func (p *Pod) news(ev *runtimeapi.ContainerEventResponse) bool {
	id := ev.GetContainerId()
	sandbox, container := p.sandboxByID(id), p.ByID(id)
	switch ev.GetContainerEventType() {
	case runtimeapi.ContainerEventType_CONTAINER_CREATED_EVENT:
		return sandbox == nil && container == nil
	case runtimeapi.ContainerEventType_CONTAINER_STARTED_EVENT:
		return sandbox == nil && (container == nil || !container.Running() && !container.Exited())
	case runtimeapi.ContainerEventType_CONTAINER_DELETED_EVENT:
		return sandbox != nil || container != nil
	}
	return true
}

func (c *Cache) enqueue(ctx context.Context, uid types.UID) {
	c.mu.Lock()
	dup := c.queued[uid]
	c.queued[uid] = true
	c.mu.Unlock()
	if dup {
		return
	}
	select {
	case c.queue <- uid:
	case <-ctx.Done():
	}
}

func (c *Cache) refreshLoop(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case uid := <-c.queue:
			c.mu.Lock()
			delete(c.queued, uid)
			c.mu.Unlock()
			if _, err := c.Refresh(ctx, uid); err != nil && ctx.Err() == nil {
				c.cfg.Log.Warn("reading a pod from the runtime", "uid", uid, "error", err)
			}
		}
	}
}
