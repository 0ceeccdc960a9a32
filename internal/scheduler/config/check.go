package config

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	configv1 "k8s.io/kube-scheduler/config/v1"
	"k8s.io/utils/ptr"
)

// checkFile checks what is not about plugins.
func checkFile(file *configv1.KubeSchedulerConfiguration) field.ErrorList {
	var errs field.ErrorList
	if ptr.Deref(file.Parallelism, 1) <= 0 {
		errs = append(errs, field.Invalid(field.NewPath("parallelism"), *file.Parallelism, "should be an integer value greater than zero"))
	}
	errs = append(errs, checkPercent(file.PercentageOfNodesToScore, field.NewPath("percentageOfNodesToScore"))...)
	first := ptr.Deref(file.PodInitialBackoffSeconds, firstBackoffSeconds)
	last := ptr.Deref(file.PodMaxBackoffSeconds, lastBackoffSeconds)
	if first <= 0 {
		errs = append(errs, field.Invalid(field.NewPath("podInitialBackoffSeconds"), first, "must be greater than 0"))
	}
	if last < first {
		errs = append(errs, field.Invalid(field.NewPath("podMaxBackoffSeconds"), last, "must be greater than or equal to PodInitialBackoffSeconds"))
	}
	seen := sets.Set[string]{}
	for i, p := range file.Profiles {
		path := field.NewPath("profiles").Index(i)
		errs = append(errs, checkPercent(p.PercentageOfNodesToScore, path.Child("percentageOfNodesToScore"))...)
		switch name := ptr.Deref(p.SchedulerName, ""); {
		case name == "":
			errs = append(errs, field.Required(path.Child("schedulerName"), ""))
		case seen.Has(name):
			errs = append(errs, field.Duplicate(path.Child("schedulerName"), name))
		default:
			seen.Insert(name)
		}
	}
	errs = append(errs, checkElection(file, field.NewPath("leaderElection"))...)
	return append(errs, checkExtenders(file.Extenders, field.NewPath("extenders"))...)
}

func checkPercent(percent *int32, path *field.Path) field.ErrorList {
	return inRange(percent, 100, path)
}

func inRange(value *int32, most int32, path *field.Path) field.ErrorList {
	if value == nil || (*value >= 0 && *value <= most) {
		return nil
	}
	return field.ErrorList{field.Invalid(path, *value, fmt.Sprintf("not in valid range [0-%d]", most))}
}

// checkElection wants times that leave a holder room to renew, and a Lease where Canopus keeps its Leases.
func checkElection(file *configv1.KubeSchedulerConfiguration, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	e := &file.LeaderElection
	if e.ResourceLock != "" && e.ResourceLock != "leases" {
		errs = append(errs, field.NotSupported(path.Child("resourceLock"), e.ResourceLock, []string{"leases"}))
	}
	if e.ResourceNamespace != "" && e.ResourceNamespace != configv1.SchedulerDefaultLockObjectNamespace {
		errs = append(errs, field.NotSupported(path.Child("resourceNamespace"), e.ResourceNamespace, []string{configv1.SchedulerDefaultLockObjectNamespace}))
	}
	duration, renew, retry := cmp.Or(e.LeaseDuration.Duration, 15*time.Second), cmp.Or(e.RenewDeadline.Duration, 10*time.Second), cmp.Or(e.RetryPeriod.Duration, 2*time.Second)
	for _, d := range []struct {
		name string
		time time.Duration
	}{{"leaseDuration", duration}, {"renewDeadline", renew}, {"retryPeriod", retry}} {
		if d.time <= 0 {
			errs = append(errs, field.Invalid(path.Child(d.name), d.time.String(), "must be greater than zero"))
		}
	}
	if duration <= renew {
		errs = append(errs, field.Invalid(path.Child("leaseDuration"), duration.String(), "LeaseDuration must be greater than RenewDeadline"))
	}
	if renew <= retry {
		errs = append(errs, field.Invalid(path.Child("renewDeadline"), renew.String(), "RenewDeadline must be greater than RetryPeriod"))
	}
	return errs
}

