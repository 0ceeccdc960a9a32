package devicetainteviction

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

func taint(effect resourcev1.DeviceTaintEffect, at *metav1.Time) resourcev1.DeviceTaint {
	return resourcev1.DeviceTaint{Key: "k", Value: "v", Effect: effect, TimeAdded: at}
}

func exists(seconds *int64) resourcev1.DeviceToleration {
	return resourcev1.DeviceToleration{Operator: resourcev1.DeviceTolerationOpExists, TolerationSeconds: seconds}
}

func TestDue(t *testing.T) {
	t.Parallel()
	start := metav1.NewTime(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	hit := []resourcev1.DeviceTaint{taint(resourcev1.DeviceTaintEffectNoExecute, &start)}
	other := resourcev1.DeviceToleration{Key: "other", Operator: resourcev1.DeviceTolerationOpExists}
	list := func(of ...resourcev1.DeviceToleration) []resourcev1.DeviceToleration { return of }
	for name, tt := range map[string]struct {
		held  []heldDevice
		evict bool
		after time.Duration
	}{
		"no devices":               {nil, false, 0},
		"sound":                    {[]heldDevice{{}}, false, 0},
		"not tolerated":            {[]heldDevice{{hit, nil}}, true, 0},
		"tolerated":                {[]heldDevice{{hit, list(exists(nil))}}, false, 0},
		"another is tolerated":     {[]heldDevice{{hit, list(other)}}, true, 0},
		"for a while":              {[]heldDevice{{hit, list(exists(ptr.To(int64(60))))}}, true, time.Minute},
		"the more generous counts": {[]heldDevice{{hit, list(exists(ptr.To(int64(60))), exists(ptr.To(int64(300))))}}, true, 5 * time.Minute},
		"for ever after all":       {[]heldDevice{{hit, list(exists(ptr.To(int64(60))), exists(nil))}}, false, 0},
		"the worst device counts":  {[]heldDevice{{hit, list(exists(nil))}, {hit, list(exists(ptr.To(int64(9))))}, {hit, list(exists(ptr.To(int64(5))))}}, true, 5 * time.Second},
	} {
		at, evict := due(tt.held)
		if evict != tt.evict || evict && at.Sub(start.Time) != tt.after {
			t.Errorf("%s: %v after %s", name, evict, at.Sub(start.Time))
		}
	}
	if at, evict := due([]heldDevice{{[]resourcev1.DeviceTaint{taint(resourcev1.DeviceTaintEffectNoExecute, nil)}, nil}}); !evict || !at.IsZero() {
		t.Errorf("a taint of no known time: %v at %v", evict, at)
	}
}

func TestTaintsOfADevice(t *testing.T) {
	t.Parallel()
	slice := func(generation int64, name string, taints ...resourcev1.DeviceTaint) *resourcev1.ResourceSlice {
		return &resourcev1.ResourceSlice{Spec: resourcev1.ResourceSliceSpec{Pool: resourcev1.ResourcePool{Generation: generation}, Devices: []resourcev1.Device{{Name: name, Taints: taints}}}}
	}
	bad := taint(resourcev1.DeviceTaintEffectNoExecute, nil)
	for name, tt := range map[string]struct {
		pool []*resourcev1.ResourceSlice
		want int
	}{
		"unknown":                 {nil, 0},
		"tainted":                 {[]*resourcev1.ResourceSlice{slice(1, "b"), slice(1, "a", bad)}, 1},
		"other effects":           {[]*resourcev1.ResourceSlice{slice(1, "a", taint(resourcev1.DeviceTaintEffectNoSchedule, nil), taint(resourcev1.DeviceTaintEffectNone, nil))}, 0},
		"by an old generation":    {[]*resourcev1.ResourceSlice{slice(1, "a", bad), slice(2, "a")}, 0},
		"only another is tainted": {[]*resourcev1.ResourceSlice{slice(1, "a"), slice(1, "b", bad)}, 0},
	} {
		if got := publishedTaints(tt.pool, "a"); len(got) != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	result := &resourcev1.DeviceRequestAllocationResult{Driver: "d", Pool: "p", Device: "a"}
	for name, tt := range map[string]struct {
		selector *resourcev1.DeviceTaintSelector
		want     bool
	}{
		"none": {nil, false}, "all": {&resourcev1.DeviceTaintSelector{}, true}, "the driver": {&resourcev1.DeviceTaintSelector{Driver: ptr.To("d")}, true},
		"another pool": {&resourcev1.DeviceTaintSelector{Driver: ptr.To("d"), Pool: ptr.To("q")}, false}, "this": {&resourcev1.DeviceTaintSelector{Device: ptr.To("a")}, true},
	} {
		if got := selects(tt.selector, result); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestProgress(t *testing.T) {
	t.Parallel()
	claim := func(namespace string, tolerations []resourcev1.DeviceToleration, users ...string) *resourcev1.ResourceClaim {
		c := &resourcev1.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Namespace: namespace}}
		c.Status.Allocation = &resourcev1.AllocationResult{Devices: resourcev1.DeviceAllocationResult{Results: []resourcev1.DeviceRequestAllocationResult{{Driver: "d", Pool: "p", Device: "a", Tolerations: tolerations}}}}
		for _, u := range users {
			c.Status.ReservedFor = append(c.Status.ReservedFor, resourcev1.ResourceClaimConsumerReference{Resource: "pods", Name: u, UID: types.UID(u)})
		}
		return c
	}
	claims := []*resourcev1.ResourceClaim{claim("x", nil, "p", "gone"), claim("x", nil, "p"), claim("y", []resourcev1.DeviceToleration{exists(nil)}, "bears"), claim("z", []resourcev1.DeviceToleration{exists(ptr.To(int64(5)))}, "waits")}
	rule := func(effect resourcev1.DeviceTaintEffect, told int64) *resourcev1.DeviceTaintRule {
		r := &resourcev1.DeviceTaintRule{ObjectMeta: metav1.ObjectMeta{Generation: 2}, Spec: resourcev1.DeviceTaintRuleSpec{DeviceSelector: &resourcev1.DeviceTaintSelector{Driver: ptr.To("d")}, Taint: taint(effect, nil)}}
		if told > 0 {
			r.Status.Conditions = []metav1.Condition{{Type: resourcev1.DeviceTaintConditionEvictionInProgress, ObservedGeneration: told}}
		}
		return r
	}
	there := func(key subject, uid types.UID) bool { return uid != "gone" && key.Name == string(uid) }
	nobody := func(subject, types.UID) bool { return false }
	for name, tt := range map[string]struct {
		rule  *resourcev1.DeviceTaintRule
		there func(subject, types.UID) bool
		want  string
	}{
		"evicts":                  {rule(resourcev1.DeviceTaintEffectNoExecute, 0), there, "True PodsPendingEviction 2 pods in 2 namespaces to be evicted"},
		"has evicted":             {rule(resourcev1.DeviceTaintEffectNoExecute, 2), nobody, "False NoPodsPendingEviction no pods are left to be evicted"},
		"would evict":             {rule(resourcev1.DeviceTaintEffectNone, 1), there, "False NoEviction the effect NoExecute would evict 2 pods in 2 namespaces"},
		"would evict, as told":    {rule(resourcev1.DeviceTaintEffectNone, 2), there, ""},
		"keeps new pods off only": {rule(resourcev1.DeviceTaintEffectNoSchedule, 0), there, "False NoEviction the effect of the taint evicts no pods"},
	} {
		got := ""
		if c := progress(tt.rule, claims, tt.there); c != nil {
			got = string(c.Status) + " " + c.Reason + " " + c.Message
			if c.ObservedGeneration != 2 {
				t.Errorf("%s: of generation %d", name, c.ObservedGeneration)
			}
		}
		if got != tt.want {
			t.Errorf("%s: %s\nwant %s", name, got, tt.want)
		}
	}
}

func TestAffected(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		pod  corev1.Pod
		want bool
	}{
		"waits": {corev1.Pod{}, false}, "runs": {corev1.Pod{Spec: corev1.PodSpec{NodeName: "n"}}, true},
		"goes":  {corev1.Pod{ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: &metav1.Time{}}, Spec: corev1.PodSpec{NodeName: "n"}}, false},
		"ended": {corev1.Pod{Spec: corev1.PodSpec{NodeName: "n"}, Status: corev1.PodStatus{Phase: corev1.PodFailed}}, false},
	} {
		if affected(&tt.pod) != tt.want {
			t.Errorf("%s: %v", name, !tt.want)
		}
	}
}
