package podspec

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds/check"
)

// claimStatuses checks which claims a pod's status names as made for it.
func claimStatuses(pod *corev1.Pod, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := check.Duplicates[string]{}
	for i, s := range pod.Status.ResourceClaimStatuses {
		at := path.Child("resourceClaimStatuses").Index(i)
		if !slices.ContainsFunc(pod.Spec.ResourceClaims, func(c corev1.PodResourceClaim) bool { return c.Name == s.Name }) {
			errs = append(errs, field.Invalid(at.Child("name"), s.Name, "must match the name of an entry in `spec.resourceClaims`"))
		}
		errs = append(errs, seen.Check(s.Name, at.Child("name"))...)
		if s.ResourceClaimName != nil {
			errs = append(errs, check.Subdomain(*s.ResourceClaimName, at.Child("name"))...)
		}
	}
	if x := pod.Status.ExtendedResourceClaimStatus; x != nil {
		errs = append(errs, extendedClaimStatus(&pod.Spec, x, path.Child("extendedResourceClaimStatus"))...)
	}
	return errs
}

// extendedClaimStatus checks which requests of a claim are said to stand for extended resources of which containers.
func extendedClaimStatus(spec *corev1.PodSpec, s *corev1.PodExtendedResourceClaimStatus, path *field.Path) field.ErrorList {
	errs := check.RequiredSubdomain(s.ResourceClaimName, path.Child("resourceClaimName"))
	if len(s.RequestMappings) == 0 {
		errs = append(errs, field.Required(path.Child("requestMappings"), "must name at least one extended resource"))
	}
	seen := check.Duplicates[corev1.ContainerExtendedResourceRequest]{}
	for i, m := range s.RequestMappings {
		at := path.Child("requestMappings").Index(i)
		errs = append(errs, invalids(at.Child("requestName"), m.RequestName, validation.IsDNS1123Label(m.RequestName))...)
		errs = append(errs, seen.Check(corev1.ContainerExtendedResourceRequest{ContainerName: m.ContainerName, ResourceName: m.ResourceName}, at)...)
		c := containerNamed(spec, m.ContainerName)
		if c == nil {
			errs = append(errs, field.Invalid(at.Child("containerName"), m.ContainerName, "must match the name of an entry in `spec.initContainers` or `spec.containers`"))
			continue
		}
		if _, asked := c.Resources.Requests[corev1.ResourceName(m.ResourceName)]; !asked {
			errs = append(errs, field.Invalid(at.Child("resourceName"), m.ResourceName, "must match one of the container's resource requests"))
		}
	}
	return errs
}

func containerNamed(spec *corev1.PodSpec, name string) *corev1.Container {
	for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}
