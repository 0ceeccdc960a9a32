package resource

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"canopus/internal/kinds/check"
	"canopus/internal/kinds/podspec"
)

// deviceKey names an allocated device, and its share where a device is shared.
type deviceKey struct{ driver, pool, device, share string }

func statusKey(d *resourcev1.AllocatedDeviceStatus) deviceKey {
	return deviceKey{d.Driver, d.Pool, d.Device, ptr.Deref(d.ShareID, "")}
}

func allocated(a *resourcev1.AllocationResult) map[deviceKey]bool {
	out := map[deviceKey]bool{}
	if a == nil {
		return out
	}
	for i := range a.Devices.Results {
		r := &a.Devices.Results[i]
		out[deviceKey{r.Driver, r.Pool, r.Device, string(ptr.Deref(r.ShareID, ""))}] = true
	}
	return out
}

// validateClaimStatus: an allocation is given once and taken back whole, and not while somebody has reserved the claim.
func validateClaimStatus(c, old *resourcev1.ResourceClaim) field.ErrorList {
	path, now, was := field.NewPath("status"), &c.Status, &old.Status
	var errs field.ErrorList
	if now.Allocation != nil && was.Allocation != nil {
		errs = append(errs, apivalidation.ValidateImmutableField(now.Allocation, was.Allocation, path.Child("allocation"))...)
	} else if now.Allocation != nil {
		errs = append(errs, validateAllocation(now.Allocation, requestNames(&c.Spec.Devices), path.Child("allocation"))...)
	}
	errs = append(errs, validateReserved(c, old, path.Child("reservedFor"))...)
	given := allocated(now.Allocation)
	seen := check.Duplicates[deviceKey]{}
	for i := range now.Devices {
		d, at := &now.Devices[i], path.Child("devices").Index(i)
		errs = append(errs, validateDeviceStatus(d, at)...)
		if key := statusKey(d); !given[key] {
			errs = append(errs, field.Invalid(at, d.Driver+"/"+d.Pool+"/"+d.Device, "must be an allocated device in the claim"))
		} else {
			errs = append(errs, seen.Check(key, at)...)
		}
	}
	return errs
}

func validateReserved(c, old *resourcev1.ResourceClaim, path *field.Path) field.ErrorList {
	list := c.Status.ReservedFor
	errs := atMost(list, resourcev1.ResourceClaimReservedForMaxSize, path)
	seen := check.Duplicates[types.UID]{}
	before := sets.Set[types.UID]{}
	for _, r := range old.Status.ReservedFor {
		before.Insert(r.UID)
	}
	added := false
	for i, r := range list {
		at := path.Index(i)
		errs = append(errs, check.Required(r.Resource, at.Child("resource"))...)
		errs = append(errs, check.Required(r.Name, at.Child("name"))...)
		errs = append(errs, check.Required(string(r.UID), at.Child("uid"))...)
		errs = append(errs, seen.Check(r.UID, at.Child("uid"))...)
		added = added || !before.Has(r.UID)
	}
	if len(list) > 0 && c.Status.Allocation == nil {
		errs = append(errs, field.Forbidden(path, "may not be specified when `allocated` is not set"))
	}
	if added && c.DeletionTimestamp != nil {
		errs = append(errs, field.Forbidden(path, "new entries may not be added while `deletionTimestamp` is set"))
	}
	return errs
}

func validateAllocation(a *resourcev1.AllocationResult, names sets.Set[string], path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if a.NodeSelector != nil {
		errs = append(errs, oneTerm(a.NodeSelector, path.Child("nodeSelector"))...)
	}
	results := path.Child("devices", "results")
	errs = append(errs, atMost(a.Devices.Results, resourcev1.AllocationResultsMaxSize, results)...)
	for i := range a.Devices.Results {
		errs = append(errs, validateResult(&a.Devices.Results[i], names, results.Index(i))...)
	}
	config := path.Child("devices", "config")
	errs = append(errs, atMost(a.Devices.Config, 2*resourcev1.DeviceConfigMaxSize, config)...)
	for i := range a.Devices.Config {
		c, at := &a.Devices.Config[i], config.Index(i)
		errs = append(errs, check.RequiredOneOf(c.Source, at.Child("source"), resourcev1.AllocationConfigSourceClaim, resourcev1.AllocationConfigSourceClass)...)
		errs = append(errs, validateReferences(c.Requests, names, at.Child("requests"))...)
		errs = append(errs, validateConfiguration(&c.DeviceConfiguration, at)...)
	}
	return errs
}

