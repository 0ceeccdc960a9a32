package scheduler

import (
	"maps"
	"math"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

const tooManyPods = "Too many pods"

// filterResources compares what p asks with what is left of the node. Where devices stand for a resource, their rule sees to it.
func filterResources(c *cluster, p *podInfo) check {
	const (
		noCPU    = "Insufficient " + string(corev1.ResourceCPU)
		noMemory = "Insufficient " + string(corev1.ResourceMemory)
	)
	want := p.asked
	simple := want.storage == 0 && len(want.other) == 0
	return func(n *node) reason {
		room := n.asked.pods+1 <= n.allocatable.pods
		cpu := want.cpu == 0 || want.cpu <= n.allocatable.cpu-n.asked.cpu
		memory := want.memory == 0 || want.memory <= n.allocatable.memory-n.asked.memory
		switch {
		case !simple:
		case room && cpu && memory:
			return reason{}
		case room && memory: // the two refusals that full clusters give by the thousand are made without allocating
			return reason{text: noCPU, final: want.cpu > n.allocatable.cpu}
		case room && cpu:
			return reason{text: noMemory, final: want.memory > n.allocatable.memory}
		}
		return shortages(c, n, &want)
	}
}

// shortages names all that n has too little of.
func shortages(c *cluster, n *node, want *resources) reason {
	var texts []string
	why := reason{}
	if n.asked.pods+1 > n.allocatable.pods {
		texts = append(texts, tooManyPods)
	}
	compare := func(name corev1.ResourceName, wanted, capacity, used int64) {
		if wanted > 0 && wanted > capacity-used {
			texts = append(texts, "Insufficient "+string(name))
			why.final = why.final || wanted > capacity
		}
	}
	compare(corev1.ResourceCPU, want.cpu, n.allocatable.cpu, n.asked.cpu)
	compare(corev1.ResourceMemory, want.memory, n.allocatable.memory, n.asked.memory)
	compare(corev1.ResourceEphemeralStorage, want.storage, n.allocatable.storage, n.asked.storage)
	for _, name := range slices.Sorted(maps.Keys(want.other)) {
		if c.devices.byDevices(n, name) {
			continue
		}
		compare(name, want.other[name], n.allocatable.other[name], n.asked.other[name])
	}
	why.text = strings.Join(texts, "\n")
	return why
}

// scoreLeastAllocated prefers nodes with the larger free share of CPU and memory after p.
func scoreLeastAllocated(_ *cluster, p *podInfo) scorer {
	free := func(capacity, used int64) int64 {
		if capacity == 0 || used > capacity {
			return 0
		}
		return (capacity - used) * maxScore / capacity
	}
	return func(n *node) int64 {
		return (free(n.allocatable.cpu, n.compared.cpu+p.compared.cpu) + free(n.allocatable.memory, n.compared.memory+p.compared.memory)) / 2
	}
}

// scoreBalanced prefers nodes on which p brings the used shares of CPU and memory closer to each other: the standard
// deviation of two shares is half their distance.
func scoreBalanced(_ *cluster, p *podInfo) scorer {
	if p.asked.cpu == 0 && p.asked.memory == 0 {
		return nil
	}
	share := func(used, capacity int64) float64 {
		if capacity == 0 {
			return 1
		}
		return math.Min(1, float64(used)/float64(capacity))
	}
	return func(n *node) int64 {
		spread := math.Abs(share(n.asked.cpu+p.asked.cpu, n.allocatable.cpu)-share(n.asked.memory+p.asked.memory, n.allocatable.memory)) / 2
		return int64((1 - spread) * maxScore)
	}
}
