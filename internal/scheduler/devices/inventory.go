// Package devices finds devices for claims: from what drivers publish and what claims hold already, to an allocation on one
// node, or the word that there is none. It knows no API server and no clock.
//
// Read inventory.go (what there is), held.go (what is taken), request.go (what is asked for), allocate.go (the search),
// result.go (what is written into a claim).
package devices

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	dracel "k8s.io/dynamic-resource-allocation/cel"
)

// ID names a device in the whole cluster.
type ID struct{ Driver, Pool, Device string }

// Inventory is all that drivers publish, and the classes. It is kept up as these come and go, and takes stock anew only of pools
// that changed. It also remembers what selectors said of devices. One goroutine at a time may use it.
type Inventory struct {
	classes  map[string]*resourcev1.DeviceClass
	extended map[corev1.ResourceName]*resourcev1.DeviceClass // by the resource that they stand for
	rules    map[string]*resourcev1.DeviceTaintRule
	slices   map[string]*resourcev1.ResourceSlice
	byPool   map[poolKey]map[string]*resourcev1.ResourceSlice
	stale    map[poolKey]bool
	all      map[poolKey]*pool  // but for the stale ones
	byNode   map[string][]*pool // of all, those with devices of one node alone
	anywhere []*pool            // those with other devices
	compiled *dracel.Cache      // nil until first used
}

type poolKey struct{ driver, name string }

// pool is what one driver publishes under one name, in its newest generation.
type pool struct {
	poolKey
	devices  []*device
	nodes    map[string]bool // of the devices; "" of those that are not of one node
	counters map[string]map[string]resourcev1.Counter
	partial  bool   // some slices have not been seen yet
	invalid  string // why its driver must be wrong, so that none of its devices can be given
}

func (q *pool) String() string { return q.driver + "/" + q.name }

type device struct {
	ID
	*resourcev1.Device
	taints   []resourcev1.DeviceTaint // those of rules included
	pool     *pool
	node     string // the only node from which it can be used
	all      bool
	selector *nodeaffinity.NodeSelector
	required *corev1.NodeSelector
	verdicts map[string]verdict // by expression
}

type verdict struct {
	match bool
	err   error
}

// compiledSelectors is how many expressions are kept compiled.
const compiledSelectors = 1000

// NewInventory makes one with nothing in it.
func NewInventory() *Inventory {
	return &Inventory{
		classes: map[string]*resourcev1.DeviceClass{}, rules: map[string]*resourcev1.DeviceTaintRule{}, slices: map[string]*resourcev1.ResourceSlice{},
		byPool: map[poolKey]map[string]*resourcev1.ResourceSlice{}, stale: map[poolKey]bool{}, all: map[poolKey]*pool{}, byNode: map[string][]*pool{},
	}
}

// SetSlice takes in a slice, new or changed.
func (v *Inventory) SetSlice(s *resourcev1.ResourceSlice) {
	v.DropSlice(s.Name)
	key := poolKey{s.Spec.Driver, s.Spec.Pool.Name}
	if v.byPool[key] == nil {
		v.byPool[key] = map[string]*resourcev1.ResourceSlice{}
	}
	v.slices[s.Name], v.byPool[key][s.Name] = s, s
	v.stale[key] = true
}

// DropSlice forgets a slice.
func (v *Inventory) DropSlice(name string) {
	s := v.slices[name]
	if s == nil {
		return
	}
	key := poolKey{s.Spec.Driver, s.Spec.Pool.Name}
	delete(v.slices, name)
	if delete(v.byPool[key], name); len(v.byPool[key]) == 0 {
		delete(v.byPool, key)
	}
	v.stale[key] = true
}

// SetClass takes in a class, new or changed. It reports whether extended resources have come to mean other devices.
func (v *Inventory) SetClass(c *resourcev1.DeviceClass) bool {
	v.classes[c.Name] = c
	return v.index()
}

// DropClass forgets a class. It reports what SetClass does.
func (v *Inventory) DropClass(name string) bool {
	delete(v.classes, name)
	return v.index()
}

// ClassFor is the class whose devices stand for an extended resource, or nil.
func (v *Inventory) ClassFor(name corev1.ResourceName) *resourcev1.DeviceClass {
	return v.extended[name]
}

