package scheduling

import (
	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds"
	"canopus/internal/kinds/check"
)

// PodGroup is scheduling.k8s.io/v1beta1 podgroups: pods that are scheduled together, or not at all.
func PodGroup() *kinds.Kind {
	return kinds.New(kinds.Spec[schedulingv1beta1.PodGroup, *schedulingv1beta1.PodGroup]{
		GVK:        schedulingv1beta1.SchemeGroupVersion.WithKind("PodGroup"),
		Plural:     "podgroups",
		Namespaced: true,
		NewList:    func() runtime.Object { return &schedulingv1beta1.PodGroupList{} },

		Default: func(g *schedulingv1beta1.PodGroup) {
			if g.Spec.DisruptionMode == nil {
				g.Spec.DisruptionMode = &schedulingv1beta1.DisruptionMode{Single: &schedulingv1beta1.SingleDisruptionMode{}}
			}
		},
		PrepareCreate: func(g *schedulingv1beta1.PodGroup) { g.Status = schedulingv1beta1.PodGroupStatus{} },
		PrepareUpdate: func(g, old *schedulingv1beta1.PodGroup) {
			g.Status = old.Status
			if !apiequality.Semantic.DeepEqual(g.Spec, old.Spec) {
				g.Generation = old.Generation + 1
			}
		},
		Generation:     true,
		Validate:       validateGroup,
		ValidateUpdate: validateGroupUpdate,
		Subresources: []kinds.Subresource{kinds.Status(func(g, old *schedulingv1beta1.PodGroup) {
			g.Spec = old.Spec
			metav1.ResetObjectMetaForStatus(&g.ObjectMeta, &old.ObjectMeta)
		}, func(g, _ *schedulingv1beta1.PodGroup) field.ErrorList {
			return metavalidation.ValidateConditions(g.Status.Conditions, field.NewPath("status", "conditions"))
		})},
	})
}

func validateGroup(g *schedulingv1beta1.PodGroup) field.ErrorList {
	spec, path := &g.Spec, field.NewPath("spec")
	t := member{
		policy: spec.SchedulingPolicy, constraints: spec.SchedulingConstraints, claims: spec.ResourceClaims, disruption: spec.DisruptionMode,
		class: spec.PriorityClassName, priority: spec.Priority, preemption: spec.PreemptionPolicy,
	}
	errs := t.validate(path)
	if spec.ParentCompositePodGroupName != nil {
		errs = append(errs, field.Forbidden(path.Child("parentCompositePodGroupName"), "composite pod groups are not available"))
	}
	if ref := spec.WorkloadRef; ref != nil {
		errs = append(errs, check.RequiredSubdomain(ref.WorkloadName, path.Child("workloadRef", "workloadName"))...)
		errs = append(errs, check.RequiredLabel(ref.TemplateName, path.Child("workloadRef", "templateName"))...)
	}
	return errs
}

// validateGroupUpdate lets nothing change but how many pods a gang needs.
func validateGroupUpdate(g, old *schedulingv1beta1.PodGroup) field.ErrorList {
	errs := validateGroup(g)
	path := field.NewPath("spec")
	errs = append(errs, keepPolicy(g.Spec.SchedulingPolicy, old.Spec.SchedulingPolicy, path.Child("schedulingPolicy"))...)
	for _, f := range []struct {
		name     string
		now, was any
	}{
		{"workloadRef", g.Spec.WorkloadRef, old.Spec.WorkloadRef},
		{"disruptionMode", g.Spec.DisruptionMode, old.Spec.DisruptionMode},
		{"priorityClassName", g.Spec.PriorityClassName, old.Spec.PriorityClassName},
		{"priority", g.Spec.Priority, old.Spec.Priority},
	} {
		errs = append(errs, apivalidation.ValidateImmutableField(f.now, f.was, path.Child(f.name))...)
	}
	return errs
}

// member is what a PodGroup and a template of one have in common.
type member struct {
	policy      schedulingv1beta1.PodGroupSchedulingPolicy
	constraints *schedulingv1beta1.PodGroupSchedulingConstraints
	claims      []schedulingv1beta1.PodGroupResourceClaim
	disruption  *schedulingv1beta1.DisruptionMode
	class       string
	priority    *int32
	preemption  *schedulingv1beta1.PreemptionPolicy
}

func (m *member) validate(path *field.Path) field.ErrorList {
	var errs field.ErrorList
	at := path.Child("schedulingPolicy")
	switch {
	case m.policy.Basic == nil && m.policy.Gang == nil:
		errs = append(errs, field.Required(at, "must specify one of: `basic`, `gang`"))
	case m.policy.Basic != nil && m.policy.Gang != nil:
		errs = append(errs, field.Invalid(at, "{`basic`, `gang`}", "must specify exactly one of: `basic`, `gang`"))
	}
	if gang := m.policy.Gang; gang != nil && gang.MinCount < 1 {
		errs = append(errs, field.Invalid(at.Child("gang", "minCount"), gang.MinCount, "must be greater than or equal to 1"))
	}
	if d := m.disruption; d != nil && (d.Single == nil) == (d.All == nil) {
		errs = append(errs, field.Invalid(path.Child("disruptionMode"), "", "must specify exactly one of: `single`, `all`"))
	}
	if m.class != "" {
		errs = append(errs, check.Subdomain(m.class, path.Child("priorityClassName"))...)
	}
	if m.priority != nil && *m.priority > highestUser && m.class == "" {
		errs = append(errs, field.Invalid(path.Child("priority"), *m.priority, "must be less than or equal to 1000000000"))
	}
	for _, absent := range []struct {
		name string
		set  bool
		what string
	}{
		{"schedulingConstraints", m.constraints != nil, "topology-aware scheduling of groups is not available"},
		{"resourceClaims", len(m.claims) > 0, "resource claims of groups are not available"},
		{"preemptionPolicy", m.preemption != nil, "the preemption policy of groups is not available"},
	} {
		if absent.set {
			errs = append(errs, field.Forbidden(path.Child(absent.name), absent.what))
		}
	}
	return errs
}

// keepPolicy lets a gang change its size, and neither a gang nor another group become the other.
func keepPolicy(now, was schedulingv1beta1.PodGroupSchedulingPolicy, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	errs = append(errs, apivalidation.ValidateImmutableField(now.Basic, was.Basic, path.Child("basic"))...)
	if (now.Gang == nil) != (was.Gang == nil) {
		errs = append(errs, field.Invalid(path.Child("gang"), now.Gang, check.Immutable))
	}
	return errs
}
