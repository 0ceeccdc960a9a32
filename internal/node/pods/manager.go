package pods

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"

	"canopus/internal/node/bell"
	"canopus/internal/node/cgroup"
	"canopus/internal/node/cri"
	"canopus/internal/node/crispec"
	"canopus/internal/node/devices"
	"canopus/internal/node/hooks"
	"canopus/internal/node/images"
	"canopus/internal/node/objects"
	"canopus/internal/node/probe"
	"canopus/internal/node/volume"
)

// Config is what a Manager needs; all of it is required but Sandboxes.
type Config struct {
	Client        kubernetes.Interface
	Pods          cache.SharedIndexInformer // of this node's pods only
	Services      corelisters.ServiceLister
	HostIPs       []string
	Runtime       *cri.Client
	RuntimeName   string
	Cache         *cri.Cache
	Bells         *bell.Bells
	Marks         *Marks
	Objects       *objects.Watches
	Volumes       *volume.Host
	Devices       *devices.Host
	Probes        *probe.Set
	Puller        *images.Puller
	Hooks         *hooks.Runner
	Cgroups       *cgroup.Tree
	DNS           *crispec.DNS
	Paths         crispec.Paths
	ContainerLogs string // directory of symlinks to container logs
	Memory        int64  // of the node
	NodeName      string
	Node          func(context.Context) (*corev1.Node, error) // as the API has it now
	Allocatable   corev1.ResourceList                         // what all pods together may request
	Recorder      record.EventRecorder
	Clock         clock.Clock
	Log           *slog.Logger
	Sandboxes     int // made at once; chosen from the number of CPUs unless set
}

// Manager gives every pod of the node a worker.
type Manager struct {
	cfg       Config
	sandboxes chan struct{}
	wg        sync.WaitGroup

	mu      sync.Mutex
	pods    map[types.UID]*corev1.Pod
	gone    map[types.UID]bool // no longer in the API
	workers map[types.UID]*worker
	// admitted are the pods that the node has taken in, until they are gone.
	admitted map[types.UID]bool
}

// NewManager checks the configuration and starts nothing.
func NewManager(cfg Config) (*Manager, error) {
	if cfg.Client == nil || cfg.Pods == nil || cfg.Services == nil || cfg.Runtime == nil || cfg.Cache == nil || cfg.Cgroups == nil ||
		cfg.DNS == nil || cfg.Recorder == nil || cfg.Clock == nil || cfg.Log == nil || cfg.Bells == nil || cfg.Objects == nil ||
		cfg.Volumes == nil || cfg.Devices == nil || cfg.Probes == nil || cfg.Puller == nil || cfg.Marks == nil || cfg.Hooks == nil ||
		cfg.NodeName == "" || cfg.Node == nil || cfg.Allocatable == nil {
		return nil, fmt.Errorf("pods: every field of the configuration is required")
	}
	if cfg.Sandboxes <= 0 {
		cfg.Sandboxes = max(4, 2*runtime.NumCPU())
	}
	return &Manager{
		cfg: cfg, sandboxes: make(chan struct{}, cfg.Sandboxes),
		pods: map[types.UID]*corev1.Pod{}, gone: map[types.UID]bool{}, workers: map[types.UID]*worker{}, admitted: map[types.UID]bool{},
	}, nil
}

// Run works until ctx ends. Pods stay as they are then.
func (m *Manager) Run(ctx context.Context) error {
	reg, err := m.cfg.Pods.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { m.update(o) },
		UpdateFunc: func(_, o any) { m.update(o) },
		DeleteFunc: func(o any) { m.delete(o) },
	})
	if err != nil {
		return fmt.Errorf("watch pods: %w", err)
	}
	defer func() { _ = m.cfg.Pods.RemoveEventHandler(reg) }()
	// Decisions need both sides: without the runtime's containers every pod would look new, without the API's pods every
	// container would look forgotten.
	if !cache.WaitForCacheSync(ctx.Done(), reg.HasSynced) {
		return nil
	}
	select {
	case <-ctx.Done():
		return nil
	case <-m.cfg.Cache.Ready():
	}
	m.adopt(ctx)
	m.removeLeftovers(ctx)
	defer m.wg.Wait()
	m.wg.Go(func() { m.releaseLeftovers(ctx) })
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-m.cfg.Bells.StrayRings():
			for _, uid := range m.cfg.Bells.Strays() {
				m.consider(ctx, uid)
			}
		}
	}
}

func (m *Manager) update(o any) {
	pod, ok := o.(*corev1.Pod)
	if !ok {
		return
	}
	m.mu.Lock()
	m.pods[pod.UID] = pod
	delete(m.gone, pod.UID)
	m.mu.Unlock()
	m.cfg.Bells.Ring(pod.UID)
}

func (m *Manager) delete(o any) {
	if t, ok := o.(cache.DeletedFinalStateUnknown); ok {
		o = t.Obj
	}
	pod, ok := o.(*corev1.Pod)
	if !ok {
		return
	}
	m.mu.Lock()
	m.pods[pod.UID] = pod
	m.gone[pod.UID] = true
	m.mu.Unlock()
	m.cfg.Bells.Ring(pod.UID)
}

