package devices

import (
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"
)

// ErrBudget says that the search was given up.
var ErrBudget = errors.New("timed out trying to allocate devices")

// pick is a device for a request.
type pick struct {
	ask      *ask
	device   *device
	consumed map[resourcev1.QualifiedName]resource.Quantity
}

// search is a depth-first search for devices on one node: claim by claim, request by request, device by device, and back when
// it is stuck. It finds an allocation if there is one within its budget.
type search struct {
	*Inventory
	devices []*device // of the node
	partial *pool     // one of the node's that has slices that have not been seen yet
	invalid *pool     // one of the node's whose devices cannot be given
	held    *Held
	claims  []*resourcev1.ResourceClaim
	picked  [][]pick // by claim
	budget  int      // devices that may still be tried
}

// Allocate finds devices on node for claims, beside what is held. It returns nil without an error when there are none. budget
// bounds how many devices are tried.
func (v *Inventory) Allocate(node *corev1.Node, claims []*resourcev1.ResourceClaim, held *Held, budget int) ([]*resourcev1.AllocationResult, error) {
	s := &search{Inventory: v, held: held.above(), claims: claims, picked: make([][]pick, len(claims)), budget: budget}
	s.look(node)
	for _, c := range claims {
		if err := tooMany(c); err != nil {
			return nil, err
		}
	}
	found, err := s.request(0, 0)
	switch {
	case err != nil:
		return nil, err
	case !found && s.invalid != nil:
		return nil, fmt.Errorf("invalid resource pools were encountered: %s: %s", s.invalid, s.invalid.invalid)
	case !found:
		return nil, nil
	}
	out := make([]*resourcev1.AllocationResult, len(claims))
	for i, c := range claims {
		out[i] = result(c, s.picked[i], node.Name)
	}
	return out, nil
}

// look finds the devices that node can reach. Those that bind at once come first.
func (s *search) look(node *corev1.Node) {
	var later []*device
	for _, q := range s.pools(node.Name) {
		for _, d := range q.devices {
			switch {
			case !d.reachable(node):
			case q.partial:
				s.partial = q
			case q.invalid != "":
				s.invalid = q
			case len(d.BindingConditions) > 0:
				later = append(later, d)
			default:
				s.devices = append(s.devices, d)
			}
		}
	}
	s.devices = append(s.devices, later...)
}

// tooMany is an error for a claim that asks for more devices than an allocation can name.
func tooMany(c *resourcev1.ResourceClaim) error {
	var sum int64
	for i := range c.Spec.Devices.Requests {
		r := &c.Spec.Devices.Requests[i]
		var least int64
		if r.Exactly != nil {
			least = r.Exactly.Count
		}
		for j := range r.FirstAvailable {
			if n := r.FirstAvailable[j].Count; j == 0 || n < least {
				least = n
			}
		}
		if sum += least; sum > resourcev1.AllocationResultsMaxSize || least > resourcev1.AllocationResultsMaxSize {
			return fmt.Errorf("claim %s/%s, request %s: the number of devices exceeds the claim limit of %d", c.Namespace, c.Name, r.Name, resourcev1.AllocationResultsMaxSize)
		}
	}
	return nil
}

// request satisfies a claim's request number at and all that follow.
func (s *search) request(claim, at int) (bool, error) {
	if claim == len(s.claims) {
		return true, nil
	}
	c := s.claims[claim]
	if at == len(c.Spec.Devices.Requests) {
		return s.request(claim+1, 0)
	}
	ways, err := s.asks(&c.Spec.Devices.Requests[at])
	if err != nil {
		return false, fmt.Errorf("claim %s/%s: %w", c.Namespace, c.Name, err)
	}
	for i := range ways {
		a := &ways[i]
		if a.class == nil {
			continue
		}
		then := func() (bool, error) { return s.request(claim, at+1) }
		var found bool
		if a.all {
			found, err = s.every(claim, a, then)
		} else {
			found, err = s.some(claim, a, a.count, 0, then)
		}
		if err != nil || found {
			return found, err
		}
	}
	return false, nil
}

