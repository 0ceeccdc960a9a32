package resource

import (
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"canopus/internal/kinds"
	"canopus/internal/kinds/check"
	"canopus/internal/kinds/show"
)

// ResourceSlice is resource.k8s.io/v1 resourceslices: devices that a driver offers, or counters that they share.
func ResourceSlice() *kinds.Kind {
	doc := resourcev1.ResourceSliceSpec{}.SwaggerDoc()
	return kinds.New(kinds.Spec[resourcev1.ResourceSlice, *resourcev1.ResourceSlice]{
		GVK:           resourcev1.SchemeGroupVersion.WithKind("ResourceSlice"),
		Plural:        "resourceslices",
		NewList:       func() runtime.Object { return &resourcev1.ResourceSliceList{} },
		ReturnDeleted: true,
		Generation:    true,

		PrepareCreate: func(s *resourcev1.ResourceSlice) { dropAlpha(&s.Spec) },
		PrepareUpdate: func(s, old *resourcev1.ResourceSlice) {
			dropAlpha(&s.Spec)
			keepTaintTimes(&s.Spec, &old.Spec)
			if !equal(s.Spec, old.Spec) {
				s.Generation = old.Generation + 1
			}
		},
		Stamp: func(s *resourcev1.ResourceSlice, now time.Time) {
			for i := range s.Spec.Devices {
				for j := range s.Spec.Devices[i].Taints {
					date(&s.Spec.Devices[i].Taints[j], now)
				}
			}
		},
		Validate: func(s *resourcev1.ResourceSlice) field.ErrorList { return validateSlice(&s.Spec) },
		ValidateUpdate: func(s, old *resourcev1.ResourceSlice) field.ErrorList {
			path := field.NewPath("spec")
			errs := validateSlice(&s.Spec)
			errs = append(errs, apivalidation.ValidateImmutableField(s.Spec.Driver, old.Spec.Driver, path.Child("driver"))...)
			errs = append(errs, apivalidation.ValidateImmutableField(s.Spec.Pool.Name, old.Spec.Pool.Name, path.Child("pool", "name"))...)
			return append(errs, apivalidation.ValidateImmutableField(s.Spec.NodeName, old.Spec.NodeName, path.Child("nodeName"))...)
		},
		Fields: map[string]func(*resourcev1.ResourceSlice) string{
			resourcev1.ResourceSliceSelectorNodeName: func(s *resourcev1.ResourceSlice) string { return ptr.Deref(s.Spec.NodeName, "") },
			resourcev1.ResourceSliceSelectorDriver:   func(s *resourcev1.ResourceSlice) string { return s.Spec.Driver },
			resourcev1.ResourceSliceSelectorPoolName: func(s *resourcev1.ResourceSlice) string { return s.Spec.Pool.Name },
		},
		Columns: []metav1.TableColumnDefinition{
			show.Name(), show.Column("Node", "string", doc["nodeName"]), show.Column("Driver", "string", doc["driver"]),
			show.Column("Pool", "string", resourcev1.ResourcePool{}.SwaggerDoc()["name"]), show.AgeColumn(),
		},
		Cells: func(s *resourcev1.ResourceSlice, now time.Time) []any {
			return []any{s.Name, ptr.Deref(s.Spec.NodeName, ""), s.Spec.Driver, s.Spec.Pool.Name, show.Age(s.CreationTimestamp, now)}
		},
	})
}

// dropAlpha forgets what only clients of features say that are off here.
func dropAlpha(spec *resourcev1.ResourceSliceSpec) {
	spec.PartitionTypeAttribute, spec.SkipNodeOperations = nil, nil
	for i := range spec.Devices {
		d := &spec.Devices[i]
		d.NodeAllocatableResources = nil
		for j := range d.ConsumesCounters {
			d.ConsumesCounters[j].CompatibilityGroups = nil
		}
	}
}

