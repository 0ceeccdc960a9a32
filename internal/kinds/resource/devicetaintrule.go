package resource

import (
	"time"

	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds"
	"canopus/internal/kinds/check"
	"canopus/internal/kinds/show"
)

// DeviceTaintRule is resource.k8s.io/v1 devicetaintrules: a taint that administrators put on devices.
func DeviceTaintRule() *kinds.Kind {
	return kinds.New(kinds.Spec[resourcev1.DeviceTaintRule, *resourcev1.DeviceTaintRule]{
		GVK:        resourcev1.SchemeGroupVersion.WithKind("DeviceTaintRule"),
		Plural:     "devicetaintrules",
		NewList:    func() runtime.Object { return &resourcev1.DeviceTaintRuleList{} },
		Generation: true,

		PrepareCreate: func(r *resourcev1.DeviceTaintRule) { r.Status = resourcev1.DeviceTaintRuleStatus{} },
		PrepareUpdate: func(r, old *resourcev1.DeviceTaintRule) {
			r.Status = old.Status
			keepTaintTime(&r.Spec.Taint, &old.Spec.Taint)
			if !equal(r.Spec, old.Spec) {
				r.Generation = old.Generation + 1
			}
		},
		Stamp:    func(r *resourcev1.DeviceTaintRule, now time.Time) { date(&r.Spec.Taint, now) },
		Validate: validateTaintRule,
		Subresources: []kinds.Subresource{kinds.Status(func(r, old *resourcev1.DeviceTaintRule) {
			r.Spec = old.Spec
			metav1.ResetObjectMetaForStatus(&r.ObjectMeta, &old.ObjectMeta)
		}, func(r, _ *resourcev1.DeviceTaintRule) field.ErrorList {
			path := field.NewPath("status", "conditions")
			return append(atMost(r.Status.Conditions, resourcev1.DeviceTaintRuleStatusMaxConditions, path), metavalidation.ValidateConditions(r.Status.Conditions, path)...)
		})},
		Columns: []metav1.TableColumnDefinition{show.Name(), show.AgeColumn()},
		Cells: func(r *resourcev1.DeviceTaintRule, now time.Time) []any {
			return []any{r.Name, show.Age(r.CreationTimestamp, now)}
		},
	})
}

func validateTaintRule(r *resourcev1.DeviceTaintRule) field.ErrorList {
	path := field.NewPath("spec")
	errs := validateTaint(&r.Spec.Taint, path.Child("taint"))
	s, at := r.Spec.DeviceSelector, path.Child("deviceSelector")
	if s == nil {
		return errs
	}
	if s.Driver != nil {
		errs = append(errs, driverName(*s.Driver, at.Child("driver"))...)
	}
	if s.Pool != nil {
		errs = append(errs, poolName(*s.Pool, at.Child("pool"))...)
	}
	if s.Device != nil {
		errs = append(errs, check.RequiredLabel(*s.Device, at.Child("device"))...)
	}
	return errs
}