// some picks n devices for a, those from index from on: in which order they are picked makes no difference.
func (s *search) some(claim int, a *ask, n, from int, then func() (bool, error)) (bool, error) {
	if n == 0 {
		return then()
	}
	if len(s.picked[claim])+n > resourcev1.AllocationResultsMaxSize {
		return false, nil
	}
	for i := from; i < len(s.devices); i++ {
		d := s.devices[i]
		ok, err := s.suits(claim, a, d)
		if err != nil {
			return false, err
		}
		if !ok || !s.take(claim, a, d) {
			continue
		}
		next := i + 1
		if ptr.Deref(d.AllowMultipleAllocations, false) && !a.admin {
			next = i // there may be more of it
		}
		if found, err := s.some(claim, a, n-1, next, then); err != nil || found {
			return found, err
		}
		s.back(claim)
	}
	return false, nil
}

// every picks all devices that a asks for: at least one, and none of them in other hands.
func (s *search) every(claim int, a *ask, then func() (bool, error)) (bool, error) {
	for _, q := range []*pool{s.partial, s.invalid} {
		if q == nil {
			continue
		}
		state := "currently being updated" // who knows what else there is
		if q.invalid != "" {
			state = "invalid: " + q.invalid
		}
		c := s.claims[claim]
		return false, fmt.Errorf("claim %s/%s, request %s: asks for all devices, but resource pool %s is %s", c.Namespace, c.Name, a.name, q, state)
	}
	before := len(s.picked[claim])
	undo := func() {
		for len(s.picked[claim]) > before {
			s.back(claim)
		}
	}
	for _, d := range s.devices {
		ok, err := s.suits(claim, a, d)
		if err != nil {
			return false, err
		}
		if !ok {
			continue
		}
		if len(s.picked[claim]) == resourcev1.AllocationResultsMaxSize || !s.take(claim, a, d) {
			undo()
			return false, nil
		}
	}
	if len(s.picked[claim]) == before {
		return false, nil
	}
	found, err := then()
	if !found {
		undo()
	}
	return found, err
}

// suits reports whether d is what a asks for.
func (s *search) suits(claim int, a *ask, d *device) (bool, error) {
	if s.budget--; s.budget < 0 {
		return false, ErrBudget
	}
	c := s.claims[claim]
	ok, err := s.wants(a, d)
	if err != nil {
		return false, fmt.Errorf("claim %s/%s: request %s: device %s/%s/%s: %w", c.Namespace, c.Name, a.name, d.Driver, d.Pool, d.Name, err)
	}
	return ok && spacious(d, a.capacity), nil
}

// take picks d unless something is in the way.
func (s *search) take(claim int, a *ask, d *device) bool {
	if barred(a, d) || s.doubled(claim, a, d) || !agrees(s.claims[claim].Spec.Devices.Constraints, s.picked[claim], a.name, d) {
		return false
	}
	p := pick{ask: a, device: d}
	if a.admin {
		s.picked[claim] = append(s.picked[claim], p)
		return true
	}
	var fits bool
	if p.consumed, fits = consumption(d, a.capacity); !fits || !s.held.free(d, p.consumed) {
		return false
	}
	s.held.add(d.ID, share{p.consumed != nil, p.consumed}, 1)
	s.picked[claim] = append(s.picked[claim], p)
	return true
}

// doubled reports whether a claim has picked d already, and could not tell the two apart.
func (s *search) doubled(claim int, a *ask, d *device) bool {
	for i := range s.picked[claim] {
		if p := &s.picked[claim][i]; p.device == d && (a.admin || p.ask.admin || !ptr.Deref(d.AllowMultipleAllocations, false)) {
			return true
		}
	}
	return false
}

// back gives the last device of a claim back.
func (s *search) back(claim int) {
	list := s.picked[claim]
	last := list[len(list)-1]
	s.picked[claim] = list[:len(list)-1]
	if !last.ask.admin {
		s.held.add(last.device.ID, share{last.consumed != nil, last.consumed}, -1)
	}
}
