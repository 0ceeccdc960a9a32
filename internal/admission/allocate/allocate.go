// Package allocate gives Services their cluster IPs and node ports. What is taken is recorded in the same etcd transaction as the
// Service, so that neither can be lost without the other and there is nothing to repair: cluster IPs as IPAddress objects, node
// ports as a bitmap under upstream's key ranges/servicenodeports.
//
// clusterip.go and nodeport.go each work out what one Service takes and releases; band.go is the order in which free ones are tried.
package allocate

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"canopus/internal/admission"
	"canopus/internal/kinds"
	"canopus/internal/store"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/clock"
)

// Config says what an Allocator gives out. All fields but More are required.
type Config struct {
	CIDR      netip.Prefix           // 10.96.0.0/12
	More      func() []netip.Prefix  // further ranges, asked at every claim; those of the other family are left aside
	Ports     Ports                  // 30000-32767
	Addresses func() *store.Resource // ipaddresses, asked at every claim: the server registers it after this is made
	Ranges    *store.Resource        // see RegisterRanges
	Clock     clock.PassiveClock
}

// Ports is a range of ports, both ends included.
type Ports struct{ First, Last uint16 }

// String is the range as in Kubernetes' options: 30000-32767.
func (p Ports) String() string { return fmt.Sprintf("%d-%d", p.First, p.Last) }

// Allocator claims addresses and ports for writes of Services. Safe for concurrent use: the transaction decides who gets what.
type Allocator struct {
	cidr      netip.Prefix
	ports     Ports
	addresses func() *store.Resource
	ranges    *store.Resource
	clock     clock.PassiveClock
	more      func() []netip.Prefix
	portIn    band
}

// New checks c and makes an Allocator.
func New(c Config) (*Allocator, error) {
	switch {
	case !c.CIDR.IsValid() || !large(c.CIDR):
		return nil, fmt.Errorf("service range %s is too small: it needs at least four addresses", c.CIDR)
	case c.Ports.First == 0 || c.Ports.Last < c.Ports.First:
		return nil, fmt.Errorf("node port range %s is empty", c.Ports)
	case c.Addresses == nil || c.Ranges == nil || c.Clock == nil:
		return nil, errors.New("service allocator: addresses, ranges and clock are required")
	}
	return &Allocator{
		cidr: c.CIDR.Masked(), ports: c.Ports, addresses: c.Addresses, ranges: c.Ranges, clock: c.Clock,
		more: c.More, portIn: portBand(c.Ports),
	}, nil
}

// RegisterRanges makes the store keep upstream's internal RangeAllocations, which no API serves.
func RegisterRanges(s *store.Store) (*store.Resource, error) {
	kind := kinds.New(kinds.Spec[corev1.RangeAllocation, *corev1.RangeAllocation]{
		GVK: corev1.SchemeGroupVersion.WithKind("RangeAllocation"), Plural: "rangeallocations",
		NewList: func() runtime.Object { return &corev1.List{} },
	})
	r, err := s.Register(store.ResourceConfig{
		Name: schema.GroupResource{Resource: "rangeallocations"}, Prefix: "ranges/", Codec: kinds.NewCodec(kind), KeepDecoded: true,
	})
	if err != nil {
		return nil, fmt.Errorf("register range allocations: %w", err)
	}
	return r, nil
}

// Claim completes now, the Service that a write is to store, by what it needs, and returns what has to change beside it. now is nil for a
// delete, old for a create. It is called again, from the beginning, when the transaction finds something taken meanwhile.
func (a *Allocator) Claim(ctx context.Context, op admission.Operation, now, old *corev1.Service) ([]store.Change, error) {
	if op == admission.Delete {
		now = nil
	}
	if now != nil && old != nil {
		keep(now, old)
	}
	addresses, errs, err := a.claimAddress(ctx, now, old)
	if err != nil {
		return nil, err
	}
	ports, more, err := a.claimPorts(ctx, now, old)
	if err != nil {
		return nil, err
	}
	if errs = append(errs, more...); len(errs) > 0 {
		return nil, apierrors.NewInvalid(schema.GroupKind{Kind: "Service"}, now.Name, errs)
	}
	return append(addresses, ports...), nil
}

// keep fills in, from old, what a client left out because it does not know it: as upstream, an update that names no
// address or port keeps those there are.
func keep(now, old *corev1.Service) {
	if takesAddress(old) && takesAddress(now) {
		if now.Spec.ClusterIP == "" {
			now.Spec.ClusterIP = old.Spec.ClusterIP
		}
		if len(now.Spec.ClusterIPs) == 0 && now.Spec.ClusterIP == old.Spec.ClusterIP {
			now.Spec.ClusterIPs = old.Spec.ClusterIPs
		}
	}
	if takesPorts(old) && takesPorts(now) {
		keepPorts(now, old)
	}
	if takesHealthPort(old) && takesHealthPort(now) && now.Spec.HealthCheckNodePort == 0 {
		now.Spec.HealthCheckNodePort = old.Spec.HealthCheckNodePort
	}
	drop(now, old)
}

// drop clears what the Service's new type cannot have, unless the client asks for it, which validation then refuses.
func drop(now, old *corev1.Service) {
	if takesAddress(old) && now.Spec.Type == corev1.ServiceTypeExternalName && now.Spec.ClusterIP == old.Spec.ClusterIP {
		now.Spec.ClusterIP, now.Spec.ClusterIPs = "", nil
		now.Spec.IPFamilies, now.Spec.IPFamilyPolicy = nil, nil
	}
	if takesPorts(old) && !takesPorts(now) {
		had := map[int32]bool{}
		for _, p := range old.Spec.Ports {
			had[p.NodePort] = true
		}
		for i := range now.Spec.Ports {
			if had[now.Spec.Ports[i].NodePort] {
				now.Spec.Ports[i].NodePort = 0
			}
		}
	}
	if takesHealthPort(old) && !takesHealthPort(now) && now.Spec.HealthCheckNodePort == old.Spec.HealthCheckNodePort {
		now.Spec.HealthCheckNodePort = 0
	}
}

func invalid(path *field.Path, value any, text string) field.ErrorList {
	return field.ErrorList{field.Invalid(path, value, text)}
}

// parent is what an IPAddress refers to.
func parent(s *corev1.Service) *networkingv1.ParentReference {
	return &networkingv1.ParentReference{Resource: "services", Namespace: s.Namespace, Name: s.Name}
}
