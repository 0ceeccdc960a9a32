// Package authorization holds the kinds of authorization.k8s.io: questions about what somebody may do. They are never stored.
package authorization

import (
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds"
)

// SubjectAccessReview is authorization.k8s.io/v1 subjectaccessreviews.
func SubjectAccessReview() *kinds.Kind {
	return kinds.New(kinds.Spec[authorizationv1.SubjectAccessReview, *authorizationv1.SubjectAccessReview]{
		GVK:     authorizationv1.SchemeGroupVersion.WithKind("SubjectAccessReview"),
		Plural:  "subjectaccessreviews",
		Virtual: true,
		Verbs:   []string{"create"},
		NewList: func() runtime.Object { return nil },
		Validate: func(r *authorizationv1.SubjectAccessReview) field.ErrorList {
			return validateSubject(&r.Spec)
		},
	})
}

// LocalSubjectAccessReview is authorization.k8s.io/v1 localsubjectaccessreviews: a review within its namespace.
func LocalSubjectAccessReview() *kinds.Kind {
	return kinds.New(kinds.Spec[authorizationv1.LocalSubjectAccessReview, *authorizationv1.LocalSubjectAccessReview]{
		GVK:        authorizationv1.SchemeGroupVersion.WithKind("LocalSubjectAccessReview"),
		Plural:     "localsubjectaccessreviews",
		Namespaced: true,
		Virtual:    true,
		Verbs:      []string{"create"},
		NewList:    func() runtime.Object { return nil },
		Validate:   validateLocal,
	})
}

// SelfSubjectAccessReview is authorization.k8s.io/v1 selfsubjectaccessreviews: a review of the sender.
func SelfSubjectAccessReview() *kinds.Kind {
	return kinds.New(kinds.Spec[authorizationv1.SelfSubjectAccessReview, *authorizationv1.SelfSubjectAccessReview]{
		GVK:     authorizationv1.SchemeGroupVersion.WithKind("SelfSubjectAccessReview"),
		Plural:  "selfsubjectaccessreviews",
		Virtual: true,
		Verbs:   []string{"create"},
		NewList: func() runtime.Object { return nil },
		Validate: func(r *authorizationv1.SelfSubjectAccessReview) field.ErrorList {
			return validateTarget(r.Spec.ResourceAttributes, r.Spec.NonResourceAttributes)
		},
	})
}

// SelfSubjectRulesReview is authorization.k8s.io/v1 selfsubjectrulesreviews: all that the sender may do in a namespace.
func SelfSubjectRulesReview() *kinds.Kind {
	return kinds.New(kinds.Spec[authorizationv1.SelfSubjectRulesReview, *authorizationv1.SelfSubjectRulesReview]{
		GVK:     authorizationv1.SchemeGroupVersion.WithKind("SelfSubjectRulesReview"),
		Plural:  "selfsubjectrulesreviews",
		Virtual: true,
		Verbs:   []string{"create"},
		NewList: func() runtime.Object { return nil },
	})
}

func validateSubject(s *authorizationv1.SubjectAccessReviewSpec) field.ErrorList {
	errs := validateTarget(s.ResourceAttributes, s.NonResourceAttributes)
	if s.User == "" && len(s.Groups) == 0 {
		errs = append(errs, field.Required(field.NewPath("spec", "user"), "at least one of user or group must be specified"))
	}
	return errs
}

func validateTarget(resource *authorizationv1.ResourceAttributes, path *authorizationv1.NonResourceAttributes) field.ErrorList {
	switch {
	case resource != nil && path != nil:
		return field.ErrorList{field.Invalid(field.NewPath("spec", "nonResourceAttributes"), path, "cannot be specified in combination with resourceAttributes")}
	case resource == nil && path == nil:
		return field.ErrorList{field.Required(field.NewPath("spec", "resourceAttributes"), "exactly one of nonResourceAttributes or resourceAttributes must be specified")}
	}
	return nil
}

func validateLocal(r *authorizationv1.LocalSubjectAccessReview) field.ErrorList {
	errs := validateSubject(&r.Spec)
	if r.Spec.ResourceAttributes != nil && r.Spec.ResourceAttributes.Namespace != r.Namespace {
		errs = append(errs, field.Invalid(field.NewPath("spec", "resourceAttributes", "namespace"), r.Spec.ResourceAttributes.Namespace, "must match metadata.namespace"))
	}
	if r.Spec.NonResourceAttributes != nil {
		errs = append(errs, field.Invalid(field.NewPath("spec", "nonResourceAttributes"), r.Spec.NonResourceAttributes, "disallowed on this kind of request"))
	}
	return errs
}
