package core

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds"
	"canopus/internal/kinds/check"
	"canopus/internal/kinds/show"
)

// ResourceQuota is v1 resourcequotas.
func ResourceQuota() *kinds.Kind {
	return kinds.New(kinds.Spec[corev1.ResourceQuota, *corev1.ResourceQuota]{
		GVK:        corev1.SchemeGroupVersion.WithKind("ResourceQuota"),
		Plural:     "resourcequotas",
		ShortNames: []string{"quota"},
		Namespaced: true,
		NewList:    func() runtime.Object { return &corev1.ResourceQuotaList{} },

		ReturnDeleted:  true,
		PrepareCreate:  func(q *corev1.ResourceQuota) { q.Status = corev1.ResourceQuotaStatus{} },
		PrepareUpdate:  func(q, old *corev1.ResourceQuota) { q.Status = old.Status },
		Validate:       validateQuota,
		ValidateUpdate: validateQuotaUpdate,
		Subresources: []kinds.Subresource{kinds.Status(
			func(q, old *corev1.ResourceQuota) { q.Spec = old.Spec }, validateQuotaStatus)},
		Columns: []metav1.TableColumnDefinition{
			show.Name(),
			show.Column("Request", "string", "What is used and allowed of everything but limits."),
			show.Column("Limit", "string", "What is used and allowed of limits."),
			show.AgeColumn(),
		},
		Cells: func(q *corev1.ResourceQuota, now time.Time) []any {
			requests, limits := quotaCells(&q.Status)
			return []any{q.Name, requests, limits, show.Age(q.CreationTimestamp, now)}
		},
	})
}

// quotaCells shows used and hard of each resource, those of limits apart.
func quotaCells(s *corev1.ResourceQuotaStatus) (requests, limits string) {
	var other, limit []string
	for _, name := range slices.Sorted(maps.Keys(s.Hard)) {
		hard, used := s.Hard[name], s.Used[name]
		text := fmt.Sprintf("%s: %s/%s", name, used.String(), hard.String())
		if strings.HasPrefix(string(name), "limits.") {
			limit = append(limit, text)
		} else {
			other = append(other, text)
		}
	}
	return strings.Join(other, ", "), strings.Join(limit, ", ")
}

func validateQuota(q *corev1.ResourceQuota) field.ErrorList {
	path := field.NewPath("spec")
	errs := validateQuotaList(q.Spec.Hard, path.Child("hard"))
	errs = append(errs, validateScopes(&q.Spec, path.Child("scopes"))...)
	errs = append(errs, validateScopeSelector(&q.Spec, path.Child("scopeSelector", "matchExpressions"))...)
	return append(errs, validateQuotaUsage(q)...)
}

func validateQuotaUsage(q *corev1.ResourceQuota) field.ErrorList {
	path := field.NewPath("status")
	return append(validateQuotaList(q.Status.Hard, path.Child("hard")), validateQuotaList(q.Status.Used, path.Child("used"))...)
}

func validateQuotaList(list corev1.ResourceList, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, name := range slices.Sorted(maps.Keys(list)) {
		at := path.Key(string(name))
		errs = append(errs, check.QuotaResourceName(name, at)...)
		errs = append(errs, check.QuotaQuantity(name, list[name], at)...)
	}
	return errs
}

func validateScopes(spec *corev1.ResourceQuotaSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, scope := range spec.Scopes {
		if !check.QuotaScope(scope) {
			errs = append(errs, field.Invalid(path, spec.Scopes, "unsupported scope"))
		}
		for range misfits(spec.Hard, scope) {
			errs = append(errs, field.Invalid(path, spec.Scopes, "unsupported scope applied to resource"))
		}
	}
	return append(errs, conflictingScopes(sets.New(spec.Scopes...), spec.Scopes, path)...)
}

// misfits are the standard resources of hard that a quota with scope cannot limit.
func misfits(hard corev1.ResourceList, scope corev1.ResourceQuotaScope) []corev1.ResourceName {
	var out []corev1.ResourceName
	for name := range hard {
		if check.StandardQuota(name) && !check.QuotaScopeFits(scope, name) {
			out = append(out, name)
		}
	}
	return out
}

// conflictingScopes refuses two scopes that no object has at once.
func conflictingScopes(have sets.Set[corev1.ResourceQuotaScope], value any, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, pair := range [][2]corev1.ResourceQuotaScope{
		{corev1.ResourceQuotaScopeBestEffort, corev1.ResourceQuotaScopeNotBestEffort},
		{corev1.ResourceQuotaScopeTerminating, corev1.ResourceQuotaScopeNotTerminating},
	} {
		if have.HasAll(pair[:]...) {
			errs = append(errs, field.Invalid(path, value, "conflicting scopes"))
		}
	}
	return errs
}

func validateScopeSelector(spec *corev1.ResourceQuotaSpec, path *field.Path) field.ErrorList {
	if spec.ScopeSelector == nil {
		return nil
	}
	var errs field.ErrorList
	have := sets.New[corev1.ResourceQuotaScope]()
	for i := range spec.ScopeSelector.MatchExpressions {
		r := &spec.ScopeSelector.MatchExpressions[i]
		if !check.QuotaScope(r.ScopeName) {
			errs = append(errs, field.Invalid(path.Child("scopeName"), r.ScopeName, "unsupported scope"))
		}
		for range misfits(spec.Hard, r.ScopeName) {
			errs = append(errs, field.Invalid(path, spec.ScopeSelector, "unsupported scope applied to resource"))
		}
		errs = append(errs, validateScopeOperator(r, path)...)
		have.Insert(r.ScopeName)
	}
	return append(errs, conflictingScopes(have, spec.ScopeSelector.MatchExpressions, path)...)
}

func validateScopeOperator(r *corev1.ScopedResourceSelectorRequirement, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch r.ScopeName {
	case corev1.ResourceQuotaScopeBestEffort, corev1.ResourceQuotaScopeNotBestEffort, corev1.ResourceQuotaScopeTerminating,
		corev1.ResourceQuotaScopeNotTerminating, corev1.ResourceQuotaScopeCrossNamespacePodAffinity:
		if r.Operator != corev1.ScopeSelectorOpExists {
			errs = append(errs, field.Invalid(path.Child("operator"), r.Operator,
				"must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity"))
		}
	}
	switch r.Operator {
	case corev1.ScopeSelectorOpIn, corev1.ScopeSelectorOpNotIn:
		if len(r.Values) == 0 {
			errs = append(errs, field.Required(path.Child("values"), "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"))
		}
	case corev1.ScopeSelectorOpExists, corev1.ScopeSelectorOpDoesNotExist:
		if len(r.Values) != 0 {
			errs = append(errs, field.Invalid(path.Child("values"), r.Values, "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"))
		}
	default:
		errs = append(errs, field.Invalid(path.Child("operator"), r.Operator, "not a valid selector operator"))
	}
	return errs
}

func validateQuotaUpdate(q, old *corev1.ResourceQuota) field.ErrorList {
	errs := validateQuota(q)
	if !sets.New(q.Spec.Scopes...).Equal(sets.New(old.Spec.Scopes...)) {
		errs = append(errs, field.Invalid(field.NewPath("spec", "scopes"), q.Spec.Scopes, check.Immutable))
	}
	return errs
}

func validateQuotaStatus(q, _ *corev1.ResourceQuota) field.ErrorList { return validateQuotaUsage(q) }
