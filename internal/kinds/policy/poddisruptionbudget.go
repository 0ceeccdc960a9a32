// Package policy describes budgets of disruption.
package policy

import (
	"time"

	policyv1 "k8s.io/api/policy/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds"
	"canopus/internal/kinds/check"
	"canopus/internal/kinds/show"
)

// PodDisruptionBudget is policy/v1 poddisruptionbudgets.
func PodDisruptionBudget() *kinds.Kind {
	spec, status := policyv1.PodDisruptionBudgetSpec{}.SwaggerDoc(), policyv1.PodDisruptionBudgetStatus{}.SwaggerDoc()
	return kinds.New(kinds.Spec[policyv1.PodDisruptionBudget, *policyv1.PodDisruptionBudget]{
		GVK:        policyv1.SchemeGroupVersion.WithKind("PodDisruptionBudget"),
		Plural:     "poddisruptionbudgets",
		ShortNames: []string{"pdb"},
		Namespaced: true,
		NewList:    func() runtime.Object { return &policyv1.PodDisruptionBudgetList{} },

		PrepareCreate: func(b *policyv1.PodDisruptionBudget) { b.Status = policyv1.PodDisruptionBudgetStatus{} },
		PrepareUpdate: func(obj, old *policyv1.PodDisruptionBudget) {
			obj.Status = old.Status
			kinds.Bump(obj, old, !apiequality.Semantic.DeepEqual(obj.Spec, old.Spec))
		},
		Generation:   true,
		StrictUpdate: true,
		Validate:     validateBudget,
		Columns: []metav1.TableColumnDefinition{
			show.Name(),
			show.Column("Min Available", "string", spec["minAvailable"]),
			show.Column("Max Unavailable", "string", spec["maxUnavailable"]),
			show.Column("Allowed Disruptions", "integer", status["disruptionsAllowed"]),
			show.AgeColumn(),
		},
		Cells: func(b *policyv1.PodDisruptionBudget, now time.Time) []any {
			return []any{
				b.Name, orNA(b.Spec.MinAvailable), orNA(b.Spec.MaxUnavailable), int64(b.Status.DisruptionsAllowed), show.Age(b.CreationTimestamp, now),
			}
		},
		Subresources: []kinds.Subresource{kinds.Status(
			func(obj, old *policyv1.PodDisruptionBudget) { obj.Spec = old.Spec }, validateBudgetStatus)},
	})
}

func orNA(n *intstr.IntOrString) string {
	if n == nil {
		return "N/A"
	}
	return n.String()
}

func validateBudget(b *policyv1.PodDisruptionBudget) field.ErrorList {
	s, path := &b.Spec, field.NewPath("spec")
	var errs field.ErrorList
	if s.MinAvailable != nil && s.MaxUnavailable != nil {
		errs = append(errs, field.Invalid(path, *s, "minAvailable and maxUnavailable cannot be both set"))
	}
	for _, f := range []struct {
		name string
		n    *intstr.IntOrString
	}{{"minAvailable", s.MinAvailable}, {"maxUnavailable", s.MaxUnavailable}} {
		if f.n != nil {
			errs = append(errs, check.CountOrPercent(*f.n, path.Child(f.name))...)
			errs = append(errs, check.AtMostAll(*f.n, path.Child(f.name))...)
		}
	}
	if p := s.UnhealthyPodEvictionPolicy; p != nil {
		errs = append(errs, check.OneOf(*p, path.Child("unhealthyPodEvictionPolicy"), policyv1.AlwaysAllow, policyv1.IfHealthyBudget)...)
	}
	return append(errs, check.Selector(s.Selector, path.Child("selector"))...)
}

func validateBudgetStatus(obj, _ *policyv1.PodDisruptionBudget) field.ErrorList {
	s, path := &obj.Status, field.NewPath("status")
	errs := metavalidation.ValidateConditions(s.Conditions, path.Child("conditions"))
	errs = append(errs, check.NonNegative(s.DisruptionsAllowed, path.Child("disruptionsAllowed"))...)
	errs = append(errs, check.NonNegative(s.CurrentHealthy, path.Child("currentHealthy"))...)
	errs = append(errs, check.NonNegative(s.DesiredHealthy, path.Child("desiredHealthy"))...)
	return append(errs, check.NonNegative(s.ExpectedPods, path.Child("expectedPods"))...)
}
