package builtin_test

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	nodev1 "k8s.io/api/node/v1"
	storagev1 "k8s.io/api/storage/v1"

	"canopus/internal/kinds"
	"canopus/internal/kinds/discovery"
	"canopus/internal/kinds/node"
	"canopus/internal/kinds/storage"
)

// TestWarningsOfLabelsAndAddresses: kinds that name labels of nodes, or addresses, warn of the old and the odd.
func TestWarningsOfLabelsAndAddresses(t *testing.T) {
	t.Parallel()
	const zone = corev1.LabelFailureDomainBetaZone
	slice := func(of discoveryv1.AddressType, address string) *discoveryv1.EndpointSlice {
		return &discoveryv1.EndpointSlice{AddressType: of, Endpoints: []discoveryv1.Endpoint{{Addresses: []string{address}}}}
	}
	for name, tc := range map[string]struct {
		kind *kinds.Kind
		obj  kinds.Object
		want []string
	}{
		"slice":          {discovery.EndpointSlice(), slice(discoveryv1.AddressTypeIPv4, "10.0.0.1"), nil},
		"odd address":    {discovery.EndpointSlice(), slice(discoveryv1.AddressTypeIPv4, "010.0.0.1"), []string{`endpoints[0].addresses[0]: non-standard IP address "010.0.0.1" is invalid: use "10.0.0.1"`}},
		"slice of names": {discovery.EndpointSlice(), slice(discoveryv1.AddressTypeFQDN, "a.b"), []string{"addressType: FQDN endpoints are deprecated"}},
		"runtime class": {node.RuntimeClass(), &nodev1.RuntimeClass{Scheduling: &nodev1.Scheduling{NodeSelector: map[string]string{zone: "a"}}},
			[]string{`scheduling.nodeSelector[failure-domain.beta.kubernetes.io/zone]: deprecated since v1.17; use "topology.kubernetes.io/zone" instead`}},
		"storage class": {storage.StorageClass(), &storagev1.StorageClass{AllowedTopologies: []corev1.TopologySelectorTerm{{
			MatchLabelExpressions: []corev1.TopologySelectorLabelRequirement{{Key: zone}},
		}}}, []string{`allowedTopologies[0].matchLabelExpressions[0].key: deprecated since v1.17; use "topology.kubernetes.io/zone" instead`}},
	} {
		if got := tc.kind.Warnings(tc.obj, nil); !slices.Equal(got, tc.want) {
			t.Errorf("%s: warned %q, want %q", name, got, tc.want)
		}
	}
}