func validateSlice(spec *resourcev1.ResourceSliceSpec) field.ErrorList {
	path := field.NewPath("spec")
	errs := driverName(spec.Driver, path.Child("driver"))
	pool := path.Child("pool")
	errs = append(errs, poolName(spec.Pool.Name, pool.Child("name"))...)
	errs = append(errs, check.NonNegative(spec.Pool.Generation, pool.Child("generation"))...)
	if spec.Pool.ResourceSliceCount <= 0 {
		errs = append(errs, field.Invalid(pool.Child("resourceSliceCount"), spec.Pool.ResourceSliceCount, "must be greater than zero"))
	}
	set, wrong := reach{spec.NodeName, spec.NodeSelector, spec.AllNodes}.validate(path)
	errs = append(errs, wrong...)
	if spec.PerDeviceNodeSelection != nil {
		set = append(set, "`perDeviceNodeSelection`")
		errs = append(errs, trueIfSet(*spec.PerDeviceNodeSelection, path.Child("perDeviceNodeSelection"))...)
	}
	errs = append(errs, exactlyOne(path, set, "nodeName", "nodeSelector", "allNodes", "perDeviceNodeSelection")...)
	if len(spec.Devices) > 0 && len(spec.SharedCounters) > 0 {
		errs = append(errs, field.Invalid(path, "{`devices`, `sharedCounters`}", "at most one of `devices`, `sharedCounters` may be set"))
	}
	most := resourcev1.ResourceSliceMaxDevices
	if slices.ContainsFunc(spec.Devices, func(d resourcev1.Device) bool { return len(d.Taints) > 0 || len(d.ConsumesCounters) > 0 }) {
		most = resourcev1.ResourceSliceMaxDevicesWithAdvancedFeatures
	}
	errs = append(errs, atMost(spec.Devices, most, path.Child("devices"))...)
	seen := check.Duplicates[string]{}
	perDevice := ptr.Deref(spec.PerDeviceNodeSelection, false)
	for i := range spec.Devices {
		d, at := &spec.Devices[i], path.Child("devices").Index(i)
		errs = append(errs, validateDevice(d, perDevice, at)...)
		errs = append(errs, seen.Check(d.Name, at.Child("name"))...)
	}
	return append(errs, validateCounterSets(spec.SharedCounters, path.Child("sharedCounters"))...)
}

func validateCounterSets(sets []resourcev1.CounterSet, path *field.Path) field.ErrorList {
	errs := atMost(sets, resourcev1.ResourceSliceMaxCounterSets, path)
	seen := check.Duplicates[string]{}
	for i := range sets {
		s, at := &sets[i], path.Index(i)
		errs = append(errs, check.RequiredLabel(s.Name, at.Child("name"))...)
		errs = append(errs, seen.Check(s.Name, at.Child("name"))...)
		errs = append(errs, validateCounters(s.Counters, resourcev1.ResourceSliceMaxCountersPerCounterSet, at.Child("counters"))...)
	}
	return errs
}

func validateCounters(counters map[string]resourcev1.Counter, most int, path *field.Path) field.ErrorList {
	if len(counters) == 0 {
		return field.ErrorList{field.Required(path, "")}
	}
	var errs field.ErrorList
	if len(counters) > most {
		errs = append(errs, field.TooMany(path, len(counters), most))
	}
	for _, name := range slices.Sorted(maps.Keys(counters)) {
		errs = append(errs, check.Label(name, path.Key(name))...)
		errs = append(errs, check.NonNegativeQuantity(counters[name].Value, path.Key(name).Child("value"))...)
	}
	return errs
}

// reach says on which nodes something can be had.
type reach struct {
	node     *string
	selector *corev1.NodeSelector
	all      *bool
}

// validate returns which ways of saying so are used.
func (r reach) validate(path *field.Path) (set []string, errs field.ErrorList) {
	if r.node != nil {
		set = append(set, "`nodeName`")
		errs = append(errs, check.RequiredSubdomain(*r.node, path.Child("nodeName"))...)
	}
	if r.selector != nil {
		set = append(set, "`nodeSelector`")
		errs = append(errs, oneTerm(r.selector, path.Child("nodeSelector"))...)
	}
	if r.all != nil {
		set = append(set, "`allNodes`")
		errs = append(errs, trueIfSet(*r.all, path.Child("allNodes"))...)
	}
	return set, errs
}

func trueIfSet(value bool, path *field.Path) field.ErrorList {
	if value {
		return nil
	}
	return field.ErrorList{field.Invalid(path, value, "must be either unset or set to true")}
}
