package scheduler

// check tells whether a node fits; scorer rates one. They are made once per pod and called once per node.
type (
	check  func(n *node) reason
	scorer func(n *node) int64
)

// rule is one plugin. All its functions are pure; those a rule has no use for are nil.
type rule struct {
	name string // upstream's plugin name
	// filter prepares the check for p; nil: the rule has nothing against any node.
	filter func(c *cluster, p *podInfo) check
	// turns are the changes after which a pod refused by this rule is worth another look.
	turns change
	// score prepares p's scorer; nil: p is indifferent. Points are any numbers; normal brings them to 0..100.
	score  func(c *cluster, p *podInfo) scorer
	normal func(points []int64)
	weight int64
}

const maxScore = 100

// defaultRules are the rules of the default profile, in the order in which a node meets them, with upstream's weights.
func defaultRules() []rule {
	return []rule{
		{name: "NodeUnschedulable", filter: filterUnschedulable, turns: nodeAdded | nodeTaints},
		{name: "NodeName", filter: filterNodeName, turns: nodeAdded},
		{name: "TaintToleration", filter: filterTaints, turns: nodeAdded | nodeTaints, score: scoreTaints, normal: fewerIsBetter, weight: 3},
		{name: "NodeAffinity", filter: filterAffinity, turns: nodeAdded | nodeLabels, score: scoreAffinity, normal: moreIsBetter, weight: 2},
		{name: "NodePorts", filter: filterPorts, turns: nodeAdded | podGone},
		{name: "NodeResourcesFit", filter: filterResources, turns: nodeAdded | nodeAllocatable | podGone, score: scoreLeastAllocated, weight: 1},
		{name: "PodTopologySpread", filter: filterSpread, turns: nodeAdded | nodeLabels | nodeTaints | podGone | podPlaced, score: scoreSpread, normal: normalSpread, weight: 2},
		{name: "InterPodAffinity", filter: filterPodAffinity, turns: nodeAdded | nodeLabels | podGone | podPlaced | namespaceLabels, score: scorePodAffinity, normal: stretch, weight: 2},
		{name: "NodeResourcesBalancedAllocation", score: scoreBalanced, weight: 1},
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
