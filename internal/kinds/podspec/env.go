package podspec

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds/check"
)

// envFields are the pod fields that an environment variable can show.
func envFields() []string {
	return []string{
		"metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName",
		"status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs",
	}
}

// volumeFields are the pod fields that a downward API volume can show.
func volumeFields() []string {
	return []string{"metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"}
}

// knownFields are all that field selectors know of pods; those that cannot be shown are refused by name.
func knownFields() []string {
	return append(append(envFields(), volumeFields()...), "spec.restartPolicy", "spec.schedulerName", "status.phase")
}

func (v *validator) env(vars []corev1.EnvVar, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, e := range vars {
		at := path.Index(i)
		if e.Name == "" {
			errs = append(errs, field.Required(at.Child("name"), ""))
		} else {
			errs = append(errs, invalids(at.Child("name"), e.Name, validation.IsRelaxedEnvVarName(e.Name))...)
		}
		errs = append(errs, v.envSource(e, at.Child("valueFrom"))...)
	}
	return errs
}

func (v *validator) envSource(e corev1.EnvVar, path *field.Path) field.ErrorList {
	from := e.ValueFrom
	if from == nil {
		return nil
	}
	var errs field.ErrorList
	sources := 0
	add := func(more field.ErrorList) { sources++; errs = append(errs, more...) }
	if from.FieldRef != nil {
		add(validateFieldRef(from.FieldRef, envFields(), path.Child("fieldRef")))
	}
	if from.ResourceFieldRef != nil {
		add(validateResourceFieldRef(from.ResourceFieldRef, false, path.Child("resourceFieldRef")))
	}
	if r := from.ConfigMapKeyRef; r != nil {
		add(validateKeyRef(r.Name, r.Key, path.Child("configMapKeyRef")))
	}
	if r := from.SecretKeyRef; r != nil {
		add(validateKeyRef(r.Name, r.Key, path.Child("secretKeyRef")))
	}
	if from.FileKeyRef != nil {
		add(v.fileKeyRef(from.FileKeyRef, path.Child("fileKeyRef")))
	}
	switch {
	case sources == 0:
		errs = append(errs, field.Invalid(path, "", "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `fileKeyRef` or `secretKeyRef`"))
	case e.Value != "":
		errs = append(errs, field.Invalid(path, "", "may not be specified when `value` is not empty"))
	case sources > 1:
		errs = append(errs, field.Invalid(path, "", "may not have more than one field specified at a time"))
	}
	return errs
}

func validateKeyRef(name, key string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if name != "" { // historically a reference may lack its name; such a pod never starts
		errs = check.Subdomain(name, path.Child("name"))
	}
	if key == "" {
		return append(errs, field.Required(path.Child("key"), ""))
	}
	return append(errs, invalids(path.Child("key"), key, validation.IsConfigMapKey(key))...)
}

func (v *validator) fileKeyRef(r *corev1.FileKeySelector, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if r.Key == "" {
		errs = append(errs, field.Required(path.Child("key"), ""))
	} else {
		errs = append(errs, invalids(path.Child("key"), r.Key, validation.IsRelaxedEnvVarName(r.Key))...)
	}
	switch source, ok := v.volumes[r.VolumeName]; {
	case r.VolumeName == "":
		errs = append(errs, field.Required(path.Child("volumeName"), ""))
	case !ok:
		errs = append(errs, field.NotFound(path.Child("volumeName"), r.VolumeName))
	case source.EmptyDir == nil:
		errs = append(errs, field.Invalid(path.Child("volumeName"), r.VolumeName, "referenced volume must be of type emptyDir"))
	}
	if r.Path == "" {
		return append(errs, field.Required(path.Child("path"), ""))
	}
	return append(errs, check.LocalPath(r.Path, path.Child("path"))...)
}

