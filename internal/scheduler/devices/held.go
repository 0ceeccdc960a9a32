package devices

import (
	"slices"

	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"
)

// Held is what claims hold of the devices. It is kept up as claims come and go.
type Held struct {
	below  *Held                                                 // what else is held, not to be changed here; nil: nothing
	whole  map[ID]int                                            // how many claims have a device; more than one only of shared devices
	alone  map[ID]int                                            // those of them that do not share it
	amount map[ID]map[resourcev1.QualifiedName]resource.Quantity // what of shared devices is consumed
}

// NewHeld makes one with nothing in it.
func NewHeld() *Held {
	return &Held{whole: map[ID]int{}, alone: map[ID]int{}, amount: map[ID]map[resourcev1.QualifiedName]resource.Quantity{}}
}

// above makes one that begins with what h has, and leaves h alone.
func (h *Held) above() *Held {
	out := NewHeld()
	out.below = h
	return out
}

// Take counts what is allocated to claim, Give uncounts it. Administrative access takes nothing from others.
func (h *Held) Take(claim *resourcev1.ResourceClaim) { h.claim(claim, 1) }

// Give is the reverse of Take.
func (h *Held) Give(claim *resourcev1.ResourceClaim) { h.claim(claim, -1) }

func (h *Held) claim(c *resourcev1.ResourceClaim, sign int) {
	if c.Status.Allocation == nil {
		return
	}
	for i := range c.Status.Allocation.Devices.Results {
		if r := &c.Status.Allocation.Devices.Results[i]; !ptr.Deref(r.AdminAccess, false) {
			h.add(ID{r.Driver, r.Pool, r.Device}, share{r.ShareID != nil || r.ConsumedCapacity != nil, r.ConsumedCapacity}, sign)
		}
	}
}

// share is what a claim has of a device: all of it unless shared is set.
type share struct {
	shared   bool
	consumed map[resourcev1.QualifiedName]resource.Quantity
}

func (h *Held) add(id ID, of share, sign int) {
	if !of.shared {
		h.alone[id] += sign
	}
	if h.whole[id] += sign; h.whole[id] == 0 {
		delete(h.alone, id)
		delete(h.whole, id)
		delete(h.amount, id)
		return
	}
	for name, q := range of.consumed {
		if h.amount[id] == nil {
			h.amount[id] = map[resourcev1.QualifiedName]resource.Quantity{}
		}
		sum := h.amount[id][name].DeepCopy()
		if sign > 0 {
			sum.Add(q)
		} else {
			sum.Sub(q)
		}
		h.amount[id][name] = sum
	}
}

// users is how many claims have a device.
func (h *Held) users(id ID) int {
	if h == nil {
		return 0
	}
	return h.whole[id] + h.below.users(id)
}

// taken reports whether a claim has a device to itself.
func (h *Held) taken(id ID) bool {
	return h != nil && (h.alone[id] > 0 || h.below.taken(id))
}

// consumed is how much of a device's capacity is taken.
func (h *Held) consumed(id ID, name resourcev1.QualifiedName) resource.Quantity {
	if h == nil {
		return resource.Quantity{}
	}
	sum := h.below.consumed(id, name)
	sum.Add(h.amount[id][name])
	return sum
}

// free reports whether d, or as much of it as wanted, is left.
func (h *Held) free(d *device, wanted map[resourcev1.QualifiedName]resource.Quantity) bool {
	users := h.users(d.ID)
	if !ptr.Deref(d.AllowMultipleAllocations, false) {
		return users == 0 && h.counted(d)
	}
	if h.taken(d.ID) { // it may have become one to be shared since
		return false
	}
	for name, q := range wanted {
		sum := h.consumed(d.ID, name)
		sum.Add(q)
		if sum.Cmp(d.Capacity[name].Value) > 0 {
			return false
		}
	}
	return users > 0 || h.counted(d) // its counters are taken once, however many share it
}

// counted reports whether the pool's counters allow for d beside the devices in use.
func (h *Held) counted(d *device) bool {
	for i := range d.ConsumesCounters {
		use := &d.ConsumesCounters[i]
		have := d.pool.counters[use.CounterSet]
		for name, want := range use.Counters {
			all := have[name] // known, or the pool were invalid
			sum := want.Value.DeepCopy()
			for _, other := range d.pool.devices {
				if other != d && h.users(other.ID) > 0 {
					sum.Add(other.uses(use.CounterSet, name))
				}
			}
			if sum.Cmp(all.Value) > 0 {
				return false
			}
		}
	}
	return true
}

func (d *device) uses(set, counter string) resource.Quantity {
	at := slices.IndexFunc(d.ConsumesCounters, func(c resourcev1.DeviceCounterConsumption) bool { return c.CounterSet == set })
	if at < 0 {
		return resource.Quantity{}
	}
	return d.ConsumesCounters[at].Counters[counter].Value
}

// spacious reports whether d has what a request needs of it, in use or not.
func spacious(d *device, asked *resourcev1.CapacityRequirements) bool {
	if asked == nil {
		return true
	}
	for name, q := range asked.Requests {
		if have, ok := d.Capacity[name]; !ok || have.Value.Cmp(q) < 0 {
			return false
		}
	}
	return true
}

// consumption is how much of d, which is spacious enough, a request consumes; false when it cannot be had in such amounts. Of a
// device that is not shared nothing is consumed but all of it.
func consumption(d *device, asked *resourcev1.CapacityRequirements) (map[resourcev1.QualifiedName]resource.Quantity, bool) {
	if !ptr.Deref(d.AllowMultipleAllocations, false) {
		return nil, true
	}
	var requests map[resourcev1.QualifiedName]resource.Quantity
	if asked != nil {
		requests = asked.Requests
	}
	out := map[resourcev1.QualifiedName]resource.Quantity{}
	for name, have := range d.Capacity {
		want, ok := requests[name]
		amount, fits := fill(have, ptr.To(want), ok)
		if !fits {
			return nil, false
		}
		out[name] = amount
	}
	return out, true
}

// fill raises what is asked for to what the policy gives out.
func fill(have resourcev1.DeviceCapacity, want *resource.Quantity, asked bool) (resource.Quantity, bool) {
	p := have.RequestPolicy
	if !asked {
		if p == nil || p.Default == nil {
			return have.Value, true
		}
		want = p.Default
	}
	switch {
	case p == nil:
		return *want, true
	case len(p.ValidValues) > 0:
		for _, v := range p.ValidValues { // ascending
			if v.Cmp(*want) >= 0 {
				return v, true
			}
		}
		return resource.Quantity{}, false
	case p.ValidRange != nil:
		return inRange(p.ValidRange, *want)
	}
	return *want, true
}

func inRange(r *resourcev1.CapacityRequestPolicyRange, want resource.Quantity) (resource.Quantity, bool) {
	if r.Min != nil && want.Cmp(*r.Min) < 0 {
		want = r.Min.DeepCopy()
	}
	if r.Step != nil && r.Step.Value() > 0 {
		low := int64(0)
		if r.Min != nil {
			low = r.Min.Value()
		}
		step := r.Step.Value()
		if over := (want.Value() - low) % step; over != 0 {
			want = *resource.NewQuantity(want.Value()-over+step, want.Format)
		}
	}
	return want, r.Max == nil || want.Cmp(*r.Max) <= 0
}
