package nodelifecycle

import (
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// How fast the nodes of one zone may get evicting taints. A zone where most nodes are down at once has more likely lost
// its network than its machines: there it goes slowly, and in small clusters not at all.
const (
	evictionInterval          = 10 * time.Second
	secondaryEvictionInterval = 100 * time.Second
	unhealthyZone             = 0.55
	largeCluster              = 50
)

// zones spaces evicting taints. Safe for concurrent use.
type zones struct {
	mu   sync.Mutex
	last map[string]time.Time // by zone, when a node last got its turn
}

func newZones() *zones { return &zones{last: map[string]time.Time{}} }

func zoneOf(node *corev1.Node) string {
	return node.Labels[corev1.LabelTopologyRegion] + "/" + node.Labels[corev1.LabelTopologyZone]
}

// zoneLabel is a node's zone as upstream's metrics write it.
func zoneLabel(node *corev1.Node) string {
	region, zone := node.Labels[corev1.LabelTopologyRegion], node.Labels[corev1.LabelTopologyZone]
	if region == "" && zone == "" {
		return ""
	}
	return region + ":\x00:" + zone
}

// interval is the time between two evicting taints in a zone with these nodes; 0: none may be set.
func interval(ready, down, cluster int) time.Duration {
	switch {
	case ready == 0 && down > 0:
		return evictionInterval // a whole zone is lost: its pods are needed elsewhere
	case down > 2 && float64(down)/float64(ready+down) >= unhealthyZone:
		if cluster > largeCluster {
			return secondaryEvictionInterval
		}
		return 0
	}
	return evictionInterval
}

// turn takes the zone's turn if it has come, and says how long to wait if not.
func (z *zones) turn(zone string, every time.Duration, now time.Time) (bool, time.Duration) {
	if every == 0 {
		return false, evictionInterval
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	if wait := every - now.Sub(z.last[zone]); wait > 0 {
		return false, wait
	}
	z.last[zone] = now
	return true, 0
}