// checkOrder holds all profiles to one order of the queue that they share.
func checkOrder(profiles []Profile) field.ErrorList {
	var errs field.ErrorList
	for i := range profiles {
		if !slices.Equal(profiles[i].Points[QueueSort], profiles[0].Points[QueueSort]) {
			errs = append(errs, field.Invalid(field.NewPath("profiles").Index(i).Child("plugins", QueueSort), names(profiles[i].Points[QueueSort]),
				"has to be the same for all profiles"))
		}
	}
	return errs
}

func checkExtenders(list []configv1.Extender, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	binders := 0
	managed := sets.Set[string]{}
	for i := range list {
		e, at := &list[i], path.Index(i)
		if u, err := url.Parse(e.URLPrefix); err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
			errs = append(errs, field.Invalid(at.Child("urlPrefix"), e.URLPrefix, "must be an http or https URL"))
		}
		if e.PrioritizeVerb != "" && e.Weight <= 0 {
			errs = append(errs, field.Invalid(at.Child("weight"), e.Weight, "must have a positive weight applied to it"))
		}
		if e.HTTPTimeout.Duration < 0 {
			errs = append(errs, field.Invalid(at.Child("httpTimeout"), e.HTTPTimeout.Duration.String(), "must not be negative"))
		}
		if e.FilterVerb == "" && e.PrioritizeVerb == "" && e.BindVerb == "" && e.PreemptVerb == "" {
			errs = append(errs, field.Required(at, "an extender needs a filterVerb, prioritizeVerb, bindVerb or preemptVerb"))
		}
		if e.BindVerb != "" {
			if binders++; binders > 1 {
				errs = append(errs, field.Invalid(at.Child("bindVerb"), e.BindVerb, "only one extender can implement bind"))
			}
		}
		for j, r := range e.ManagedResources {
			each := at.Child("managedResources").Index(j).Child("name")
			errs = append(errs, checkExtended(r.Name, each)...)
			if managed.Has(r.Name) {
				errs = append(errs, field.Invalid(each, r.Name, "duplicate extender managed resource name"))
			}
			managed.Insert(r.Name)
		}
	}
	return errs
}

// checkExtended wants the name of an extended resource: qualified, and not of Kubernetes itself.
func checkExtended(name string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, why := range validation.IsQualifiedName(name) {
		errs = append(errs, field.Invalid(path, name, why))
	}
	if !strings.Contains(name, "/") || strings.Contains(name, corev1.ResourceDefaultNamespacePrefix) || strings.HasPrefix(name, corev1.DefaultResourceRequestsPrefix) {
		errs = append(errs, field.Invalid(path, name, "is an invalid extended resource name"))
	}
	return errs
}

func checkArgs(object runtime.Object, path *field.Path) field.ErrorList {
	switch args := object.(type) {
	case *configv1.DefaultPreemptionArgs:
		return checkPreemption(args, path)
	case *configv1.InterPodAffinityArgs:
		return inRange(args.HardPodAffinityWeight, 100, path.Child("hardPodAffinityWeight"))
	case *configv1.NodeAffinityArgs:
		return checkAdded(args.AddedAffinity, path.Child("addedAffinity"))
	case *configv1.NodeResourcesBalancedAllocationArgs:
		return checkResources(args.Resources, 1, path.Child("resources"))
	case *configv1.NodeResourcesFitArgs:
		return checkFit(args, path)
	case *configv1.PodTopologySpreadArgs:
		return checkSpread(args, path)
	case *configv1.VolumeBindingArgs:
		return checkVolumeBinding(args, path)
	case *configv1.DynamicResourcesArgs:
		return checkDynamicResources(args, path)
	}
	return nil
}

