package ephemeralvolume

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

func podWith(volumes ...corev1.Volume) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", UID: "u"}, Spec: corev1.PodSpec{Volumes: volumes}}
}

func scratch() corev1.Volume {
	return corev1.Volume{Name: "scratch", VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{
		VolumeClaimTemplate: &corev1.PersistentVolumeClaimTemplate{
			ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"a": "b"}},
			Spec:       corev1.PersistentVolumeClaimSpec{StorageClassName: ptr.To("fast")},
		},
	}}}
}

func TestWants(t *testing.T) {
	t.Parallel()
	going := podWith(scratch())
	going.DeletionTimestamp = &metav1.Time{}
	again := podWith(scratch())
	again.UID = "other"
	for name, tc := range map[string]struct {
		old, pod *corev1.Pod
		want     bool
	}{
		"has one":        {nil, podWith(corev1.Volume{Name: "x"}, scratch()), true},
		"has none":       {nil, podWith(corev1.Volume{Name: "x"}), false},
		"is going":       {nil, going, false},
		"is gone":        {podWith(scratch()), nil, false},
		"is known":       {podWith(scratch()), podWith(scratch()), false},
		"took its place": {podWith(scratch()), again, true},
	} {
		if got := len(podChanged(tc.old, tc.pod)) > 0; got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestClaimFor(t *testing.T) {
	t.Parallel()
	pod := podWith(scratch())
	claim := claimFor(pod, &pod.Spec.Volumes[0])
	if claim.Name != "web-scratch" || claim.Namespace != "ns" || claim.Labels["a"] != "b" || *claim.Spec.StorageClassName != "fast" || !metav1.IsControlledBy(claim, pod) {
		t.Errorf("got %+v", claim)
	}
	claim.Labels["a"] = "c"
	if pod.Spec.Volumes[0].Ephemeral.VolumeClaimTemplate.Labels["a"] != "b" {
		t.Error("the pod's template was changed")
	}
}
