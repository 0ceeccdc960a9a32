package resource

import (
	"maps"
	"slices"

	"github.com/blang/semver/v4"
	resourcev1 "k8s.io/api/resource/v1"
	quantity "k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"canopus/internal/kinds/check"
)

// maxPolicyValues bounds the amounts that a policy may list.
const maxPolicyValues = 10

func validateDevice(d *resourcev1.Device, perDevice bool, path *field.Path) field.ErrorList {
	errs := check.RequiredLabel(d.Name, path.Child("name"))
	if n := len(d.Attributes) + len(d.Capacity); n > resourcev1.ResourceSliceMaxAttributesAndCapacitiesPerDevice {
		errs = append(errs, field.Invalid(path, n, "the total number of attributes and capacities must not exceed 32"))
	}
	for _, name := range slices.Sorted(maps.Keys(d.Attributes)) {
		at := path.Child("attributes").Key(string(name))
		errs = append(errs, qualifiedName(string(name), at)...)
		attribute := d.Attributes[name]
		errs = append(errs, validateAttribute(&attribute, at)...)
	}
	shared := ptr.Deref(d.AllowMultipleAllocations, false)
	for _, name := range slices.Sorted(maps.Keys(d.Capacity)) {
		at := path.Child("capacity").Key(string(name))
		errs = append(errs, qualifiedName(string(name), at)...)
		capacity := d.Capacity[name]
		errs = append(errs, validateCapacity(&capacity, shared, at)...)
	}
	errs = append(errs, validateConsumption(d.ConsumesCounters, path.Child("consumesCounters"))...)
	errs = append(errs, validateDeviceReach(d, perDevice, path)...)
	errs = append(errs, atMost(d.Taints, resourcev1.DeviceTaintsMaxLength, path.Child("taints"))...)
	for i := range d.Taints {
		errs = append(errs, validateTaint(&d.Taints[i], path.Child("taints").Index(i))...)
	}
	errs = append(errs, conditionTypes(d.BindingConditions, resourcev1.BindingConditionsMaxSize, path.Child("bindingConditions"))...)
	errs = append(errs, conditionTypes(d.BindingFailureConditions, resourcev1.BindingFailureConditionsMaxSize, path.Child("bindingFailureConditions"))...)
	if len(d.BindingConditions) == 0 && len(d.BindingFailureConditions) > 0 {
		errs = append(errs, field.Invalid(path.Child("bindingConditions"), d.BindingConditions, "bindingConditions are required to use bindingFailureConditions"))
	}
	if len(d.BindingConditions) > 0 && len(d.BindingFailureConditions) == 0 {
		errs = append(errs, field.Invalid(path.Child("bindingFailureConditions"), d.BindingFailureConditions, "bindingFailureConditions are required to use bindingConditions"))
	}
	return errs
}

// validateDeviceReach: a device says where it is if, and only if, its slice leaves that to the devices.
func validateDeviceReach(d *resourcev1.Device, perDevice bool, path *field.Path) field.ErrorList {
	set, errs := reach{d.NodeName, d.NodeSelector, d.AllNodes}.validate(path)
	if perDevice {
		return append(errs, exactlyOne(path, set, "nodeName", "nodeSelector", "allNodes")...)
	}
	if len(set) > 0 {
		errs = append(errs, field.Invalid(path, nil, "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec"))
	}
	return errs
}

func validateAttribute(a *resourcev1.DeviceAttribute, path *field.Path) field.ErrorList {
	if a.IntValues != nil || a.BoolValues != nil || a.StringValues != nil || a.VersionValues != nil {
		return field.ErrorList{field.Forbidden(path, "attributes with lists of values are alpha and not available")}
	}
	values := 0
	var errs field.ErrorList
	if a.IntValue != nil {
		values++
	}
	if a.BoolValue != nil {
		values++
	}
	if s := a.StringValue; s != nil {
		values++
		if len(*s) > resourcev1.DeviceAttributeMaxValueLength {
			errs = append(errs, field.TooLong(path.Child("string"), *s, resourcev1.DeviceAttributeMaxValueLength))
		}
	}
	if v := a.VersionValue; v != nil {
		values++
		if _, err := semver.Parse(*v); err != nil {
			errs = append(errs, field.Invalid(path.Child("version"), *v, "must be a string compatible with semver.org spec 2.0.0"))
		}
		if len(*v) > resourcev1.DeviceAttributeMaxValueLength {
			errs = append(errs, field.TooLong(path.Child("version"), *v, resourcev1.DeviceAttributeMaxValueLength))
		}
	}
	switch {
	case values == 0:
		errs = append(errs, field.Required(path, "exactly one value must be specified"))
	case values > 1:
		errs = append(errs, field.Invalid(path, *a, "exactly one value must be specified"))
	}
	return errs
}

