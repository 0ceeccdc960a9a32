package core

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds"
	"canopus/internal/kinds/show"
)

// Namespace is v1 namespaces.
func Namespace() *kinds.Kind {
	finalize := kinds.Sub("finalize", prepareFinalize, validateFinalizers)
	finalize.Verbs = []string{"update"}
	return kinds.New(kinds.Spec[corev1.Namespace, *corev1.Namespace]{
		GVK:        corev1.SchemeGroupVersion.WithKind("Namespace"),
		Plural:     "namespaces",
		ShortNames: []string{"ns"},
		Verbs:      []string{"create", "delete", "get", "list", "patch", "update", "watch"},
		NewList:    func() runtime.Object { return &corev1.NamespaceList{} },
		NameRule:   apivalidation.ValidateNamespaceName,

		Default:       defaultNamespace,
		PrepareCreate: prepareNamespace,
		PrepareUpdate: func(obj, old *corev1.Namespace) {
			obj.Spec.Finalizers = old.Spec.Finalizers
			obj.Status = old.Status
		},
		Validate: func(n *corev1.Namespace) field.ErrorList { return validateFinalizers(n, nil) },
		ValidateUpdate: func(_, _ *corev1.Namespace) field.ErrorList {
			return nil
		},
		Columns: []metav1.TableColumnDefinition{
			show.Name(), show.Column("Status", "string", "The status of the namespace"), show.AgeColumn(),
		},
		Cells: func(n *corev1.Namespace, now time.Time) []any {
			return []any{n.Name, string(n.Status.Phase), show.Age(n.CreationTimestamp, now)}
		},
		Fields: map[string]func(*corev1.Namespace) string{
			"status.phase": func(n *corev1.Namespace) string { return string(n.Status.Phase) },
		},
		Subresources: []kinds.Subresource{finalize, kinds.Status(
			func(obj, old *corev1.Namespace) { obj.Spec = old.Spec }, validateNamespaceStatus)},
	})
}

// defaultNamespace labels every namespace with its own name, so that selectors can name it.
func defaultNamespace(n *corev1.Namespace) {
	if n.Name == "" {
		return
	}
	if n.Labels == nil {
		n.Labels = map[string]string{}
	}
	n.Labels[corev1.LabelMetadataName] = n.Name
}

// prepareNamespace gives a namespace the finalizer that its contents are deleted under.
func prepareNamespace(n *corev1.Namespace) {
	n.Status = corev1.NamespaceStatus{Phase: corev1.NamespaceActive}
	if !slices.Contains(n.Spec.Finalizers, corev1.FinalizerKubernetes) {
		n.Spec.Finalizers = append(n.Spec.Finalizers, corev1.FinalizerKubernetes)
	}
	defaultNamespace(n) // a generated name is known only now
}

func prepareFinalize(obj, old *corev1.Namespace) { obj.Status = old.Status }

func validateFinalizers(n, _ *corev1.Namespace) field.ErrorList {
	var errs field.ErrorList
	for i, f := range n.Spec.Finalizers {
		errs = append(errs, apivalidation.ValidateFinalizerName(string(f), field.NewPath("spec", "finalizers").Index(i))...)
	}
	return errs
}

func validateNamespaceStatus(n, _ *corev1.Namespace) field.ErrorList {
	path := field.NewPath("status", "phase")
	want := corev1.NamespaceActive
	text := "may only be 'Active' if `deletionTimestamp` is empty"
	if !n.DeletionTimestamp.IsZero() {
		want, text = corev1.NamespaceTerminating, "may only be 'Terminating' if `deletionTimestamp` is not empty"
	}
	if n.Status.Phase != want {
		return field.ErrorList{field.Invalid(path, n.Status.Phase, text)}
	}
	return nil
}
