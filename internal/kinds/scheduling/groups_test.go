package scheduling

import (
	"strings"
	"testing"

	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"canopus/internal/kinds"
)

func gang(minCount int32) schedulingv1beta1.PodGroupSchedulingPolicy {
	return schedulingv1beta1.PodGroupSchedulingPolicy{Gang: &schedulingv1beta1.GangSchedulingPolicy{MinCount: minCount}}
}

func group(change func(*schedulingv1beta1.PodGroup)) *schedulingv1beta1.PodGroup {
	g := &schedulingv1beta1.PodGroup{}
	g.Name, g.Namespace, g.ResourceVersion, g.Generation = "g", "ns", "1", 1
	g.Spec.SchedulingPolicy = gang(3)
	if change != nil {
		change(g)
	}
	return g
}

// TestPodGroup validates creates, and updates of the plain group.
func TestPodGroup(t *testing.T) {
	t.Parallel()
	k := PodGroup()
	for name, c := range map[string]struct {
		change       func(*schedulingv1beta1.PodGroup)
		create, edit string // part of the error; "": none
	}{
		"plain":     {nil, "", ""},
		"larger":    {func(g *schedulingv1beta1.PodGroup) { g.Spec.SchedulingPolicy = gang(5) }, "", ""},
		"no pods":   {func(g *schedulingv1beta1.PodGroup) { g.Spec.SchedulingPolicy = gang(0) }, "spec.schedulingPolicy.gang.minCount: Invalid value: 0", "spec.schedulingPolicy.gang.minCount"},
		"no policy": {func(g *schedulingv1beta1.PodGroup) { g.Spec.SchedulingPolicy.Gang = nil }, "spec.schedulingPolicy: Required value", "spec.schedulingPolicy.gang: Invalid value"},
		"both policies": {func(g *schedulingv1beta1.PodGroup) {
			g.Spec.SchedulingPolicy.Basic = &schedulingv1beta1.BasicSchedulingPolicy{}
		}, "must specify exactly one of", "spec.schedulingPolicy.basic"},
		"other priority":  {func(g *schedulingv1beta1.PodGroup) { g.Spec.Priority = ptr.To(int32(7)) }, "", "spec.priority: Invalid value: 7: field is immutable"},
		"system priority": {func(g *schedulingv1beta1.PodGroup) { g.Spec.Priority = ptr.To(int32(1_000_000_001)) }, "spec.priority: Invalid value", "spec.priority"},
		"workload": {func(g *schedulingv1beta1.PodGroup) {
			g.Spec.WorkloadRef = &schedulingv1beta1.WorkloadReference{WorkloadName: "w", TemplateName: "t"}
		}, "", "spec.workloadRef: Invalid value"},
		"workload without template": {func(g *schedulingv1beta1.PodGroup) {
			g.Spec.WorkloadRef = &schedulingv1beta1.WorkloadReference{WorkloadName: "w"}
		},
			"spec.workloadRef.templateName: Required value", "spec.workloadRef"},
		"two disruption modes": {func(g *schedulingv1beta1.PodGroup) {
			g.Spec.DisruptionMode = &schedulingv1beta1.DisruptionMode{Single: &schedulingv1beta1.SingleDisruptionMode{}, All: &schedulingv1beta1.AllDisruptionMode{}}
		}, "spec.disruptionMode: Invalid value", "spec.disruptionMode"},
		"topology": {func(g *schedulingv1beta1.PodGroup) {
			g.Spec.SchedulingConstraints = &schedulingv1beta1.PodGroupSchedulingConstraints{}
		},
			"spec.schedulingConstraints: Forbidden", "spec.schedulingConstraints: Forbidden"},
		"parent": {func(g *schedulingv1beta1.PodGroup) { g.Spec.ParentCompositePodGroupName = ptr.To("p") }, "spec.parentCompositePodGroupName: Forbidden", "Forbidden"},
	} {
		old, now := group(nil), group(c.change)
		k.Default(old)
		k.Default(now)
		verify(t, name+" created", k.Validate(now).ToAggregate(), c.create)
		verify(t, name+" updated", k.ValidateUpdate(now, old).ToAggregate(), c.edit)
	}
}

func verify(t *testing.T, name string, err error, want string) {
	t.Helper()
	if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
		t.Errorf("%s: %v, want %q", name, err, want)
	}
}

