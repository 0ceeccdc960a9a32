package devicetainteviction

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/dynamic-resource-allocation/resourceclaim"

	"canopus/internal/controllers/podstate"
)

// heldDevice is a device that a pod has.
type heldDevice struct {
	taints      []resourcev1.DeviceTaint // those that evict
	tolerations []resourcev1.DeviceToleration
}

// affected reports whether pod is one to be evicted: it has a node, and is neither over nor on its way out.
func affected(pod *corev1.Pod) bool {
	return pod.Spec.NodeName != "" && podstate.Active(pod)
}

// due says whether a pod must go because of the devices it has, and when: the earliest moment that one of them asks for. A taint
// without a time asks at once.
func due(held []heldDevice) (at time.Time, evict bool) {
	for _, d := range held {
		for _, taint := range d.taints {
			end, ends := endOf(taint, d.tolerations)
			if ends && (!evict || end.Before(at)) {
				at, evict = end, true
			}
		}
	}
	return at, evict
}

// endOf is when the tolerations of taint are over, or false when they never are. Of several the most generous counts.
func endOf(taint resourcev1.DeviceTaint, tolerations []resourcev1.DeviceToleration) (time.Time, bool) {
	var longest int64
	for _, t := range tolerations {
		if !resourceclaim.ToleratesTaint(t, taint) {
			continue
		}
		if t.TolerationSeconds == nil {
			return time.Time{}, false
		}
		longest = max(longest, *t.TolerationSeconds)
	}
	if taint.TimeAdded == nil {
		return time.Time{}, true
	}
	return taint.TimeAdded.Add(time.Duration(longest) * time.Second), true
}

func evicting(taints []resourcev1.DeviceTaint) []resourcev1.DeviceTaint {
	var out []resourcev1.DeviceTaint
	for _, t := range taints {
		if t.Effect == resourcev1.DeviceTaintEffectNoExecute {
			out = append(out, t)
		}
	}
	return out
}

// publishedTaints are the evicting taints that a pool's newest slices put on a device.
func publishedTaints(pool []*resourcev1.ResourceSlice, device string) []resourcev1.DeviceTaint {
	var newest int64
	for _, s := range pool {
		newest = max(newest, s.Spec.Pool.Generation)
	}
	for _, s := range pool {
		if s.Spec.Pool.Generation != newest {
			continue
		}
		if at := slices.IndexFunc(s.Spec.Devices, func(d resourcev1.Device) bool { return d.Name == device }); at >= 0 {
			return evicting(s.Spec.Devices[at].Taints)
		}
	}
	return nil
}

// ruledTaints are the evicting taints that rules put on a device.
func ruledTaints(rules []*resourcev1.DeviceTaintRule, r *resourcev1.DeviceRequestAllocationResult) []resourcev1.DeviceTaint {
	var out []resourcev1.DeviceTaint
	for _, rule := range rules {
		if selects(rule.Spec.DeviceSelector, r) {
			out = append(out, rule.Spec.Taint)
		}
	}
	return evicting(out)
}

// selects reports whether a rule's selector means a device. Without a selector it means none.
func selects(s *resourcev1.DeviceTaintSelector, r *resourcev1.DeviceRequestAllocationResult) bool {
	means := func(want *string, have string) bool { return want == nil || *want == have }
	return s != nil && means(s.Driver, r.Driver) && means(s.Pool, r.Pool) && means(s.Device, r.Device)
}

// meant reports whether a rule means one of a claim's devices.
func meant(rule *resourcev1.DeviceTaintRule, claim *resourcev1.ResourceClaim) bool {
	if claim.Status.Allocation == nil {
		return false
	}
	for i := range claim.Status.Allocation.Devices.Results {
		if selects(rule.Spec.DeviceSelector, &claim.Status.Allocation.Devices.Results[i]) {
			return true
		}
	}
	return false
}

// strikes reports whether a rule, had it the effect NoExecute, would have the users of claim go sooner or later.
func strikes(rule *resourcev1.DeviceTaintRule, claim *resourcev1.ResourceClaim) bool {
	if claim.Status.Allocation == nil {
		return false
	}
	taint := rule.Spec.Taint
	taint.Effect = resourcev1.DeviceTaintEffectNoExecute
	for i := range claim.Status.Allocation.Devices.Results {
		r := &claim.Status.Allocation.Devices.Results[i]
		if !selects(rule.Spec.DeviceSelector, r) {
			continue
		}
		if _, ends := endOf(taint, r.Tolerations); ends {
			return true
		}
	}
	return false
}