// validateFieldRef checks a reference to a field of the pod itself; allowed says which ones can be shown here. Single
// labels and annotations are named by subscript.
func validateFieldRef(r *corev1.ObjectFieldSelector, allowed []string, path *field.Path) field.ErrorList {
	if r.APIVersion == "" {
		return field.ErrorList{field.Required(path.Child("apiVersion"), "")}
	}
	at := path.Child("fieldPath")
	if r.FieldPath == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	if base, key, ok := subscript(r.FieldPath); ok {
		switch base {
		case "metadata.annotations":
			return invalids(path, key, validation.IsQualifiedName(strings.ToLower(key)))
		case "metadata.labels":
			return invalids(path, key, validation.IsQualifiedName(key))
		default:
			return field.ErrorList{field.Invalid(path, base, "does not support subscript")}
		}
	}
	if r.APIVersion != "v1" {
		return field.ErrorList{field.Invalid(at, r.FieldPath, fmt.Sprintf("error converting fieldPath: unsupported pod version: %s", r.APIVersion))}
	}
	if !slices.Contains(knownFields(), r.FieldPath) {
		return field.ErrorList{field.Invalid(at, r.FieldPath, "error converting fieldPath: field label not supported: "+r.FieldPath)}
	}
	if !slices.Contains(allowed, r.FieldPath) {
		return field.ErrorList{field.NotSupported(at, r.FieldPath, allowed)}
	}
	return nil
}

// subscript splits metadata.labels['key'].
func subscript(path string) (base, key string, ok bool) {
	base, rest, found := strings.Cut(path, "['")
	if !found || !strings.HasSuffix(rest, "']") {
		return path, "", false
	}
	return base, strings.TrimSuffix(rest, "']"), true
}

// validateResourceFieldRef checks a reference to a container's requests or limits. In a volume it must name the container.
func validateResourceFieldRef(r *corev1.ResourceFieldSelector, volume bool, path *field.Path) field.ErrorList {
	if volume && r.ContainerName == "" {
		return field.ErrorList{field.Required(path.Child("containerName"), "")}
	}
	if r.Resource == "" {
		return field.ErrorList{field.Required(path.Child("resource"), "")}
	}
	side, name, _ := strings.Cut(r.Resource, ".")
	known := []string{"limits.cpu", "limits.ephemeral-storage", "limits.memory", "requests.cpu", "requests.ephemeral-storage", "requests.memory"}
	pages := (side == "limits" || side == "requests") && check.HugePages(corev1.ResourceName(name))
	if !slices.Contains(known, r.Resource) && !pages {
		return field.ErrorList{field.NotSupported(path.Child("resource"), r.Resource, known)}
	}
	return validateDivisor(name, r.Divisor, path.Child("divisor"))
}

func validateDivisor(name string, divisor resource.Quantity, path *field.Path) field.ErrorList {
	if divisor.IsZero() { // unset means 1
		return nil
	}
	units := []string{"1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"}
	text := "only divisor's values 1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the memory, ephemeral-storage and hugepages resources"
	if name == "cpu" {
		units, text = []string{"1m", "1"}, "only divisor's values 1m and 1 are supported with the cpu resource"
	}
	for _, unit := range units {
		if divisor.Cmp(resource.MustParse(unit)) == 0 {
			return nil
		}
	}
	return field.ErrorList{field.Invalid(path, name, text)}
}

func validateEnvFrom(sources []corev1.EnvFromSource, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, s := range sources {
		at := path.Index(i)
		if s.Prefix != "" {
			errs = append(errs, invalids(at.Child("prefix"), s.Prefix, validation.IsRelaxedEnvVarName(s.Prefix))...)
		}
		if s.ConfigMapRef != nil {
			errs = append(errs, check.RequiredSubdomain(s.ConfigMapRef.Name, at.Child("configMapRef", "name"))...)
		}
		if s.SecretRef != nil {
			errs = append(errs, check.RequiredSubdomain(s.SecretRef.Name, at.Child("secretRef", "name"))...)
		}
		switch {
		case s.ConfigMapRef == nil && s.SecretRef == nil:
			errs = append(errs, field.Invalid(path, "", "must specify one of: `configMapRef` or `secretRef`"))
		case s.ConfigMapRef != nil && s.SecretRef != nil:
			errs = append(errs, field.Invalid(path, "", "may not have more than one field specified at a time"))
		}
	}
	return errs
}
