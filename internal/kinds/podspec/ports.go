package podspec

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds/check"
)

func validatePorts(ports []corev1.ContainerPort, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := check.Duplicates[string]{}
	for i, p := range ports {
		at := path.Index(i)
		if p.Name != "" {
			if msgs := validation.IsValidPortName(p.Name); len(msgs) > 0 {
				errs = append(errs, invalids(at.Child("name"), p.Name, msgs)...)
			} else {
				errs = append(errs, seen.Check(p.Name, at.Child("name"))...)
			}
		}
		if p.ContainerPort == 0 {
			errs = append(errs, field.Required(at.Child("containerPort"), ""))
		} else {
			errs = append(errs, check.Port(p.ContainerPort, at.Child("containerPort"))...)
		}
		if p.HostPort != 0 {
			errs = append(errs, check.Port(p.HostPort, at.Child("hostPort"))...)
		}
		errs = append(errs, check.RequiredOneOf(p.Protocol, at.Child("protocol"), corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP)...)
		if p.HostIP != "" {
			errs = append(errs, check.LegacyIP(p.HostIP, at.Child("hostIP"))...)
		}
	}
	return errs
}

// hostPortConflicts refuses a host port that two containers claim.
func hostPortConflicts(containers []corev1.Container, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := check.Duplicates[string]{}
	for i := range containers {
		for j, p := range containers[i].Ports {
			if p.HostPort != 0 {
				key := fmt.Sprintf("%s/%s/%d", p.Protocol, p.HostIP, p.HostPort)
				errs = append(errs, seen.Check(key, path.Index(i).Child("ports").Index(j).Child("hostPort"))...)
			}
		}
	}
	return errs
}

// onHostNetwork: there, a container cannot listen on another port than the host's.
func onHostNetwork(ports []corev1.ContainerPort, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, p := range ports {
		if p.HostPort != 0 && p.HostPort != p.ContainerPort {
			errs = append(errs, field.Invalid(path.Index(i).Child("containerPort"), p.ContainerPort, "must match `hostPort` when `hostNetwork` is true"))
		}
	}
	return errs
}
