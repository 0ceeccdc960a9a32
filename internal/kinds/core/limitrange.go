package core

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds"
	"canopus/internal/kinds/check"
	"canopus/internal/kinds/podspec"
)

// LimitRange is v1 limitranges.
func LimitRange() *kinds.Kind {
	return kinds.New(kinds.Spec[corev1.LimitRange, *corev1.LimitRange]{
		GVK:        corev1.SchemeGroupVersion.WithKind("LimitRange"),
		Plural:     "limitranges",
		ShortNames: []string{"limits"},
		Namespaced: true,
		NewList:    func() runtime.Object { return &corev1.LimitRangeList{} },

		CreateOnUpdate: true,
		Default:        defaultLimitRange,
		Validate:       validateLimitRange,
		ValidateUpdate: func(l, _ *corev1.LimitRange) field.ErrorList { return validateLimitRange(l) },
	})
}

// defaultLimitRange derives what a limit for containers leaves out: the limit from the maximum, the request from the limit, else
// from the minimum.
func defaultLimitRange(l *corev1.LimitRange) {
	for i := range l.Spec.Limits {
		item := &l.Spec.Limits[i]
		if item.Type != corev1.LimitTypeContainer {
			continue
		}
		item.Default = withMissing(item.Default, item.Max)
		item.DefaultRequest = withMissing(withMissing(item.DefaultRequest, item.Default), item.Min)
	}
}

func withMissing(list, more corev1.ResourceList) corev1.ResourceList {
	for name, q := range more {
		if _, ok := list[name]; ok {
			continue
		}
		if list == nil {
			list = corev1.ResourceList{}
		}
		list[name] = q.DeepCopy()
	}
	return list
}

func validateLimitRange(l *corev1.LimitRange) field.ErrorList {
	var errs field.ErrorList
	seen := check.Duplicates[corev1.LimitType]{}
	for i := range l.Spec.Limits {
		item, at := &l.Spec.Limits[i], field.NewPath("spec", "limits").Index(i)
		errs = append(errs, validateLimitType(item.Type, at.Child("type"))...)
		errs = append(errs, seen.Check(item.Type, at.Child("type"))...)
		errs = append(errs, validateLimitNames(item, at)...)
		for _, name := range limitNames(item) {
			errs = append(errs, validateLimit(item, name, at)...)
		}
	}
	return errs
}

func validateLimitType(t corev1.LimitType, path *field.Path) field.ErrorList {
	errs := check.Messages(path, t, validation.IsQualifiedName(string(t)))
	if len(errs) > 0 {
		return errs
	}
	known := t == corev1.LimitTypePod || t == corev1.LimitTypeContainer || t == corev1.LimitTypePersistentVolumeClaim
	if !known && !strings.Contains(string(t), "/") {
		errs = append(errs, field.Invalid(path, t, "must be a standard limit type or fully qualified"))
	}
	return errs
}

// validateLimitNames checks which resources an item names, and where it may name them.
func validateLimitNames(item *corev1.LimitRangeItem, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	names := func(list corev1.ResourceList, child string) {
		for _, name := range slices.Sorted(maps.Keys(list)) {
			at := path.Child(child).Key(string(name))
			if item.Type == corev1.LimitTypePod || item.Type == corev1.LimitTypeContainer {
				errs = append(errs, podspec.ContainerResourceName(name, at)...)
			} else {
				errs = append(errs, check.ResourceName(string(name), at)...)
			}
		}
	}
	names(item.Max, "max")
	names(item.Min, "min")
	if item.Type == corev1.LimitTypePod {
		if len(item.Default) > 0 {
			errs = append(errs, field.Forbidden(path.Child("default"), "may not be specified when `type` is 'Pod'"))
		}
		if len(item.DefaultRequest) > 0 {
			errs = append(errs, field.Forbidden(path.Child("defaultRequest"), "may not be specified when `type` is 'Pod'"))
		}
	} else {
		names(item.Default, "default")
		names(item.DefaultRequest, "defaultRequest")
	}
	if item.Type == corev1.LimitTypePersistentVolumeClaim {
		_, least := item.Min[corev1.ResourceStorage]
		_, most := item.Max[corev1.ResourceStorage]
		if !least && !most {
			errs = append(errs, field.Required(path.Child("limits"), "either minimum or maximum storage value is required, but neither was provided"))
		}
	}
	names(item.MaxLimitRequestRatio, "maxLimitRequestRatio")
	return errs
}

