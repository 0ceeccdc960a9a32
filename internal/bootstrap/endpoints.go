//lint:file-ignore SA1019 the Endpoints of the kubernetes Service are part of the API that clients read

package bootstrap

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Each server keeps a Lease that says it lives and at which addresses. Its name and label are upstream's, where they identify API
// servers; the addresses are our annotation.
const (
	identityLabel   = "apiserver.kubernetes.io/identity"
	identityValue   = "kube-apiserver"
	addressesKey    = "canopus/advertise-addresses"
	renewLease      = 10 * time.Second
	leaseSeconds    = 30
	skipMirrorLabel = "endpointslice.kubernetes.io/skip-mirror"
)

// keepEndpoints renews this server's lease and brings the endpoints to what all leases say, until ctx ends.
func (b *Bootstrap) keepEndpoints(ctx context.Context) error {
	t := b.c.Clock.NewTicker(renewLease)
	defer t.Stop()
	for {
		if err := b.renewEndpoints(ctx); err != nil && ctx.Err() == nil {
			b.c.Log.Warn("endpoints of the kubernetes service could not be kept, trying again", "after", renewLease, "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C():
		}
	}
}

func (b *Bootstrap) renewEndpoints(ctx context.Context) error {
	if err := b.renewLease(ctx); err != nil {
		return err
	}
	list, err := b.c.Client.CoordinationV1().Leases(metav1.NamespaceSystem).List(ctx, metav1.ListOptions{LabelSelector: identityLabel + "=" + identityValue})
	if err != nil {
		return fmt.Errorf("list the servers' leases: %w", err)
	}
	addresses := live(list.Items, b.c.Addresses, b.c.Clock.Now())
	if err := b.writeEndpoints(ctx, addresses); err != nil {
		return err
	}
	return b.writeSlice(ctx, addresses)
}

// leaseName is upstream's: a hash of the host's name.
func leaseName(node string) string {
	sum := sha256.Sum256([]byte(node))
	return "apiserver-" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:16]))
}

func (b *Bootstrap) renewLease(ctx context.Context) error {
	api := b.c.Client.CoordinationV1().Leases(metav1.NamespaceSystem)
	name, now, seconds := leaseName(b.c.Node), metav1.NewMicroTime(b.c.Clock.Now()), int32(leaseSeconds)
	have, err := api.Get(ctx, name, metav1.GetOptions{})
	next := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: name}}
	if err == nil {
		next = have.DeepCopy()
	}
	overlay(&next.Labels, map[string]string{identityLabel: identityValue, corev1.LabelHostname: b.c.Node})
	overlay(&next.Annotations, map[string]string{addressesKey: join(b.c.Addresses)})
	next.Spec.HolderIdentity, next.Spec.LeaseDurationSeconds, next.Spec.RenewTime = &b.c.Node, &seconds, &now
	switch {
	case apierrors.IsNotFound(err):
		_, err = api.Create(ctx, next, metav1.CreateOptions{})
	case err == nil:
		_, err = api.Update(ctx, next, metav1.UpdateOptions{})
	}
	if err != nil {
		return fmt.Errorf("renew this server's lease: %w", err)
	}
	return nil
}

func join(list []netip.Addr) string {
	s := make([]string, len(list))
	for i, a := range list {
		s[i] = a.Unmap().String()
	}
	return strings.Join(s, ",")
}

// live returns the addresses of all servers whose lease has not run out, and our own, sorted and each once. Other servers' clocks
// may differ from ours a little: they renew three times within a lease.
func live(leases []coordinationv1.Lease, own []netip.Addr, now time.Time) []netip.Addr {
	var all []netip.Addr
	for _, a := range own {
		all = append(all, a.Unmap())
	}
	for _, l := range leases {
		if l.Spec.RenewTime == nil || l.Spec.LeaseDurationSeconds == nil ||
			now.After(l.Spec.RenewTime.Add(time.Duration(*l.Spec.LeaseDurationSeconds)*time.Second)) {
			continue
		}
		for s := range strings.SplitSeq(l.Annotations[addressesKey], ",") {
			if a, err := netip.ParseAddr(s); err == nil && a.Unmap().Is4() == own[0].Unmap().Is4() {
				all = append(all, a.Unmap())
			}
		}
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return slices.Compact(all)
}

func (b *Bootstrap) writeEndpoints(ctx context.Context, addresses []netip.Addr) error {
	subset := corev1.EndpointSubset{Ports: []corev1.EndpointPort{{Name: httpsPort, Port: b.c.Port, Protocol: corev1.ProtocolTCP}}}
	for _, a := range addresses {
		subset.Addresses = append(subset.Addresses, corev1.EndpointAddress{IP: a.String()})
	}
	api := b.c.Client.CoreV1().Endpoints(metav1.NamespaceDefault)
	have, err := api.Get(ctx, kubernetesService, metav1.GetOptions{})
	next := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: kubernetesService}}
	if err == nil {
		next = have.DeepCopy()
	}
	relabelled := overlay(&next.Labels, map[string]string{skipMirrorLabel: "true"})
	next.Subsets = []corev1.EndpointSubset{subset}
	switch {
	case apierrors.IsNotFound(err):
		_, err = api.Create(ctx, next, metav1.CreateOptions{})
	case err == nil && (relabelled || !equality.Semantic.DeepEqual(have.Subsets, next.Subsets)):
		_, err = api.Update(ctx, next, metav1.UpdateOptions{})
	}
	return made("endpoints of the kubernetes service", err)
}

func (b *Bootstrap) writeSlice(ctx context.Context, addresses []netip.Addr) error {
	ready, name, protocol, port := true, httpsPort, corev1.ProtocolTCP, b.c.Port
	kind := discoveryv1.AddressTypeIPv4
	if addresses[0].Is6() {
		kind = discoveryv1.AddressTypeIPv6
	}
	var endpoints []discoveryv1.Endpoint
	for _, a := range addresses {
		endpoints = append(endpoints, discoveryv1.Endpoint{Addresses: []string{a.String()}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}})
	}
	ports := []discoveryv1.EndpointPort{{Name: &name, Port: &port, Protocol: &protocol}}
	api := b.c.Client.DiscoveryV1().EndpointSlices(metav1.NamespaceDefault)
	have, err := api.Get(ctx, kubernetesService, metav1.GetOptions{})
	next := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: kubernetesService}, AddressType: kind}
	if err == nil {
		next = have.DeepCopy()
	}
	relabelled := overlay(&next.Labels, map[string]string{discoveryv1.LabelServiceName: kubernetesService})
	next.Endpoints, next.Ports = endpoints, ports
	switch {
	case apierrors.IsNotFound(err):
		_, err = api.Create(ctx, next, metav1.CreateOptions{})
	case err == nil && (relabelled || !equality.Semantic.DeepEqual(have.Endpoints, next.Endpoints) || !equality.Semantic.DeepEqual(have.Ports, next.Ports)):
		_, err = api.Update(ctx, next, metav1.UpdateOptions{})
	}
	return made("endpoint slice of the kubernetes service", err)
}
