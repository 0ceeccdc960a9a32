package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"sync"

	"canopus/internal/auth"
	"canopus/internal/store"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// LocalConfig says which API server of this process a Local leads to. All fields are required.
type LocalConfig struct {
	Handler http.Handler
	// Resource returns the stored resource of a kind, nil when it is not served. It is called when an informer first reads,
	// so that the API server itself may be made of parts that ask for informers.
	Resource func(schema.GroupVersionKind) *store.Resource
	// Named returns the stored resource of a name, nil when it is not served or not stored.
	Named      func(schema.GroupResource) *store.Resource
	Authorizer auth.Authorizer
	Log        *slog.Logger
}

// Local gives the parts of the server's own process access to its API.
type Local struct {
	LocalConfig
	informers informers.SharedInformerFactory // holds every informer; parts see it through a view
	running   chan struct{}                   // closed by Run

	mu   sync.Mutex
	ctx  context.Context // of Run; nil before. Informers outlive the parts that asked for them.
	read map[grant]need  // what parts asked informers for
}

// grant is one identity's need to list and watch objects of one type.
type grant struct {
	user   string
	object reflect.Type
}

// need is a grant with what it takes to check it.
type need struct {
	user   *auth.User
	object runtime.Object
}

// NewLocal checks c.
func NewLocal(c LocalConfig) (*Local, error) {
	if c.Handler == nil || c.Resource == nil || c.Named == nil || c.Authorizer == nil || c.Log == nil {
		return nil, errors.New("local client: Handler, Resource, Named, Authorizer and Log are required")
	}
	l := &Local{LocalConfig: c, running: make(chan struct{}), read: map[grant]need{}}
	// The factory's own client is never asked: every informer is made by informerFor.
	clientset, err := kubernetes.NewForConfig(l.config(&auth.User{Name: "system:apiserver"}, "informers"))
	if err != nil {
		return nil, err
	}
	l.informers = informers.NewSharedInformerFactory(clientset, 0)
	return l, nil
}

// Run runs the informers that parts ask for, before and during Run, until ctx ends. Call it once.
func (l *Local) Run(ctx context.Context) error {
	l.mu.Lock()
	l.ctx = ctx
	l.mu.Unlock()
	close(l.running)
	l.start()
	<-ctx.Done()
	l.informers.Shutdown()
	return nil
}

// start starts what was asked for and does not run yet.
func (l *Local) start() {
	l.mu.Lock()
	ctx := l.ctx
	l.mu.Unlock()
	if ctx != nil && ctx.Err() == nil {
		l.informers.StartWithContext(ctx)
	}
}

// As returns access as user. agent is the user agent, from which the API server takes the field manager's name.
func (l *Local) As(user *auth.User, agent string) (*Access, error) {
	config := l.config(user, agent)
	clientset, meta, err := clients(config)
	if err != nil {
		return nil, err
	}
	return &Access{
		Config: config, Client: clientset, Metadata: &localMetadata{meta, l, user},
		Informers: &view{local: l, user: user, asked: map[reflect.Type]cache.SharedIndexInformer{}},
	}, nil
}

func (l *Local) config(user *auth.User, agent string) *rest.Config {
	// The host is never dialled.
	config := &rest.Config{Host: "http://canopus.local", Transport: &transport{handler: l.Handler, user: user}}
	tune(config, agent)
	return config
}

// resource finds what object's type is stored as.
func (l *Local) resource(object runtime.Object) (*store.Resource, error) {
	kinds, _, err := scheme.Scheme.ObjectKinds(object)
	if err != nil {
		return nil, err
	}
	for _, kind := range kinds {
		if r := l.Resource(kind); r != nil {
			return r, nil
		}
	}
	return nil, fmt.Errorf("%s is not served", reflect.TypeOf(object))
}

func (l *Local) note(user *auth.User, object runtime.Object) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.read[grant{user.Name, reflect.TypeOf(object)}] = need{user, object}
}

// Verify checks that every identity whose informers were asked for may list and watch what it reads, as it would have to
// over HTTPS. It returns an error that names each missing permission. Call it once the authorizer is in step.
func (l *Local) Verify(ctx context.Context) error {
	l.mu.Lock()
	needs := slices.Collect(maps.Values(l.read))
	l.mu.Unlock()
	var missing []error
	for _, n := range needs {
		resource, err := l.resource(n.object)
		if err != nil {
			missing = append(missing, fmt.Errorf("informer of %s: %w", n.user.Name, err))
			continue
		}
		for _, verb := range []string{"list", "watch"} {
			decision, _, err := l.Authorizer.Authorize(ctx, &auth.Attributes{User: n.user, Verb: verb, IsResource: true,
				Group: resource.Name().Group, Resource: resource.Name().Resource})
			if err != nil || decision != auth.Allow {
				missing = append(missing, fmt.Errorf("%s may not %s %s", n.user.Name, verb, resource.Name()))
			}
		}
	}
	return errors.Join(missing...)
}