// index finds out anew which class stands for which resource: each for one that has its name, and the newest of those that want
// to for another. It reports whether that has changed.
func (v *Inventory) index() bool {
	was := v.extended
	v.extended = make(map[corev1.ResourceName]*resourcev1.DeviceClass, len(was))
	for _, c := range v.classes {
		v.extended[corev1.ResourceName(resourcev1.ResourceDeviceClassPrefix+c.Name)] = c
		if c.Spec.ExtendedResourceName == nil {
			continue
		}
		name := corev1.ResourceName(*c.Spec.ExtendedResourceName)
		if other := v.extended[name]; other == nil || supersedes(c, other) {
			v.extended[name] = c
		}
	}
	return !maps.EqualFunc(was, v.extended, func(a, b *resourcev1.DeviceClass) bool { return a.Name == b.Name })
}

// supersedes reports whether c is the newer, or of equal age and by name the first.
func supersedes(c, other *resourcev1.DeviceClass) bool {
	return cmp.Or(other.CreationTimestamp.Compare(c.CreationTimestamp.Time), strings.Compare(c.Name, other.Name)) < 0
}

// SetRule takes in a taint rule, new or changed.
func (v *Inventory) SetRule(r *resourcev1.DeviceTaintRule) {
	v.rules[r.Name] = r
	v.retaint()
}

// DropRule forgets a taint rule.
func (v *Inventory) DropRule(name string) {
	delete(v.rules, name)
	v.retaint()
}

// retaint has the rules looked at again for all devices.
func (v *Inventory) retaint() {
	for key := range v.byPool {
		v.stale[key] = true
	}
}

// refresh takes stock of the pools that changed.
func (v *Inventory) refresh() {
	if len(v.stale) == 0 {
		return
	}
	rules := slices.SortedFunc(maps.Values(v.rules), func(a, b *resourcev1.DeviceTaintRule) int { return strings.Compare(a.Name, b.Name) })
	for key := range v.stale {
		if old := v.all[key]; old != nil {
			v.unlist(old)
		}
		delete(v.all, key)
		if now := newest(v.byPool[key]); len(now) > 0 {
			v.all[key] = newPool(key, now, rules)
			v.list(v.all[key])
		}
	}
	clear(v.stale)
}

// list has a pool found by the nodes that its devices are for, unlist no more.
func (v *Inventory) list(q *pool) {
	if q.nodes[""] {
		v.anywhere = insert(v.anywhere, q)
		return
	}
	for node := range q.nodes {
		v.byNode[node] = insert(v.byNode[node], q)
	}
}

func (v *Inventory) unlist(q *pool) {
	same := func(o *pool) bool { return o == q }
	if q.nodes[""] {
		v.anywhere = slices.DeleteFunc(v.anywhere, same)
		return
	}
	for node := range q.nodes {
		if v.byNode[node] = slices.DeleteFunc(v.byNode[node], same); len(v.byNode[node]) == 0 {
			delete(v.byNode, node)
		}
	}
}

// insert keeps list sorted.
func insert(list []*pool, q *pool) []*pool {
	at, _ := slices.BinarySearchFunc(list, q, comparePools)
	return slices.Insert(list, at, q)
}

func comparePools(a, b *pool) int {
	return cmp.Or(strings.Compare(a.driver, b.driver), strings.Compare(a.name, b.name))
}

// newest are the slices of a pool's newest generation.
func newest(all map[string]*resourcev1.ResourceSlice) []*resourcev1.ResourceSlice {
	var out []*resourcev1.ResourceSlice
	for _, s := range all {
		if len(out) > 0 {
			switch have := out[0].Spec.Pool.Generation; {
			case have > s.Spec.Pool.Generation:
				continue
			case have < s.Spec.Pool.Generation:
				out = out[:0]
			}
		}
		out = append(out, s)
	}
	return out
}

func newPool(key poolKey, list []*resourcev1.ResourceSlice, rules []*resourcev1.DeviceTaintRule) *pool {
	slices.SortFunc(list, func(a, b *resourcev1.ResourceSlice) int { return strings.Compare(a.Name, b.Name) })
	q := &pool{poolKey: key, nodes: map[string]bool{}, counters: map[string]map[string]resourcev1.Counter{}, partial: int64(len(list)) != list[0].Spec.Pool.ResourceSliceCount}
	for _, s := range list {
		for i := range s.Spec.SharedCounters {
			set := &s.Spec.SharedCounters[i]
			if _, twice := q.counters[set.Name]; twice {
				q.invalid = "duplicate counter set name " + set.Name
			}
			q.counters[set.Name] = set.Counters
		}
		for i := range s.Spec.Devices {
			d := newDevice(q, s, &s.Spec.Devices[i], rules)
			q.devices = append(q.devices, d)
			q.nodes[d.node] = true
		}
	}
	if !q.partial {
		q.check()
	}
	return q
}