func limitNames(item *corev1.LimitRangeItem) []corev1.ResourceName {
	all := sets.New[corev1.ResourceName]()
	for _, list := range []corev1.ResourceList{item.Max, item.Min, item.Default, item.DefaultRequest, item.MaxLimitRequestRatio} {
		all.Insert(slices.Collect(maps.Keys(list))...)
	}
	return sets.List(all)
}

// validateLimit checks that min ≤ default request ≤ default ≤ max for one resource, as far as each is given, and the ratio.
func validateLimit(item *corev1.LimitRangeItem, name corev1.ResourceName, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	type bound struct {
		list  corev1.ResourceList
		child string // the field the error is about
		words string
	}
	ordered := func(low, high, about bound, value corev1.ResourceList) {
		a, okA := low.list[name]
		b, okB := high.list[name]
		if okA && okB && a.Cmp(b) > 0 {
			wrong := value[name]
			errs = append(errs, field.Invalid(path.Child(about.child).Key(string(name)), wrong.String(),
				fmt.Sprintf("%s value %s is greater than %s value %s", low.words, a.String(), high.words, b.String())))
		}
	}
	least, most := bound{item.Min, "min", "min"}, bound{item.Max, "max", "max"}
	request := bound{item.DefaultRequest, "defaultRequest", "default request"}
	limit := bound{item.Default, "default", "default"}
	ordered(least, most, least, item.Min)
	ordered(least, request, request, item.DefaultRequest)
	ordered(request, most, request, item.DefaultRequest)
	ordered(request, bound{item.Default, "default", "default limit"}, request, item.DefaultRequest)
	ordered(least, limit, limit, item.Min)
	ordered(limit, most, limit, item.Max)
	errs = append(errs, validateRatio(item, name, path.Child("maxLimitRequestRatio").Key(string(name)))...)
	d, okD := item.Default[name]
	r, okR := item.DefaultRequest[name]
	if okD && okR && check.WholeUnits(name) && d.Cmp(r) != 0 {
		errs = append(errs, field.Invalid(path.Child("defaultRequest").Key(string(name)), r.String(),
			fmt.Sprintf("default value %s must equal to defaultRequest value %s in %s", d.String(), r.String(), name)))
	}
	return errs
}

func validateRatio(item *corev1.LimitRangeItem, name corev1.ResourceName, path *field.Path) field.ErrorList {
	ratio, ok := item.MaxLimitRequestRatio[name]
	if !ok {
		return nil
	}
	var errs field.ErrorList
	if ratio.Cmp(*resource.NewQuantity(1, resource.DecimalSI)) < 0 {
		errs = append(errs, field.Invalid(path, ratio.String(), fmt.Sprintf("ratio %s is less than 1", ratio.String())))
	}
	least, okMin := item.Min[name]
	most, okMax := item.Max[name]
	if !okMin || !okMax {
		return errs
	}
	given, low, high := float64(ratio.Value()), float64(least.Value()), float64(most.Value())
	if max(given, low, high) < math.MaxInt64/1000 { // thousandths still fit
		given, low, high = float64(ratio.MilliValue())/1000, float64(least.MilliValue()), float64(most.MilliValue())
	}
	if possible := high / low; given > possible {
		errs = append(errs, field.Invalid(path, ratio.String(), fmt.Sprintf("ratio %s is greater than max/min = %f", ratio.String(), possible)))
	}
	return errs
}
