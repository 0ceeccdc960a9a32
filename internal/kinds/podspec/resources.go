package podspec

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation/field"
	resourcehelper "k8s.io/component-helpers/resource"

	"canopus/internal/kinds/check"
)

// ValidateResources checks requests, limits and claims of one container; claims names the pod's claims.
func ValidateResources(r *corev1.ResourceRequirements, claims map[string]bool, path *field.Path) field.ErrorList {
	errs := compareResources(r, path, validateResource)
	seen := check.Duplicates[corev1.ResourceClaim]{}
	for i, c := range r.Claims {
		at := path.Child("claims").Index(i)
		if c.Name == "" {
			errs = append(errs, field.Required(at.Child("name"), ""))
			continue
		}
		errs = append(errs, seen.Check(c, at)...)
		if !claims[c.Name] {
			errs = append(errs, field.NotFound(at.Child("name"), c.Name))
		}
	}
	return errs
}

// compareResources checks each quantity by itself, then requests against limits.
func compareResources(r *corev1.ResourceRequirements, path *field.Path,
	one func(corev1.ResourceName, resource.Quantity, *field.Path) field.ErrorList,
) field.ErrorList {
	var errs field.ErrorList
	basic, pages := false, false
	note := func(name corev1.ResourceName) {
		basic = basic || name == corev1.ResourceCPU || name == corev1.ResourceMemory
		pages = pages || check.HugePages(name)
	}
	for _, name := range sortedNames(r.Limits) {
		note(name)
		errs = append(errs, one(name, r.Limits[name], path.Child("limits").Key(string(name)))...)
	}
	for _, name := range sortedNames(r.Requests) {
		note(name)
		errs = append(errs, one(name, r.Requests[name], path.Child("requests").Key(string(name)))...)
		errs = append(errs, compareRequest(r, name, path)...)
	}
	if pages && !basic {
		errs = append(errs, field.Forbidden(path, "HugePages require cpu or memory"))
	}
	return errs
}

// compareRequest: what cannot be overcommitted is requested exactly as it is limited, anything else at most so.
func compareRequest(r *corev1.ResourceRequirements, name corev1.ResourceName, path *field.Path) field.ErrorList {
	request, exact := r.Requests[name], check.WholeUnits(name)
	limit, limited := r.Limits[name]
	switch {
	case !limited && exact:
		return field.ErrorList{field.Required(path.Child("limits"), "Limit must be set for non overcommitable resources")}
	case !limited:
		return nil
	case exact && request.Cmp(limit) != 0:
		return field.ErrorList{field.Invalid(path.Child("requests"), request.String(), fmt.Sprintf("must be equal to %s limit of %s", name, limit.String()))}
	case request.Cmp(limit) > 0:
		return field.ErrorList{field.Invalid(path.Child("requests"), request.String(), fmt.Sprintf("must be less than or equal to %s limit of %s", name, limit.String()))}
	}
	return nil
}

func validateResource(name corev1.ResourceName, q resource.Quantity, path *field.Path) field.ErrorList {
	return append(ContainerResourceName(name, path), check.Quantity(name, q, path)...)
}

// ContainerResourceName checks the name of something a container can request.
func ContainerResourceName(name corev1.ResourceName, path *field.Path) field.ErrorList {
	errs := check.ResourceName(string(name), path)
	switch {
	case !strings.Contains(string(name), "/"):
		standard := []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage}
		if !slices.Contains(standard, name) && !check.HugePages(name) {
			errs = append(errs, field.Invalid(path, name, "must be a standard resource for containers"))
		}
	case !check.Native(name) && !check.Extended(name):
		errs = append(errs, field.Invalid(path, name, "doesn't follow extended resource name standard"))
	}
	return errs
}

func sortedNames(list corev1.ResourceList) []corev1.ResourceName {
	names := make([]corev1.ResourceName, 0, len(list))
	for name := range list {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// validatePodResources checks the requests and limits of the pod as a whole.
func validatePodResources(spec *corev1.PodSpec, path *field.Path) field.ErrorList {
	r := spec.Resources
	if r == nil {
		return nil
	}
	var errs field.ErrorList
	if len(r.Claims) > 0 {
		errs = append(errs, field.Forbidden(path.Child("claims"), "claims cannot be set for Resources at pod-level"))
	}
	errs = append(errs, compareResources(r, path, func(name corev1.ResourceName, q resource.Quantity, at *field.Path) field.ErrorList {
		if !resourcehelper.IsSupportedPodLevelResource(name) {
			supported := resourcehelper.SupportedPodLevelResources().UnsortedList()
			slices.Sort(supported)
			return field.ErrorList{field.NotSupported(at, name, supported)}
		}
		return check.Quantity(name, q, at)
	})...)
	sums := resourcehelper.AggregateContainerRequests(&corev1.Pod{Spec: *spec}, resourcehelper.PodResourcesOptions{SkipPodLevelResources: true})
	for _, name := range sortedNames(sums) {
		sum := sums[name]
		if own, ok := r.Requests[name]; ok && own.Cmp(sum) < 0 {
			errs = append(errs, field.Invalid(path.Child("requests").Key(string(name)), own.String(),
				fmt.Sprintf("must be greater than or equal to aggregate container requests of %s", sum.String())))
		}
	}
	return append(errs, withinPod(spec, path)...)
}

// withinPod refuses containers that may use more than the pod.
func withinPod(spec *corev1.PodSpec, _ *field.Path) field.ErrorList {
	var errs field.ErrorList
	each := func(containers []corev1.Container, path *field.Path) {
		for i := range containers {
			limits := containers[i].Resources.Limits
			for _, name := range sortedNames(limits) {
				limit := limits[name]
				if own, ok := spec.Resources.Limits[name]; ok && limit.Cmp(own) > 0 {
					errs = append(errs, field.Invalid(path.Index(i).Child("resources", "limits").Key(string(name)), limit.String(),
						fmt.Sprintf("must be less than or equal to pod limits of %s", own.String())))
				}
			}
		}
	}
	each(spec.Containers, field.NewPath("spec", "containers"))
	each(spec.InitContainers, field.NewPath("spec", "initContainers"))
	return errs
}

func (v *validator) resizePolicy(policies []corev1.ContainerResizePolicy, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := check.Duplicates[corev1.ResourceName]{}
	for i, p := range policies {
		at := path.Index(i)
		errs = append(errs, seen.Check(p.ResourceName, at)...)
		errs = append(errs, check.RequiredOneOf(p.ResourceName, at.Child("resourceName"), corev1.ResourceCPU, corev1.ResourceMemory)...)
		errs = append(errs, check.RequiredOneOf(p.RestartPolicy, at.Child("restartPolicy"), corev1.NotRequired, corev1.RestartContainer)...)
		if v.spec.RestartPolicy == corev1.RestartPolicyNever && p.RestartPolicy == corev1.RestartContainer {
			errs = append(errs, field.Invalid(at.Child("restartPolicy"), p.RestartPolicy, "must be 'NotRequired' when `restartPolicy` is 'Never'"))
		}
	}
	return errs
}
