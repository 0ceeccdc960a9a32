package scheduler

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	maxClasses = 8192 // kept by signature; beyond it all are forgotten, which costs time only
	maxTables  = 16   // kept with results; the least recently used goes first
)

// class is what pods have in common that no rule can tell apart: replicas of one workload, as a rule. Parsing is done once for
// a class, and what local rules said of a node for one of its pods holds for the next.
type class struct {
	info     *podInfo // the first pod seen
	soft     []spreadConstraint
	softAt   uint64 // the workloads' generation for which soft holds; 0: none
	table    *table // nil: not kept
	lastUsed uint64
}

// another is a pod of the class that no node is reserved for.
func (k *class) another() *podInfo {
	p, pod := *k.info, *k.info.pod
	pod.UID = ""
	p.pod = &pod
	return &p
}

// classes finds the class of a pod by its signature. Owned by the scheduling goroutine.
type classes struct {
	bySignature map[string]*class
	tables      []*class // those with a table
	clock       uint64
	buffer      []byte
	containers  []corev1.Container
}

func newClasses() *classes { return &classes{bySignature: map[string]*class{}} }

// pending is newPending with what the pod's class knows already.
func (c *cluster) pending(pod *corev1.Pod) *podInfo {
	x := c.classes
	signature := x.signature(pod)
	if signature == nil {
		return newPending(pod)
	}
	if known := x.bySignature[string(signature)]; known != nil {
		p := *known.info
		p.pod = pod
		p.key.Name = pod.Name
		return &p
	}
	p := newPending(pod)
	if len(x.bySignature) >= maxClasses {
		clear(x.bySignature)
	}
	x.bySignature[string(signature)] = p.class
	return p
}

// signature is everything of a waiting pod that a rule may read, as bytes; nil for a pod that is nobody's equal. What a rule
// surely does not read is left out by name, so that a field yet unknown tells pods apart.
func (x *classes) signature(pod *corev1.Pod) []byte {
	own := slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Ephemeral != nil }) // a claim named after the pod
	if own || len(pod.Spec.ResourceClaims) > 0 || len(pod.Status.ContainerStatuses) > 0 || len(pod.Status.InitContainerStatuses) > 0 {
		return nil
	}
	like := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Labels: pod.Labels}, Spec: pod.Spec}
	if owner := metav1.GetControllerOfNoCopy(pod); owner != nil {
		like.UID = owner.UID
	}
	s := &like.Spec
	x.containers = trimmed(trimmed(x.containers[:0], s.InitContainers), s.Containers)
	s.InitContainers, s.Containers = x.containers[:len(s.InitContainers)], x.containers[len(s.InitContainers):]
	s.EphemeralContainers = nil
	s.Volumes = slices.DeleteFunc(slices.Clone(s.Volumes), harmless)
	s.Hostname, s.ServiceAccountName, s.DeprecatedServiceAccount = "", "", ""
	s.SecurityContext, s.ImagePullSecrets, s.HostAliases, s.DNSConfig = nil, nil, nil, nil
	s.SchedulingGroup = nil // is for gangs, not for rules
	size := like.Size()
	x.buffer = slices.Grow(x.buffer[:0], size)[:size]
	n, err := like.MarshalToSizedBuffer(x.buffer)
	if err != nil {
		return nil
	}
	return x.buffer[size-n:]
}

// trimmed appends containers, each reduced to what rules read.
func trimmed(to, containers []corev1.Container) []corev1.Container {
	for i := range containers {
		c := &containers[i]
		to = append(to, corev1.Container{Image: c.Image, Resources: c.Resources, Ports: c.Ports, RestartPolicy: c.RestartPolicy})
	}
	return to
}

// harmless reports whether a volume can be had on any node. Each pod's token has a volume with a name of its own.
func harmless(v corev1.Volume) bool {
	return v.Projected != nil || v.ConfigMap != nil || v.Secret != nil || v.EmptyDir != nil || v.HostPath != nil || v.DownwardAPI != nil
}

// cell is what the local rules said of a node for the pods of a class, as long as the node's generation is gen.
type cell struct {
	gen    uint64
	why    reason
	rule   int // that refuses
	rivals bool
	beside beside
	scored bool
	// What to evict for a pod of the class that the node is not reserved for, or why nothing can be; good while cluster.evictable does not change.
	planned   bool
	plannedAt uint64
	plan      *plan
	noPlan    reason
}

// beside is the outcome for a pod next to those that the node is reserved for.
type beside struct {
	known bool // it holds for all pods of the class that the node is not reserved for
	why   reason
	rule  int
}

// table holds a class's cells and points.
type table struct {
	rules   *rule  // the first of the rules that it was made with
	order   uint64 // of the nodes, likewise
	local   checks
	scorers []scorer // of the local rules, by index of the rule
	cells   []cell   // by node.at
	points  []int64  // by node.at times the number of rules
}

// forgetTables makes what local rules said stale, of all nodes and for all classes.
func (c *cluster) forgetTables() { c.ordered++ }

// table returns what is known about the nodes for p's class, for nodes in the present order.
func (c *cluster) table(p *podInfo, rules []rule) *table {
	x, k := c.classes, p.class
	x.clock++
	k.lastUsed = x.clock
	if t := k.table; t != nil && t.rules == &rules[0] && t.order == c.ordered {
		return t
	}
	if k.table == nil {
		if len(x.tables) >= maxTables {
			oldest := slices.MinFunc(x.tables, func(a, b *class) int { return int(int64(a.lastUsed) - int64(b.lastUsed)) })
			oldest.table = nil
			x.tables = slices.DeleteFunc(x.tables, func(k *class) bool { return k == oldest })
		}
		x.tables = append(x.tables, k)
	}
	t := &table{rules: &rules[0], order: c.ordered, scorers: make([]scorer, len(rules)), cells: make([]cell, len(c.order)), points: make([]int64, len(c.order)*len(rules))}
	t.local = prepare(c, p, rules, true)
	for i := range rules {
		if r := &rules[i]; r.local && r.score != nil {
			t.scorers[i] = r.score(c, p)
		}
	}
	k.table = t
	return t
}
