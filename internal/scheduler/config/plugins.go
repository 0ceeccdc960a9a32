package config

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"
	configv1 "k8s.io/kube-scheduler/config/v1"
)

// The extension points, as the file spells them.
const (
	PreEnqueue         = "preEnqueue"
	QueueSort          = "queueSort"
	PreFilter          = "preFilter"
	Filter             = "filter"
	PostFilter         = "postFilter"
	PreScore           = "preScore"
	Score              = "score"
	Reserve            = "reserve"
	Permit             = "permit"
	PreBind            = "preBind"
	Bind               = "bind"
	PostBind           = "postBind"
	placementGenerate  = "placementGenerate"
	placementScore     = "placementScore"
	podGroupPostFilter = "podGroupPostFilter"
)

const (
	maxWeight = 100 // of one plugin's scores
	all       = "*"
)

// builtin is a plugin there is: where it works, and how much its scores count unless the file says otherwise.
type builtin struct {
	name   string
	weight int64
	points []string
}

// builtins are the plugins in the order in which they work by default.
func builtins() []builtin {
	filters := []string{PreFilter, Filter}
	both := []string{PreFilter, Filter, PreScore, Score}
	return []builtin{
		{"SchedulingGates", 0, []string{PreEnqueue}},
		{"PrioritySort", 0, []string{QueueSort}},
		{"NodeUnschedulable", 0, []string{Filter}},
		{"NodeName", 0, []string{Filter}},
		{"TaintToleration", 3, []string{Filter, PreScore, Score}},
		{"NodeAffinity", 2, both},
		{"NodePorts", 0, filters},
		{"NodeResourcesFit", 1, both},
		{"VolumeRestrictions", 0, filters},
		{"NodeVolumeLimits", 0, filters},
		{"VolumeBinding", 0, []string{PreFilter, Filter, Reserve, PreBind}},
		{"VolumeZone", 0, filters},
		{"PodTopologySpread", 2, both},
		{"InterPodAffinity", 2, both},
		{"DynamicResources", 0, []string{PreEnqueue, PreFilter, Filter, PostFilter, Reserve, PreBind}},
		{"DefaultPreemption", 0, []string{PostFilter}},
		{"NodeResourcesBalancedAllocation", 1, []string{PreScore, Score}},
		{"ImageLocality", 1, []string{Score}},
		{"DefaultBinder", 0, []string{Bind}},
		{"GangScheduling", 0, []string{PreEnqueue, Permit}},
	}
}

func find(name string) *builtin {
	list := builtins()
	if i := slices.IndexFunc(list, func(b builtin) bool { return b.name == name }); i >= 0 {
		return &list[i]
	}
	return nil
}

func pointsOf(name string) []string {
	if b := find(name); b != nil {
		return b.points
	}
	return nil
}

// at is one extension point's part of the file.
type at struct {
	point string
	set   configv1.PluginSet
}

func said(p *configv1.Plugins) []at {
	return []at{
		{PreEnqueue, p.PreEnqueue}, {QueueSort, p.QueueSort}, {PreFilter, p.PreFilter}, {Filter, p.Filter}, {PostFilter, p.PostFilter},
		{PreScore, p.PreScore}, {Score, p.Score}, {Reserve, p.Reserve}, {Permit, p.Permit}, {PreBind, p.PreBind}, {Bind, p.Bind}, {PostBind, p.PostBind},
		{placementGenerate, p.PlacementGenerate}, {placementScore, p.PlacementScore}, {podGroupPostFilter, p.PodGroupPostFilter},
	}
}

// resolvePlugins says which plugins work at which extension point, in order. What is said about a point goes before what
// multiPoint says, and that before the defaults; enabled goes before disabled.
func resolvePlugins(p *configv1.Plugins, path *field.Path) (map[string][]Plugin, field.ErrorList) {
	if p == nil {
		p = &configv1.Plugins{}
	}
	errs := checkSet(p.MultiPoint, "", path.Child("multiPoint"))
	everywhere := overDefaults(p.MultiPoint)
	out := map[string][]Plugin{}
	for _, a := range said(p) {
		errs = append(errs, checkSet(a.set, a.point, path.Child(a.point))...)
		if list := atPoint(a, everywhere); len(list) > 0 {
			out[a.point] = list
		}
	}
	if n := len(out[QueueSort]); n != 1 {
		errs = append(errs, field.Invalid(path.Child(QueueSort), names(out[QueueSort]), "exactly one queue sort plugin must be enabled"))
	}
	if len(out[Bind]) == 0 {
		errs = append(errs, field.Required(path.Child(Bind), "at least one bind plugin is needed"))
	}
	return out, errs
}

