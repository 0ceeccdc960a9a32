package core

import (
	"maps"
	"strconv"
	"strings"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"canopus/internal/kinds"
	"canopus/internal/kinds/check"
	"canopus/internal/kinds/podspec"
	"canopus/internal/kinds/show"
)

// ReplicationController is v1 replicationcontrollers.
func ReplicationController() *kinds.Kind {
	return kinds.New(kinds.Spec[corev1.ReplicationController, *corev1.ReplicationController]{
		GVK:        corev1.SchemeGroupVersion.WithKind("ReplicationController"),
		Plural:     "replicationcontrollers",
		ShortNames: []string{"rc"},
		Categories: []string{"all"},
		Namespaced: true,
		Prefix:     "controllers/",
		NewList:    func() runtime.Object { return &corev1.ReplicationControllerList{} },

		Default:    defaultReplicationController,
		Generation: true,
		PrepareCreate: func(r *corev1.ReplicationController) {
			r.Status = corev1.ReplicationControllerStatus{}
			dropGated(r.Spec.Template, nil)
		},
		PrepareUpdate: func(r, old *corev1.ReplicationController) {
			r.Status = old.Status
			dropGated(r.Spec.Template, old.Spec.Template)
			kinds.Bump(r, old, !equal(r.Spec, old.Spec))
		},
		Validate:       validateReplicationController,
		ValidateUpdate: func(r, _ *corev1.ReplicationController) field.ErrorList { return validateReplicationController(r) },
		Warnings:       replicationControllerWarnings,
		Subresources: []kinds.Subresource{{
			Name: "scale", GVK: autoscalingv1.SchemeGroupVersion.WithKind("Scale"), Verbs: []string{"get", "patch", "update"},
			New: func() runtime.Object { return &autoscalingv1.Scale{} },
		}, kinds.Status(func(r, old *corev1.ReplicationController) { r.Spec = old.Spec }, validateReplicationControllerStatus)},
		Scale: &kinds.ScalePaths{
			Replicas: func(obj kinds.Object) (spec, status int32) {
				r := obj.(*corev1.ReplicationController)
				return ptr.Deref(r.Spec.Replicas, 0), r.Status.Replicas
			},
			Selector: func(obj kinds.Object) string {
				return labels.SelectorFromSet(obj.(*corev1.ReplicationController).Spec.Selector).String()
			},
			SetReplicas: func(obj kinds.Object, n int32) { obj.(*corev1.ReplicationController).Spec.Replicas = &n },
		},
		Fields: map[string]func(*corev1.ReplicationController) string{
			"status.replicas": func(r *corev1.ReplicationController) string { return strconv.Itoa(int(r.Status.Replicas)) },
		},
		Columns: replicationControllerColumns(),
		Cells: func(r *corev1.ReplicationController, now time.Time) []any {
			var names, images string
			if r.Spec.Template != nil {
				names, images = containerCells(r.Spec.Template.Spec.Containers)
			}
			return []any{
				r.Name, int64(ptr.Deref(r.Spec.Replicas, 0)), int64(r.Status.Replicas), int64(r.Status.ReadyReplicas), show.Age(r.CreationTimestamp, now),
				names, images, show.Labels(r.Spec.Selector),
			}
		},
	})
}

func replicationControllerColumns() []metav1.TableColumnDefinition {
	spec, status := corev1.ReplicationControllerSpec{}.SwaggerDoc(), corev1.ReplicationControllerStatus{}.SwaggerDoc()
	return []metav1.TableColumnDefinition{
		show.Name(),
		show.Column("Desired", "integer", spec["replicas"]),
		show.Column("Current", "integer", status["replicas"]),
		show.Column("Ready", "integer", status["readyReplicas"]),
		show.AgeColumn(),
		show.Wide("Containers", "string", "Names of each container in the template."),
		show.Wide("Images", "string", "Images referenced by each container in the template."),
		show.Wide("Selector", "string", spec["selector"]),
	}
}

// containerCells lists the names and images of containers.
func containerCells(containers []corev1.Container) (names, images string) {
	n, i := make([]string, len(containers)), make([]string, len(containers))
	for j := range containers {
		n[j], i[j] = containers[j].Name, containers[j].Image
	}
	return strings.Join(n, ","), strings.Join(i, ",")
}