// pod returns the newest version of a pod and whether the API no longer has it.
func (m *Manager) pod(uid types.UID) (*corev1.Pod, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.pods[uid], m.gone[uid]
}

// adopt gives a worker to every pod of the API and of the runtime. Those that ran here before are taken in before any that
// is new.
func (m *Manager) adopt(ctx context.Context) {
	m.mu.Lock()
	uids := make([]types.UID, 0, len(m.pods))
	for uid, pod := range m.pods {
		uids = append(uids, uid)
		rt := m.cfg.Cache.Get(uid)
		m.admitted[uid] = pod.Status.Phase == corev1.PodRunning || len(rt.Sandboxes) > 0 || len(rt.Containers) > 0
	}
	m.mu.Unlock()
	for _, p := range m.cfg.Cache.All() {
		uids = append(uids, p.UID)
	}
	for _, uid := range uids {
		m.consider(ctx, uid)
	}
}

// consider gives a pod a worker unless it has one or there is nothing to do.
func (m *Manager) consider(ctx context.Context, uid types.UID) {
	rt := m.cfg.Cache.Get(uid)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.workers[uid] != nil {
		return
	}
	if m.pods[uid] == nil {
		if len(rt.Sandboxes) == 0 && len(rt.Containers) == 0 {
			return
		}
		m.pods[uid], m.gone[uid] = orphan(rt), true
	}
	w := newWorker(m, uid)
	w.admitted = m.admitted[uid]
	m.workers[uid] = w
	m.wg.Add(1)
	go func() {
		defer m.wg.Done()
		w.run(ctx)
		m.forget(ctx, w)
	}()
}

// forget drops a worker that has ended, and starts another if the pod came back meanwhile.
func (m *Manager) forget(ctx context.Context, w *worker) {
	m.mu.Lock()
	delete(m.workers, w.uid)
	if m.gone[w.uid] {
		delete(m.pods, w.uid)
		delete(m.gone, w.uid)
		delete(m.admitted, w.uid)
	}
	m.mu.Unlock()
	m.cfg.Bells.Forget(w.uid)
	m.cfg.Objects.Use(w.uid, nil)
	m.cfg.Probes.Leave(w.uid)
	if ctx.Err() == nil {
		m.cfg.Bells.Ring(w.uid)
	}
}

// orphan describes a pod of which only the runtime knows.
func orphan(rt *cri.Pod) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: rt.UID, Namespace: rt.Namespace, Name: rt.Name}}
	for _, st := range rt.Containers {
		if grace, ok := st.GetAnnotations()[cri.AnnotationGracePeriod]; ok && pod.Spec.TerminationGracePeriodSeconds == nil {
			var s int64
			if _, err := fmt.Sscan(grace, &s); err == nil {
				pod.Spec.TerminationGracePeriodSeconds = &s
			}
		}
	}
	return pod
}

// releaseLeftovers releases the devices of pods that are no longer known, trying until the drivers have said that they did.
func (m *Manager) releaseLeftovers(ctx context.Context) {
	m.mu.Lock()
	known := make(map[types.UID]bool, len(m.workers))
	for uid := range m.workers {
		known[uid] = true
	}
	m.mu.Unlock()
	for pause := retryFirst; ; pause = min(2*pause, retryMax) {
		err := m.cfg.Devices.Keep(ctx, known)
		if err == nil || ctx.Err() != nil {
			return
		}
		m.cfg.Log.Warn("releasing the devices of forgotten pods", "error", err)
		select {
		case <-ctx.Done():
			return
		case <-m.cfg.Clock.After(pause):
		}
	}
}

// removeLeftovers removes directories and cgroups of pods that neither the API nor the runtime knows.
func (m *Manager) removeLeftovers(ctx context.Context) {
	m.mu.Lock()
	known := make(map[string]bool, len(m.workers))
	for uid := range m.workers {
		known[string(uid)] = true
	}
	m.mu.Unlock()
	entries, err := os.ReadDir(filepath.Join(m.cfg.Volumes.Root, "pods"))
	if err != nil && !os.IsNotExist(err) {
		m.cfg.Log.Warn("looking for leftovers of pods", "error", err)
	}
	for _, e := range entries {
		if known[e.Name()] {
			continue
		}
		if err := volume.RemovePodDir(ctx, m.cfg.Volumes.Mounter, m.cfg.Volumes.Root, types.UID(e.Name())); err != nil {
			m.cfg.Log.Warn("removing the directory of a forgotten pod", "uid", e.Name(), "error", err)
		}
		if err := m.cfg.Cgroups.RemoveUID(ctx, e.Name()); err != nil {
			m.cfg.Log.Warn("removing the cgroup of a forgotten pod", "uid", e.Name(), "error", err)
		}
	}
}

func (m *Manager) event(pod *corev1.Pod, container, kind, reason, message string) {
	Record(m.cfg.Recorder, pod, container, Event{kind, reason, message})
}
