package core

import (
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"canopus/internal/kinds"
	"canopus/internal/kinds/show"
)

// ServiceAccount is v1 serviceaccounts.
func ServiceAccount() *kinds.Kind {
	return kinds.New(kinds.Spec[corev1.ServiceAccount, *corev1.ServiceAccount]{
		GVK:           corev1.SchemeGroupVersion.WithKind("ServiceAccount"),
		Plural:        "serviceaccounts",
		ShortNames:    []string{"sa"},
		Namespaced:    true,
		ReturnDeleted: true,
		NewList:       func() runtime.Object { return &corev1.ServiceAccountList{} },

		PrepareCreate: func(s *corev1.ServiceAccount) { s.Secrets = cleanSecrets(s.Secrets) },
		PrepareUpdate: func(s, _ *corev1.ServiceAccount) { s.Secrets = cleanSecrets(s.Secrets) },
		Warnings:      serviceAccountWarnings,
		Columns: []metav1.TableColumnDefinition{
			show.Name(), show.Column("Secrets", "string", corev1.ServiceAccount{}.SwaggerDoc()["secrets"]), show.AgeColumn(),
		},
		Cells: func(s *corev1.ServiceAccount, now time.Time) []any {
			return []any{s.Name, int64(len(s.Secrets)), show.Age(s.CreationTimestamp, now)}
		},
		Subresources: []kinds.Subresource{{
			Name: "token", GVK: authenticationv1.SchemeGroupVersion.WithKind("TokenRequest"), Verbs: []string{"create"},
			New: func() runtime.Object { return &authenticationv1.TokenRequest{} },
		}},
	})
}

// cleanSecrets keeps only what a reference to a Secret says: its name.
func cleanSecrets(refs []corev1.ObjectReference) []corev1.ObjectReference {
	for i := range refs {
		refs[i] = corev1.ObjectReference{Name: refs[i].Name}
	}
	return refs
}

// mountableSecrets is the annotation that lets pods mount only the Secrets that their account names.
const mountableSecrets = "kubernetes.io/enforce-mountable-secrets"

func serviceAccountWarnings(s, old *corev1.ServiceAccount) []string {
	if old != nil && old.Annotations[mountableSecrets] == s.Annotations[mountableSecrets] {
		return nil
	}
	return annotationWarnings(s.Annotations, mountableSecrets, "deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets")
}
