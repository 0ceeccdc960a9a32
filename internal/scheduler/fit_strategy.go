package scheduler

import (
	"math"
	"time"

	corev1 "k8s.io/api/core/v1"
	configv1 "k8s.io/kube-scheduler/config/v1"
)

func seconds(n int64) time.Duration { return time.Duration(n) * time.Second }

// of is the amount of one resource.
func (r *resources) of(name corev1.ResourceName) int64 {
	switch name {
	case corev1.ResourceCPU:
		return r.cpu
	case corev1.ResourceMemory:
		return r.memory
	case corev1.ResourceEphemeralStorage:
		return r.storage
	case corev1.ResourcePods:
		return r.pods
	}
	return r.other[name]
}

func cpuAndMemory(list []configv1.ResourceSpec) bool {
	return len(list) == 2 && list[0].Weight == list[1].Weight &&
		(list[0].Name == string(corev1.ResourceCPU) && list[1].Name == string(corev1.ResourceMemory) ||
			list[1].Name == string(corev1.ResourceCPU) && list[0].Name == string(corev1.ResourceMemory))
}

// strategy is the score of a node by how much of its resources is used with p on it.
func strategy(s *configv1.ScoringStrategy) func(*cluster, *podInfo) scorer {
	switch s.Type {
	case configv1.MostAllocated:
		return scoreByUse(s.Resources, func(used, capacity int64) int64 { return min(used, capacity) * maxScore / capacity }, false)
	case configv1.RequestedToCapacityRatio:
		shape := s.RequestedToCapacityRatio.Shape
		return scoreByUse(s.Resources, func(used, capacity int64) int64 {
			if used > capacity {
				return along(shape, maxScore)
			}
			return along(shape, used*maxScore/capacity)
		}, true)
	}
	if cpuAndMemory(s.Resources) {
		return scoreLeastAllocated
	}
	return scoreByUse(s.Resources, func(used, capacity int64) int64 {
		if used > capacity {
			return 0
		}
		return (capacity - used) * maxScore / capacity
	}, false)
}

// along reads a shape at x, straight between its points. Its scores go to 10, those of nodes to 100.
func along(shape []configv1.UtilizationShapePoint, x int64) int64 {
	const scale = maxScore / 10
	for i, p := range shape {
		if x > int64(p.Utilization) {
			continue
		}
		if i == 0 {
			return int64(p.Score) * scale
		}
		was := shape[i-1]
		return int64(was.Score)*scale + int64(p.Score-was.Score)*scale*(x-int64(was.Utilization))/int64(p.Utilization-was.Utilization)
	}
	return int64(shape[len(shape)-1].Score) * scale
}

// scoreByUse is the weighted mean of what points says of each resource. Resources that a node has not, and extended ones
// that p does not ask for, do not count; nor, if sparse, do those without points, and the mean is rounded.
func scoreByUse(list []configv1.ResourceSpec, points func(used, capacity int64) int64, sparse bool) func(*cluster, *podInfo) scorer {
	return func(_ *cluster, p *podInfo) scorer {
		return func(n *node) int64 {
			var sum, weights int64
			for _, r := range list {
				name := corev1.ResourceName(r.Name)
				capacity, used := n.allocatable.of(name), n.asked.of(name)+p.asked.of(name)
				switch name {
				case corev1.ResourceCPU, corev1.ResourceMemory:
					used = n.compared.of(name) + p.compared.of(name)
				default:
					if _, extended := n.allocatable.other[name]; extended && p.asked.of(name) == 0 {
						continue
					}
				}
				if capacity == 0 {
					continue
				}
				score := points(used, capacity)
				if sparse && score <= 0 {
					continue
				}
				sum += score * r.Weight
				weights += r.Weight
			}
			switch {
			case weights == 0:
				return 0
			case sparse:
				return int64(math.Round(float64(sum) / float64(weights)))
			}
			return sum / weights
		}
	}
}

// balance prefers nodes on which the used shares of some resources differ little with p there.
func balance(list []configv1.ResourceSpec) func(*cluster, *podInfo) scorer {
	return func(_ *cluster, p *podInfo) scorer {
		asks := false
		for _, r := range list {
			asks = asks || p.asked.of(corev1.ResourceName(r.Name)) > 0
		}
		if !asks {
			return nil
		}
		return func(n *node) int64 {
			var shares []float64
			var sum float64
			for _, r := range list {
				name := corev1.ResourceName(r.Name)
				capacity := n.allocatable.of(name)
				if _, extended := n.allocatable.other[name]; capacity == 0 || extended && p.asked.of(name) == 0 {
					continue
				}
				share := math.Min(1, float64(n.asked.of(name)+p.asked.of(name))/float64(capacity))
				shares = append(shares, share)
				sum += share
			}
			if len(shares) == 0 {
				return maxScore
			}
			mean, squares := sum/float64(len(shares)), 0.0
			for _, s := range shares {
				squares += (s - mean) * (s - mean)
			}
			return int64((1 - math.Sqrt(squares/float64(len(shares)))) * maxScore)
		}
	}
}
