package apps_test

import (
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"

	"canopus/internal/kinds"
	"canopus/internal/kinds/apps"
)

// TestTemplateWarnings: a workload warns of its template when it is made and when its spec changes, not at every heartbeat of
// its controller.
func TestTemplateWarnings(t *testing.T) {
	t.Parallel()
	meta, selector, template := parts()
	template.Spec.NodeSelector = map[string]string{"beta.kubernetes.io/os": "linux"}
	const old = `spec.template.spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use "kubernetes.io/os" instead`
	for name, tc := range map[string]struct {
		kind *kinds.Kind
		obj  kinds.Object
	}{
		"deployment":  {apps.Deployment(), &appsv1.Deployment{ObjectMeta: meta, Spec: appsv1.DeploymentSpec{Selector: selector, Template: template}}},
		"replicaset":  {apps.ReplicaSet(), &appsv1.ReplicaSet{ObjectMeta: meta, Spec: appsv1.ReplicaSetSpec{Selector: selector, Template: template}}},
		"daemonset":   {apps.DaemonSet(), &appsv1.DaemonSet{ObjectMeta: meta, Spec: appsv1.DaemonSetSpec{Selector: selector, Template: template}}},
		"statefulset": {apps.StatefulSet(), &appsv1.StatefulSet{ObjectMeta: meta, Spec: appsv1.StatefulSetSpec{Selector: selector, Template: template}}},
	} {
		was := tc.obj.DeepCopyObject().(kinds.Object)
		was.SetGeneration(1)
		same := was.DeepCopyObject().(kinds.Object)
		changed := was.DeepCopyObject().(kinds.Object)
		changed.SetGeneration(2)
		if got := tc.kind.Warnings(tc.obj, nil); !slices.Equal(got, []string{old}) {
			t.Errorf("a new %s: %q", name, got)
		}
		if got := tc.kind.Warnings(changed, was); !slices.Equal(got, []string{old}) {
			t.Errorf("a changed %s: %q", name, got)
		}
		if got := tc.kind.Warnings(same, was); got != nil {
			t.Errorf("a %s whose spec is the same: %q", name, got)
		}
	}
}

func TestStatefulSetWarnings(t *testing.T) {
	t.Parallel()
	s := &appsv1.StatefulSet{Spec: appsv1.StatefulSetSpec{RevisionHistoryLimit: ptr.To(int32(-1)), VolumeClaimTemplates: []corev1.PersistentVolumeClaim{{
		Spec: corev1.PersistentVolumeClaimSpec{Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{"storage": resource.MustParse("1m")}}},
	}}}}
	want := []string{
		`spec.volumeClaimTemplates[0].spec.resources.requests[storage]: fractional byte value "1m" is invalid, must be an integer`,
		"spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended",
	}
	if got := apps.StatefulSet().Warnings(s, nil); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
