package rbac

import (
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds"
	"canopus/internal/kinds/check"
	"canopus/internal/kinds/show"
)

// RoleBinding is rbac.authorization.k8s.io/v1 rolebindings.
func RoleBinding() *kinds.Kind {
	return kinds.New(kinds.Spec[rbacv1.RoleBinding, *rbacv1.RoleBinding]{
		GVK:            rbacv1.SchemeGroupVersion.WithKind("RoleBinding"),
		Plural:         "rolebindings",
		Namespaced:     true,
		NewList:        func() runtime.Object { return &rbacv1.RoleBindingList{} },
		NameRule:       path.ValidatePathSegmentName,
		CreateOnUpdate: true,

		Default: func(b *rbacv1.RoleBinding) { defaultBinding(&b.RoleRef, b.Subjects) },
		Validate: func(b *rbacv1.RoleBinding) field.ErrorList {
			return validateBinding(b.RoleRef, b.Subjects, true)
		},
		ValidateUpdate: func(b, old *rbacv1.RoleBinding) field.ErrorList {
			return append(validateBinding(b.RoleRef, b.Subjects, true), sameRole(b.RoleRef, old.RoleRef)...)
		},
		Columns: bindingColumns(),
		Cells: func(b *rbacv1.RoleBinding, now time.Time) []any {
			return bindingCells(&b.ObjectMeta, b.RoleRef, b.Subjects, now)
		},
	})
}

// ClusterRoleBinding is rbac.authorization.k8s.io/v1 clusterrolebindings.
func ClusterRoleBinding() *kinds.Kind {
	return kinds.New(kinds.Spec[rbacv1.ClusterRoleBinding, *rbacv1.ClusterRoleBinding]{
		GVK:            rbacv1.SchemeGroupVersion.WithKind("ClusterRoleBinding"),
		Plural:         "clusterrolebindings",
		NewList:        func() runtime.Object { return &rbacv1.ClusterRoleBindingList{} },
		NameRule:       path.ValidatePathSegmentName,
		CreateOnUpdate: true,

		Default: func(b *rbacv1.ClusterRoleBinding) { defaultBinding(&b.RoleRef, b.Subjects) },
		Validate: func(b *rbacv1.ClusterRoleBinding) field.ErrorList {
			return validateBinding(b.RoleRef, b.Subjects, false)
		},
		ValidateUpdate: func(b, old *rbacv1.ClusterRoleBinding) field.ErrorList {
			return append(validateBinding(b.RoleRef, b.Subjects, false), sameRole(b.RoleRef, old.RoleRef)...)
		},
		Columns: bindingColumns(),
		Cells: func(b *rbacv1.ClusterRoleBinding, now time.Time) []any {
			return bindingCells(&b.ObjectMeta, b.RoleRef, b.Subjects, now)
		},
	})
}

func defaultBinding(ref *rbacv1.RoleRef, subjects []rbacv1.Subject) {
	if ref.APIGroup == "" {
		ref.APIGroup = rbacv1.GroupName
	}
	for i := range subjects {
		s := &subjects[i]
		if s.APIGroup == "" && (s.Kind == rbacv1.UserKind || s.Kind == rbacv1.GroupKind) {
			s.APIGroup = rbacv1.GroupName
		}
	}
}

func validateBinding(ref rbacv1.RoleRef, subjects []rbacv1.Subject, namespaced bool) field.ErrorList {
	var errs field.ErrorList
	at := field.NewPath("roleRef")
	errs = append(errs, check.OneOf(ref.APIGroup, at.Child("apiGroup"), rbacv1.GroupName)...)
	kinds := []string{"ClusterRole"}
	if namespaced {
		kinds = []string{"Role", "ClusterRole"}
	}
	errs = append(errs, check.OneOf(ref.Kind, at.Child("kind"), kinds...)...)
	if ref.Name == "" {
		errs = append(errs, field.Required(at.Child("name"), ""))
	} else {
		errs = append(errs, check.Messages(at.Child("name"), ref.Name, path.ValidatePathSegmentName(ref.Name, false))...)
	}
	for i := range subjects {
		errs = append(errs, validateSubject(&subjects[i], namespaced, field.NewPath("subjects").Index(i))...)
	}
	return errs
}

func validateSubject(s *rbacv1.Subject, namespaced bool, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if s.Name == "" {
		errs = append(errs, field.Required(at.Child("name"), ""))
	}
	switch s.Kind {
	case rbacv1.ServiceAccountKind:
		if s.Name != "" {
			errs = append(errs, check.Messages(at.Child("name"), s.Name, validation.IsDNS1123Subdomain(s.Name))...)
		}
		errs = append(errs, check.OneOf(s.APIGroup, at.Child("apiGroup"), "")...)
		// The namespace of a subject without one is that of a RoleBinding; a ClusterRoleBinding has none to lend.
		if !namespaced && s.Namespace == "" {
			errs = append(errs, field.Required(at.Child("namespace"), ""))
		}
	case rbacv1.UserKind, rbacv1.GroupKind:
		errs = append(errs, check.OneOf(s.APIGroup, at.Child("apiGroup"), rbacv1.GroupName)...)
	default:
		errs = append(errs, check.OneOf(s.Kind, at.Child("kind"), rbacv1.ServiceAccountKind, rbacv1.UserKind, rbacv1.GroupKind)...)
	}
	return errs
}

func sameRole(now, was rbacv1.RoleRef) field.ErrorList {
	if now == was {
		return nil
	}
	return field.ErrorList{field.Invalid(field.NewPath("roleRef"), now, "cannot change roleRef")}
}

func bindingColumns() []metav1.TableColumnDefinition {
	return []metav1.TableColumnDefinition{
		show.Name(),
		show.Column("Role", "string", rbacv1.RoleBinding{}.SwaggerDoc()["roleRef"]),
		show.AgeColumn(),
		show.Wide("Users", "string", "Users in the roleBinding"),
		show.Wide("Groups", "string", "Groups in the roleBinding"),
		show.Wide("ServiceAccounts", "string", "ServiceAccounts in the roleBinding"),
	}
}

func bindingCells(m *metav1.ObjectMeta, ref rbacv1.RoleRef, subjects []rbacv1.Subject, now time.Time) []any {
	var users, groups, accounts string
	add := func(to *string, name string) {
		if *to != "" {
			*to += ", "
		}
		*to += name
	}
	for _, s := range subjects {
		switch s.Kind {
		case rbacv1.UserKind:
			add(&users, s.Name)
		case rbacv1.GroupKind:
			add(&groups, s.Name)
		case rbacv1.ServiceAccountKind:
			add(&accounts, s.Namespace+"/"+s.Name)
		}
	}
	return []any{m.Name, ref.Kind + "/" + ref.Name, show.Age(m.CreationTimestamp, now), users, groups, accounts}
}