// defaultReplicationController takes selector and labels from the template where there are none.
func defaultReplicationController(r *corev1.ReplicationController) {
	if r.Spec.Replicas == nil {
		r.Spec.Replicas = ptr.To(int32(1))
	}
	t := r.Spec.Template
	if t == nil {
		return
	}
	if len(t.Labels) > 0 {
		if len(r.Spec.Selector) == 0 {
			r.Spec.Selector = maps.Clone(t.Labels)
		}
		if len(r.Labels) == 0 {
			r.Labels = maps.Clone(t.Labels)
		}
	}
	podspec.Default(&t.Spec)
}

// dropGated clears what has no effect here in a template, where there is one.
func dropGated(t, old *corev1.PodTemplateSpec) {
	switch {
	case t == nil:
	case old == nil:
		podspec.DropGated(&t.Spec, nil)
	default:
		podspec.DropGated(&t.Spec, &old.Spec)
	}
}

func validateReplicationController(r *corev1.ReplicationController) field.ErrorList {
	path := field.NewPath("spec")
	errs := check.NonNegative(r.Spec.MinReadySeconds, path.Child("minReadySeconds"))
	if len(r.Spec.Selector) == 0 {
		errs = append(errs, field.Required(path.Child("selector"), ""))
	}
	if r.Spec.Replicas == nil {
		errs = append(errs, field.Required(path.Child("replicas"), ""))
	} else {
		errs = append(errs, check.NonNegative(*r.Spec.Replicas, path.Child("replicas"))...)
	}
	return append(errs, validateControllerTemplate(r.Spec.Template, r.Spec.Selector, path.Child("template"))...)
}

func validateControllerTemplate(t *corev1.PodTemplateSpec, selector map[string]string, path *field.Path) field.ErrorList {
	if t == nil {
		return field.ErrorList{field.Required(path, "")}
	}
	var errs field.ErrorList
	if s := labels.SelectorFromSet(selector); !s.Empty() && !s.Matches(labels.Set(t.Labels)) {
		errs = append(errs, field.Invalid(path.Child("metadata", "labels"), t.Labels, "`selector` does not match template `labels`"))
	}
	errs = append(errs, podspec.ValidateTemplate(t, path)...)
	if t.Spec.RestartPolicy != corev1.RestartPolicyAlways {
		errs = append(errs, field.NotSupported(path.Child("spec", "restartPolicy"), t.Spec.RestartPolicy, []corev1.RestartPolicy{corev1.RestartPolicyAlways}))
	}
	if t.Spec.ActiveDeadlineSeconds != nil {
		errs = append(errs, field.Forbidden(path.Child("spec", "activeDeadlineSeconds"), "activeDeadlineSeconds in ReplicationController is not Supported"))
	}
	return errs
}

func validateReplicationControllerStatus(r, _ *corev1.ReplicationController) field.ErrorList {
	s, path := &r.Status, field.NewPath("status")
	var errs field.ErrorList
	for _, c := range []struct {
		name  string
		value int32
	}{
		{"replicas", s.Replicas}, {"fullyLabeledReplicas", s.FullyLabeledReplicas},
		{"readyReplicas", s.ReadyReplicas}, {"availableReplicas", s.AvailableReplicas},
	} {
		errs = append(errs, check.NonNegative(c.value, path.Child(c.name))...)
		if c.value > s.Replicas {
			errs = append(errs, field.Invalid(path.Child(c.name), c.value, "cannot be greater than status.replicas"))
		}
	}
	errs = append(errs, check.NonNegative(s.ObservedGeneration, path.Child("observedGeneration"))...)
	if s.AvailableReplicas > s.ReadyReplicas {
		errs = append(errs, field.Invalid(path.Child("availableReplicas"), s.AvailableReplicas, "cannot be greater than readyReplicas"))
	}
	return errs
}

// replicationControllerWarnings are about a new object, or one whose spec an update has changed.
func replicationControllerWarnings(r, old *corev1.ReplicationController) []string {
	var out []string
	if old == nil {
		out = check.PodNameWarnings(r.Name)
	} else if r.Generation == old.Generation {
		return nil
	}
	if r.Spec.Template != nil {
		out = append(out, podspec.TemplateWarnings(r.Spec.Template, field.NewPath("spec", "template"))...)
	}
	return out
}
