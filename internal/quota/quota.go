// Package quota knows what objects use of resource quotas: which quotas look at an object, what it uses of them, and what it must say
// about itself so that its use can be told. Pure; admission charges with it, the controller counts with it.
//
// This file is what they call; pod.go, service.go, claim.go and device.go know the kinds whose use is more than their number.
package quota

import (
	"errors"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// countPrefix begins the names of quotas on the number of objects of a kind: count/deployments.apps.
const countPrefix = "count/"

// Counted is the name under which a quota limits the number of objects of a kind.
func Counted(gr schema.GroupResource) corev1.ResourceName {
	return corev1.ResourceName(countPrefix + gr.String())
}

// alias returns the older name of the same number, or "".
func alias(gr schema.GroupResource) corev1.ResourceName {
	if gr.Group != "" {
		return ""
	}
	switch name := corev1.ResourceName(gr.Resource); name {
	case corev1.ResourceConfigMaps, corev1.ResourceQuotas, corev1.ResourceReplicationControllers, corev1.ResourceSecrets:
		return name
	}
	return ""
}

// Ignored says that objects of a kind are charged to no quota: events, and what is not stored.
func Ignored(gr schema.GroupResource) bool {
	switch gr.Group {
	case "":
		return gr.Resource == "events" || gr.Resource == "bindings" || gr.Resource == "componentstatuses"
	case "events.k8s.io", "authentication.k8s.io", "authorization.k8s.io":
		return true
	}
	return false
}

// Plain says that an object of the kind uses only one of itself, whatever it says.
func Plain(gr schema.GroupResource) bool { return special(gr) == nil }

// measure is what is known of a kind whose use is more than its number.
type measure struct {
	names func(corev1.ResourceName) bool // what it can use, besides its number
	usage func(obj runtime.Object, now time.Time) corev1.ResourceList
	scope func(obj runtime.Object, r corev1.ScopedResourceSelectorRequirement) (bool, error)
	must  func(obj runtime.Object, names []corev1.ResourceName) error
}

func special(gr schema.GroupResource) *measure {
	switch gr {
	case schema.GroupResource{Resource: "pods"}:
		return &measure{podName, podUsage, podInScope, podMust}
	case schema.GroupResource{Resource: "services"}:
		return &measure{serviceName, serviceUsage, noScope, nil}
	case schema.GroupResource{Resource: "persistentvolumeclaims"}:
		return &measure{claimName, claimUsage, claimInScope, nil}
	case DeviceClaims():
		return &measure{deviceName, deviceUsage, noScope, nil}
	}
	return nil
}

func noScope(runtime.Object, corev1.ScopedResourceSelectorRequirement) (bool, error) {
	return false, nil
}

// Names returns those of hard that an object of the kind can use, sorted.
func Names(gr schema.GroupResource, hard corev1.ResourceList) []corev1.ResourceName {
	if Ignored(gr) {
		return nil
	}
	count, other, m := Counted(gr), alias(gr), special(gr)
	var out []corev1.ResourceName
	for name := range hard {
		if name == count || name == other || m != nil && m.names(name) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// InScope says whether the scopes of a quota include obj. Of all kinds only pods and claims are ever within a scope.
func InScope(gr schema.GroupResource, q *corev1.ResourceQuota, obj runtime.Object) (bool, error) {
	in := noScope
	if m := special(gr); m != nil {
		in = m.scope
	}
	var errs []error
	for _, r := range requirements(&q.Spec) {
		ok, err := in(obj, r)
		if err != nil {
			errs = append(errs, err)
		} else if !ok {
			return false, nil
		}
	}
	return len(errs) == 0, errors.Join(errs...)
}

// requirements are all that the scopes of a quota ask for.
func requirements(spec *corev1.ResourceQuotaSpec) []corev1.ScopedResourceSelectorRequirement {
	var out []corev1.ScopedResourceSelectorRequirement
	for _, s := range spec.Scopes {
		out = append(out, corev1.ScopedResourceSelectorRequirement{ScopeName: s, Operator: corev1.ScopeSelectorOpExists})
	}
	if spec.ScopeSelector != nil {
		out = append(out, spec.ScopeSelector.MatchExpressions...)
	}
	return out
}

// Scoped says whether a quota looks only at some objects of a kind.
func Scoped(q *corev1.ResourceQuota) bool { return len(requirements(&q.Spec)) > 0 }

// Usage is what obj uses, under every name that a quota may limit it by.
func Usage(gr schema.GroupResource, obj runtime.Object, now time.Time) corev1.ResourceList {
	one := *resource.NewQuantity(1, resource.DecimalSI)
	out := corev1.ResourceList{Counted(gr): one}
	if other := alias(gr); other != "" {
		out[other] = one
	}
	if m := special(gr); m != nil {
		Add(out, m.usage(obj, now))
	}
	return out
}

// Must refuses an object that does not say how much it uses of names, which a quota limits.
func Must(gr schema.GroupResource, obj runtime.Object, names []corev1.ResourceName) error {
	if m := special(gr); m != nil && m.must != nil {
		return m.must(obj, names)
	}
	return nil
}

// Add adds more to sum.
func Add(sum, more corev1.ResourceList) {
	for name, q := range more {
		total := sum[name].DeepCopy()
		total.Add(q)
		sum[name] = total
	}
}

// Increase is by how much now exceeds was: what shrinks is left out.
func Increase(now, was corev1.ResourceList) corev1.ResourceList {
	out := corev1.ResourceList{}
	for name, q := range now {
		d := q.DeepCopy()
		d.Sub(was[name])
		if d.Sign() > 0 {
			out[name] = d
		}
	}
	return out
}

// Mask is list without what names does not name.
func Mask(list corev1.ResourceList, names []corev1.ResourceName) corev1.ResourceList {
	out := corev1.ResourceList{}
	for _, name := range names {
		if q, ok := list[name]; ok {
			out[name] = q
		}
	}
	return out
}

// Text shows list as clients know it: cpu=1,pods=2.
func Text(list corev1.ResourceList) string {
	pairs := make([]string, 0, len(list))
	for name, q := range list {
		pairs = append(pairs, string(name)+"="+q.String())
	}
	slices.Sort(pairs)
	return strings.Join(pairs, ",")
}

// Equal compares by value.
func Equal(a, b corev1.ResourceList) bool {
	if len(a) != len(b) {
		return false
	}
	for name, q := range a {
		if other, ok := b[name]; !ok || q.Cmp(other) != 0 {
			return false
		}
	}
	return true
}
