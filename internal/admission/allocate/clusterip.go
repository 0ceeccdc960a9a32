package allocate

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"canopus/internal/store"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// managedBy labels IPAddress objects that are made for Services.
const managedBy = "ipallocator.k8s.io"

// takesAddress says whether s has, or is to get, a cluster IP.
func takesAddress(s *corev1.Service) bool {
	if s == nil || s.Spec.ClusterIP == corev1.ClusterIPNone {
		return false
	}
	switch s.Spec.Type {
	case corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer, "":
		return true
	}
	return false
}

// claimAddress works out which IPAddress objects a write makes and removes.
func (a *Allocator) claimAddress(ctx context.Context, now, old *corev1.Service) ([]store.Change, field.ErrorList, error) {
	var changes []store.Change
	had, has := takesAddress(old), takesAddress(now)
	if now != nil && now.Spec.Type != corev1.ServiceTypeExternalName {
		if errs := a.families(now); len(errs) > 0 {
			return nil, errs, nil
		}
	}
	if had && has && now.Spec.ClusterIP == old.Spec.ClusterIP {
		return nil, nil, nil
	}
	if had {
		change, err := a.release(ctx, old)
		if err != nil {
			return nil, nil, err
		}
		changes = append(changes, change...)
	}
	if has {
		change, errs, err := a.take(ctx, now)
		if err != nil || len(errs) > 0 {
			return nil, errs, err
		}
		changes = append(changes, change...)
	}
	return changes, nil, nil
}

// families fills in the IP families of s: this cluster has one.
func (a *Allocator) families(s *corev1.Service) field.ErrorList {
	family := corev1.IPv4Protocol
	if a.cidr.Addr().Is6() {
		family = corev1.IPv6Protocol
	}
	spec := &s.Spec
	if spec.ClusterIP != "" && len(spec.ClusterIPs) == 0 {
		spec.ClusterIPs = []string{spec.ClusterIP}
	}
	if p := spec.IPFamilyPolicy; p != nil && *p == corev1.IPFamilyPolicyRequireDualStack {
		return invalid(field.NewPath("spec", "ipFamilyPolicy"), *p, "this cluster is not configured for dual-stack services")
	}
	for i, f := range spec.IPFamilies {
		if f != family {
			return invalid(field.NewPath("spec", "ipFamilies").Index(i), f, "not configured on this cluster")
		}
	}
	if spec.IPFamilyPolicy == nil {
		single := corev1.IPFamilyPolicySingleStack
		spec.IPFamilyPolicy = &single
	}
	if len(spec.IPFamilies) == 0 {
		spec.IPFamilies = []corev1.IPFamily{family}
	}
	return nil
}

// take claims the address that s names, or a free one.
func (a *Allocator) take(ctx context.Context, s *corev1.Service) ([]store.Change, field.ErrorList, error) {
	path := field.NewPath("spec", "clusterIPs")
	if s.Spec.ClusterIP == "" {
		ip, err := a.free(ctx)
		if err != nil {
			return nil, nil, err
		}
		if !ip.IsValid() {
			return nil, field.ErrorList{field.InternalError(path, fmt.Errorf("failed to allocate a serviceIP: range is full"))}, nil
		}
		s.Spec.ClusterIP, s.Spec.ClusterIPs = ip.String(), []string{ip.String()}
		return []store.Change{a.claim(s, ip)}, nil, nil
	}
	ip, err := netip.ParseAddr(s.Spec.ClusterIP)
	if err != nil {
		return nil, nil, nil // validation says what is wrong with it
	}
	if spans := a.spans(); !slices.ContainsFunc(spans, func(r span) bool { return r.contains(ip) }) {
		return nil, invalid(path, s.Spec.ClusterIPs, fmt.Sprintf("failed to allocate IP %s: provided IP is not in the valid range. The range of valid IPs is %s", ip, show(spans))), nil
	}
	_, err = a.addresses().Get(ctx, "", ip.String(), store.Freshness{Match: store.Any})
	switch {
	case err == nil:
		return nil, invalid(path, s.Spec.ClusterIPs, fmt.Sprintf("failed to allocate IP %s: provided IP is already allocated", ip)), nil
	case !errors.Is(err, store.ErrNotFound):
		return nil, nil, fmt.Errorf("look up cluster IP %s: %w", ip, err)
	}
	return []store.Change{a.claim(s, ip)}, nil, nil
}

// span is a range that addresses are given out of.
type span struct {
	cidr netip.Prefix
	band band
}

