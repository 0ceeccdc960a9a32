package podspec_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"canopus/internal/kinds/podspec"
)

func TestStatusOfDevices(t *testing.T) {
	t.Parallel()
	const claims = "must match one of the container's resource claims"
	for name, tt := range map[string]struct {
		container, resource string
		devices             string // "id=health id=health"
		want                string // "path words; path words"
	}{
		"a claim":                        {"c", "claim:gpu", "d/p/a=Healthy d/p/b=Unknown", ""},
		"a part of a claim":              {"c", "claim:nic/fast", "d/p/a=Unhealthy", ""},
		"all of a claim with parts":      {"c", "claim:nic", "", "name " + claims},
		"another part":                   {"c", "claim:nic/slow", "", "name " + claims},
		"a claim of another":             {"i", "claim:gpu", "", "name " + claims},
		"a resource":                     {"c", "x.io/card", "7=Healthy", ""},
		"a resource that is not asked":   {"i", "x.io/card", "", "name must match one of the container's resource requests"},
		"behind an extended resource":    {"c", "claim:made/r0", "d/p/a=Healthy", ""},
		"behind another's":               {"i", "claim:made/r0", "", "name " + claims},
		"a container that there is not":  {"gone", "claim:any", "d/p/a=Healthy", ""},
		"an unknown state":               {"c", "claim:gpu", "d/p/a=Sick d/p/b=", "resources[0].health Unsupported value; resources[1].health Unsupported value"},
		"the same device twice":          {"c", "claim:gpu", "a=Healthy b=Healthy a=Healthy", "resources[2].resourceID Duplicate value"},
		"a bad container, a bad state":   {"gone", "claim:any", "a=Sick", "resources[0].health Unsupported value"},
		"of an init container, no claim": {"i", "claim:", "", "name " + claims},
	} {
		pod := &corev1.Pod{Spec: corev1.PodSpec{
			InitContainers: []corev1.Container{{Name: "i"}},
			Containers: []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{
				Claims:   []corev1.ResourceClaim{{Name: "gpu"}, {Name: "nic", Request: "fast"}},
				Requests: corev1.ResourceList{"x.io/card": resource.MustParse("1")}}}},
		}}
		pod.Status.ExtendedResourceClaimStatus = &corev1.PodExtendedResourceClaimStatus{ResourceClaimName: "made",
			RequestMappings: []corev1.ContainerExtendedResourceRequest{{ContainerName: "c", ResourceName: "x.io/card", RequestName: "r0"}}}
		now := pod.DeepCopy()
		one := corev1.ResourceStatus{Name: corev1.ResourceName(tt.resource)}
		for _, word := range strings.Fields(tt.devices) {
			id, health, _ := strings.Cut(word, "=")
			one.Resources = append(one.Resources, corev1.ResourceHealth{ResourceID: corev1.ResourceID(id), Health: corev1.ResourceHealthStatus(health)})
		}
		status := []corev1.ContainerStatus{{Name: tt.container, AllocatedResourcesStatus: []corev1.ResourceStatus{one}}}
		where := "status.containerStatuses[0].allocatedResourcesStatus[0]."
		if tt.container == "i" {
			now.Status.InitContainerStatuses, where = status, "status.initContainerStatuses[0].allocatedResourcesStatus[0]."
		} else {
			now.Status.ContainerStatuses = status
		}
		errs := podspec.ValidateStatusUpdate(now, pod)
		var wants []string
		if tt.want != "" {
			wants = strings.Split(tt.want, "; ")
		}
		if len(errs) != len(wants) {
			t.Errorf("%s: %v", name, errs)
			continue
		}
		for i, want := range wants {
			path, words, _ := strings.Cut(want, " ")
			if errs[i].Field != where+path || !strings.Contains(errs[i].Error(), words) {
				t.Errorf("%s: %v, want %s%s", name, errs[i], where, want)
			}
		}
	}
}
