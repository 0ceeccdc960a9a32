package apps

import (
	"strings"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds"
	"canopus/internal/kinds/check"
	"canopus/internal/kinds/podspec"
	"canopus/internal/kinds/show"
)

func equal(a, b any) bool { return apiequality.Semantic.DeepEqual(a, b) }

func scaleGVK() schema.GroupVersionKind { return autoscalingv1.SchemeGroupVersion.WithKind("Scale") }

// scaleSubresource is the path at which replicas are read and written.
func scaleSubresource() kinds.Subresource {
	return kinds.Subresource{
		Name: "scale", GVK: scaleGVK(), Verbs: []string{"get", "patch", "update"},
		New: func() runtime.Object { return &autoscalingv1.Scale{} },
	}
}

// selectorString is a label selector in query form; one that does not parse shows as nothing.
func selectorString(s *metav1.LabelSelector) string {
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return ""
	}
	return selector.String()
}

// validateSelector refuses a selector that is missing, empty or malformed.
func validateSelector(s *metav1.LabelSelector, what string) field.ErrorList {
	at := field.NewPath("spec", "selector")
	if s == nil {
		return field.ErrorList{field.Required(at, "")}
	}
	errs := check.Selector(s, at)
	if len(s.MatchLabels)+len(s.MatchExpressions) == 0 {
		errs = append(errs, field.Invalid(at, s, "empty selector is invalid for "+what))
	}
	return errs
}

// validateTemplate refuses a template that the selector does not select or that is no template for pods that run for ever.
// kind is what its errors call the workload.
func validateTemplate(t *corev1.PodTemplateSpec, s *metav1.LabelSelector, kind string) field.ErrorList {
	at := field.NewPath("spec", "template")
	var errs field.ErrorList
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err == nil && !selector.Empty() && !selector.Matches(labels.Set(t.Labels)) {
		errs = append(errs, field.Invalid(at.Child("metadata", "labels"), t.Labels, "`selector` does not match template `labels`"))
	}
	errs = append(errs, podspec.ValidateTemplate(t, at)...)
	if t.Spec.RestartPolicy != corev1.RestartPolicyAlways {
		errs = append(errs, field.NotSupported(at.Child("spec", "restartPolicy"), t.Spec.RestartPolicy, []corev1.RestartPolicy{corev1.RestartPolicyAlways}))
	}
	if t.Spec.ActiveDeadlineSeconds != nil {
		errs = append(errs, field.Forbidden(at.Child("spec", "activeDeadlineSeconds"), "activeDeadlineSeconds in "+kind+" is not Supported"))
	}
	return errs
}

func sameSelector(now, was *metav1.LabelSelector) field.ErrorList {
	if equal(now, was) {
		return nil
	}
	return field.ErrorList{field.Invalid(field.NewPath("spec", "selector"), now, check.Immutable)}
}

// templateWarnings are about the template of a new object, or of one whose spec an update has changed.
func templateWarnings[T any, P pointer[T]](obj, old P, t *corev1.PodTemplateSpec) []string {
	if old != nil && obj.GetGeneration() == old.GetGeneration() {
		return nil
	}
	return podspec.TemplateWarnings(t, field.NewPath("spec", "template"))
}

// namedWarnings are templateWarnings and what a name that is no DNS label leads to.
func namedWarnings[T any, P pointer[T]](obj, old P, t *corev1.PodTemplateSpec) []string {
	if old != nil {
		return templateWarnings(obj, old, t)
	}
	return append(check.PodNameWarnings(obj.GetName()), templateWarnings(obj, nil, t)...)
}

// pointer is what points to an object of type T.
type pointer[T any] interface {
	*T
	metav1.Object
}

// wideColumns are what -o wide shows of a workload.
func wideColumns(selector string) []metav1.TableColumnDefinition {
	return []metav1.TableColumnDefinition{
		show.Wide("Containers", "string", "Names of each container in the template."),
		show.Wide("Images", "string", "Images referenced by each container in the template."),
		show.Wide("Selector", "string", selector),
	}
}

func wideCells(t *corev1.PodTemplateSpec, s *metav1.LabelSelector) []any {
	names := make([]string, len(t.Spec.Containers))
	images := make([]string, len(t.Spec.Containers))
	for i := range t.Spec.Containers {
		names[i], images[i] = t.Spec.Containers[i].Name, t.Spec.Containers[i].Image
	}
	return []any{strings.Join(names, ","), strings.Join(images, ","), show.Selector(s)}
}

// orZero is what p points to, or nothing.
func orZero[T any](p *T) T {
	var zero T
	if p == nil {
		return zero
	}
	return *p
}

// count is a number in a status, and the one it cannot exceed.
type count struct {
	name  string
	value int32
	limit int32
	above string
}

func validateCounts(path *field.Path, counts ...count) field.ErrorList {
	var errs field.ErrorList
	for _, c := range counts {
		errs = append(errs, check.NonNegative(c.value, path.Child(c.name))...)
		if c.above != "" && c.value > c.limit {
			errs = append(errs, field.Invalid(path.Child(c.name), c.value, "cannot be greater than "+c.above))
		}
	}
	return errs
}

// validateCollisions: name collisions only ever grow in number.
func validateCollisions(now, was *int32, path *field.Path) field.ErrorList {
	errs := check.OptionalNonNegative(now, path)
	if was != nil && (now == nil || *now < *was) {
		errs = append(errs, field.Invalid(path, orZero(now), "cannot be decremented"))
	}
	return errs
}

func setDefault[T any](p **T, v T) {
	if *p == nil {
		*p = &v
	}
}
