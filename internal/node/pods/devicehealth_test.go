package pods

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// claimed is the health of the devices of container a's claim g, written "id=health id=health"; no health: not heard of yet.
func claimed(devices string) []corev1.ResourceStatus {
	one := corev1.ResourceStatus{Name: "claim:g"}
	for _, word := range strings.Fields(devices) {
		id, health, _ := strings.Cut(word, "=")
		one.Resources = append(one.Resources, corev1.ResourceHealth{ResourceID: corev1.ResourceID(id), Health: corev1.ResourceHealthStatus(health)})
	}
	return []corev1.ResourceStatus{one}
}

func TestStatusOfDevices(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		before, now string
		phase       corev1.PodPhase
		want        string
	}{
		"no devices":                       {"", "", "", ""},
		"a first report":                   {"", "x=Healthy y=Unhealthy", "", "x=Healthy y=Unhealthy"},
		"a new report":                     {"x=Healthy", "x=Unhealthy", corev1.PodRunning, "x=Unhealthy"},
		"not heard of since a restart":     {"x=Unhealthy", "x=", corev1.PodRunning, "x=Unhealthy"},
		"never heard of":                   {"", "x=", corev1.PodRunning, "x=Unknown"},
		"heard of one, the other is new":   {"x=Healthy", "x= y=", corev1.PodRunning, "x=Healthy y=Unknown"},
		"released, the pod is on its way":  {"x=Healthy", "", corev1.PodRunning, "x=Healthy"},
		"nothing is told once it is over":  {"x=Unhealthy", "x=Healthy", corev1.PodFailed, "x=Unhealthy"},
		"over before anybody had reported": {"", "x=Healthy", corev1.PodSucceeded, ""},
	} {
		f := given(corev1.RestartPolicyAlways, "a").sandbox(true).runs("a", 0).Facts
		f.Pod.Status.Phase = c.phase
		if c.before != "" {
			f.Pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "a", AllocatedResourcesStatus: claimed(c.before)}}
		}
		if c.now != "" {
			f.Devices = map[string][]corev1.ResourceStatus{"a": claimed(c.now)}
		}
		var got []string
		for _, s := range Status(f).ContainerStatuses[0].AllocatedResourcesStatus {
			for _, r := range s.Resources {
				got = append(got, string(r.ResourceID)+"="+string(r.Health))
			}
		}
		if text := strings.Join(got, " "); text != c.want {
			t.Errorf("%s: %q, want %q", name, text, c.want)
		}
		if c.now != "" && f.Devices["a"][0].Resources[0] != claimed(c.now)[0].Resources[0] {
			t.Errorf("%s: the facts were changed", name)
		}
	}
}
