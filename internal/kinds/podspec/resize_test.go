package podspec_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"

	"canopus/internal/kinds/podspec"
)

// burstable returns a pod with an init container, a sidecar and a container, each with requests and limits.
func burstable(edit func(*corev1.PodSpec)) *corev1.Pod {
	amounts := func(cpu, memory string) corev1.ResourceList {
		return corev1.ResourceList{"cpu": resource.MustParse(cpu), "memory": resource.MustParse(memory)}
	}
	resources := func() corev1.ResourceRequirements {
		return corev1.ResourceRequirements{Requests: amounts("100m", "1Mi"), Limits: amounts("1", "1Gi")}
	}
	p := pod(func(p *corev1.Pod) {
		p.Spec.Containers[0].Resources = resources()
		p.Spec.InitContainers = []corev1.Container{
			{Name: "init", Image: "i", Resources: resources()},
			{Name: "side", Image: "i", Resources: resources(), RestartPolicy: ptr.To(corev1.ContainerRestartPolicyAlways)},
		}
	})
	p.Status.QOSClass = podspec.QOS(p)
	if edit != nil {
		edit(&p.Spec)
	}
	return p
}

func TestResize(t *testing.T) {
	t.Parallel()
	q := resource.MustParse
	const containers, side = "spec.containers[0].resources", "spec.initContainers[1].resources"
	for name, tc := range map[string]struct {
		edit func(*corev1.PodSpec)
		want []string
	}{
		"nothing": {nil, nil},
		"more cpu, less memory": {func(s *corev1.PodSpec) {
			s.Containers[0].Resources.Requests["cpu"] = q("200m")
			s.Containers[0].Resources.Limits["memory"] = q("512Mi")
		}, nil},
		"sidecar": {func(s *corev1.PodSpec) { s.InitContainers[1].Resources.Limits["cpu"] = q("2") }, nil},
		"policy": {func(s *corev1.PodSpec) {
			s.Containers[0].ResizePolicy = []corev1.ContainerResizePolicy{{ResourceName: "cpu", RestartPolicy: corev1.RestartContainer}}
		}, nil},
		"init container": {func(s *corev1.PodSpec) { s.InitContainers[0].Resources.Limits["cpu"] = q("2") },
			[]string{"Forbidden spec only cpu and memory resources are mutable"}},
		"limit removed": {func(s *corev1.PodSpec) { delete(s.Containers[0].Resources.Limits, "memory") },
			[]string{"Forbidden " + containers + ".limits resource limits cannot be removed"}},
		"requests removed": {func(s *corev1.PodSpec) { s.InitContainers[1].Resources.Requests = nil },
			[]string{"Forbidden " + side + ".requests resource requests cannot be removed"}},
		"disk": {func(s *corev1.PodSpec) { s.Containers[0].Resources.Requests["ephemeral-storage"] = q("1Gi") },
			[]string{"Forbidden " + containers + ".requests only cpu and memory resources are mutable"}},
		"above its limit": {func(s *corev1.PodSpec) { s.Containers[0].Resources.Requests["cpu"] = q("2") },
			[]string{"Invalidvalue " + containers + ".requests must be less than or equal to cpu limit of 1"}},
		"another class": {func(s *corev1.PodSpec) {
			for _, r := range []*corev1.ResourceRequirements{&s.Containers[0].Resources, &s.InitContainers[0].Resources, &s.InitContainers[1].Resources} {
				r.Requests = r.Limits
			}
		}, []string{"Invalidvalue spec Pod QOS Class may not change as a result of resizing", "Forbidden spec only cpu and memory resources are mutable"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			old, obj := burstable(nil), burstable(tc.edit)
			podspec.PrepareResize(obj, old)
			expect(t, podspec.ValidateResize(obj, old), tc.want...)
		})
	}
}

// TestResizeOnly: what comes with a resize and is none stays as it was.
func TestResizeOnly(t *testing.T) {
	t.Parallel()
	old := burstable(nil)
	old.Generation = 3
	obj := burstable(func(s *corev1.PodSpec) {
		s.Containers[0].Image, s.NodeName = "other", "n"
		s.Containers[0].Resources.Requests["cpu"] = resource.MustParse("200m")
	})
	obj.Labels = map[string]string{"a": "b"}
	podspec.PrepareResize(obj, old)
	if obj.Spec.Containers[0].Image != old.Spec.Containers[0].Image || obj.Spec.NodeName != "" || len(obj.Labels) > 0 || obj.Generation != 4 {
		t.Errorf("%+v", obj)
	}
	if cpu := obj.Spec.Containers[0].Resources.Requests.Cpu(); cpu.String() != "200m" {
		t.Errorf("cpu %s", cpu)
	}
}
