package scale

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"canopus/test/plane"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Ledger is kept from every change of a pod or a node, each kind in the order of its watch. It notes what must never be: a node
// with more pods than it has room for, at any moment; a pod that moves; a node that stops being ready without having been
// told to. It is for one goroutine per kind; all methods may be called at any time.
type Ledger struct {
	mu       sync.Mutex
	pods     map[types.UID]*podEntry
	nodes    map[string]*nodeEntry
	spaces   map[string]int // pods by namespace
	running  int
	bound    int
	removed  int
	starts   plane.Latencies
	faults   []string
	faultSum int
}

// podEntry is what is kept of a pod. counted says that it takes room on its node, live that its creation was seen.
type podEntry struct {
	namespace, node        string
	cpu                    int64 // millicores requested
	appeared               time.Time
	counted, running, live bool
	started                bool
}

// nodeEntry is what is kept of a node. known says that the node itself was seen, and not only a pod on it.
type nodeEntry struct {
	known, ready, open, mayFail bool
	unreachable, evicting       bool
	room, used                  room
	running                     int
}

// room is what a node offers or its pods take.
type room struct{ pods, cpu int64 }

// Counts are how the cluster is. Running pods are Ready; Open nodes are Ready, without a taint, and have addresses for pods.
type Counts struct{ Nodes, Ready, Open, Pods, Bound, Running, Removed int }

// RackCounts are how the nodes of one rack are. Unreachable and Evicting ones have the taint of that name with effect
// NoSchedule or NoExecute; Pods are those on its nodes, and Running those of them that are Ready.
type RackCounts struct{ Nodes, Ready, Open, Unreachable, Evicting, Pods, Running int }

// NewLedger is an empty one.
func NewLedger() *Ledger {
	return &Ledger{pods: map[types.UID]*podEntry{}, nodes: map[string]*nodeEntry{}, spaces: map[string]int{}}
}

const keptFaults = 20

func (l *Ledger) fault(format string, args ...any) {
	l.faultSum++
	if len(l.faults) < keptFaults {
		l.faults = append(l.faults, fmt.Sprintf(format, args...))
	}
}

func (l *Ledger) node(name string) *nodeEntry {
	n := l.nodes[name]
	if n == nil {
		n = &nodeEntry{}
		l.nodes[name] = n
	}
	return n
}

// pod takes in a pod as it is now. live is false for those that were there before the watch began.
func (l *Ledger) pod(p *corev1.Pod, now time.Time, live bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.pods[p.UID]
	if e == nil {
		e = &podEntry{namespace: p.Namespace, cpu: cpuOf(p), appeared: now, live: live}
		l.pods[p.UID] = e
		l.spaces[p.Namespace]++
	}
	l.place(p, e)
	running := e.counted && p.DeletionTimestamp == nil && p.Status.Phase == corev1.PodRunning && isReady(p)
	if running == e.running {
		return
	}
	l.run(e, running)
	if !running {
		return
	}
	if e.live && !e.started {
		l.starts = append(l.starts, now.Sub(e.appeared))
	}
	e.started = true
}

// run counts a pod as running, or no longer.
func (l *Ledger) run(e *podEntry, running bool) {
	if e.running == running {
		return
	}
	change := 2*one(running) - 1
	e.running = running
	l.running += change
	l.node(e.node).running += change
}

// place keeps the account of the node that p is on.
func (l *Ledger) place(p *corev1.Pod, e *podEntry) {
	if e.node != "" && p.Spec.NodeName != e.node {
		l.fault("pod %s/%s moved from node %s to %q", p.Namespace, p.Name, e.node, p.Spec.NodeName)
		l.release(e)
		l.run(e, false)
	}
	e.node = p.Spec.NodeName
	counts := e.node != "" && p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed
	if counts == e.counted {
		return
	}
	if !counts {
		l.release(e)
		return
	}
	e.counted = true
	l.bound++
	n := l.node(e.node)
	n.used.pods++
	n.used.cpu += e.cpu
	l.weigh(e.node, n)
}

func (l *Ledger) release(e *podEntry) {
	if !e.counted {
		return
	}
	e.counted = false
	l.bound--
	n := l.node(e.node)
	n.used.pods--
	n.used.cpu -= e.cpu
}

