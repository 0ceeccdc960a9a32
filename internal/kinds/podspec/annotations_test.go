package podspec_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds/podspec"
)

const appArmor = "container.apparmor.security.beta.kubernetes.io/"

// annotated returns a valid pod with the container c and these annotations.
func annotated(annotations map[string]string) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "n", Annotations: annotations},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}},
	}
	podspec.DefaultPod(pod)
	return pod
}

// refusals lists errors as field: reason, detail.
func refusals(errs field.ErrorList) string {
	var out []string
	for _, e := range errs {
		out = append(out, e.Field+": "+string(e.Type)+", "+e.Detail)
	}
	return strings.Join(out, "\n")
}

func TestAnnotations(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		key, value, want string
	}{
		"none":                  {"a", "b", ""},
		"cost":                  {corev1.PodDeletionCost, "-7", ""},
		"cost with a plus sign": {corev1.PodDeletionCost, "+7", "metadata.annotations[controller.kubernetes.io/pod-deletion-cost]: FieldValueInvalid, must be a 32bit integer"},
		"mirror without a node": {corev1.MirrorPodAnnotationKey, "x", "metadata.annotations[kubernetes.io/config.mirror]: FieldValueInvalid, must set spec.nodeName if mirror pod annotation is set"},
		"profile":               {appArmor + "c", "localhost/x", ""},
		"profile of no container": {appArmor + "d", "unconfined",
			"metadata.annotations[" + appArmor + "d]: FieldValueInvalid, container not found"},
		"no profile": {appArmor + "c", "x",
			"metadata.annotations[" + appArmor + `c]: FieldValueInvalid, invalid AppArmor profile name: "x"`},
	} {
		pod := annotated(map[string]string{tc.key: tc.value})
		podspec.PrepareCreate(pod)
		if got := refusals(podspec.ValidatePod(pod)); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}

// TestAppArmorMoves: what an annotation says of a container comes to the container's field, unless that says something itself.
func TestAppArmorMoves(t *testing.T) {
	t.Parallel()
	local := "x"
	for name, tc := range map[string]struct {
		annotation  string
		pod, own    *corev1.AppArmorProfile
		want        corev1.AppArmorProfileType // of the container afterwards
		wantRefused string
	}{
		"unconfined":     {annotation: "unconfined", want: corev1.AppArmorProfileTypeUnconfined},
		"runtime":        {annotation: "runtime/default", want: corev1.AppArmorProfileTypeRuntimeDefault},
		"local":          {annotation: "localhost/x", want: corev1.AppArmorProfileTypeLocalhost},
		"as the pod":     {annotation: "unconfined", pod: &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeUnconfined}},
		"unlike the pod": {annotation: "runtime/default", pod: &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeUnconfined}, want: corev1.AppArmorProfileTypeRuntimeDefault},
		"both": {annotation: "localhost/x", own: &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeLocalhost, LocalhostProfile: &local},
			want: corev1.AppArmorProfileTypeLocalhost},
		"another type": {annotation: "runtime/default", own: &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeUnconfined},
			want:        corev1.AppArmorProfileTypeUnconfined,
			wantRefused: "spec.containers[0].securityContext.appArmorProfile.type: FieldValueForbidden, apparmor type in annotation and field must match"},
		"another name": {annotation: "localhost/y", own: &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeLocalhost, LocalhostProfile: &local},
			want:        corev1.AppArmorProfileTypeLocalhost,
			wantRefused: "spec.containers[0].securityContext.appArmorProfile.localhostProfile: FieldValueForbidden, apparmor profile in annotation and field must match"},
	} {
		pod := annotated(map[string]string{appArmor + "c": tc.annotation})
		pod.Spec.SecurityContext.AppArmorProfile = tc.pod
		if tc.own != nil {
			pod.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{AppArmorProfile: tc.own}
		}
		podspec.PrepareCreate(pod)
		var got corev1.AppArmorProfileType
		if s := pod.Spec.Containers[0].SecurityContext; s != nil && s.AppArmorProfile != nil {
			got = s.AppArmorProfile.Type
		}
		if got != tc.want {
			t.Errorf("%s: the container has %q, want %q", name, got, tc.want)
		}
		if got := refusals(podspec.ValidatePod(pod)); got != tc.wantRefused {
			t.Errorf("%s: refused %s, want %s", name, got, tc.wantRefused)
		}
	}
}

// TestFixedAnnotations: a pod cannot become a mirror of a static one, nor cease to be, nor change its confinement.
func TestFixedAnnotations(t *testing.T) {
	t.Parallel()
	mirror, profile := map[string]string{corev1.MirrorPodAnnotationKey: "x"}, map[string]string{appArmor + "c": "unconfined"}
	for name, tc := range map[string]struct {
		now, was map[string]string
		want     string
	}{
		"kept":             {mirror, mirror, ""},
		"others":           {map[string]string{"a": "b"}, map[string]string{"a": "c"}, ""},
		"becomes a mirror": {mirror, nil, "metadata.annotations[kubernetes.io/config.mirror]: FieldValueForbidden, may not add mirror pod annotation"},
		"another mirror": {map[string]string{corev1.MirrorPodAnnotationKey: "y"}, mirror,
			"metadata.annotations[kubernetes.io/config.mirror]: FieldValueForbidden, may not remove or update mirror pod annotation"},
		"no mirror": {nil, mirror, "metadata.annotations[kubernetes.io/config.mirror]: FieldValueForbidden, may not remove or update mirror pod annotation"},
		"confined":  {profile, nil, "metadata.annotations[" + appArmor + "c]: FieldValueForbidden, may not add AppArmor annotations"},
		"freed":     {nil, profile, "metadata.annotations[" + appArmor + "c]: FieldValueForbidden, may not remove or update AppArmor annotations"},
	} {
		now, was := annotated(tc.now), annotated(tc.was)
		now.Spec.NodeName, was.Spec.NodeName = "node", "node"
		if got := refusals(podspec.ValidatePodUpdate(now, was)); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
		if got := refusals(podspec.ValidateStatusUpdate(now, was)); got != tc.want {
			t.Errorf("%s, at the status: %s, want %s", name, got, tc.want)
		}
	}
}
