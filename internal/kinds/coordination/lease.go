package coordination

import (
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds"
	"canopus/internal/kinds/check"
	"canopus/internal/kinds/show"
)

// Lease is coordination.k8s.io/v1 leases.
func Lease() *kinds.Kind {
	return kinds.New(kinds.Spec[coordinationv1.Lease, *coordinationv1.Lease]{
		GVK:            coordinationv1.SchemeGroupVersion.WithKind("Lease"),
		Plural:         "leases",
		Namespaced:     true,
		NewList:        func() runtime.Object { return &coordinationv1.LeaseList{} },
		CreateOnUpdate: true,
		StrictUpdate:   true,

		PrepareCreate: dropGated,
		PrepareUpdate: func(l, old *coordinationv1.Lease) {
			if old.Spec.Strategy == nil && old.Spec.PreferredHolder == nil {
				dropGated(l)
			}
		},
		Validate: validateLease,
		Columns: []metav1.TableColumnDefinition{
			show.Name(), show.Column("Holder", "string", coordinationv1.LeaseSpec{}.SwaggerDoc()["holderIdentity"]), show.AgeColumn(),
		},
		Cells: func(l *coordinationv1.Lease, now time.Time) []any {
			holder := ""
			if l.Spec.HolderIdentity != nil {
				holder = *l.Spec.HolderIdentity
			}
			return []any{l.Name, holder, show.Age(l.CreationTimestamp, now)}
		},
	})
}

// dropGated drops what belongs to coordinated leader election, which is off by default.
func dropGated(l *coordinationv1.Lease) {
	l.Spec.Strategy, l.Spec.PreferredHolder = nil, nil
}

func validateLease(l *coordinationv1.Lease) field.ErrorList {
	var errs field.ErrorList
	at := field.NewPath("spec")
	if d := l.Spec.LeaseDurationSeconds; d != nil {
		errs = append(errs, check.Positive(*d, at.Child("leaseDurationSeconds"))...)
	}
	return append(errs, check.OptionalNonNegative(l.Spec.LeaseTransitions, at.Child("leaseTransitions"))...)
}