// check finds what is wrong with a pool of which all is known.
func (q *pool) check() {
	seen := map[string]bool{}
	for _, d := range q.devices {
		if seen[d.Name] {
			q.invalid = "duplicate device name " + d.Name
		}
		seen[d.Name] = true
		for _, use := range d.ConsumesCounters {
			set, known := q.counters[use.CounterSet]
			if !known {
				q.invalid = fmt.Sprintf("device %s consumes of the unknown counter set %s", d.Name, use.CounterSet)
				continue
			}
			for name := range use.Counters {
				if _, known := set[name]; !known {
					q.invalid = fmt.Sprintf("device %s consumes the unknown counter %s/%s", d.Name, use.CounterSet, name)
				}
			}
		}
	}
}

func newDevice(q *pool, s *resourcev1.ResourceSlice, from *resourcev1.Device, rules []*resourcev1.DeviceTaintRule) *device {
	d := &device{ID: ID{q.driver, q.name, from.Name}, Device: from, pool: q, taints: Taints(ID{q.driver, q.name, from.Name}, from.Taints, rules), verdicts: map[string]verdict{}}
	node, all := s.Spec.NodeName, s.Spec.AllNodes
	d.required = s.Spec.NodeSelector
	if s.Spec.PerDeviceNodeSelection != nil && *s.Spec.PerDeviceNodeSelection {
		node, all, d.required = from.NodeName, from.AllNodes, from.NodeSelector
	}
	switch {
	case node != nil:
		d.node = *node
	case all != nil:
		d.all = *all
	case d.required != nil:
		// What validation let through parses; what does not is nowhere.
		d.selector, _ = nodeaffinity.NewNodeSelector(d.required)
	}
	return d
}

// Taints are a device's taints and those that rules put on it.
func Taints(id ID, own []resourcev1.DeviceTaint, rules []*resourcev1.DeviceTaintRule) []resourcev1.DeviceTaint {
	out := own
	for _, r := range rules {
		if s := r.Spec.DeviceSelector; s != nil && means(s.Driver, id.Driver) && means(s.Pool, id.Pool) && means(s.Device, id.Device) {
			out = append(slices.Clip(out), r.Spec.Taint)
		}
	}
	return out
}

func means(want *string, have string) bool { return want == nil || *want == have }

// reachable reports whether d can be used from node.
func (d *device) reachable(node *corev1.Node) bool {
	switch {
	case d.node != "":
		return d.node == node.Name
	case d.all:
		return true
	}
	return d.selector != nil && d.selector.Match(node)
}

// pools are those that may have devices for node, in the order in which they are tried.
func (v *Inventory) pools(node string) []*pool {
	v.refresh()
	out := append(slices.Clone(v.byNode[node]), v.anywhere...)
	slices.SortFunc(out, comparePools)
	return out
}

// match asks the selectors about d. What one said is kept: a device does not change within an inventory.
func (v *Inventory) match(d *device, selectors []resourcev1.DeviceSelector) (bool, error) {
	for i, s := range selectors {
		if s.CEL == nil {
			return false, fmt.Errorf("selector #%d is of a kind that is not known here", i)
		}
		said, known := d.verdicts[s.CEL.Expression]
		if !known {
			said = v.evaluate(d, s.CEL.Expression)
			d.verdicts[s.CEL.Expression] = said
		}
		if said.err != nil {
			return false, fmt.Errorf("selector #%d: %w", i, said.err)
		}
		if !said.match {
			return false, nil
		}
	}
	return true, nil
}

func (v *Inventory) evaluate(d *device, expression string) verdict {
	if v.compiled == nil {
		v.compiled = dracel.NewCache(compiledSelectors, dracel.Features{EnableConsumableCapacity: true})
	}
	program := v.compiled.GetOrCompile(expression)
	if program.Error != nil {
		return verdict{err: fmt.Errorf("CEL compile error: %w", program.Error)}
	}
	match, _, err := program.DeviceMatches(endless{}, dracel.Device{
		Driver: d.Driver, AllowMultipleAllocations: d.AllowMultipleAllocations, Attributes: d.Attributes, Capacity: d.Capacity,
	})
	if err != nil {
		return verdict{err: fmt.Errorf("CEL runtime error: %w", dracel.EnhanceRuntimeError(err))}
	}
	return verdict{match: match}
}

// endless is the context of an evaluation: its cost is bounded, so that nobody need end it.
type endless struct{}

var _ context.Context = endless{}

func (endless) Deadline() (time.Time, bool) { return time.Time{}, false }
func (endless) Done() <-chan struct{}       { return nil }
func (endless) Err() error                  { return nil }
func (endless) Value(any) any               { return nil }
