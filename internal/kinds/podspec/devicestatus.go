package podspec

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

const claimPrefix = "claim:"

// deviceStatuses checks what is said of the devices of containers: that the containers asked for them, how they are, and each once.
// Containers that the pod does not have are passed over, as their other fields are.
func deviceStatuses(pod *corev1.Pod, statuses []corev1.ContainerStatus, containers []corev1.Container, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range statuses {
		at := slices.IndexFunc(containers, func(c corev1.Container) bool { return c.Name == statuses[i].Name })
		for k, one := range statuses[i].AllocatedResourcesStatus {
			where := path.Index(i).Child("allocatedResourcesStatus").Index(k)
			if at >= 0 {
				errs = append(errs, askedFor(pod, &containers[at], one.Name, where.Child("name"))...)
			}
			errs = append(errs, healths(one.Resources, where.Child("resources"))...)
		}
	}
	return errs
}

// askedFor checks that a container asks for a resource, or uses the claim or part of a claim that the name tells.
func askedFor(pod *corev1.Pod, c *corev1.Container, name corev1.ResourceName, path *field.Path) field.ErrorList {
	words := "must match one of the container's resource requests"
	_, found := c.Resources.Requests[name]
	if strings.HasPrefix(string(name), claimPrefix) {
		words = "must match one of the container's resource claims in a format 'claim:<claimName>/<request>' or 'claim:<claimName>' if request is empty"
		found = slices.ContainsFunc(c.Resources.Claims, func(r corev1.ResourceClaim) bool { return string(name) == partName(r.Name, r.Request) })
		if x := pod.Status.ExtendedResourceClaimStatus; x != nil {
			found = found || slices.ContainsFunc(x.RequestMappings, func(m corev1.ContainerExtendedResourceRequest) bool {
				return m.ContainerName == c.Name && string(name) == partName(x.ResourceClaimName, m.RequestName)
			})
		}
	}
	if found {
		return nil
	}
	return field.ErrorList{field.Invalid(path, name, words)}
}

func partName(claim, request string) string {
	if request == "" {
		return claimPrefix + claim
	}
	return claimPrefix + claim + "/" + request
}

func healths(list []corev1.ResourceHealth, path *field.Path) field.ErrorList {
	known := []corev1.ResourceHealthStatus{corev1.ResourceHealthStatusHealthy, corev1.ResourceHealthStatusUnhealthy, corev1.ResourceHealthStatusUnknown}
	var errs field.ErrorList
	seen := sets.New[corev1.ResourceID]()
	for i, r := range list {
		if !slices.Contains(known, r.Health) {
			errs = append(errs, field.NotSupported(path.Index(i).Child("health"), r.Health, known))
		}
		if seen.Has(r.ResourceID) {
			errs = append(errs, field.Duplicate(path.Index(i).Child("resourceID"), r.ResourceID))
		}
		seen.Insert(r.ResourceID)
	}
	return errs
}
