package scheduler

import (
	"math"

	corev1 "k8s.io/api/core/v1"
)

const tooManyPods reason = "Too many pods"

func insufficient(name corev1.ResourceName) reason { return reason("Insufficient " + string(name)) }

// filterResources compares what p asks with what is left of the node.
func filterResources(_ *cluster, p *podInfo) check {
	const (
		noCPU     = reason("Insufficient cpu")
		noMemory  = reason("Insufficient memory")
		noStorage = reason("Insufficient ephemeral-storage")
	)
	want := p.asked
	return func(n *node) reason {
		switch free := &n.allocatable; {
		case n.asked.pods+1 > free.pods:
			return tooManyPods
		case want.cpu > 0 && want.cpu > free.cpu-n.asked.cpu:
			return noCPU
		case want.memory > 0 && want.memory > free.memory-n.asked.memory:
			return noMemory
		case want.storage > 0 && want.storage > free.storage-n.asked.storage:
			return noStorage
		}
		for name, v := range want.other {
			if v > 0 && v > n.allocatable.other[name]-n.asked.other[name] {
				return insufficient(name)
			}
		}
		return ""
	}
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