func checkPreemption(args *configv1.DefaultPreemptionArgs, path *field.Path) field.ErrorList {
	percent, absolute := path.Child("minCandidateNodesPercentage"), path.Child("minCandidateNodesAbsolute")
	errs := inRange(args.MinCandidateNodesPercentage, 100, percent)
	if n := ptr.Deref(args.MinCandidateNodesAbsolute, 100); n < 0 {
		errs = append(errs, field.Invalid(absolute, n, "must be greater than or equal to 0"))
	} else if n == 0 && ptr.Deref(args.MinCandidateNodesPercentage, 10) == 0 {
		errs = append(errs,
			field.Invalid(percent, 0, "cannot be zero at the same time as minCandidateNodesAbsolute"),
			field.Invalid(absolute, 0, "cannot be zero at the same time as minCandidateNodesPercentage"))
	}
	return errs
}

func checkAdded(a *corev1.NodeAffinity, path *field.Path) field.ErrorList {
	if a == nil {
		return nil
	}
	var errs field.ErrorList
	if s := a.RequiredDuringSchedulingIgnoredDuringExecution; s != nil {
		if _, err := nodeaffinity.NewNodeSelector(s); err != nil {
			errs = append(errs, field.Invalid(path.Child("requiredDuringSchedulingIgnoredDuringExecution"), "", err.Error()))
		}
	}
	if _, err := nodeaffinity.NewPreferredSchedulingTerms(a.PreferredDuringSchedulingIgnoredDuringExecution); err != nil {
		errs = append(errs, field.Invalid(path.Child("preferredDuringSchedulingIgnoredDuringExecution"), "", err.Error()))
	}
	return errs
}

// checkResources holds weights to 1..most and names to one mention each.
func checkResources(list []configv1.ResourceSpec, most int64, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := sets.Set[string]{}
	for i, r := range list {
		at := path.Index(i)
		if r.Name == "" {
			errs = append(errs, field.Required(at.Child("name"), ""))
		}
		if seen.Has(r.Name) {
			errs = append(errs, field.Duplicate(at.Child("name"), r.Name))
		}
		seen.Insert(r.Name)
		if r.Weight != 0 && (r.Weight < 1 || r.Weight > most) {
			errs = append(errs, field.Invalid(at.Child("weight"), r.Weight, fmt.Sprintf("resource weight of %s not in valid range [1, %d]", r.Name, most)))
		}
	}
	return errs
}

func checkFit(args *configv1.NodeResourcesFitArgs, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, name := range args.IgnoredResources {
		for _, why := range validation.IsQualifiedName(name) {
			errs = append(errs, field.Invalid(path.Child("ignoredResources").Index(i), name, why))
		}
	}
	for i, group := range args.IgnoredResourceGroups {
		at := path.Child("ignoredResourceGroups").Index(i)
		if strings.Contains(group, "/") {
			errs = append(errs, field.Invalid(at, group, "resource group name can't contain '/'"))
			continue
		}
		for _, why := range validation.IsQualifiedName(group) {
			errs = append(errs, field.Invalid(at, group, why))
		}
	}
	s := args.ScoringStrategy
	if s == nil {
		return errs
	}
	at := path.Child("scoringStrategy")
	errs = append(errs, checkResources(s.Resources, 100, at.Child("resources"))...)
	switch s.Type {
	case "", configv1.LeastAllocated, configv1.MostAllocated:
	case configv1.RequestedToCapacityRatio:
		if s.RequestedToCapacityRatio == nil {
			return append(errs, field.Required(at.Child("requestedToCapacityRatio"), "the strategy needs a shape"))
		}
		errs = append(errs, checkShape(s.RequestedToCapacityRatio.Shape, at.Child("requestedToCapacityRatio", "shape"))...)
	default:
		errs = append(errs, field.NotSupported(at.Child("type"), s.Type,
			[]configv1.ScoringStrategyType{configv1.LeastAllocated, configv1.MostAllocated, configv1.RequestedToCapacityRatio}))
	}
	return errs
}

func checkShape(shape []configv1.UtilizationShapePoint, path *field.Path) field.ErrorList {
	if len(shape) == 0 {
		return field.ErrorList{field.Required(path, "at least one point must be specified")}
	}
	const mostUtilization, mostScore = 100, 10
	var errs field.ErrorList
	for i := range shape {
		at, p := path.Index(i), &shape[i]
		errs = append(errs, inRange(&p.Utilization, mostUtilization, at.Child("utilization"))...)
		errs = append(errs, inRange(&p.Score, mostScore, at.Child("score"))...)
		if i > 0 && p.Utilization <= shape[i-1].Utilization {
			errs = append(errs, field.Invalid(at.Child("utilization"), p.Utilization, "utilization values must be sorted in increasing order"))
		}
	}
	return errs
}

