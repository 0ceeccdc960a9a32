package podspec

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

const mayChange = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`," +
	"`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations)," +
	"`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"

// ValidatePodUpdate checks what an update of a pod changed: images, an earlier deadline, more tolerations, and, while
// it is gated, where it may be scheduled. Everything else stays.
func ValidatePodUpdate(obj, old *corev1.Pod) field.ErrorList {
	path := field.NewPath("spec")
	errs := append(validatePod(obj), fixedAnnotations(obj.Annotations, old.Annotations)...)
	if len(obj.Spec.Containers) != len(old.Spec.Containers) {
		return append(errs, field.Forbidden(path.Child("containers"), "pod updates may not add or remove containers"))
	}
	if len(obj.Spec.InitContainers) != len(old.Spec.InitContainers) {
		return append(errs, field.Forbidden(path.Child("initContainers"), "pod updates may not add or remove containers"))
	}
	errs = append(errs, validateDeadline(obj.Spec.ActiveDeadlineSeconds, old.Spec.ActiveDeadlineSeconds, path.Child("activeDeadlineSeconds"))...)
	errs = append(errs, onlyAdded(obj.Spec.Tolerations, old.Spec.Tolerations, path.Child("tolerations"))...)
	errs = append(errs, onlyRemoved(obj.Spec.SchedulingGates, old.Spec.SchedulingGates, path.Child("schedulingGates"))...)

	masked := maskAllowed(obj, old)
	if len(old.Spec.SchedulingGates) > 0 {
		errs = append(errs, validateGated(&obj.Spec, &old.Spec, path)...)
		masked.NodeSelector = old.Spec.NodeSelector
		maskNodeAffinity(masked, &old.Spec)
	}
	if !equal(*masked, old.Spec) {
		errs = append(errs, field.Forbidden(path, fmt.Sprintf("%s\n%v", mayChange, diff.Diff(old.Spec, *masked))))
	}
	return errs
}

// maskAllowed returns obj's spec with old's values in the fields that may change.
func maskAllowed(obj, old *corev1.Pod) *corev1.PodSpec {
	masked := obj.Spec.DeepCopy()
	for i := range masked.Containers {
		masked.Containers[i].Image = old.Spec.Containers[i].Image
	}
	for i := range masked.InitContainers {
		masked.InitContainers[i].Image = old.Spec.InitContainers[i].Image
	}
	masked.ActiveDeadlineSeconds = old.Spec.ActiveDeadlineSeconds
	masked.SchedulingGates = old.Spec.SchedulingGates
	masked.Tolerations = old.Spec.Tolerations
	now, was := obj.Spec.TerminationGracePeriodSeconds, old.Spec.TerminationGracePeriodSeconds
	if now != nil && *now == 1 && was != nil && *was < 0 {
		masked.TerminationGracePeriodSeconds = was
	}
	return masked
}

func validateDeadline(now, was *int64, path *field.Path) field.ErrorList {
	switch {
	case now != nil:
		if *now < 0 || *now > 1<<31-1 {
			return field.ErrorList{field.Invalid(path, *now, validation.InclusiveRangeError(0, 1<<31-1))}
		}
		if was != nil && *was < *now {
			return field.ErrorList{field.Invalid(path, *now, "must be less than or equal to previous value")}
		}
	case was != nil:
		return field.ErrorList{field.Invalid(path, now, "must not update from a positive integer to nil value")}
	}
	return nil
}

// onlyAdded keeps every old toleration, apart from its seconds.
func onlyAdded(now, was []corev1.Toleration, path *field.Path) field.ErrorList {
	for _, old := range was {
		old.TolerationSeconds = nil
		kept := false
		for _, t := range now {
			t.TolerationSeconds = nil
			kept = kept || t == old
		}
		if !kept {
			return field.ErrorList{field.Forbidden(path, "existing toleration can not be modified except its tolerationSeconds")}
		}
	}
	return ValidateTolerations(now, path)
}

func onlyRemoved(now, was []corev1.PodSchedulingGate, path *field.Path) field.ErrorList {
	had := map[string]bool{}
	for _, gate := range was {
		had[gate.Name] = true
	}
	var errs field.ErrorList
	for i, gate := range now {
		if !had[gate.Name] {
			errs = append(errs, field.Forbidden(path.Index(i), "only deletion is allowed, but found new scheduling gate '"+gate.Name+"'"))
		}
	}
	return errs
}

