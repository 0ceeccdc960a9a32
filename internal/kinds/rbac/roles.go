package rbac

import (
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds"
	"canopus/internal/kinds/show"
)

// Role is rbac.authorization.k8s.io/v1 roles.
func Role() *kinds.Kind {
	return kinds.New(kinds.Spec[rbacv1.Role, *rbacv1.Role]{
		GVK:            rbacv1.SchemeGroupVersion.WithKind("Role"),
		Plural:         "roles",
		Namespaced:     true,
		NewList:        func() runtime.Object { return &rbacv1.RoleList{} },
		NameRule:       path.ValidatePathSegmentName,
		CreateOnUpdate: true,

		Validate: func(r *rbacv1.Role) field.ErrorList { return validateRules(r.Rules, true, field.NewPath("rules")) },
		Columns:  roleColumns(),
		Cells:    func(r *rbacv1.Role, _ time.Time) []any { return []any{r.Name, createdAt(r.CreationTimestamp)} },
	})
}

// ClusterRole is rbac.authorization.k8s.io/v1 clusterroles.
func ClusterRole() *kinds.Kind {
	return kinds.New(kinds.Spec[rbacv1.ClusterRole, *rbacv1.ClusterRole]{
		GVK:            rbacv1.SchemeGroupVersion.WithKind("ClusterRole"),
		Plural:         "clusterroles",
		NewList:        func() runtime.Object { return &rbacv1.ClusterRoleList{} },
		NameRule:       path.ValidatePathSegmentName,
		CreateOnUpdate: true,

		Validate: validateClusterRole,
		Columns:  roleColumns(),
		Cells:    func(r *rbacv1.ClusterRole, _ time.Time) []any { return []any{r.Name, createdAt(r.CreationTimestamp)} },
	})
}

func roleColumns() []metav1.TableColumnDefinition {
	return []metav1.TableColumnDefinition{
		show.Name(), show.Column("Created At", "date", metav1.ObjectMeta{}.SwaggerDoc()["creationTimestamp"]),
	}
}

func createdAt(t metav1.Time) string { return t.UTC().Format(time.RFC3339) }

func validateClusterRole(r *rbacv1.ClusterRole) field.ErrorList {
	errs := validateRules(r.Rules, false, field.NewPath("rules"))
	if r.AggregationRule == nil {
		return errs
	}
	at := field.NewPath("aggregationRule", "clusterRoleSelectors")
	if len(r.AggregationRule.ClusterRoleSelectors) == 0 {
		errs = append(errs, field.Required(at, "at least one clusterRoleSelector required if aggregationRule is non-nil"))
	}
	for i := range r.AggregationRule.ClusterRoleSelectors {
		errs = append(errs, metavalidation.ValidateLabelSelector(&r.AggregationRule.ClusterRoleSelectors[i],
			metavalidation.LabelSelectorValidationOptions{}, at.Index(i))...)
	}
	return errs
}

func validateRules(rules []rbacv1.PolicyRule, namespaced bool, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range rules {
		errs = append(errs, validateRule(&rules[i], namespaced, at.Index(i))...)
	}
	return errs
}

func validateRule(r *rbacv1.PolicyRule, namespaced bool, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(r.Verbs) == 0 {
		errs = append(errs, field.Required(at.Child("verbs"), "verbs must contain at least one value"))
	}
	if len(r.NonResourceURLs) > 0 {
		if namespaced {
			errs = append(errs, field.Invalid(at.Child("nonResourceURLs"), r.NonResourceURLs, "namespaced rules cannot apply to non-resource URLs"))
		}
		if len(r.APIGroups) > 0 || len(r.Resources) > 0 || len(r.ResourceNames) > 0 {
			errs = append(errs, field.Invalid(at.Child("nonResourceURLs"), r.NonResourceURLs, "rules cannot apply to both regular resources and non-resource URLs"))
		}
		return errs
	}
	if len(r.APIGroups) == 0 {
		errs = append(errs, field.Required(at.Child("apiGroups"), "resource rules must supply at least one api group"))
	}
	if len(r.Resources) == 0 {
		errs = append(errs, field.Required(at.Child("resources"), "resource rules must supply at least one resource"))
	}
	return errs
}
