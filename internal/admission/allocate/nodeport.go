package allocate

import (
	"context"
	"errors"
	"fmt"
	"math/big"

	"canopus/internal/store"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// portsName is the key, below ranges/, of the bitmap of node ports.
const portsName = "servicenodeports"

// takesPorts says whether s has node ports, or may.
func takesPorts(s *corev1.Service) bool {
	return s != nil && (s.Spec.Type == corev1.ServiceTypeNodePort || s.Spec.Type == corev1.ServiceTypeLoadBalancer)
}

// wantsPorts says whether ports of s without a node port get one.
func wantsPorts(s *corev1.Service) bool {
	if s.Spec.Type == corev1.ServiceTypeLoadBalancer {
		return s.Spec.AllocateLoadBalancerNodePorts == nil || *s.Spec.AllocateLoadBalancerNodePorts
	}
	return s.Spec.Type == corev1.ServiceTypeNodePort
}

func takesHealthPort(s *corev1.Service) bool {
	return s != nil && s.Spec.Type == corev1.ServiceTypeLoadBalancer && s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
}

// keepPorts gives ports of now without a node port the one that the same port of old has.
func keepPorts(now, old *corev1.Service) {
	type portKey struct {
		protocol corev1.Protocol
		port     int32
	}
	had, used := map[portKey]int32{}, map[int32]bool{}
	for _, p := range old.Spec.Ports {
		had[portKey{p.Protocol, p.Port}] = p.NodePort
	}
	for _, p := range now.Spec.Ports {
		used[p.NodePort] = true
	}
	for i := range now.Spec.Ports {
		p := &now.Spec.Ports[i]
		if n := had[portKey{p.Protocol, p.Port}]; p.NodePort == 0 && n != 0 && !used[n] {
			p.NodePort = n
		}
	}
}

// held returns the node ports of s.
func held(s *corev1.Service) map[int32]bool {
	set := map[int32]bool{}
	if takesPorts(s) {
		for _, p := range s.Spec.Ports {
			if p.NodePort != 0 {
				set[p.NodePort] = true
			}
		}
	}
	if takesHealthPort(s) && s.Spec.HealthCheckNodePort != 0 {
		set[s.Spec.HealthCheckNodePort] = true
	}
	return set
}

// claimPorts works out how a write changes the bitmap of node ports, if it does.
func (a *Allocator) claimPorts(ctx context.Context, now, old *corev1.Service) ([]store.Change, field.ErrorList, error) {
	if !takesPorts(now) && !takesPorts(old) {
		return nil, nil, nil
	}
	before, taken, err := a.bitmap(ctx)
	if err != nil {
		return nil, nil, err
	}
	t := &portTable{a: a, taken: taken, mine: held(old), byPort: map[int32]int32{}}
	if errs := t.fill(now); len(errs) > 0 {
		return nil, errs, nil
	}
	after := held(now)
	for p := range t.mine {
		if i, ok := a.bit(p); ok && !after[p] {
			t.set(i, 0)
		}
	}
	if !t.changed {
		return nil, nil, nil
	}
	return []store.Change{{Resource: a.ranges, Name: portsName, Was: before, Now: &corev1.RangeAllocation{Range: a.ports.String(), Data: taken.Bytes()}}}, nil, nil
}

// bit returns the place of a port in the bitmap.
func (a *Allocator) bit(port int32) (int, bool) {
	return int(port) - int(a.ports.First), port >= int32(a.ports.First) && port <= int32(a.ports.Last)
}

// bitmap reads which ports are taken.
func (a *Allocator) bitmap(ctx context.Context) (*store.Entry, *big.Int, error) {
	taken := new(big.Int)
	e, err := a.ranges.Get(ctx, "", portsName, store.Freshness{Match: store.Any})
	if errors.Is(err, store.ErrNotFound) {
		return nil, taken, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read the node ports that are taken: %w", err)
	}
	o, err := e.Object()
	if err != nil {
		return nil, nil, fmt.Errorf("read the node ports that are taken: %w", err)
	}
	r, ok := o.(*corev1.RangeAllocation)
	if !ok {
		return nil, nil, fmt.Errorf("node ports are stored as a %T, not a RangeAllocation", o)
	}
	if r.Range != a.ports.String() {
		if taken, err = a.move(r); err != nil {
			return nil, nil, err
		}
		return e, taken, nil
	}
	return e, taken.SetBytes(r.Data), nil
}

// move reads a bitmap that was written for another range: the setting has changed since.
func (a *Allocator) move(r *corev1.RangeAllocation) (*big.Int, error) {
	var first, last int
	if _, err := fmt.Sscanf(r.Range, "%d-%d", &first, &last); err != nil {
		return nil, fmt.Errorf("node ports are stored for the range %q, which cannot be read: %w", r.Range, err)
	}
	was, now := new(big.Int).SetBytes(r.Data), new(big.Int)
	for i := range was.BitLen() {
		if place, ok := a.bit(int32(first + i)); ok && was.Bit(i) == 1 {
			now.SetBit(now, place, 1)
		}
	}
	return now, nil
}

// portTable is the bitmap while one Service's ports are fitted in.
type portTable struct {
	a       *Allocator
	taken   *big.Int
	mine    map[int32]bool  // held by the Service before
	byPort  map[int32]int32 // node port by service port: TCP and UDP of one port share theirs
	changed bool
}

func (t *portTable) set(i int, to uint) {
	if t.taken.Bit(i) != to {
		t.taken.SetBit(t.taken, i, to)
		t.changed = true
	}
}

// fill claims the ports that s names, then finds ones for those that name none.
func (t *portTable) fill(s *corev1.Service) field.ErrorList {
	if !takesPorts(s) {
		return nil
	}
	path := field.NewPath("spec", "ports")
	for i, p := range s.Spec.Ports {
		if p.NodePort == 0 {
			continue
		}
		if text := t.claim(p.NodePort); text != "" {
			return invalid(path.Index(i).Child("nodePort"), p.NodePort, text)
		}
		t.byPort[p.Port] = p.NodePort
	}
	if h := s.Spec.HealthCheckNodePort; takesHealthPort(s) && h != 0 {
		if text := t.claim(h); text != "" {
			return invalid(field.NewPath("spec", "healthCheckNodePort"), h, text)
		}
	}
	for i := range s.Spec.Ports {
		p := &s.Spec.Ports[i]
		if p.NodePort != 0 || !wantsPorts(s) {
			continue
		}
		if p.NodePort = t.shared(s, p); p.NodePort == 0 {
			if p.NodePort = t.next(); p.NodePort == 0 {
				return field.ErrorList{field.InternalError(path.Index(i).Child("nodePort"), errors.New("failed to allocate a nodePort: range is full"))}
			}
		}
		t.byPort[p.Port] = p.NodePort
	}
	if takesHealthPort(s) && s.Spec.HealthCheckNodePort == 0 {
		if s.Spec.HealthCheckNodePort = t.next(); s.Spec.HealthCheckNodePort == 0 {
			return field.ErrorList{field.InternalError(field.NewPath("spec", "healthCheckNodePort"), errors.New("failed to allocate a nodePort: range is full"))}
		}
	}
	return nil
}

// claim takes a port that the Service names. What it held before, or names twice, is its own; that two of its ports clash is
// for validation to say.
func (t *portTable) claim(port int32) string {
	i, ok := t.a.bit(port)
	if !ok {
		return fmt.Sprintf("provided port is not in the valid range. The range of valid ports is %s", t.a.ports)
	}
	if t.taken.Bit(i) == 1 && !t.mine[port] {
		return "provided port is already allocated"
	}
	t.mine[port] = true
	t.set(i, 1)
	return ""
}

// shared returns the node port of the same service port of another protocol, unless that combination exists.
func (t *portTable) shared(s *corev1.Service, p *corev1.ServicePort) int32 {
	n := t.byPort[p.Port]
	for i := range s.Spec.Ports {
		if o := &s.Spec.Ports[i]; o != p && o.NodePort == n && o.Protocol == p.Protocol {
			return 0
		}
	}
	return n
}

// next takes a free port; 0 when there is none.
func (t *portTable) next() int32 {
	o, ok := t.a.portIn.pick(func(o uint64) bool { return t.taken.Bit(int(o)) == 0 })
	if !ok {
		return 0
	}
	t.set(int(o), 1)
	port := int32(t.a.ports.First) + int32(o)
	t.mine[port] = true
	return port
}
