package conformance

import (
	"canopus/test/harness"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

// demoImage answers on port 8080 with the name of its pod.
const demoImage = "canopus.local/demo:1"

// missingImage is an image that nobody has.
const missingImage = "127.0.0.1:5/missing:1"

// app is the label that tests tell their pods by.
func app(name string) map[string]string { return map[string]string{"app": name} }

func selector(l map[string]string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: l}
}

func meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Labels: app(name)}
}

// script is a pod of one container that runs a shell script.
func script(text string) corev1.PodSpec {
	return corev1.PodSpec{
		TerminationGracePeriodSeconds: ptr.To[int64](1),
		Containers:                    []corev1.Container{{Name: "main", Image: harness.Image, Command: []string{"sh", "-c", text}}},
	}
}

// sleeps is a pod that waits until it is told to go.
func sleeps() corev1.PodSpec {
	return script("trap 'exit 0' TERM; while :; do sleep 1 & wait; done")
}

// once is a pod of a Job: its script runs and is not restarted.
func once(text string) corev1.PodSpec {
	spec := script(text)
	spec.RestartPolicy = corev1.RestartPolicyNever
	return spec
}

// gated is a pod that is Ready for as long as it has a file /tmp/ready; unready makes it without, which is how it starts.
func gated() corev1.PodSpec {
	spec := sleeps()
	spec.Containers[0].ReadinessProbe = &corev1.Probe{
		ProbeHandler:  corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"test", "-e", "/tmp/ready"}}},
		PeriodSeconds: 1, FailureThreshold: 1,
	}
	return spec
}

// serves is a pod of the demo image, Ready once it answers.
func serves() corev1.PodSpec {
	return corev1.PodSpec{
		TerminationGracePeriodSeconds: ptr.To[int64](1),
		Containers: []corev1.Container{{
			Name: "main", Image: demoImage, Ports: []corev1.ContainerPort{{ContainerPort: 8080}},
			ReadinessProbe: &corev1.Probe{
				ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromInt32(8080)}},
				PeriodSeconds: 1,
			},
		}},
	}
}

// apart keeps pods with the labels on different nodes.
func apart(spec corev1.PodSpec, l map[string]string) corev1.PodSpec {
	spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
		RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{LabelSelector: selector(l), TopologyKey: corev1.LabelHostname}},
	}}
	return spec
}

// requests makes the first container ask for an amount of a resource, and for no more.
func requests(spec corev1.PodSpec, what corev1.ResourceName, amount string) corev1.PodSpec {
	list := corev1.ResourceList{what: quantity(amount)}
	spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: list, Limits: list}
	return spec
}

func template(l map[string]string, spec corev1.PodSpec) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: l}, Spec: spec}
}

func podOf(name string, spec corev1.PodSpec) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: meta(name), Spec: spec}
}

// version changes a template: a rollout of the same program.
func version(spec *corev1.PodSpec, text string) {
	for i, e := range spec.Containers[0].Env {
		if e.Name == "VERSION" {
			spec.Containers[0].Env[i].Value = text
			return
		}
	}
	spec.Containers[0].Env = append(spec.Containers[0].Env, corev1.EnvVar{Name: "VERSION", Value: text})
}

// versionOf is what version set, or "".
func versionOf(spec *corev1.PodSpec) string {
	for _, e := range spec.Containers[0].Env {
		if e.Name == "VERSION" {
			return e.Value
		}
	}
	return ""
}

func quantity(amount string) resource.Quantity { return resource.MustParse(amount) }