func newSpan(cidr netip.Prefix) span { return span{cidr: cidr.Masked(), band: addressBand(cidr)} }

// spans are the ranges in use now: the configured one first.
func (a *Allocator) spans() []span {
	spans := []span{newSpan(a.cidr)}
	if a.more == nil {
		return spans
	}
	for _, cidr := range a.more() {
		known := slices.ContainsFunc(spans, func(r span) bool { return r.cidr == cidr.Masked() })
		if cidr.Addr().Is4() == a.cidr.Addr().Is4() && !known && large(cidr) {
			spans = append(spans, newSpan(cidr))
		}
	}
	return spans
}

// large says whether a range has addresses to give out.
func large(cidr netip.Prefix) bool { return cidr.Bits() <= cidr.Addr().BitLen()-2 }

func show(spans []span) string {
	texts := make([]string, len(spans))
	for i := range spans {
		texts[i] = spans[i].cidr.String()
	}
	return strings.Join(texts, ", ")
}

// contains says whether ip can be given out.
func (r span) contains(ip netip.Addr) bool {
	return r.cidr.Contains(ip) && ip != r.cidr.Addr() && ip != r.last()
}

// last is the broadcast address of an IPv4 range, else no address.
func (r span) last() netip.Addr {
	if !r.cidr.Addr().Is4() {
		return netip.Addr{}
	}
	return r.at(r.band.size)
}

// at returns the address at an offset; offset 0 is the one after the network's own.
func (r span) at(offset uint64) netip.Addr {
	if r.cidr.Addr().Is4() {
		b := r.cidr.Addr().As4()
		binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])+uint32(offset)+1)
		return netip.AddrFrom4(b)
	}
	b := r.cidr.Addr().As16()
	binary.BigEndian.PutUint64(b[8:], binary.BigEndian.Uint64(b[8:])+offset+1)
	return netip.AddrFrom16(b)
}

// free returns an address that is not taken; the zero Addr when all are.
func (a *Allocator) free(ctx context.Context) (netip.Addr, error) {
	for _, r := range a.spans() {
		ip, err := a.freeIn(ctx, r)
		if err != nil || ip.IsValid() {
			return ip, err
		}
	}
	return netip.Addr{}, nil
}

func (a *Allocator) freeIn(ctx context.Context, r span) (netip.Addr, error) {
	var failed error
	offset, ok := r.band.pick(func(o uint64) bool {
		_, err := a.addresses().Get(ctx, "", r.at(o).String(), store.Freshness{Match: store.Any})
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			failed = err
			return true
		}
		return err != nil
	})
	if failed != nil {
		return netip.Addr{}, fmt.Errorf("look for a free cluster IP: %w", failed)
	}
	if !ok {
		return netip.Addr{}, nil
	}
	return r.at(offset), nil
}

// claim is the change that makes ip belong to s. It fails, and the write is run again, if somebody else is first.
func (a *Allocator) claim(s *corev1.Service, ip netip.Addr) store.Change {
	family := string(corev1.IPv4Protocol)
	if ip.Is6() {
		family = string(corev1.IPv6Protocol)
	}
	return store.Change{Resource: a.addresses(), Name: ip.String(), Now: &networkingv1.IPAddress{
		ObjectMeta: metav1.ObjectMeta{
			Name: ip.String(), UID: uuid.NewUUID(), CreationTimestamp: metav1.NewTime(a.clock.Now().Truncate(1e9)), Generation: 1,
			Labels: map[string]string{networkingv1.LabelIPAddressFamily: family, networkingv1.LabelManagedBy: managedBy},
		},
		Spec: networkingv1.IPAddressSpec{ParentRef: parent(s)},
	}}
}

// release is the change that frees the address of s, if it is indeed taken by s.
func (a *Allocator) release(ctx context.Context, s *corev1.Service) ([]store.Change, error) {
	if s.Spec.ClusterIP == "" {
		return nil, nil
	}
	e, err := a.addresses().Get(ctx, "", s.Spec.ClusterIP, store.Freshness{Match: store.Any})
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up cluster IP %s: %w", s.Spec.ClusterIP, err)
	}
	o, err := e.Object()
	if err != nil {
		return nil, fmt.Errorf("read cluster IP %s: %w", s.Spec.ClusterIP, err)
	}
	ip, ok := o.(*networkingv1.IPAddress)
	if !ok || ip.Spec.ParentRef == nil || *ip.Spec.ParentRef != *parent(s) {
		return nil, nil
	}
	return []store.Change{{Resource: a.addresses(), Name: e.Name, Was: e}}, nil
}
