package devices

import (
	"fmt"
	"slices"
	"strings"

	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/dynamic-resource-allocation/resourceclaim"
	"k8s.io/utils/ptr"
)

// ask is one way to satisfy a request: itself, or one of its subrequests.
type ask struct {
	name        string // in results: of a subrequest, after that of its request
	class       *resourcev1.DeviceClass
	selectors   []resourcev1.DeviceSelector
	all         bool
	count       int
	admin       bool
	tolerations []resourcev1.DeviceToleration
	capacity    *resourcev1.CapacityRequirements
}

// asks are the ways to satisfy a request, the best first.
func (v *Inventory) asks(r *resourcev1.DeviceRequest) ([]ask, error) {
	var out []ask
	switch {
	case r.Exactly != nil:
		e := r.Exactly
		out = append(out, ask{r.Name, v.classes[e.DeviceClassName], e.Selectors, e.AllocationMode == resourcev1.DeviceAllocationModeAll, int(e.Count),
			ptr.Deref(e.AdminAccess, false), e.Tolerations, e.Capacity})
		if err := knownMode(r.Name, e.AllocationMode); err != nil {
			return nil, err
		}
	case len(r.FirstAvailable) > 0:
		for i := range r.FirstAvailable {
			s := &r.FirstAvailable[i]
			name := resourceclaim.CreateSubRequestRef(r.Name, s.Name)
			out = append(out, ask{name, v.classes[s.DeviceClassName], s.Selectors, s.AllocationMode == resourcev1.DeviceAllocationModeAll, int(s.Count),
				false, s.Tolerations, s.Capacity})
			if err := knownMode(name, s.AllocationMode); err != nil {
				return nil, err
			}
		}
	default:
		return nil, fmt.Errorf("request %s: unknown request type", r.Name)
	}
	return out, nil
}

func knownMode(request string, mode resourcev1.DeviceAllocationMode) error {
	if mode != resourcev1.DeviceAllocationModeAll && mode != resourcev1.DeviceAllocationModeExactCount {
		return fmt.Errorf("request %s: unsupported count mode %s", request, mode)
	}
	return nil
}

// MissingClass is the first class that claim names and that is not there, with the request that names it.
func (v *Inventory) MissingClass(claim *resourcev1.ResourceClaim) (request, class string) {
	for i := range claim.Spec.Devices.Requests {
		r := &claim.Spec.Devices.Requests[i]
		if r.Exactly != nil && v.classes[r.Exactly.DeviceClassName] == nil {
			return r.Name, r.Exactly.DeviceClassName
		}
		for j := range r.FirstAvailable {
			if s := &r.FirstAvailable[j]; v.classes[s.DeviceClassName] == nil {
				return resourceclaim.CreateSubRequestRef(r.Name, s.Name), s.DeviceClassName
			}
		}
	}
	return "", ""
}

// wants reports whether d is of the sort that a asks for, free or not.
func (v *Inventory) wants(a *ask, d *device) (bool, error) {
	if ok, err := v.match(d, a.class.Spec.Selectors); err != nil || !ok {
		return false, err
	}
	return v.match(d, a.selectors)
}

// barred reports whether a taint of d keeps a away.
func barred(a *ask, d *device) bool {
	return slices.ContainsFunc(d.taints, func(t resourcev1.DeviceTaint) bool {
		return (t.Effect == resourcev1.DeviceTaintEffectNoSchedule || t.Effect == resourcev1.DeviceTaintEffectNoExecute) && !Tolerated(t, a.tolerations)
	})
}

// Tolerated reports whether one of the tolerations is for t.
func Tolerated(t resourcev1.DeviceTaint, tolerations []resourcev1.DeviceToleration) bool {
	return slices.ContainsFunc(tolerations, func(o resourcev1.DeviceToleration) bool { return resourceclaim.ToleratesTaint(o, t) })
}

// agrees reports whether d may join the devices picked for the same claim, as its constraints have it.
func agrees(constraints []resourcev1.DeviceConstraint, picked []pick, request string, d *device) bool {
	for i := range constraints {
		c := &constraints[i]
		if !binds(c, request) {
			continue
		}
		name := c.MatchAttribute
		if name == nil {
			name = c.DistinctAttribute
		}
		if name == nil {
			return false // a constraint of a kind that is not known here
		}
		mine, ok := d.attribute(string(*name))
		if !ok {
			return false
		}
		for j := range picked {
			if !binds(c, picked[j].ask.name) {
				continue
			}
			other, _ := picked[j].device.attribute(string(*name))
			if same := equalAttributes(mine, other); same != (c.MatchAttribute != nil) {
				return false
			}
		}
	}
	return true
}

// binds reports whether a constraint is about a request, named as in results.
func binds(c *resourcev1.DeviceConstraint, request string) bool {
	return len(c.Requests) == 0 || slices.Contains(c.Requests, request) || slices.Contains(c.Requests, resourceclaim.BaseRequestRef(request))
}

// attribute finds an attribute by its full name. Names without a domain are in that of the driver.
func (d *device) attribute(name string) (resourcev1.DeviceAttribute, bool) {
	if a, ok := d.Attributes[resourcev1.QualifiedName(name)]; ok {
		return a, true
	}
	domain, id, _ := strings.Cut(name, "/")
	if domain != d.Driver {
		return resourcev1.DeviceAttribute{}, false
	}
	a, ok := d.Attributes[resourcev1.QualifiedName(id)]
	return a, ok
}

func equalAttributes(a, b resourcev1.DeviceAttribute) bool {
	return ptr.Equal(a.IntValue, b.IntValue) && ptr.Equal(a.BoolValue, b.BoolValue) && ptr.Equal(a.StringValue, b.StringValue) && ptr.Equal(a.VersionValue, b.VersionValue)
}