func validateConsumption(list []resourcev1.DeviceCounterConsumption, path *field.Path) field.ErrorList {
	errs := atMost(list, resourcev1.ResourceSliceMaxDeviceCounterConsumptionsPerDevice, path)
	seen := check.Duplicates[string]{}
	for i := range list {
		c, at := &list[i], path.Index(i)
		errs = append(errs, check.RequiredLabel(c.CounterSet, at.Child("counterSet"))...)
		errs = append(errs, seen.Check(c.CounterSet, at.Child("counterSet"))...)
		errs = append(errs, validateCounters(c.Counters, resourcev1.ResourceSliceMaxCountersPerDeviceCounterConsumption, at.Child("counters"))...)
	}
	return errs
}

// validateCapacity checks how much there is, and in which amounts a device that is shared gives it out.
func validateCapacity(c *resourcev1.DeviceCapacity, shared bool, path *field.Path) field.ErrorList {
	p := c.RequestPolicy
	if p == nil {
		return nil
	}
	path = path.Child("requestPolicy")
	if !shared {
		return field.ErrorList{field.Forbidden(path, "allowMultipleAllocations must be true")}
	}
	var errs field.ErrorList
	if len(p.ValidValues) > 0 && p.ValidRange != nil {
		errs = append(errs, field.Forbidden(path, "exactly one policy can be specified, cannot specify `validValues` and `validRange` at the same time"))
	}
	if p.Default == nil {
		if len(p.ValidValues) > 0 || p.ValidRange != nil {
			errs = append(errs, field.Required(path.Child("default"), "required when `validValues` or `validRange` is defined"))
		}
		return errs
	}
	if p.Default.Cmp(c.Value) > 0 {
		errs = append(errs, field.Invalid(path.Child("default"), p.Default.String(), "must not exceed the capacity value"))
	}
	errs = append(errs, validateValues(p, c.Value, path)...)
	if p.ValidRange != nil {
		errs = append(errs, validateRange(p, c.Value, path)...)
	}
	return errs
}

func validateValues(p *resourcev1.CapacityRequestPolicy, all quantity.Quantity, path *field.Path) field.ErrorList {
	at := path.Child("validValues")
	errs := atMost(p.ValidValues, maxPolicyValues, at)
	if len(p.ValidValues) == 0 {
		return errs
	}
	for i, v := range p.ValidValues {
		if i > 0 && v.Cmp(p.ValidValues[i-1]) <= 0 {
			errs = append(errs, field.Invalid(at.Index(i), v.String(), "values must be sorted in ascending order without duplicates"))
		}
		if v.Cmp(all) > 0 {
			errs = append(errs, field.Invalid(at.Index(i), v.String(), "must not exceed the capacity value"))
		}
	}
	if !slices.ContainsFunc(p.ValidValues, func(v quantity.Quantity) bool { return v.Cmp(*p.Default) == 0 }) {
		errs = append(errs, field.Invalid(path.Child("default"), p.Default.String(), "must be one of the valid values"))
	}
	return errs
}

func validateRange(p *resourcev1.CapacityRequestPolicy, all quantity.Quantity, path *field.Path) field.ErrorList {
	r, at := p.ValidRange, path.Child("validRange")
	if r.Min == nil {
		return field.ErrorList{field.Required(at.Child("min"), "required when `validRange` is defined")}
	}
	errs := check.NonNegativeQuantity(*r.Min, at.Child("min"))
	if r.Min.Cmp(all) > 0 {
		errs = append(errs, field.Invalid(at.Child("min"), r.Min.String(), "must not exceed the capacity value"))
	}
	if p.Default.Cmp(*r.Min) < 0 {
		errs = append(errs, field.Invalid(path.Child("default"), p.Default.String(), "must not be less than the minimum"))
	}
	if r.Max != nil {
		if r.Max.Cmp(all) > 0 {
			errs = append(errs, field.Invalid(at.Child("max"), r.Max.String(), "must not exceed the capacity value"))
		}
		if r.Max.Cmp(*r.Min) < 0 {
			errs = append(errs, field.Invalid(at.Child("max"), r.Max.String(), "must not be less than the minimum"))
		}
		if p.Default.Cmp(*r.Max) > 0 {
			errs = append(errs, field.Invalid(path.Child("default"), p.Default.String(), "must not exceed the maximum"))
		}
	}
	if r.Step == nil {
		return errs
	}
	if r.Step.Sign() <= 0 {
		return append(errs, field.Invalid(at.Child("step"), r.Step.String(), check.NotPositive))
	}
	if sum := *r.Min; addTo(&sum, *r.Step).Cmp(all) > 0 {
		errs = append(errs, field.Invalid(at.Child("step"), r.Step.String(), "one step above the minimum must not exceed the capacity value"))
	}
	for _, v := range []struct {
		path  *field.Path
		value *quantity.Quantity
	}{{path.Child("default"), p.Default}, {at.Child("max"), r.Max}} {
		if v.value != nil && (v.value.Value()-r.Min.Value())%r.Step.Value() != 0 {
			errs = append(errs, field.Invalid(v.path, v.value.String(), "must be a multiple of the step away from the minimum"))
		}
	}
	return errs
}

func addTo(sum *quantity.Quantity, more quantity.Quantity) *quantity.Quantity {
	*sum = sum.DeepCopy()
	sum.Add(more)
	return sum
}
