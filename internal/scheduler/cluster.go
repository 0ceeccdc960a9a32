package scheduler

import (
	"maps"
	"math"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
)

// node is a node and the sum of the pods on it. A node whose object is not known yet (pods arrived first, or it was deleted
// under them) has a nil object and is not offered to pods.
type node struct {
	name        string
	gen         uint64 // of the state below and the pods; new with every change
	at          int    // index in cluster.order
	object      *corev1.Node
	allocatable resources
	asked       resources
	compared    resources
	ports       map[hostPort]int
	images      map[string]int64 // name → bytes
	pods        map[types.UID]*podInfo
	lowest      int32 // priority among pods; the highest there is when there are none
}

// placed is where a pod counts.
type placed struct {
	info     *podInfo
	node     *node
	assumed  bool // decided here, not yet confirmed by the API
	evicting bool // to be deleted for the sake of another, not yet seen to be gone
}

// cluster is the state rules read. Owned by one goroutine; changed between cycles only.
// Invariant: a pod counts on at most one node, assumed or confirmed.
type cluster struct {
	nodes       map[string]*node
	order       []*node // nodes with an object, zones interleaved; rebuilt when membership or zones change
	stale       bool    // order needs rebuilding
	placed      map[types.UID]*placed
	inNamespace map[string]map[types.UID]*placed // the same
	nominations map[types.UID]*nomination
	nominees    map[string]map[types.UID]*nomination // the same by node
	budgets     map[types.NamespacedName]*budget
	cohorts     map[types.NamespacedName]*cohort // pod groups that have pods on nodes or must not be torn apart
	evictable   uint64                           // generation in which budgets, or what is evicted as a whole, changed last
	images      map[string]int                   // image name → nodes that hold it
	spread      *spreadIndex
	affinity    *affinityIndex
	workloads   *workloads
	storage     *storage
	devices     *deviceState
	classes     *classes
	start       int      // where the next pod begins to look, so that sampling goes round
	gen         uint64   // the newest of any node
	ordered     uint64   // number of the present order
	names       []string // of order
	scratch     struct { // room that decisions use again
		fitting, helpful []*node
		total, points    []int64
	}
}

func newCluster() *cluster {
	return &cluster{nodes: map[string]*node{}, placed: map[types.UID]*placed{}, inNamespace: map[string]map[types.UID]*placed{}, images: map[string]int{},
		spread: newSpreadIndex(), affinity: newAffinityIndex(), workloads: newWorkloads(), storage: newStorage(), devices: newDeviceState(), classes: newClasses(),
		nominations: map[types.UID]*nomination{}, nominees: map[string]map[types.UID]*nomination{}, budgets: map[types.NamespacedName]*budget{},
		cohorts: map[types.NamespacedName]*cohort{},
	}
}

func (c *cluster) node(name string) *node {
	n := c.nodes[name]
	if n == nil {
		n = &node{name: name, ports: map[hostPort]int{}, pods: map[types.UID]*podInfo{}, lowest: math.MaxInt32}
		c.nodes[name] = n
		c.touch(n)
	}
	return n
}

// touch makes everything that was found out about n stale.
func (c *cluster) touch(n *node) {
	c.gen++
	n.gen = c.gen
}

// setNode makes object the node's present state and returns what changed for waiting pods.
func (c *cluster) setNode(object *corev1.Node) change {
	n := c.node(object.Name)
	old := n.object
	changed := nodeChange(old, object)
	if changed == 0 && equality.Semantic.DeepEqual(old.Status.Images, object.Status.Images) {
		n.object = object // a heartbeat
		return 0
	}
	relabeled := old == nil || changed&nodeLabels != 0
	if relabeled {
		c.affinity.addNode(n, -1)
	}
	c.spread.removeNode(n)
	n.object = object
	n.allocatable = toResources(object.Status.Allocatable)
	c.setImages(n, object.Status.Images)
	c.spread.addNode(n)
	if relabeled {
		c.affinity.addNode(n, 1)
	}
	c.touch(n)
	if old == nil || zone(old) != zone(object) {
		c.stale = true
	}
	return changed
}

// removeNode forgets the object; pods still on it count until they go.
func (c *cluster) removeNode(name string) {
	n := c.nodes[name]
	if n == nil {
		return
	}
	c.spread.removeNode(n)
	c.affinity.addNode(n, -1)
	n.object = nil
	c.affinity.addNode(n, 1)
	c.setImages(n, nil)
	c.touch(n)
	c.stale = true
	c.dropEmpty(n)
}

func (c *cluster) setImages(n *node, images []corev1.ContainerImage) {
	for name := range n.images {
		if c.images[name]--; c.images[name] == 0 {
			delete(c.images, name)
		}
	}
	n.images = map[string]int64{}
	for _, image := range images {
		for _, name := range image.Names {
			if _, again := n.images[name]; !again {
				c.images[name]++
			}
			n.images[name] = image.SizeBytes
		}
	}
}

