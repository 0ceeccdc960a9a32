package podspec

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// validateAnnotations checks the annotations that have a meaning for pods and templates.
func validateAnnotations(annotations map[string]string, spec *corev1.PodSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if value, mirror := annotations[corev1.MirrorPodAnnotationKey]; mirror && spec.NodeName == "" {
		errs = append(errs, field.Invalid(path.Key(corev1.MirrorPodAnnotationKey), value, "must set spec.nodeName if mirror pod annotation is set"))
	}
	if value, ok := annotations[corev1.PodDeletionCost]; ok && !isInt32(value) {
		errs = append(errs, field.Invalid(path.Key(corev1.PodDeletionCost), value, "must be a 32bit integer"))
	}
	containers := map[string]bool{}
	eachContainer(spec, nil, func(c *corev1.Container, _ *field.Path) { containers[c.Name] = true })
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		name, ok := strings.CutPrefix(key, containerAppArmor)
		if !ok {
			continue
		}
		value := annotations[key]
		if !containers[name] {
			errs = append(errs, field.Invalid(path.Key(key), name, "container not found"))
		}
		if value != "" && value != corev1.DeprecatedAppArmorBetaProfileRuntimeDefault && value != corev1.DeprecatedAppArmorBetaProfileNameUnconfined &&
			!strings.HasPrefix(value, corev1.DeprecatedAppArmorBetaProfileNamePrefix) {
			errs = append(errs, field.Invalid(path.Key(key), value, fmt.Sprintf("invalid AppArmor profile name: %q", value)))
		}
	}
	return errs
}

func validateTemplateAnnotations(t *corev1.PodTemplateSpec, path *field.Path) field.ErrorList {
	return append(apivalidation.ValidateAnnotations(t.Annotations, path), validateAnnotations(t.Annotations, &t.Spec, path)...)
}

// isInt32 accepts the canonical spelling only: no plus sign, no leading zeros.
func isInt32(value string) bool {
	n, err := strconv.ParseInt(value, 10, 32)
	return err == nil && strconv.FormatInt(n, 10) == value
}

// fixedAnnotations keeps the annotations that decide what a pod is or may do.
func fixedAnnotations(now, was map[string]string) field.ErrorList {
	path := field.NewPath("metadata", "annotations")
	subject := func(key string) string {
		switch {
		case strings.HasPrefix(key, containerAppArmor):
			return "AppArmor annotations"
		case key == corev1.MirrorPodAnnotationKey:
			return "mirror pod annotation"
		}
		return ""
	}
	var errs field.ErrorList
	for _, key := range slices.Sorted(maps.Keys(was)) {
		if value, kept := now[key]; subject(key) != "" && (!kept || value != was[key]) {
			errs = append(errs, field.Forbidden(path.Key(key), "may not remove or update "+subject(key)))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(now)) {
		if _, had := was[key]; subject(key) != "" && !had {
			errs = append(errs, field.Forbidden(path.Key(key), "may not add "+subject(key)))
		}
	}
	return errs
}

// appArmorOf says which profile an annotation names; nil if it names none.
func appArmorOf(annotation string) *corev1.AppArmorProfile {
	switch annotation {
	case corev1.DeprecatedAppArmorBetaProfileNameUnconfined:
		return &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeUnconfined}
	case corev1.DeprecatedAppArmorBetaProfileRuntimeDefault:
		return &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeRuntimeDefault}
	}
	if name, ok := strings.CutPrefix(annotation, corev1.DeprecatedAppArmorBetaProfileNamePrefix); ok && name != "" {
		return &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeLocalhost, LocalhostProfile: &name}
	}
	return nil
}

// takeAppArmor moves what annotations say of containers to the fields that took their place.
func takeAppArmor(pod *corev1.Pod) {
	if pod.Spec.OS != nil && pod.Spec.OS.Name == corev1.Windows {
		return
	}
	var whole *corev1.AppArmorProfile
	if pod.Spec.SecurityContext != nil {
		whole = pod.Spec.SecurityContext.AppArmorProfile
	}
	eachContainer(&pod.Spec, nil, func(c *corev1.Container, _ *field.Path) {
		profile := appArmorOf(pod.Annotations[containerAppArmor+c.Name])
		if profile == nil || equal(profile, whole) || appArmorField(c) != nil {
			return
		}
		if c.SecurityContext == nil {
			c.SecurityContext = &corev1.SecurityContext{}
		}
		c.SecurityContext.AppArmorProfile = profile
	})
}

func appArmorField(c *corev1.Container) *corev1.AppArmorProfile {
	if c.SecurityContext == nil {
		return nil
	}
	return c.SecurityContext.AppArmorProfile
}

// oneAppArmor refuses a new pod whose annotations say something else than its fields.
func oneAppArmor(pod *corev1.Pod) field.ErrorList {
	if pod.Spec.OS != nil && pod.Spec.OS.Name == corev1.Windows {
		return nil
	}
	var errs field.ErrorList
	eachContainer(&pod.Spec, field.NewPath("spec"), func(c *corev1.Container, at *field.Path) {
		at = at.Child("securityContext", "appArmorProfile")
		annotation, ok := pod.Annotations[containerAppArmor+c.Name]
		profile := appArmorField(c)
		if !ok || profile == nil {
			return
		}
		switch said := appArmorOf(annotation); {
		case said == nil || said.Type != profile.Type:
			errs = append(errs, field.Forbidden(at.Child("type"), "apparmor type in annotation and field must match"))
		case !equal(said, profile):
			errs = append(errs, field.Forbidden(at.Child("localhostProfile"), "apparmor profile in annotation and field must match"))
		}
	})
	return errs
}
