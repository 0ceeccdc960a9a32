package scheduler

import "context"

// check tells whether a node fits; scorer rates one. They are made once per pod and called once per node.
type (
	check  func(n *node) reason
	scorer func(n *node) int64
)

// rule is one plugin. Its functions are pure, save that reserve may note what it set aside; those a rule has no use for are nil.
type rule struct {
	name string // upstream's plugin name
	// local says that filter and score judge a node by nothing but the pod, the node and the pods on it: what they prepared for
	// a pod stays good, and what they said of a node, until that node changes, for all pods of a class (class.go).
	local bool
	// refuse turns p down whatever the node is; the zero reason does not.
	refuse func(c *cluster, p *podInfo) reason
	// filter prepares the check for p; nil: the rule has nothing against any node.
	filter func(c *cluster, p *podInfo) check
	// turns are the changes after which a pod refused by this rule may be worth another look, hint whether one of them really
	// is for p; without a hint each is.
	turns change
	hint  func(c *cluster, p *podInfo, e *event) bool
	// score prepares p's scorer; nil: p is indifferent. Points are any numbers; normal brings them to 0..100.
	score  func(c *cluster, p *podInfo) scorer
	normal func(points []int64)
	weight int64
	// reserve sets aside what p needs besides its place on n. When it says no, p goes back to wait, refused by this rule.
	reserve func(c *cluster, p *podInfo, n *node) (reservation, reason)
}

// reservation is what a rule has set aside for a pod that has been given a node. Either function may be nil.
type reservation struct {
	// undo gives it back when the pod is not bound after all. Called by the scheduling goroutine.
	undo func(c *cluster)
	// prebind does what must be done before the pod is bound. Called by a binder; it may block until ctx ends.
	prebind func(ctx context.Context) error
}

const maxScore = 100

// defaultRules are the rules of the default profile, in the order in which a node meets them, with upstream's weights.
func defaultRules() []rule {
	return []rule{
		{name: "NodeUnschedulable", local: true, filter: filterUnschedulable, turns: nodeAdded | nodeTaints, hint: admits(filterUnschedulable)},
		{name: "NodeName", local: true, filter: filterNodeName, turns: nodeAdded, hint: admits(filterNodeName)},
		{name: "TaintToleration", local: true, filter: filterTaints, turns: nodeAdded | nodeTaints, hint: admits(filterTaints), score: scoreTaints, normal: fewerIsBetter, weight: 3},
		{name: "NodeAffinity", local: true, filter: filterAffinity, turns: nodeAdded | nodeLabels, hint: admits(filterAffinity), score: scoreAffinity, normal: moreIsBetter, weight: 2},
		{name: "NodePorts", local: true, filter: filterPorts, turns: nodeAdded | podGone, hint: hintPorts},
		{name: "NodeResourcesFit", local: true, filter: filterResources, turns: nodeAdded | nodeAllocatable | podGone | deviceClassChanged, hint: hintResources, score: scoreLeastAllocated, weight: 1},
		{name: "VolumeRestrictions", filter: filterVolumeRestrictions, turns: nodeAdded | podGone | claimChanged, hint: hintClaimUsers},
		{name: "NodeVolumeLimits", filter: filterVolumeLimits, turns: nodeAdded | podGone | limitChanged, hint: hintVolumeLimits},
		{name: "VolumeBinding", refuse: refuseUnboundClaims, filter: filterVolumeBinding, turns: nodeAdded | nodeLabels | claimChanged | volumeChanged | classChanged | roomChanged, hint: hintClaims},
		{name: "VolumeZone", filter: filterVolumeZone, turns: nodeAdded | nodeLabels | claimChanged | volumeChanged, hint: hintClaims},
		{name: "PodTopologySpread", filter: filterSpread, turns: nodeAdded | nodeLabels | nodeTaints | nodeGone | podGone | podPlaced, hint: hintSpread, score: scoreSpread, normal: normalSpread, weight: 2},
		{name: "InterPodAffinity", filter: filterPodAffinity, turns: nodeAdded | nodeLabels | nodeGone | podGone | podPlaced | namespaceLabels, hint: hintPodAffinity, score: scorePodAffinity, normal: stretch, weight: 2},
		{name: dynamicResources, refuse: refuseDeviceClaims, filter: filterDevices, turns: nodeAdded | nodeLabels | nodeAllocatable | deviceClaimChanged | devicesFreed | deviceSliceChanged | deviceClassChanged, hint: hintDevices},
		{name: "NodeResourcesBalancedAllocation", local: true, score: scoreBalanced, weight: 1},
		{name: "ImageLocality", score: scoreImages, weight: 1},
	}
}

// moreIsBetter scales points so that the most becomes 100.
func moreIsBetter(points []int64) {
	var most int64
	for _, p := range points {
		most = max(most, p)
	}
	if most == 0 {
		return
	}
	for i, p := range points {
		points[i] = p * maxScore / most
	}
}

// fewerIsBetter scales points so that the least becomes 100 and the most 0.
func fewerIsBetter(points []int64) {
	var most int64
	least := int64(1<<63 - 1)
	for _, p := range points {
		most, least = max(most, p), min(least, p)
	}
	for i, p := range points {
		if most == 0 {
			points[i] = maxScore
		} else {
			points[i] = maxScore * (most + min(least, most) - p) / most
		}
	}
}
