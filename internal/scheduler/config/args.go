package config

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	configv1 "k8s.io/kube-scheduler/config/v1"
	"k8s.io/utils/ptr"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Args are the arguments of the plugins that take any. Every field that has a default is set.
type Args struct {
	DefaultPreemption  configv1.DefaultPreemptionArgs
	DynamicResources   configv1.DynamicResourcesArgs
	InterPodAffinity   configv1.InterPodAffinityArgs
	NodeAffinity       configv1.NodeAffinityArgs
	BalancedAllocation configv1.NodeResourcesBalancedAllocationArgs
	NodeResourcesFit   configv1.NodeResourcesFitArgs
	PodTopologySpread  configv1.PodTopologySpreadArgs
	VolumeBinding      configv1.VolumeBindingArgs
}

const bindTimeoutSeconds = 600

// resolveArgs reads what the file says about plugins' arguments, over the defaults.
func resolveArgs(list []configv1.PluginConfig, path *field.Path) (Args, field.ErrorList) {
	var out Args
	var errs field.ErrorList
	seen := map[string]bool{}
	for i, c := range list {
		at := path.Index(i)
		if seen[c.Name] {
			errs = append(errs, field.Duplicate(at.Child("name"), c.Name))
			continue
		}
		seen[c.Name] = true
		if find(c.Name) == nil {
			errs = append(errs, field.NotSupported(at.Child("name"), c.Name, known()))
			continue
		}
		if !out.take(c.Args.Object) {
			errs = append(errs, field.Forbidden(at.Child("args"), fmt.Sprintf("plugin %s takes no arguments", c.Name)))
			continue
		}
		errs = append(errs, checkArgs(c.Args.Object, at.Child("args"))...)
	}
	out.fill()
	return out, errs
}

func (a *Args) take(object runtime.Object) bool {
	switch args := object.(type) {
	case *configv1.DefaultPreemptionArgs:
		a.DefaultPreemption = *args
	case *configv1.DynamicResourcesArgs:
		a.DynamicResources = *args
	case *configv1.InterPodAffinityArgs:
		a.InterPodAffinity = *args
	case *configv1.NodeAffinityArgs:
		a.NodeAffinity = *args
	case *configv1.NodeResourcesBalancedAllocationArgs:
		a.BalancedAllocation = *args
	case *configv1.NodeResourcesFitArgs:
		a.NodeResourcesFit = *args
	case *configv1.PodTopologySpreadArgs:
		a.PodTopologySpread = *args
	case *configv1.VolumeBindingArgs:
		a.VolumeBinding = *args
	default:
		return false
	}
	return true
}

// fill sets defaults.
func (a *Args) fill() {
	unset(&a.DefaultPreemption.MinCandidateNodesPercentage, 10)
	unset(&a.DefaultPreemption.MinCandidateNodesAbsolute, 100)
	unset(&a.DynamicResources.FilterTimeout, metav1.Duration{Duration: configv1.DynamicResourcesFilterTimeoutDefault})
	unset(&a.DynamicResources.BindingTimeout, metav1.Duration{Duration: configv1.DynamicResourcesBindingTimeoutDefault})
	unset(&a.InterPodAffinity.HardPodAffinityWeight, 1)
	unset(&a.VolumeBinding.BindTimeoutSeconds, bindTimeoutSeconds)
	a.BalancedAllocation.Resources = weighed(a.BalancedAllocation.Resources)
	if a.NodeResourcesFit.ScoringStrategy == nil {
		a.NodeResourcesFit.ScoringStrategy = &configv1.ScoringStrategy{}
	}
	strategy := a.NodeResourcesFit.ScoringStrategy.DeepCopy()
	if strategy.Type == "" {
		strategy.Type = configv1.LeastAllocated
	}
	strategy.Resources = weighed(strategy.Resources)
	a.NodeResourcesFit.ScoringStrategy = strategy
	if a.PodTopologySpread.DefaultingType == "" {
		a.PodTopologySpread.DefaultingType = configv1.SystemDefaulting
	}
}

func unset[T any](p **T, value T) {
	if *p == nil {
		*p = ptr.To(value)
	}
}

// weighed gives resources their default weight; without any, CPU and memory count the same.
func weighed(list []configv1.ResourceSpec) []configv1.ResourceSpec {
	if len(list) == 0 {
		return []configv1.ResourceSpec{{Name: string(corev1.ResourceCPU), Weight: 1}, {Name: string(corev1.ResourceMemory), Weight: 1}}
	}
	out := make([]configv1.ResourceSpec, len(list))
	for i, r := range list {
		if out[i] = r; r.Weight == 0 {
			out[i].Weight = 1
		}
	}
	return out
}