// overDefaults are the plugins that work wherever they can: the defaults as multiPoint changes them, then its own.
func overDefaults(multi configv1.PluginSet) []Plugin {
	var out []Plugin
	replaced := map[string]bool{}
	for _, b := range builtins() {
		if disables(multi, b.name) {
			continue
		}
		plugin := Plugin{b.name, b.weight}
		if i := slices.IndexFunc(multi.Enabled, func(e configv1.Plugin) bool { return e.Name == b.name }); i >= 0 {
			plugin, replaced[b.name] = enabled(multi.Enabled[i]), true
		}
		out = append(out, plugin)
	}
	for _, e := range multi.Enabled {
		if !replaced[e.Name] && find(e.Name) != nil {
			out = append(out, enabled(e))
		}
	}
	return out
}

// atPoint orders the plugins of one point: those said here that also work everywhere, the others that work everywhere, and
// last those said here alone.
func atPoint(a at, everywhere []Plugin) []Plugin {
	var first, middle, last []Plugin
	for _, e := range a.set.Enabled {
		if find(e.Name) == nil {
			continue // checkSet has said so
		}
		if slices.ContainsFunc(everywhere, func(p Plugin) bool { return p.Name == e.Name }) {
			first = append(first, enabled(e))
		} else {
			last = append(last, enabled(e))
		}
	}
	for _, p := range everywhere {
		here := slices.ContainsFunc(a.set.Enabled, func(e configv1.Plugin) bool { return e.Name == p.Name })
		if !here && !disables(a.set, p.Name) && slices.Contains(pointsOf(p.Name), a.point) {
			middle = append(middle, p)
		}
	}
	list := slices.Concat(first, middle, last)
	for i := range list {
		switch {
		case a.point != Score:
			list[i].Weight = 0
		case list[i].Weight == 0:
			list[i].Weight = 1
		}
	}
	return list
}

func disables(set configv1.PluginSet, name string) bool {
	return slices.ContainsFunc(set.Disabled, func(d configv1.Plugin) bool { return d.Name == name || d.Name == all })
}

func enabled(e configv1.Plugin) Plugin {
	if e.Weight == nil {
		return Plugin{Name: e.Name}
	}
	return Plugin{e.Name, int64(*e.Weight)}
}

// checkSet checks what is said about one point; "" is multiPoint.
func checkSet(set configv1.PluginSet, point string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := map[string]bool{}
	for i, e := range set.Enabled {
		at := path.Child("enabled").Index(i)
		b := find(e.Name)
		switch {
		case b == nil:
			errs = append(errs, field.NotSupported(at.Child("name"), e.Name, known()))
		case point != "" && !slices.Contains(b.points, point):
			errs = append(errs, field.Invalid(at.Child("name"), e.Name, fmt.Sprintf("does not extend %s, but %s", point, strings.Join(b.points, ", "))))
		case seen[e.Name]:
			errs = append(errs, field.Duplicate(at.Child("name"), e.Name))
		}
		seen[e.Name] = true
		if e.Weight != nil && (*e.Weight < 0 || *e.Weight > maxWeight) {
			errs = append(errs, field.Invalid(at.Child("weight"), *e.Weight, fmt.Sprintf("must be between 0 (the default) and %d", maxWeight)))
		}
	}
	for i, d := range set.Disabled {
		if d.Name != all && find(d.Name) == nil {
			errs = append(errs, field.NotSupported(path.Child("disabled").Index(i).Child("name"), d.Name, append(known(), all)))
		}
	}
	return errs
}

func known() []string {
	var out []string
	for _, b := range builtins() {
		out = append(out, b.name)
	}
	return out
}

func names(list []Plugin) string {
	var out []string
	for _, p := range list {
		out = append(out, p.Name)
	}
	return strings.Join(out, ", ")
}
