package core

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds"
	"canopus/internal/kinds/podspec"
	"canopus/internal/kinds/show"
)

// PodTemplate is v1 podtemplates.
func PodTemplate() *kinds.Kind {
	return kinds.New(kinds.Spec[corev1.PodTemplate, *corev1.PodTemplate]{
		GVK:        corev1.SchemeGroupVersion.WithKind("PodTemplate"),
		Plural:     "podtemplates",
		Namespaced: true,
		NewList:    func() runtime.Object { return &corev1.PodTemplateList{} },

		ReturnDeleted: true,
		Default:       func(t *corev1.PodTemplate) { podspec.Default(&t.Template.Spec) },
		Generation:    true,
		PrepareCreate: func(t *corev1.PodTemplate) { podspec.DropGated(&t.Template.Spec, nil) },
		PrepareUpdate: func(t, old *corev1.PodTemplate) {
			podspec.DropGated(&t.Template.Spec, &old.Template.Spec)
			kinds.Bump(t, old, !equal(t.Template, old.Template))
		},
		Validate:       validatePodTemplate,
		ValidateUpdate: func(t, _ *corev1.PodTemplate) field.ErrorList { return validatePodTemplate(t) },
		Warnings: func(t, old *corev1.PodTemplate) []string {
			if old != nil && t.Generation == old.Generation {
				return nil
			}
			return podspec.TemplateWarnings(&t.Template, field.NewPath("template"))
		},
		Columns: []metav1.TableColumnDefinition{
			show.Name(),
			show.Column("Containers", "string", "Names of each container in the template."),
			show.Column("Images", "string", "Images referenced by each container in the template."),
			show.Column("Pod Labels", "string", "The labels for the pod template."),
		},
		Cells: func(t *corev1.PodTemplate, _ time.Time) []any {
			names, images := containerCells(t.Template.Spec.Containers)
			return []any{t.Name, names, images, show.Labels(t.Template.Labels)}
		},
	})
}

func validatePodTemplate(t *corev1.PodTemplate) field.ErrorList {
	return podspec.ValidateTemplate(&t.Template, field.NewPath("template"))
}
