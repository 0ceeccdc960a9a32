package quota

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	resourcehelper "k8s.io/component-helpers/resource"

	"canopus/internal/kinds/check"
	"canopus/internal/kinds/podspec"
)

const (
	requestsPrefix = corev1.DefaultResourceRequestsPrefix
	limitsPrefix   = "limits."
)

// podName says whether a pod can use name: pods, cpu, memory and ephemeral-storage by themselves, requested and limited; huge pages and
// extended resources as requested.
func podName(name corev1.ResourceName) bool {
	switch name {
	case corev1.ResourcePods, corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage,
		corev1.ResourceRequestsCPU, corev1.ResourceRequestsMemory, corev1.ResourceRequestsEphemeralStorage,
		corev1.ResourceLimitsCPU, corev1.ResourceLimitsMemory, corev1.ResourceLimitsEphemeralStorage:
		return true
	}
	requested, ok := strings.CutPrefix(string(name), requestsPrefix)
	return check.HugePages(corev1.ResourceName(requested)) || ok && !check.Native(name)
}

// Live says whether a pod still uses what it asks for: one that has ended does not, nor one that should long be gone.
func Live(pod *corev1.Pod, now time.Time) bool {
	if pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded {
		return false
	}
	if pod.DeletionTimestamp != nil && pod.DeletionGracePeriodSeconds != nil {
		grace := time.Duration(*pod.DeletionGracePeriodSeconds) * time.Second
		return !now.After(pod.DeletionTimestamp.Add(grace))
	}
	return true
}

func podUsage(obj runtime.Object, now time.Time) corev1.ResourceList {
	pod, ok := obj.(*corev1.Pod)
	if !ok || !Live(pod, now) {
		return nil
	}
	options := resourcehelper.PodResourcesOptions{UseStatusResources: true}
	return computed(resourcehelper.PodRequests(pod, options), resourcehelper.PodLimits(pod, options))
}

// computed is what requests and limits amount to by the names of quotas.
func computed(requests, limits corev1.ResourceList) corev1.ResourceList {
	out := corev1.ResourceList{corev1.ResourcePods: *resource.NewQuantity(1, resource.DecimalSI)}
	for name, q := range requests {
		requested := corev1.ResourceName(requestsPrefix + string(name))
		switch {
		case compute(name), check.HugePages(name):
			out[name], out[requested] = q, q
		case check.Extended(name):
			out[requested] = q
		}
	}
	for name, q := range limits {
		if compute(name) {
			out[corev1.ResourceName(limitsPrefix+string(name))] = q
		}
	}
	return out
}

func compute(name corev1.ResourceName) bool {
	return name == corev1.ResourceCPU || name == corev1.ResourceMemory || name == corev1.ResourceEphemeralStorage
}

// podMust wants each container to say how much cpu and memory it requests and is limited to, as far as names limit that, unless the
// pod says so as a whole.
func podMust(obj runtime.Object, names []corev1.ResourceName) error {
	pod, ok := obj.(*corev1.Pod)
	if !ok || resourcehelper.IsPodLevelResourcesSet(pod) {
		return nil
	}
	missing := map[string][]string{}
	look := func(containers []corev1.Container) {
		for i := range containers {
			has := computed(containers[i].Resources.Requests, containers[i].Resources.Limits)
			for _, name := range names {
				if _, said := has[name]; !said && explicit(name) {
					missing[string(name)] = append(missing[string(name)], containers[i].Name)
				}
			}
		}
	}
	look(pod.Spec.Containers)
	look(pod.Spec.InitContainers)
	if len(missing) == 0 {
		return nil
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(missing)) {
		slices.Sort(missing[name])
		parts = append(parts, name+" for: "+strings.Join(slices.Compact(missing[name]), ","))
	}
	return fmt.Errorf("must specify %s", strings.Join(parts, "; "))
}

// explicit are the resources that nobody may leave open where a quota limits them.
func explicit(name corev1.ResourceName) bool {
	switch name {
	case corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceRequestsCPU, corev1.ResourceRequestsMemory, corev1.ResourceLimitsCPU, corev1.ResourceLimitsMemory:
		return true
	}
	return false
}

func podInScope(obj runtime.Object, r corev1.ScopedResourceSelectorRequirement) (bool, error) {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return false, fmt.Errorf("a %T is no pod", obj)
	}
	switch r.ScopeName {
	case corev1.ResourceQuotaScopeTerminating:
		return terminating(pod), nil
	case corev1.ResourceQuotaScopeNotTerminating:
		return !terminating(pod), nil
	case corev1.ResourceQuotaScopeBestEffort:
		return podspec.QOS(pod) == corev1.PodQOSBestEffort, nil
	case corev1.ResourceQuotaScopeNotBestEffort:
		return podspec.QOS(pod) != corev1.PodQOSBestEffort, nil
	case corev1.ResourceQuotaScopePriorityClass:
		return selects(r, pod.Spec.PriorityClassName)
	case corev1.ResourceQuotaScopeCrossNamespacePodAffinity:
		return crossesNamespaces(pod.Spec.Affinity), nil
	}
	return false, nil
}

func terminating(pod *corev1.Pod) bool {
	return pod.Spec.ActiveDeadlineSeconds != nil && *pod.Spec.ActiveDeadlineSeconds >= 0
}

// selects applies r's operator to value; "" is no value.
func selects(r corev1.ScopedResourceSelectorRequirement, value string) (bool, error) {
	selector, err := metav1.LabelSelectorAsSelector(&metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
		{Key: string(r.ScopeName), Operator: metav1.LabelSelectorOperator(r.Operator), Values: r.Values},
	}})
	if err != nil {
		return false, fmt.Errorf("scope %s: %w", r.ScopeName, err)
	}
	set := labels.Set{}
	if value != "" {
		set[string(r.ScopeName)] = value
	}
	return selector.Matches(set), nil
}

// crossesNamespaces says whether a pod looks at pods of other namespaces to find its place.
func crossesNamespaces(a *corev1.Affinity) bool {
	if a == nil {
		return false
	}
	term := func(t corev1.PodAffinityTerm) bool { return len(t.Namespaces) > 0 || t.NamespaceSelector != nil }
	weighted := func(t corev1.WeightedPodAffinityTerm) bool { return term(t.PodAffinityTerm) }
	if p := a.PodAffinity; p != nil {
		if slices.ContainsFunc(p.RequiredDuringSchedulingIgnoredDuringExecution, term) ||
			slices.ContainsFunc(p.PreferredDuringSchedulingIgnoredDuringExecution, weighted) {
			return true
		}
	}
	p := a.PodAntiAffinity
	return p != nil && (slices.ContainsFunc(p.RequiredDuringSchedulingIgnoredDuringExecution, term) ||
		slices.ContainsFunc(p.PreferredDuringSchedulingIgnoredDuringExecution, weighted))
}
