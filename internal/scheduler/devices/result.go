package devices

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/dynamic-resource-allocation/resourceclaim"
	"k8s.io/utils/ptr"
)

// result says what was picked in the words of the API.
func result(claim *resourcev1.ResourceClaim, picked []pick, node string) *resourcev1.AllocationResult {
	out := &resourcev1.AllocationResult{NodeSelector: selectorFor(picked, node)}
	for i := range picked {
		p := &picked[i]
		r := resourcev1.DeviceRequestAllocationResult{
			Request: p.ask.name, Driver: p.device.Driver, Pool: p.device.Pool, Device: p.device.Name,
			Tolerations: p.ask.tolerations, ConsumedCapacity: p.consumed,
			BindingConditions: p.device.BindingConditions, BindingFailureConditions: p.device.BindingFailureConditions,
		}
		if p.ask.admin {
			r.AdminAccess = ptr.To(true)
		}
		out.Devices.Results = append(out.Devices.Results, r)
	}
	out.Devices.Config = configFor(claim, picked)
	return out
}

// Share gives each share of a shared device an identity of its own.
func Share(a *resourcev1.AllocationResult) {
	for i := range a.Devices.Results {
		if r := &a.Devices.Results[i]; r.ConsumedCapacity != nil {
			r.ShareID = ptr.To(types.UID(uuid.NewUUID()))
		}
	}
}

// configFor collects the parameters of the classes, then those of the claim, for requests that got devices. What is for all of
// them names none.
func configFor(claim *resourcev1.ResourceClaim, picked []pick) []resourcev1.DeviceAllocationConfiguration {
	var out []resourcev1.DeviceAllocationConfiguration
	var classes []*resourcev1.DeviceClass
	users := map[*resourcev1.DeviceClass][]string{}
	var given []string
	for i := range picked {
		a := picked[i].ask
		if slices.Contains(given, a.name) {
			continue
		}
		given = append(given, a.name)
		if users[a.class] == nil {
			classes = append(classes, a.class)
		}
		users[a.class] = append(users[a.class], a.name)
	}
	concerns := func(requests []string, name string) bool {
		return len(requests) == 0 || slices.Contains(requests, name) || slices.Contains(requests, resourceclaim.BaseRequestRef(name))
	}
	add := func(source resourcev1.AllocationConfigSource, requests []string, c resourcev1.DeviceConfiguration) {
		if !slices.ContainsFunc(given, func(name string) bool { return !concerns(requests, name) }) {
			requests = nil
		}
		out = append(out, resourcev1.DeviceAllocationConfiguration{Source: source, Requests: requests, DeviceConfiguration: c})
	}
	for _, class := range classes {
		for _, c := range class.Spec.Config {
			add(resourcev1.AllocationConfigSourceClass, users[class], c.DeviceConfiguration)
		}
	}
	for _, c := range claim.Spec.Devices.Config {
		if slices.ContainsFunc(given, func(name string) bool { return concerns(c.Requests, name) }) {
			add(resourcev1.AllocationConfigSourceClaim, c.Requests, c.DeviceConfiguration)
		}
	}
	return out
}

// selectorFor is where all that was picked can be used: one node as soon as one device is of that node, everywhere without a word.
func selectorFor(picked []pick, node string) *corev1.NodeSelector {
	var term corev1.NodeSelectorTerm
	for i := range picked {
		d := picked[i].device
		if d.node != "" || ptr.Deref(d.BindsToNode, false) {
			return &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchFields: []corev1.NodeSelectorRequirement{{
				Key: metav1.ObjectNameField, Operator: corev1.NodeSelectorOpIn, Values: []string{node},
			}}}}}
		}
		if d.required == nil || len(d.required.NodeSelectorTerms) != 1 {
			continue
		}
		term.MatchExpressions = union(term.MatchExpressions, d.required.NodeSelectorTerms[0].MatchExpressions)
		term.MatchFields = union(term.MatchFields, d.required.NodeSelectorTerms[0].MatchFields)
	}
	if len(term.MatchExpressions)+len(term.MatchFields) == 0 {
		return nil
	}
	return &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{term}}
}

func union(to, from []corev1.NodeSelectorRequirement) []corev1.NodeSelectorRequirement {
	for _, r := range from {
		if !slices.ContainsFunc(to, func(have corev1.NodeSelectorRequirement) bool { return equality.Semantic.DeepEqual(have, r) }) {
			to = append(to, r)
		}
	}
	return to
}