// validateGated: while gated, a pod's choice of nodes may become narrower.
func validateGated(now, was *corev1.PodSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for key, value := range was.NodeSelector {
		if got, ok := now.NodeSelector[key]; !ok || got != value {
			errs = append(errs, field.Invalid(path.Child("nodeSelector"), now.NodeSelector, "only additions to spec.nodeSelector are allowed (no mutations or deletions)"))
			break
		}
	}
	before, after := requiredTerms(was), requiredTerms(now)
	at := path.Child("affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution")
	if before == nil {
		return errs
	}
	if after == nil || len(after.NodeSelectorTerms) != len(before.NodeSelectorTerms) {
		return append(errs, field.Invalid(at.Child("nodeSelectorTerms"), after, "no additions/deletions to non-empty NodeSelectorTerms list are allowed"))
	}
	for i := range before.NodeSelectorTerms {
		if !extends(&after.NodeSelectorTerms[i], &before.NodeSelectorTerms[i]) {
			errs = append(errs, field.Invalid(at.Child("nodeSelectorTerms").Index(i), after.NodeSelectorTerms[i], "only additions are allowed (no mutations or deletions)"))
		}
	}
	return errs
}

func requiredTerms(spec *corev1.PodSpec) *corev1.NodeSelector {
	if spec.Affinity == nil || spec.Affinity.NodeAffinity == nil {
		return nil
	}
	return spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution
}

// extends says whether now starts with all that was required before. A term without requirements matches nothing and
// may not come to match something.
func extends(now, was *corev1.NodeSelectorTerm) bool {
	if len(was.MatchExpressions) == 0 && len(was.MatchFields) == 0 {
		return equal(now, was)
	}
	return len(now.MatchExpressions) >= len(was.MatchExpressions) && len(now.MatchFields) >= len(was.MatchFields) &&
		equal(now.MatchExpressions[:len(was.MatchExpressions)], was.MatchExpressions) &&
		equal(now.MatchFields[:len(was.MatchFields)], was.MatchFields)
}

// maskNodeAffinity puts old's required and preferred node affinity into masked.
func maskNodeAffinity(masked, old *corev1.PodSpec) {
	var was *corev1.NodeAffinity
	if old.Affinity != nil {
		was = old.Affinity.NodeAffinity
	}
	switch {
	case masked.Affinity == nil && was == nil:
	case masked.Affinity == nil:
		masked.Affinity = &corev1.Affinity{NodeAffinity: was}
	default:
		masked.Affinity.NodeAffinity = was
		if old.Affinity == nil && *masked.Affinity == (corev1.Affinity{}) {
			masked.Affinity = nil
		}
	}
}

// PrepareEphemeral keeps all of old but its ephemeral containers.
func PrepareEphemeral(obj, old *corev1.Pod) {
	added := obj.Spec.EphemeralContainers
	version, managed := obj.ResourceVersion, obj.ManagedFields
	old.DeepCopyInto(obj)
	obj.ResourceVersion, obj.ManagedFields = version, managed
	obj.Spec.EphemeralContainers = added
	DropGated(&obj.Spec, &old.Spec)
	if !equal(obj.Spec, old.Spec) {
		obj.Generation = old.Generation + 1
	}
}

// ValidateEphemeralUpdate lets ephemeral containers be added, never changed or removed.
func ValidateEphemeralUpdate(obj, old *corev1.Pod) field.ErrorList {
	path := field.NewPath("spec", "ephemeralContainers")
	errs := validatePod(obj)
	if _, mirror := old.Annotations[corev1.MirrorPodAnnotationKey]; mirror {
		return append(errs, field.Forbidden(field.NewPath(""), "static pods do not support ephemeral containers"))
	}
	now := map[string]*corev1.EphemeralContainer{}
	for i := range obj.Spec.EphemeralContainers {
		now[obj.Spec.EphemeralContainers[i].Name] = &obj.Spec.EphemeralContainers[i]
	}
	for i := range old.Spec.EphemeralContainers {
		was := &old.Spec.EphemeralContainers[i]
		if is, ok := now[was.Name]; !ok {
			errs = append(errs, field.Forbidden(path, fmt.Sprintf("existing ephemeral containers %q may not be removed\n", was.Name)))
		} else if !equal(is, was) {
			errs = append(errs, field.Forbidden(path, fmt.Sprintf("existing ephemeral containers %q may not be changed\n%v", was.Name, diff.Diff(was, is))))
		}
	}
	return errs
}