// TestPodGroupPrepares keeps the status from writers of the rest, and counts generations.
func TestPodGroupPrepares(t *testing.T) {
	t.Parallel()
	k := PodGroup()
	old := group(func(g *schedulingv1beta1.PodGroup) {
		g.Status.Conditions = append(g.Status.Conditions, conditionNamed("A"))
	})
	now := group(func(g *schedulingv1beta1.PodGroup) { g.Spec.SchedulingPolicy = gang(4) })
	k.PrepareUpdate(now, old)
	if now.Generation != 2 || len(now.Status.Conditions) != 1 {
		t.Errorf("generation %d, status %+v", now.Generation, now.Status)
	}
	status := group(func(g *schedulingv1beta1.PodGroup) {
		g.Spec.SchedulingPolicy = gang(9)
		g.Status.Conditions = append(g.Status.Conditions, conditionNamed("B"))
	})
	k.Subresource("status").PrepareUpdate(kinds.Object(status), old)
	if status.Spec.SchedulingPolicy.Gang.MinCount != 3 || status.Status.Conditions[0].Type != "B" {
		t.Errorf("%+v", status)
	}
}

func TestWorkload(t *testing.T) {
	t.Parallel()
	k := Workload()
	make := func(change func(*schedulingv1beta1.Workload)) *schedulingv1beta1.Workload {
		w := &schedulingv1beta1.Workload{}
		w.Name, w.Namespace, w.ResourceVersion = "w", "ns", "1"
		w.Spec.PodGroupTemplates = []schedulingv1beta1.PodGroupTemplate{{Name: "a", SchedulingPolicy: gang(2)}, {Name: "b", SchedulingPolicy: gang(2)}}
		if change != nil {
			change(w)
		}
		return w
	}
	for name, c := range map[string]struct {
		change       func(*schedulingv1beta1.Workload)
		create, edit string
	}{
		"plain":        {nil, "", ""},
		"larger":       {func(w *schedulingv1beta1.Workload) { w.Spec.PodGroupTemplates[1].SchedulingPolicy = gang(7) }, "", ""},
		"no templates": {func(w *schedulingv1beta1.Workload) { w.Spec.PodGroupTemplates = nil }, "spec.podGroupTemplates: Required value", "spec.podGroupTemplates"},
		"one less":     {func(w *schedulingv1beta1.Workload) { w.Spec.PodGroupTemplates = w.Spec.PodGroupTemplates[:1] }, "", "spec.podGroupTemplates: Forbidden"},
		"twice":        {func(w *schedulingv1beta1.Workload) { w.Spec.PodGroupTemplates[1].Name = "a" }, "spec.podGroupTemplates[1]: Duplicate value", "spec.podGroupTemplates"},
		"bad name":     {func(w *schedulingv1beta1.Workload) { w.Spec.PodGroupTemplates[1].Name = "a.b" }, "spec.podGroupTemplates[1].name: Invalid value", "spec.podGroupTemplates"},
		"nine": {func(w *schedulingv1beta1.Workload) {
			for len(w.Spec.PodGroupTemplates) < 9 {
				w.Spec.PodGroupTemplates = append(w.Spec.PodGroupTemplates, w.Spec.PodGroupTemplates[0])
			}
		}, "spec.podGroupTemplates: Too many: 9: must have at most 8 items", "Too many"},
		"other class": {func(w *schedulingv1beta1.Workload) { w.Spec.PodGroupTemplates[0].PriorityClassName = "high" }, "", "spec.podGroupTemplates[0]: Invalid value"},
		"owner": {func(w *schedulingv1beta1.Workload) {
			w.Spec.ControllerRef = &schedulingv1beta1.TypedLocalObjectReference{APIGroup: "batch", Kind: "Job", Name: "j"}
		}, "", "spec.controllerRef: Invalid value"},
		"bad owner": {func(w *schedulingv1beta1.Workload) {
			w.Spec.ControllerRef = &schedulingv1beta1.TypedLocalObjectReference{Kind: "a/b"}
		},
			"[spec.controllerRef.kind: Invalid value", "spec.controllerRef"},
		"composite": {func(w *schedulingv1beta1.Workload) {
			w.Spec.CompositePodGroupTemplates = []schedulingv1beta1.CompositePodGroupTemplate{{}}
		}, "spec.compositePodGroupTemplates: Forbidden", "Forbidden"},
	} {
		verify(t, name+" created", k.Validate(make(c.change)).ToAggregate(), c.create)
		verify(t, name+" updated", k.ValidateUpdate(make(c.change), make(nil)).ToAggregate(), c.edit)
	}
	nameless := make(func(w *schedulingv1beta1.Workload) {
		w.Spec.PodGroupTemplates = []schedulingv1beta1.PodGroupTemplate{{}}
	})
	none := make(func(w *schedulingv1beta1.Workload) { w.Spec.PodGroupTemplates = nil })
	verify(t, "a nameless one where there was none", k.ValidateUpdate(nameless, none).ToAggregate(), "spec.podGroupTemplates: Forbidden")
}

func conditionNamed(name string) metav1.Condition {
	return metav1.Condition{Type: name, Status: metav1.ConditionTrue, Reason: "R"}
}
