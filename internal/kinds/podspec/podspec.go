// Package podspec knows the rules of pod specs and pod templates: what a user may leave out, what is refused, and what
// an update may change. Kinds that contain a pod spec share it.
//
// Defaults: defaults.go, default_volumes.go. Rules: validate.go and, by subject, annotations.go, containers.go, env.go, ports.go,
// probes.go, resources.go, scheduling.go, security.go, topology.go, volumes.go, volume_sources.go; claim.go, persistent.go and
// persistent_sources.go are of volumes that outlive pods. Updates: update.go, resize.go,
// status.go. What is off: gated.go. Quality of service: qos.go. Warnings: warnings.go, warnings_volumes.go.
package podspec

import (
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// equal compares by meaning: quantities by value, nil and empty lists alike.
func equal(a, b any) bool { return apiequality.Semantic.DeepEqual(a, b) }

// invalids makes one Invalid error of each message.
func invalids(path *field.Path, value any, msgs []string) field.ErrorList {
	var errs field.ErrorList
	for _, msg := range msgs {
		errs = append(errs, field.Invalid(path, value, msg))
	}
	return errs
}

// eachContainer calls visit with every container of spec, which is at path: init containers, containers, ephemeral ones.
func eachContainer(spec *corev1.PodSpec, path *field.Path, visit func(c *corev1.Container, at *field.Path)) {
	for i := range spec.InitContainers {
		visit(&spec.InitContainers[i], path.Child("initContainers").Index(i))
	}
	for i := range spec.Containers {
		visit(&spec.Containers[i], path.Child("containers").Index(i))
	}
	for i := range spec.EphemeralContainers {
		visit((*corev1.Container)(&spec.EphemeralContainers[i].EphemeralContainerCommon), path.Child("ephemeralContainers").Index(i))
	}
}
