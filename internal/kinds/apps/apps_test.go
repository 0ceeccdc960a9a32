package apps_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"canopus/internal/kinds"
	"canopus/internal/kinds/apps"
)

func parts() (metav1.ObjectMeta, *metav1.LabelSelector, corev1.PodTemplateSpec) {
	labels := map[string]string{"app": "web"}
	return metav1.ObjectMeta{Name: "web", Namespace: "default"}, &metav1.LabelSelector{MatchLabels: labels}, corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: labels},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "nginx:1"}}},
	}
}

// refused defaults obj and returns the fields of all errors.
func refused(k *kinds.Kind, obj, old kinds.Object) string {
	k.Default(obj)
	errs := k.Validate(obj)
	if old != nil {
		k.Default(old)
		obj.SetResourceVersion("1")
		k.PrepareUpdate(obj, old)
		errs = k.ValidateUpdate(obj, old)
	}
	var fields []string
	for _, e := range errs {
		fields = append(fields, e.Field)
	}
	return strings.Join(fields, " ")
}

func TestDeployment(t *testing.T) {
	t.Parallel()
	deployment := func(edit func(*appsv1.DeploymentSpec)) *appsv1.Deployment {
		d := &appsv1.Deployment{}
		d.ObjectMeta, d.Spec.Selector, d.Spec.Template = parts()
		edit(&d.Spec)
		return d
	}
	for name, tc := range map[string]struct {
		edit func(*appsv1.DeploymentSpec)
		want string
	}{
		"plain":       {func(*appsv1.DeploymentSpec) {}, ""},
		"replicas":    {func(s *appsv1.DeploymentSpec) { s.Replicas = ptr.To(int32(-1)) }, "spec.replicas"},
		"selector":    {func(s *appsv1.DeploymentSpec) { s.Selector = nil }, "spec.selector spec.template.metadata.labels"},
		"mismatch":    {func(s *appsv1.DeploymentSpec) { s.Template.Labels = nil }, "spec.template.metadata.labels"},
		"pod restart": {func(s *appsv1.DeploymentSpec) { s.Template.Spec.RestartPolicy = corev1.RestartPolicyNever }, "spec.template.spec.restartPolicy"},
		"container":   {func(s *appsv1.DeploymentSpec) { s.Template.Spec.Containers[0].Image = "" }, "spec.template.spec.containers[0].image"},
		"nothing may move": {func(s *appsv1.DeploymentSpec) {
			s.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{MaxSurge: ptr.To(intstr.FromInt32(0)), MaxUnavailable: ptr.To(intstr.FromString("0%"))}
		}, "spec.strategy.rollingUpdate.maxUnavailable"},
		"too slow": {func(s *appsv1.DeploymentSpec) { s.MinReadySeconds = 600 }, "spec.progressDeadlineSeconds"},
		"recreate, rolling": {func(s *appsv1.DeploymentSpec) {
			s.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType, RollingUpdate: &appsv1.RollingUpdateDeployment{}}
		}, "spec.strategy.rollingUpdate"},
	} {
		if got := refused(apps.Deployment(), deployment(tc.edit), nil); got != tc.want {
			t.Errorf("%s: refused %q, want %q", name, got, tc.want)
		}
	}
	d := deployment(func(*appsv1.DeploymentSpec) {})
	other := deployment(func(s *appsv1.DeploymentSpec) {
		s.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "b"}}
		s.Template.Labels = map[string]string{"app": "b"}
	})
	if got := refused(apps.Deployment(), other, d); got != "spec.selector" {
		t.Errorf("changed selector: refused %q", got)
	}
	s := d.Spec
	if *s.Replicas != 1 || s.Strategy.RollingUpdate.MaxSurge.StrVal != "25%" || *s.RevisionHistoryLimit != 10 || *s.ProgressDeadlineSeconds != 600 || d.Labels != nil {
		t.Errorf("defaulted to %+v", d)
	}
}

func TestDeploymentGeneration(t *testing.T) {
	t.Parallel()
	k := apps.Deployment()
	old := &appsv1.Deployment{Status: appsv1.DeploymentStatus{Replicas: 2}}
	old.ObjectMeta, old.Spec.Selector, old.Spec.Template = parts()
	k.Default(old)
	k.PrepareCreate(old)
	if old.Generation != 1 || old.Status.Replicas != 0 {
		t.Fatalf("created %+v", old)
	}
	obj := old.DeepCopy()
	obj.Generation, obj.Status.Replicas = 9, 7
	k.PrepareUpdate(obj, old)
	if obj.Generation != 1 || obj.Status.Replicas != 0 {
		t.Errorf("an update of nothing made generation %d, %d replicas", obj.Generation, obj.Status.Replicas)
	}
	k.Scale.SetReplicas(obj, 5)
	k.PrepareUpdate(obj, old)
	if obj.Generation != 2 {
		t.Errorf("scaling made generation %d", obj.Generation)
	}
	status := obj.DeepCopy()
	status.Status.Replicas, status.Spec.Replicas = 3, ptr.To(int32(1))
	k.Subresource("status").PrepareUpdate(status, obj)
	if *status.Spec.Replicas != 5 || status.Status.Replicas != 3 || status.Generation != 2 {
		t.Errorf("status update wrote %+v", status)
	}
}

