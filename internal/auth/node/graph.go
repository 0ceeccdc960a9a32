package node

import (
	"context"
	"maps"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/client-go/tools/cache"
)

// ref names an object as authorizers do: by resource, all of them in the core group but volume attachments and resource claims.
type ref struct{ resource, namespace, name string }

// graph knows which objects the pods of each node use. A pod counts from its binding until it is gone.
type graph struct {
	mu    sync.RWMutex
	pods  map[ref]placed         // guarded by mu, like the rest; by pod
	nodes map[string]map[ref]int // by node: how many of its pods use the object
	// Persistent volumes reach a node through the claims that its pods use.
	volumes     map[string]volume       // by volume: its claim and secrets
	claimed     map[ref]map[string]bool // by object that volumes use (themselves included): which volumes
	attachments map[string]string       // by volume attachment: its node
	more        chan struct{}           // closed when there is more; nil while nobody waits for that
}

type placed struct {
	node string
	uses []ref
}

type volume struct {
	claim ref
	uses  []ref
}

func newGraph() *graph {
	return &graph{
		pods: map[ref]placed{}, nodes: map[string]map[ref]int{}, volumes: map[string]volume{},
		claimed: map[ref]map[string]bool{}, attachments: map[string]string{},
	}
}

// uses says whether the node's pods use r, themselves or through a volume.
func (g *graph) uses(node string, r ref) bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.related(node, r)
}

// await is uses, but gives what is on its way a moment to arrive.
func (g *graph) await(ctx context.Context, node string, r ref) bool {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		g.mu.Lock()
		if g.related(node, r) {
			g.mu.Unlock()
			return true
		}
		if g.more == nil {
			g.more = make(chan struct{})
		}
		more := g.more
		g.mu.Unlock()
		select {
		case <-ctx.Done():
			return false
		case <-more:
		}
	}
}

// grew wakes those who wait. It needs mu.
func (g *graph) grew() {
	if g.more != nil {
		close(g.more)
		g.more = nil
	}
}

// related needs mu, for reading.
func (g *graph) related(node string, r ref) bool {
	if r.resource == "volumeattachments" {
		return g.attachments[r.name] == node && node != ""
	}
	used := g.nodes[node]
	if used[r] > 0 {
		return true
	}
	for v := range g.claimed[r] {
		if used[g.volumes[v].claim] > 0 {
			return true
		}
	}
	return false
}

func (g *graph) setPod(p *corev1.Pod) {
	key := ref{"pods", p.Namespace, p.Name}
	uses := podRefs(p)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.unplace(key)
	if p.Spec.NodeName == "" {
		return
	}
	used := g.nodes[p.Spec.NodeName]
	if used == nil {
		used = map[ref]int{}
		g.nodes[p.Spec.NodeName] = used
	}
	for _, r := range uses {
		used[r]++
	}
	g.pods[key] = placed{node: p.Spec.NodeName, uses: uses}
	g.grew()
}

// unplace needs mu.
func (g *graph) unplace(pod ref) {
	was, ok := g.pods[pod]
	if !ok {
		return
	}
	used := g.nodes[was.node]
	for _, r := range was.uses {
		if used[r]--; used[r] <= 0 {
			delete(used, r)
		}
	}
	if len(used) == 0 {
		delete(g.nodes, was.node)
	}
	delete(g.pods, pod)
}

func (g *graph) podHandler() cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc: func(o any) { g.setPod(o.(*corev1.Pod)) },
		UpdateFunc: func(old, o any) {
			// Most updates are of status and change nothing here.
			if was, now := old.(*corev1.Pod), o.(*corev1.Pod); !sameRefs(was, now) {
				g.setPod(now)
			}
		},
		DeleteFunc: func(o any) {
			if n, err := cache.DeletionHandlingObjectToName(o); err == nil {
				g.mu.Lock()
				defer g.mu.Unlock()
				g.unplace(ref{"pods", n.Namespace, n.Name})
			}
		},
	}
}

// sameRefs says whether what may change after a pod's creation, and matters here, is the same in both.
func sameRefs(a, b *corev1.Pod) bool {
	return a.UID == b.UID && a.Spec.NodeName == b.Spec.NodeName &&
		len(a.Spec.EphemeralContainers) == len(b.Spec.EphemeralContainers) &&
		len(a.Status.ResourceClaimStatuses) == len(b.Status.ResourceClaimStatuses) &&
		extendedClaim(a) == extendedClaim(b)
}

// extendedClaim names the claim made for a pod's extended resources, if there is one.
func extendedClaim(p *corev1.Pod) string {
	if x := p.Status.ExtendedResourceClaimStatus; x != nil {
		return x.ResourceClaimName
	}
	return ""
}

func (g *graph) setVolume(pv *corev1.PersistentVolume) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.dropVolume(pv.Name)
	c := pv.Spec.ClaimRef
	if c == nil {
		return
	}
	v := volume{claim: ref{"persistentvolumeclaims", c.Namespace, c.Name}, uses: append(volumeRefs(pv), ref{"persistentvolumes", "", pv.Name})}
	g.volumes[pv.Name] = v
	for _, r := range v.uses {
		if g.claimed[r] == nil {
			g.claimed[r] = map[string]bool{}
		}
		g.claimed[r][pv.Name] = true
	}
	g.grew()
}

// dropVolume needs mu.
func (g *graph) dropVolume(name string) {
	for _, r := range g.volumes[name].uses {
		if delete(g.claimed[r], name); len(g.claimed[r]) == 0 {
			delete(g.claimed, r)
		}
	}
	delete(g.volumes, name)
}

func (g *graph) volumeHandler() cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { g.setVolume(o.(*corev1.PersistentVolume)) },
		UpdateFunc: func(_, o any) { g.setVolume(o.(*corev1.PersistentVolume)) },
		DeleteFunc: func(o any) {
			if n, err := cache.DeletionHandlingObjectToName(o); err == nil {
				g.mu.Lock()
				defer g.mu.Unlock()
				g.dropVolume(n.Name)
			}
		},
	}
}

func (g *graph) attachmentHandler() cache.ResourceEventHandler {
	set := func(o any) {
		va := o.(*storagev1.VolumeAttachment)
		g.mu.Lock()
		defer g.mu.Unlock()
		g.attachments[va.Name] = va.Spec.NodeName
		g.grew()
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    set,
		UpdateFunc: func(_, o any) { set(o) },
		DeleteFunc: func(o any) {
			if n, err := cache.DeletionHandlingObjectToName(o); err == nil {
				g.mu.Lock()
				defer g.mu.Unlock()
				delete(g.attachments, n.Name)
			}
		},
	}
}

// distinct returns list without its duplicates.
func distinct(list []ref) []ref {
	set := make(map[ref]bool, len(list))
	for _, r := range list {
		set[r] = true
	}
	return slices.Collect(maps.Keys(set))
}