func validateResult(r *resourcev1.DeviceRequestAllocationResult, names sets.Set[string], path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if !names.Has(r.Request) {
		errs = append(errs, field.Invalid(path.Child("request"), r.Request, "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"))
	}
	errs = append(errs, driverName(r.Driver, path.Child("driver"))...)
	errs = append(errs, poolName(r.Pool, path.Child("pool"))...)
	errs = append(errs, check.RequiredLabel(r.Device, path.Child("device"))...)
	errs = append(errs, validateTolerations(r.Tolerations, path.Child("tolerations"))...)
	errs = append(errs, conditionTypes(r.BindingConditions, resourcev1.BindingConditionsMaxSize, path.Child("bindingConditions"))...)
	errs = append(errs, conditionTypes(r.BindingFailureConditions, resourcev1.BindingFailureConditionsMaxSize, path.Child("bindingFailureConditions"))...)
	if r.ShareID != nil {
		errs = append(errs, shareID(string(*r.ShareID), path.Child("shareID"))...)
	}
	for _, name := range slices.Sorted(maps.Keys(r.ConsumedCapacity)) {
		errs = append(errs, qualifiedName(string(name), path.Child("consumedCapacity").Key(string(name)))...)
	}
	return errs
}

func validateDeviceStatus(d *resourcev1.AllocatedDeviceStatus, path *field.Path) field.ErrorList {
	errs := driverName(d.Driver, path.Child("driver"))
	errs = append(errs, poolName(d.Pool, path.Child("pool"))...)
	errs = append(errs, check.RequiredLabel(d.Device, path.Child("device"))...)
	if d.ShareID != nil {
		errs = append(errs, shareID(*d.ShareID, path.Child("shareID"))...)
	}
	errs = append(errs, atMost(d.Conditions, resourcev1.AllocatedDeviceStatusMaxConditions, path.Child("conditions"))...)
	errs = append(errs, metavalidation.ValidateConditions(d.Conditions, path.Child("conditions"))...)
	if d.Data != nil && len(d.Data.Raw) > 0 {
		errs = append(errs, rawObject(*d.Data, resourcev1.AllocatedDeviceStatusDataMaxLength, path.Child("data"))...)
	}
	if n := d.NetworkData; n != nil {
		errs = append(errs, validateNetwork(n, path.Child("networkData"))...)
	}
	return errs
}

func validateNetwork(n *resourcev1.NetworkDeviceData, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(n.InterfaceName) > resourcev1.NetworkDeviceDataInterfaceNameMaxLength {
		errs = append(errs, field.TooLong(path.Child("interfaceName"), "", resourcev1.NetworkDeviceDataInterfaceNameMaxLength))
	}
	if len(n.HardwareAddress) > resourcev1.NetworkDeviceDataHardwareAddressMaxLength {
		errs = append(errs, field.TooLong(path.Child("hardwareAddress"), "", resourcev1.NetworkDeviceDataHardwareAddressMaxLength))
	}
	errs = append(errs, atMost(n.IPs, resourcev1.NetworkDeviceDataMaxIPs, path.Child("ips"))...)
	seen := check.Duplicates[string]{}
	for i, ip := range n.IPs {
		at := path.Child("ips").Index(i)
		errs = append(errs, validation.IsValidInterfaceAddress(at, ip)...)
		errs = append(errs, seen.Check(ip, at)...)
	}
	return errs
}

func conditionTypes(list []string, most int, path *field.Path) field.ErrorList {
	errs := atMost(list, most, path)
	seen := check.Duplicates[string]{}
	for i, name := range list {
		errs = append(errs, check.Qualified(name, path.Index(i))...)
		errs = append(errs, seen.Check(name, path.Index(i))...)
	}
	return errs
}

// oneTerm wants a node selector of one term: it is to be combined with others.
func oneTerm(s *corev1.NodeSelector, path *field.Path) field.ErrorList {
	errs := podspec.ValidateNodeSelector(s, path)
	if len(s.NodeSelectorTerms) != 1 {
		errs = append(errs, field.Invalid(path.Child("nodeSelectorTerms"), s.NodeSelectorTerms, "must have exactly one node selector term"))
	}
	return errs
}
