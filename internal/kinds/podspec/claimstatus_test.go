package podspec_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"

	"canopus/internal/kinds/podspec"
)

func TestStatusOfClaims(t *testing.T) {
	t.Parallel()
	type claims = []corev1.PodResourceClaimStatus
	extended := func(claim string, mappings ...corev1.ContainerExtendedResourceRequest) *corev1.PodExtendedResourceClaimStatus {
		return &corev1.PodExtendedResourceClaimStatus{ResourceClaimName: claim, RequestMappings: mappings}
	}
	maps := func(container, resource, request string) corev1.ContainerExtendedResourceRequest {
		return corev1.ContainerExtendedResourceRequest{ContainerName: container, ResourceName: resource, RequestName: request}
	}
	const x = "status.extendedResourceClaimStatus."
	for name, tt := range map[string]struct {
		claims   claims
		extended *corev1.PodExtendedResourceClaimStatus
		want     []string
	}{
		"as it should be": {claims{{Name: "gpu", ResourceClaimName: ptr.To("p-gpu")}, {Name: "nic"}}, extended("made", maps("c", "x.io/card", "r0"), maps("i", "x.io/card", "r1")), nil},
		"unknown, twice, badly named": {claims{{Name: "disk"}, {Name: "gpu"}, {Name: "gpu", ResourceClaimName: ptr.To("A")}}, nil,
			[]string{"status.resourceClaimStatuses[0].name: Invalid value", "status.resourceClaimStatuses[2].name: Duplicate value", "status.resourceClaimStatuses[2].name: Invalid value"}},
		"nothing is mapped":       {nil, extended(""), []string{x + "resourceClaimName: Required value", x + "requestMappings: Required value"}},
		"an unknown container":    {nil, extended("made", maps("d", "x.io/card", "r0")), []string{x + "requestMappings[0].containerName: Invalid value"}},
		"not asked for":           {nil, extended("made", maps("c", "x.io/disk", "r0")), []string{x + "requestMappings[0].resourceName: Invalid value"}},
		"a bad request and twice": {nil, extended("made", maps("c", "x.io/card", "A"), maps("c", "x.io/card", "r0")), []string{x + "requestMappings[0].requestName: Invalid value", x + "requestMappings[1]: Duplicate value"}},
	} {
		asks := corev1.ResourceRequirements{Requests: corev1.ResourceList{"x.io/card": resource.MustParse("1")}}
		old := &corev1.Pod{Spec: corev1.PodSpec{
			ResourceClaims: []corev1.PodResourceClaim{{Name: "gpu"}, {Name: "nic"}},
			InitContainers: []corev1.Container{{Name: "i", Resources: asks}}, Containers: []corev1.Container{{Name: "c", Resources: asks}},
		}}
		now := old.DeepCopy()
		now.Status.ResourceClaimStatuses, now.Status.ExtendedResourceClaimStatus = tt.claims, tt.extended
		var got []string
		for _, err := range podspec.ValidateStatusUpdate(now, old) {
			got = append(got, err.Error())
		}
		for i := range max(len(got), len(tt.want)) {
			if i >= len(got) || i >= len(tt.want) || !strings.HasPrefix(got[i], tt.want[i]) {
				t.Errorf("%s: got %q, want %q", name, got, tt.want)
				break
			}
		}
	}
}
