package resource

import (
	"strings"
	"time"

	resourcev1 "k8s.io/api/resource/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds"
	"canopus/internal/kinds/show"
)

// ResourceClaim is resource.k8s.io/v1 resourceclaims: devices that are asked for, and those that were given.
func ResourceClaim() *kinds.Kind {
	return kinds.New(kinds.Spec[resourcev1.ResourceClaim, *resourcev1.ResourceClaim]{
		GVK:           resourcev1.SchemeGroupVersion.WithKind("ResourceClaim"),
		Plural:        "resourceclaims",
		Namespaced:    true,
		NewList:       func() runtime.Object { return &resourcev1.ResourceClaimList{} },
		ReturnDeleted: true,

		Default:       func(c *resourcev1.ResourceClaim) { defaultClaim(&c.Spec) },
		PrepareCreate: func(c *resourcev1.ResourceClaim) { c.Status = resourcev1.ResourceClaimStatus{} },
		PrepareUpdate: func(c, old *resourcev1.ResourceClaim) { c.Status = old.Status },
		Validate: func(c *resourcev1.ResourceClaim) field.ErrorList {
			return validateClaimSpec(&c.Spec, field.NewPath("spec"))
		},
		ValidateUpdate: func(c, old *resourcev1.ResourceClaim) field.ErrorList {
			return apivalidation.ValidateImmutableField(c.Spec, old.Spec, field.NewPath("spec"))
		},
		Subresources: []kinds.Subresource{kinds.Status(prepareClaimStatus, validateClaimStatus)},
		Columns: []metav1.TableColumnDefinition{
			show.Name(), show.Column("State", "string", "A summary of the current state (allocated, pending, reserved, etc.)."), show.AgeColumn(),
		},
		Cells: func(c *resourcev1.ResourceClaim, now time.Time) []any {
			return []any{c.Name, claimState(c), show.Age(c.CreationTimestamp, now)}
		},
	})
}

func claimState(c *resourcev1.ResourceClaim) string {
	var states []string
	if c.DeletionTimestamp != nil {
		states = append(states, "deleted")
	}
	switch {
	case c.Status.Allocation != nil && len(c.Status.ReservedFor) > 0:
		states = append(states, "allocated", "reserved")
	case c.Status.Allocation != nil:
		states = append(states, "allocated")
	case c.DeletionTimestamp == nil:
		states = append(states, "pending")
	}
	return strings.Join(states, ",")
}

// defaultClaim fills how many devices a request wants: one, unless it says otherwise.
func defaultClaim(spec *resourcev1.ResourceClaimSpec) {
	for i := range spec.Devices.Requests {
		r := &spec.Devices.Requests[i]
		if e := r.Exactly; e != nil {
			defaultRequest(&e.AllocationMode, &e.Count, e.Tolerations)
		}
		for j := range r.FirstAvailable {
			s := &r.FirstAvailable[j]
			defaultRequest(&s.AllocationMode, &s.Count, s.Tolerations)
		}
	}
}

func defaultRequest(mode *resourcev1.DeviceAllocationMode, count *int64, tolerations []resourcev1.DeviceToleration) {
	if *mode == "" {
		*mode = resourcev1.DeviceAllocationModeExactCount
	}
	if *mode == resourcev1.DeviceAllocationModeExactCount && *count == 0 {
		*count = 1
	}
	for i := range tolerations {
		if tolerations[i].Operator == "" {
			tolerations[i].Operator = resourcev1.DeviceTolerationOpEqual
		}
	}
}

// prepareClaimStatus keeps the spec. What drivers said of devices goes with the allocation.
func prepareClaimStatus(c, old *resourcev1.ResourceClaim) {
	c.Spec = old.Spec
	metav1.ResetObjectMetaForStatus(&c.ObjectMeta, &old.ObjectMeta)
	if old.Status.Allocation == nil || len(old.Status.Devices) == 0 {
		return
	}
	given := allocated(c.Status.Allocation)
	was := allocated(old.Status.Allocation)
	kept := c.Status.Devices[:0:0]
	for _, d := range c.Status.Devices {
		if key := statusKey(&d); given[key] || !was[key] {
			kept = append(kept, d)
		}
	}
	c.Status.Devices = kept
}
