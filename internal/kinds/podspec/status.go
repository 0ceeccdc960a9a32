package podspec

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds/check"
)

// PrepareStatus keeps all of old but its status, labels, annotations and finalizers.
func PrepareStatus(obj, old *corev1.Pod) {
	obj.Spec = old.Spec
	obj.OwnerReferences = old.OwnerReferences
	if obj.Status.QOSClass == "" {
		obj.Status.QOSClass = old.Status.QOSClass
	}
}

// ValidateStatusUpdate checks what a status claims, and that containers of a pod that does not restart them stay ended.
func ValidateStatusUpdate(obj, old *corev1.Pod) field.ErrorList {
	path := field.NewPath("status")
	s := &obj.Status
	errs := fixedAnnotations(obj.Annotations, old.Annotations)
	if s.NominatedNodeName != "" {
		errs = append(errs, check.Subdomain(s.NominatedNodeName, path.Child("nominatedNodeName"))...)
	}
	if s.QOSClass != old.Status.QOSClass {
		errs = append(errs, field.Invalid(path.Child("qosClass"), s.QOSClass, check.Immutable))
	}
	for i, c := range s.Conditions {
		at := path.Child("conditions").Index(i).Child("type")
		errs = append(errs, invalids(at, string(c.Type), validation.IsQualifiedName(string(c.Type)))...)
	}
	for i, ip := range s.PodIPs {
		errs = append(errs, check.LegacyIP(ip.IP, path.Child("podIPs").Index(i))...)
	}
	if len(s.PodIPs) > 0 && s.PodIP != s.PodIPs[0].IP {
		errs = append(errs, field.Invalid(path.Child("podIPs").Index(0).Child("ip"), s.PodIPs[0].IP, "must be equal to `podIP`"))
	}
	for i, ip := range s.HostIPs {
		errs = append(errs, check.LegacyIP(ip.IP, path.Child("hostIPs").Index(i))...)
	}
	if s.ObservedGeneration < 0 {
		errs = append(errs, check.NonNegative(s.ObservedGeneration, path.Child("observedGeneration"))...)
	}
	errs = append(errs, claimStatuses(obj, path)...)
	errs = append(errs, deviceStatuses(obj, s.InitContainerStatuses, obj.Spec.InitContainers, path.Child("initContainerStatuses"))...)
	errs = append(errs, deviceStatuses(obj, s.ContainerStatuses, obj.Spec.Containers, path.Child("containerStatuses"))...)
	errs = append(errs, stayEnded(s.ContainerStatuses, old.Status.ContainerStatuses,
		policies(&old.Spec, old.Spec.Containers, old.Spec.RestartPolicy), path.Child("containerStatuses"))...)
	// An init container that succeeded is over, whatever the pod's policy.
	initPolicy := old.Spec.RestartPolicy
	if initPolicy == corev1.RestartPolicyAlways {
		initPolicy = corev1.RestartPolicyOnFailure
	}
	return append(errs, stayEnded(s.InitContainerStatuses, old.Status.InitContainerStatuses,
		policies(&old.Spec, old.Spec.InitContainers, initPolicy), path.Child("initContainerStatuses"))...)
}

// policies returns the restart policy that each container is under: its own, or else fallback. Restart rules and a pod
// in which one container's end may restart all of them can bring back any container.
func policies(spec *corev1.PodSpec, containers []corev1.Container, fallback corev1.RestartPolicy) map[string]corev1.RestartPolicy {
	out := map[string]corev1.RestartPolicy{}
	for i := range containers {
		c := &containers[i]
		switch {
		case len(c.RestartPolicyRules) > 0 || restartsAll(spec):
			out[c.Name] = corev1.RestartPolicyAlways
		case c.RestartPolicy != nil:
			out[c.Name] = corev1.RestartPolicy(*c.RestartPolicy)
		default:
			out[c.Name] = fallback
		}
	}
	return out
}

func restartsAll(spec *corev1.PodSpec) bool {
	for _, containers := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range containers {
			for _, rule := range containers[i].RestartPolicyRules {
				if rule.Action == corev1.ContainerRestartRuleActionRestartAllContainers {
					return true
				}
			}
		}
	}
	return false
}

// stayEnded refuses to bring back a container that ended for good.
func stayEnded(now, was []corev1.ContainerStatus, policy map[string]corev1.RestartPolicy, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, old := range was {
		ended, p := old.State.Terminated, policy[old.Name]
		again := p == corev1.RestartPolicyAlways || (p == corev1.RestartPolicyOnFailure && ended != nil && ended.ExitCode != 0)
		if ended == nil || p == "" || again {
			continue
		}
		for i, c := range now {
			if c.Name == old.Name && c.State.Terminated == nil {
				errs = append(errs, field.Forbidden(path.Index(i).Child("state"), "may not be transitioned to non-terminated state"))
			}
		}
	}
	return errs
}