func (l *Ledger) weigh(name string, n *nodeEntry) {
	if n.known && (n.used.pods > n.room.pods || n.used.cpu > n.room.cpu) {
		l.fault("node %s has %d pods that want %dm cpu, and room for %d and %dm", name, n.used.pods, n.used.cpu, n.room.pods, n.room.cpu)
	}
}

// podGone takes in that a pod is no more.
func (l *Ledger) podGone(uid types.UID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.pods[uid]
	if e == nil {
		return
	}
	l.release(e)
	l.run(e, false)
	if l.spaces[e.namespace]--; l.spaces[e.namespace] == 0 {
		delete(l.spaces, e.namespace)
	}
	l.removed++
	delete(l.pods, uid)
}

// nodeNow takes in a node as it is now.
func (l *Ledger) nodeNow(o *corev1.Node) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.node(o.Name)
	was := n.ready
	n.known, n.ready, n.unreachable, n.evicting = true, nodeReady(o), false, false
	n.room = room{o.Status.Allocatable.Pods().Value(), o.Status.Allocatable.Cpu().MilliValue()}
	n.open = n.ready && len(o.Spec.Taints) == 0 && o.Spec.PodCIDR != ""
	for _, t := range o.Spec.Taints {
		if t.Key == corev1.TaintNodeUnreachable {
			n.unreachable = n.unreachable || t.Effect == corev1.TaintEffectNoSchedule
			n.evicting = n.evicting || t.Effect == corev1.TaintEffectNoExecute
		}
	}
	if was && !n.ready && !n.mayFail {
		l.fault("node %s stopped being ready: %+v", o.Name, o.Status.Conditions)
	}
	l.weigh(o.Name, n)
}

// nodeGone takes in that a node is no more.
func (l *Ledger) nodeGone(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.node(name) // kept: its pods may outlive it
	if n.known && !n.mayFail {
		l.fault("node %s was deleted", name)
	}
	n.known, n.ready, n.open = false, false, false
}

// Expect says whether the nodes of a rack may stop being ready from now on.
func (l *Ledger) Expect(r *plane.Rack, down bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range r.Nodes {
		l.node(r.Name(i)).mayFail = down
	}
}

// Counts tells how the cluster is.
func (l *Ledger) Counts() Counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := Counts{Pods: len(l.pods), Bound: l.bound, Running: l.running, Removed: l.removed}
	for _, n := range l.nodes {
		if n.known {
			c.Nodes++
			c.Ready += one(n.ready)
			c.Open += one(n.open)
		}
	}
	return c
}

// Running is how many pods are Ready.
func (l *Ledger) Running() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.running
}

// Rack tells how a rack is.
func (l *Ledger) Rack(r *plane.Rack) RackCounts {
	l.mu.Lock()
	defer l.mu.Unlock()
	var c RackCounts
	for i := range r.Nodes {
		n := l.nodes[r.Name(i)]
		if n == nil || !n.known {
			continue
		}
		c.Nodes++
		c.Ready += one(n.ready)
		c.Open += one(n.open)
		c.Unreachable += one(n.unreachable)
		c.Evicting += one(n.evicting)
		c.Pods += int(n.used.pods)
		c.Running += n.running
	}
	return c
}

// PodsIn is how many pods a namespace has.
func (l *Ledger) PodsIn(namespace string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.spaces[namespace]
}

// UIDs are those of all pods.
func (l *Ledger) UIDs() map[types.UID]bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make(map[types.UID]bool, len(l.pods))
	for uid := range l.pods {
		all[uid] = true
	}
	return all
}

// Starts are how long pods took from their creation to being Ready, as the watch showed it, since the last call.
func (l *Ledger) Starts() plane.Latencies {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.starts
	l.starts = nil
	return s
}

// Faults are what should never have been: the first of them, and how many there were.
func (l *Ledger) Faults() ([]string, int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.faults), l.faultSum
}

func one(b bool) int {
	if b {
		return 1
	}
	return 0
}

func cpuOf(p *corev1.Pod) int64 {
	var sum int64
	for i := range p.Spec.Containers {
		sum += p.Spec.Containers[i].Resources.Requests.Cpu().MilliValue()
	}
	return sum
}

func isReady(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

func nodeReady(n *corev1.Node) bool {
	return slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}
