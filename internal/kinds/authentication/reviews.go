// Package authentication holds the kinds of authentication.k8s.io: questions about who somebody is. They are never stored.
package authentication

import (
	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds"
)

// TokenReview is authentication.k8s.io/v1 tokenreviews.
func TokenReview() *kinds.Kind {
	return kinds.New(kinds.Spec[authenticationv1.TokenReview, *authenticationv1.TokenReview]{
		GVK:     authenticationv1.SchemeGroupVersion.WithKind("TokenReview"),
		Plural:  "tokenreviews",
		Virtual: true,
		Verbs:   []string{"create"},
		NewList: func() runtime.Object { return nil },
		Validate: func(r *authenticationv1.TokenReview) field.ErrorList {
			if r.Spec.Token == "" {
				return field.ErrorList{field.Required(field.NewPath("spec", "token"), "token is required for TokenReview in authentication")}
			}
			return nil
		},
	})
}

// SelfSubjectReview is authentication.k8s.io/v1 selfsubjectreviews.
func SelfSubjectReview() *kinds.Kind {
	return kinds.New(kinds.Spec[authenticationv1.SelfSubjectReview, *authenticationv1.SelfSubjectReview]{
		GVK:     authenticationv1.SchemeGroupVersion.WithKind("SelfSubjectReview"),
		Plural:  "selfsubjectreviews",
		Virtual: true,
		Verbs:   []string{"create"},
		NewList: func() runtime.Object { return nil },
	})
}