func checkSpread(args *configv1.PodTopologySpreadArgs, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch args.DefaultingType {
	case configv1.ListDefaulting:
	case "", configv1.SystemDefaulting:
		if len(args.DefaultConstraints) > 0 {
			errs = append(errs, field.Invalid(path.Child("defaultingType"), args.DefaultingType, "must be List when .defaultConstraints are not empty"))
		}
	default:
		errs = append(errs, field.NotSupported(path.Child("defaultingType"), args.DefaultingType,
			[]configv1.PodTopologySpreadConstraintsDefaulting{configv1.SystemDefaulting, configv1.ListDefaulting}))
	}
	seen := sets.Set[string]{}
	for i := range args.DefaultConstraints {
		c, at := &args.DefaultConstraints[i], path.Child("defaultConstraints").Index(i)
		errs = append(errs, checkConstraint(c, at)...)
		if key := c.TopologyKey + "\x00" + string(c.WhenUnsatisfiable); seen.Has(key) {
			errs = append(errs, field.Duplicate(at.Child("{topologyKey, whenUnsatisfiable}"), fmt.Sprintf("{%v, %v}", c.TopologyKey, c.WhenUnsatisfiable)))
		} else {
			seen.Insert(key)
		}
	}
	return errs
}

func checkConstraint(c *corev1.TopologySpreadConstraint, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if c.MaxSkew <= 0 {
		errs = append(errs, field.Invalid(path.Child("maxSkew"), c.MaxSkew, "not in valid range (0, inf)"))
	}
	if c.TopologyKey == "" {
		errs = append(errs, field.Required(path.Child("topologyKey"), "can not be empty"))
	} else {
		for _, why := range validation.IsQualifiedName(c.TopologyKey) {
			errs = append(errs, field.Invalid(path.Child("topologyKey"), c.TopologyKey, why))
		}
	}
	switch c.WhenUnsatisfiable {
	case corev1.DoNotSchedule, corev1.ScheduleAnyway:
	case "":
		errs = append(errs, field.Required(path.Child("whenUnsatisfiable"), "can not be empty"))
	default:
		errs = append(errs, field.NotSupported(path.Child("whenUnsatisfiable"), c.WhenUnsatisfiable,
			[]corev1.UnsatisfiableConstraintAction{corev1.DoNotSchedule, corev1.ScheduleAnyway}))
	}
	if c.LabelSelector != nil {
		errs = append(errs, field.Forbidden(path.Child("labelSelector"), "constraint must not define a selector, as they deduced for each pod"))
	}
	if len(c.MatchLabelKeys) > 0 {
		errs = append(errs, field.Forbidden(path.Child("matchLabelKeys"), "constraint must not define label keys: they go with a selector"))
	}
	return errs
}

func checkVolumeBinding(args *configv1.VolumeBindingArgs, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if ptr.Deref(args.BindTimeoutSeconds, 0) < 0 {
		errs = append(errs, field.Invalid(path.Child("bindTimeoutSeconds"), *args.BindTimeoutSeconds, "invalid BindTimeoutSeconds, should not be a negative value"))
	}
	if args.Shape != nil {
		errs = append(errs, field.Forbidden(path.Child("shape"), "scoring by storage capacity (StorageCapacityScoring) is not available"))
	}
	return errs
}

func checkDynamicResources(args *configv1.DynamicResourcesArgs, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if t := args.FilterTimeout; t != nil && t.Duration < 0 {
		errs = append(errs, field.Invalid(path.Child("filterTimeout"), t.Duration.String(), "must not be negative"))
	}
	if t := args.BindingTimeout; t != nil && t.Seconds() < 1 {
		errs = append(errs, field.Invalid(path.Child("bindingTimeout"), t.Duration.String(), "must be at least 1 second"))
	}
	return errs
}
