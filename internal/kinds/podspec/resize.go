package podspec

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// PrepareResize keeps all of old but the containers' resources and resize policies.
func PrepareResize(obj, old *corev1.Pod) {
	asked, version, managed := obj.Spec, obj.ResourceVersion, obj.ManagedFields
	old.DeepCopyInto(obj)
	obj.ResourceVersion, obj.ManagedFields = version, managed
	take := func(now, from []corev1.Container) {
		for i := range now {
			if i < len(from) && from[i].Name == now[i].Name {
				now[i].Resources, now[i].ResizePolicy = from[i].Resources, from[i].ResizePolicy
			}
		}
	}
	take(obj.Spec.Containers, asked.Containers)
	take(obj.Spec.InitContainers, asked.InitContainers)
	if !equal(obj.Spec, old.Spec) {
		obj.Generation = old.Generation + 1
	}
}

// ValidateResize lets cpu and memory change, within the pod's quality of service class.
func ValidateResize(obj, old *corev1.Pod) field.ErrorList {
	path := field.NewPath("spec")
	errs := validatePod(obj)
	if _, mirror := old.Annotations[corev1.MirrorPodAnnotationKey]; mirror {
		return append(errs, field.Forbidden(field.NewPath(""), "static pods cannot be resized"))
	}
	if old.Spec.OS != nil && old.Spec.OS.Name == corev1.Windows {
		return append(errs, field.Forbidden(field.NewPath(""), "windows pods cannot be resized"))
	}
	if QOS(obj) != old.Status.QOSClass {
		errs = append(errs, field.Invalid(path, QOS(obj), "Pod QOS Class may not change as a result of resizing"))
	}
	errs = append(errs, resizable(obj.Spec.Containers, old.Spec.Containers, path.Child("containers"))...)
	errs = append(errs, resizable(obj.Spec.InitContainers, old.Spec.InitContainers, path.Child("initContainers"))...)
	masked := obj.Spec.DeepCopy()
	mask := func(now, was *corev1.Container) { now.Resources, now.ResizePolicy = was.Resources, was.ResizePolicy }
	for i := range min(len(masked.Containers), len(old.Spec.Containers)) {
		mask(&masked.Containers[i], &old.Spec.Containers[i])
	}
	for i := range min(len(masked.InitContainers), len(old.Spec.InitContainers)) {
		if sidecar(&old.Spec.InitContainers[i]) {
			mask(&masked.InitContainers[i], &old.Spec.InitContainers[i])
		}
	}
	if !equal(*masked, old.Spec) {
		errs = append(errs, field.Forbidden(path, fmt.Sprintf("only cpu and memory resources are mutable\n%v", diff.Diff(old.Spec, *masked))))
	}
	return errs
}

// resizable: only cpu and memory change, and nothing that was set is unset.
func resizable(now, was []corev1.Container, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range min(len(now), len(was)) {
		at := path.Index(i).Child("resources")
		errs = append(errs, onlyComputeChanged(now[i].Resources.Requests, was[i].Resources.Requests, at, "requests")...)
		errs = append(errs, onlyComputeChanged(now[i].Resources.Limits, was[i].Resources.Limits, at, "limits")...)
		if !equal(now[i].Resources.Claims, was[i].Resources.Claims) {
			errs = append(errs, field.Forbidden(at.Child("claims"), "claims cannot be changed"))
		}
	}
	return errs
}

// onlyComputeChanged checks the requests or limits, as name says, below path.
func onlyComputeChanged(now, was corev1.ResourceList, path *field.Path, name string) field.ErrorList {
	var errs field.ErrorList
	compute := []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory}
	for _, r := range compute {
		_, is := now[r]
		if _, had := was[r]; had && !is {
			errs = append(errs, field.Forbidden(path.Child(name), "resource "+name+" cannot be removed"))
			break
		}
	}
	a, b := now.DeepCopy(), was.DeepCopy()
	for _, r := range compute {
		delete(a, r)
		delete(b, r)
	}
	if !equal(a, b) {
		errs = append(errs, field.Forbidden(path.Child(name), "only cpu and memory resources are mutable"))
	}
	return errs
}
