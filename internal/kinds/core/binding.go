package core

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds"
)

// Binding is v1 bindings, the older form of pods/binding. It is never stored.
func Binding() *kinds.Kind {
	return kinds.New(kinds.Spec[corev1.Binding, *corev1.Binding]{
		GVK:        corev1.SchemeGroupVersion.WithKind("Binding"),
		Plural:     "bindings",
		Namespaced: true,
		Virtual:    true,
		NewList:    func() runtime.Object { return &metav1.List{} },
		Validate:   ValidateBinding,
	})
}

// ValidateBinding checks what a pod is bound to: a node, by name.
func ValidateBinding(b *corev1.Binding) field.ErrorList {
	path := field.NewPath("target")
	var errs field.ErrorList
	if b.Target.Kind != "" && b.Target.Kind != "Node" {
		errs = append(errs, field.NotSupported(path.Child("kind"), b.Target.Kind, []string{"Node", "<empty>"}))
	}
	if b.Target.Name == "" {
		errs = append(errs, field.Required(path.Child("name"), ""))
	}
	return errs
}