func (c *cluster) dropEmpty(n *node) {
	if n.object == nil && len(n.pods) == 0 {
		delete(c.nodes, n.name)
	}
}

// place counts p on a node. A pod already counted moves: the newest word wins.
func (c *cluster) place(p *podInfo, nodeName string, assumed bool) {
	if at := c.placed[p.pod.UID]; at != nil && at.node.name == nodeName && at.info.counts(p) {
		if !maps.Equal(at.info.pod.Labels, p.pod.Labels) {
			c.relabel(at, p)
		}
		at.info, at.assumed = p, assumed
		at.node.pods[p.pod.UID] = p
		return
	}
	was := c.lift(p.pod.UID)
	n := c.node(nodeName)
	c.putBack(&placed{info: p, node: n, assumed: assumed, evicting: was != nil && was.evicting})
	if was != nil {
		c.dropEmpty(was.node)
	}
}

// relabel counts a placed pod by its new labels. No local rule reads them, so that what was found out about the node holds.
func (c *cluster) relabel(at *placed, p *podInfo) {
	c.spread.addPod(at.node, at.info.pod, -1)
	c.affinity.addPod(at.node, at.info, -1)
	c.spread.addPod(at.node, p.pod, 1)
	c.affinity.addPod(at.node, p, 1)
}

// remove uncounts a pod; it reports whether the pod was counted.
func (c *cluster) remove(uid types.UID) bool {
	at := c.lift(uid)
	if at == nil {
		return false
	}
	c.dropEmpty(at.node)
	return true
}

// lift uncounts a pod such that putBack can undo it; nil when it is not counted.
func (c *cluster) lift(uid types.UID) *placed {
	at := c.placed[uid]
	if at == nil {
		return nil
	}
	delete(c.placed, uid)
	namespace := at.info.pod.Namespace
	if delete(c.inNamespace[namespace], uid); len(c.inNamespace[namespace]) == 0 {
		delete(c.inNamespace, namespace)
	}
	at.node.count(at.info, -1)
	c.touch(at.node)
	c.spread.addPod(at.node, at.info.pod, -1)
	c.affinity.addPod(at.node, at.info, -1)
	c.storage.addPod(at.info, -1)
	c.discharge(at)
	return at
}

func (c *cluster) putBack(at *placed) {
	pod := at.info.pod
	c.placed[pod.UID] = at
	if c.inNamespace[pod.Namespace] == nil {
		c.inNamespace[pod.Namespace] = map[types.UID]*placed{}
	}
	c.inNamespace[pod.Namespace][pod.UID] = at
	at.node.count(at.info, 1)
	c.touch(at.node)
	c.spread.addPod(at.node, at.info.pod, 1)
	c.affinity.addPod(at.node, at.info, 1)
	c.storage.addPod(at.info, 1)
	c.enlist(at)
}

func (n *node) count(p *podInfo, sign int64) {
	n.asked.add(p.asked, sign)
	n.compared.add(p.compared, sign)
	if sign > 0 {
		n.pods[p.pod.UID] = p
		n.lowest = min(n.lowest, p.priority)
	} else {
		delete(n.pods, p.pod.UID)
		n.sink(p.priority)
	}
	for _, h := range p.ports {
		if n.ports[h] += int(sign); n.ports[h] <= 0 {
			delete(n.ports, h)
		}
	}
}

// sink finds the lowest priority anew after a pod left.
func (n *node) sink(gone int32) {
	if gone > n.lowest {
		return
	}
	n.lowest = math.MaxInt32
	for _, p := range n.pods {
		if n.lowest = min(n.lowest, p.priority); n.lowest == gone {
			return
		}
	}
}

// candidates returns the nodes in the order they are tried: one of each zone in turn.
func (c *cluster) candidates() []*node {
	if !c.stale {
		return c.order
	}
	c.stale = false
	zones := map[string][]*node{}
	var names []string
	for _, n := range c.nodes {
		if n.object == nil {
			continue
		}
		z := zone(n.object)
		if zones[z] == nil {
			names = append(names, z)
		}
		zones[z] = append(zones[z], n)
	}
	slices.Sort(names)
	longest := 0
	for _, z := range zones {
		slices.SortFunc(z, func(a, b *node) int { return compareStrings(a.name, b.name) })
		longest = max(longest, len(z))
	}
	c.order = make([]*node, 0, len(c.nodes))
	for i := range longest {
		for _, name := range names {
			if z := zones[name]; i < len(z) {
				c.order = append(c.order, z[i])
			}
		}
	}
	c.names = make([]string, len(c.order))
	for i, n := range c.order {
		n.at, c.names[i] = i, n.name
	}
	c.ordered++
	return c.order
}

func compareStrings(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func zone(n *corev1.Node) string {
	return n.Labels[corev1.LabelTopologyRegion] + "\x00" + n.Labels[corev1.LabelTopologyZone]
}