func TestStatefulSet(t *testing.T) {
	t.Parallel()
	set := func(edit func(*appsv1.StatefulSetSpec)) *appsv1.StatefulSet {
		s := &appsv1.StatefulSet{}
		s.ObjectMeta, s.Spec.Selector, s.Spec.Template = parts()
		s.Spec.VolumeClaimTemplates = []corev1.PersistentVolumeClaim{{ObjectMeta: metav1.ObjectMeta{Name: "data"}}}
		s.Spec.Template.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "data", MountPath: "/d"}}
		edit(&s.Spec)
		return s
	}
	plain := func(*appsv1.StatefulSetSpec) {}
	for name, tc := range map[string]struct {
		edit func(*appsv1.StatefulSetSpec)
		old  *appsv1.StatefulSet
		want string
	}{
		"plain":        {plain, nil, ""},
		"policy":       {func(s *appsv1.StatefulSetSpec) { s.PodManagementPolicy = "x" }, nil, "spec.podManagementPolicy"},
		"scaled":       {func(s *appsv1.StatefulSetSpec) { s.Replicas = ptr.To(int32(3)) }, set(plain), ""},
		"service name": {func(s *appsv1.StatefulSetSpec) { s.ServiceName = "b" }, set(plain), "spec"},
		"no label":     {func(s *appsv1.StatefulSetSpec) { s.ServiceName = "a.b" }, nil, "spec.serviceName"},
		"old no label": {func(s *appsv1.StatefulSetSpec) { s.ServiceName = "a.b" }, set(func(s *appsv1.StatefulSetSpec) { s.ServiceName = "a.b" }), ""},
	} {
		var old kinds.Object
		if tc.old != nil {
			old = tc.old
		}
		if got := refused(apps.StatefulSet(), set(tc.edit), old); got != tc.want {
			t.Errorf("%s: refused %q, want %q", name, got, tc.want)
		}
	}
}

// TestDaemonSetTemplateGeneration counts templates and nothing else, whatever clients say.
func TestDaemonSetTemplateGeneration(t *testing.T) {
	t.Parallel()
	k := apps.DaemonSet()
	generation := func(d *appsv1.DaemonSet) string { return d.Annotations[appsv1.DeprecatedTemplateGeneration] }
	d := &appsv1.DaemonSet{}
	d.ObjectMeta, d.Spec.Selector, d.Spec.Template = parts()
	k.PrepareCreate(d)
	if got := generation(d); got != "1" {
		t.Errorf("when created: %q", got)
	}
	change := func(edit func(*appsv1.DaemonSet)) {
		next := d.DeepCopy()
		edit(next)
		k.PrepareUpdate(next, d)
		d = next
	}
	change(func(d *appsv1.DaemonSet) { d.Spec.MinReadySeconds = 3 })
	change(func(d *appsv1.DaemonSet) { d.Annotations = nil })
	change(func(d *appsv1.DaemonSet) { d.Annotations[appsv1.DeprecatedTemplateGeneration] = "77" })
	if got := generation(d); got != "1" {
		t.Errorf("after changes that are not the template's: %q", got)
	}
	change(func(d *appsv1.DaemonSet) { d.Spec.Template.Spec.Containers[0].Image = "nginx:2" })
	if got := generation(d); got != "2" {
		t.Errorf("after a new template: %q", got)
	}
}

func TestDaemonSetStrategy(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		unavailable, surge int32
		want               string
	}{
		"one down": {1, 0, ""}, "one up": {0, 1, ""},
		"neither": {0, 0, "spec.updateStrategy.rollingUpdate.maxUnavailable"},
		"both":    {1, 1, "spec.updateStrategy.rollingUpdate.maxSurge"},
	} {
		d := &appsv1.DaemonSet{}
		d.ObjectMeta, d.Spec.Selector, d.Spec.Template = parts()
		d.Spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateDaemonSet{
			MaxUnavailable: ptr.To(intstr.FromInt32(tc.unavailable)), MaxSurge: ptr.To(intstr.FromInt32(tc.surge)),
		}
		if got := refused(apps.DaemonSet(), d, nil); got != tc.want {
			t.Errorf("%s: refused %q, want %q", name, got, tc.want)
		}
	}
}

func TestCells(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	r := &appsv1.ReplicaSet{Status: appsv1.ReplicaSetStatus{Replicas: 2, ReadyReplicas: 1}}
	r.ObjectMeta, r.Spec.Selector, r.Spec.Template = parts()
	r.CreationTimestamp = metav1.NewTime(now.Add(-26 * time.Hour))
	apps.ReplicaSet().Default(r)
	if got := fmt.Sprint(apps.ReplicaSet().Cells(r, now)); got != "[web 1 2 1 26h c nginx:1 app=web]" {
		t.Error(got)
	}
}
