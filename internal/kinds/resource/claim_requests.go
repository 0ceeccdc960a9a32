package resource

import (
	"fmt"
	"maps"
	"slices"

	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds/check"
)

func validateClaimSpec(spec *resourcev1.ResourceClaimSpec, path *field.Path) field.ErrorList {
	d, path := &spec.Devices, path.Child("devices")
	errs := atMost(d.Requests, resourcev1.DeviceRequestsMaxSize, path.Child("requests"))
	seen := check.Duplicates[string]{}
	for i := range d.Requests {
		at := path.Child("requests").Index(i)
		errs = append(errs, validateRequest(&d.Requests[i], at)...)
		errs = append(errs, seen.Check(d.Requests[i].Name, at.Child("name"))...)
	}
	names := requestNames(d)
	errs = append(errs, atMost(d.Constraints, resourcev1.DeviceConstraintsMaxSize, path.Child("constraints"))...)
	for i := range d.Constraints {
		errs = append(errs, validateConstraint(&d.Constraints[i], names, path.Child("constraints").Index(i))...)
	}
	errs = append(errs, atMost(d.Config, resourcev1.DeviceConfigMaxSize, path.Child("config"))...)
	for i := range d.Config {
		at := path.Child("config").Index(i)
		errs = append(errs, validateReferences(d.Config[i].Requests, names, at.Child("requests"))...)
		errs = append(errs, validateConfiguration(&d.Config[i].DeviceConfiguration, at)...)
	}
	return errs
}

// requestNames are the words by which a claim's requests can be meant: those of subrequests follow their request's.
func requestNames(d *resourcev1.DeviceClaim) sets.Set[string] {
	names := sets.Set[string]{}
	for i := range d.Requests {
		names.Insert(d.Requests[i].Name)
		for j := range d.Requests[i].FirstAvailable {
			names.Insert(d.Requests[i].Name + "/" + d.Requests[i].FirstAvailable[j].Name)
		}
	}
	return names
}

func validateReferences(list []string, names sets.Set[string], path *field.Path) field.ErrorList {
	errs := atMost(list, resourcev1.DeviceRequestsMaxSize, path)
	seen := check.Duplicates[string]{}
	for i, name := range list {
		if !names.Has(name) {
			errs = append(errs, field.Invalid(path.Index(i), name, "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"))
		}
		errs = append(errs, seen.Check(name, path.Index(i))...)
	}
	return errs
}

func validateRequest(r *resourcev1.DeviceRequest, path *field.Path) field.ErrorList {
	errs := check.RequiredLabel(r.Name, path.Child("name"))
	var set []string
	if r.Exactly != nil {
		set = append(set, "`exactly`")
	}
	if len(r.FirstAvailable) > 0 {
		set = append(set, "`firstAvailable`")
	}
	if wrong := exactlyOne(path, set, "exactly", "firstAvailable"); wrong != nil {
		return append(errs, wrong...)
	}
	if e := r.Exactly; e != nil {
		return append(errs, validateWish(&wish{e.DeviceClassName, e.Selectors, e.AllocationMode, e.Count, e.Tolerations, e.Capacity, e.DerivedAttributes}, path.Child("exactly"))...)
	}
	path = path.Child("firstAvailable")
	errs = append(errs, atMost(r.FirstAvailable, resourcev1.FirstAvailableDeviceRequestMaxSize, path)...)
	seen := check.Duplicates[string]{}
	for i := range r.FirstAvailable {
		s, at := &r.FirstAvailable[i], path.Index(i)
		errs = append(errs, check.RequiredLabel(s.Name, at.Child("name"))...)
		errs = append(errs, seen.Check(s.Name, at.Child("name"))...)
		errs = append(errs, validateWish(&wish{s.DeviceClassName, s.Selectors, s.AllocationMode, s.Count, s.Tolerations, s.Capacity, s.DerivedAttributes}, at)...)
	}
	return errs
}

// wish is what a request and a subrequest have in common.
type wish struct {
	class       string
	selectors   []resourcev1.DeviceSelector
	mode        resourcev1.DeviceAllocationMode
	count       int64
	tolerations []resourcev1.DeviceToleration
	capacity    *resourcev1.CapacityRequirements
	derived     []resourcev1.DeviceDerivedAttribute
}

func validateWish(w *wish, path *field.Path) field.ErrorList {
	errs := check.RequiredSubdomain(w.class, path.Child("deviceClassName"))
	errs = append(errs, validateSelectors(w.selectors, nil, path.Child("selectors"))...)
	switch w.mode {
	case resourcev1.DeviceAllocationModeAll:
		if w.count != 0 {
			errs = append(errs, field.Invalid(path.Child("count"), w.count, fmt.Sprintf("must not be specified when allocationMode is '%s'", w.mode)))
		}
	case resourcev1.DeviceAllocationModeExactCount:
		if w.count <= 0 {
			errs = append(errs, field.Invalid(path.Child("count"), w.count, "must be greater than zero"))
		}
	default:
		errs = append(errs, field.NotSupported(path.Child("allocationMode"), w.mode, []resourcev1.DeviceAllocationMode{
			resourcev1.DeviceAllocationModeAll, resourcev1.DeviceAllocationModeExactCount,
		}))
	}
	errs = append(errs, validateTolerations(w.tolerations, path.Child("tolerations"))...)
	if w.capacity != nil {
		for _, name := range slices.Sorted(maps.Keys(w.capacity.Requests)) {
			at := path.Child("capacity", "requests").Key(string(name))
			errs = append(errs, qualifiedName(string(name), at)...)
			errs = append(errs, check.NonNegativeQuantity(w.capacity.Requests[name], at)...)
		}
	}
	if len(w.derived) > 0 {
		errs = append(errs, field.Forbidden(path.Child("derivedAttributes"), "derived attributes are alpha and not available"))
	}
	return errs
}

func validateConstraint(c *resourcev1.DeviceConstraint, names sets.Set[string], path *field.Path) field.ErrorList {
	errs := validateReferences(c.Requests, names, path.Child("requests"))
	var set []string
	if c.MatchAttribute != nil {
		set = append(set, "`matchAttribute`")
		errs = append(errs, fullyQualifiedName(string(*c.MatchAttribute), path.Child("matchAttribute"))...)
	}
	if c.DistinctAttribute != nil {
		set = append(set, "`distinctAttribute`")
		errs = append(errs, fullyQualifiedName(string(*c.DistinctAttribute), path.Child("distinctAttribute"))...)
	}
	return append(errs, exactlyOne(path, set, "matchAttribute", "distinctAttribute")...)
}
