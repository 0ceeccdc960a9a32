package nodelifecycle

import (
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// census counts the nodes that are ready and those that are not, by zone, as they change. Safe for concurrent use.
type census struct {
	mu    sync.Mutex
	nodes map[string]member // by node name
	zones map[string]*zoneCount
	ready int
}

type member struct {
	zone  string
	ready bool
}

// zoneCount is never empty: a zone without nodes is forgotten.
type zoneCount struct {
	ready int
	down  map[string]bool
}

func newCensus() *census { return &census{nodes: map[string]member{}, zones: map[string]*zoneCount{}} }

// set counts a node as it is now, and returns the names of those down whose eviction has another pace for it.
func (c *census) set(node *corev1.Node) []string {
	now := member{zoneOf(node), readiness(node) == corev1.ConditionTrue}
	c.mu.Lock()
	defer c.mu.Unlock()
	if old, known := c.nodes[node.Name]; known && old == now {
		return nil
	}
	return c.change(node.Name, &now)
}

// remove forgets a node, and returns what set does.
func (c *census) remove(name string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.change(name, nil)
}

// change replaces what is known of a node by now; nil: nothing.
func (c *census) change(name string, now *member) []string {
	type pace struct {
		zone  string
		every time.Duration
	}
	var touched []pace
	old, known := c.nodes[name]
	if known {
		touched = append(touched, pace{old.zone, c.interval(old.zone)})
	}
	if now != nil && (!known || now.zone != old.zone) {
		touched = append(touched, pace{now.zone, c.interval(now.zone)})
	}
	disrupted := c.ready == 0
	if known {
		c.leave(name, old)
	}
	if now != nil {
		c.join(name, *now)
	}
	var names []string
	if disrupted != (c.ready == 0) {
		for zone := range c.zones {
			names = c.appendDown(names, zone, name)
		}
		return names
	}
	for _, t := range touched {
		if c.interval(t.zone) != t.every {
			names = c.appendDown(names, t.zone, name)
		}
	}
	return names
}

func (c *census) join(name string, m member) {
	c.nodes[name] = m
	z := c.zones[m.zone]
	if z == nil {
		z = &zoneCount{down: map[string]bool{}}
		c.zones[m.zone] = z
	}
	if m.ready {
		z.ready++
		c.ready++
	} else {
		z.down[name] = true
	}
}

func (c *census) leave(name string, m member) {
	delete(c.nodes, name)
	z := c.zones[m.zone]
	if m.ready {
		z.ready--
		c.ready--
	} else {
		delete(z.down, name)
	}
	if z.ready == 0 && len(z.down) == 0 {
		delete(c.zones, m.zone)
	}
}

func (c *census) appendDown(names []string, zone, but string) []string {
	if z := c.zones[zone]; z != nil {
		for name := range z.down {
			if name != but {
				names = append(names, name)
			}
		}
	}
	return names
}

// disrupted reports that no node at all is ready.
func (c *census) disrupted() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ready == 0
}

// pace is the time between two evicting taints in the zone of this node; 0: none may be set.
func (c *census) pace(name string) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.interval(c.nodes[name].zone)
}

func (c *census) interval(zone string) time.Duration {
	z := c.zones[zone]
	if z == nil {
		return evictionInterval
	}
	return interval(z.ready, len(z.down), len(c.nodes))
}
