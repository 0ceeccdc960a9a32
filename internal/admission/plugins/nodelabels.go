package plugins

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"canopus/internal/admission"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
)

// restrictNode lets a node describe itself, but not steer which pods it gets by labels that others rely on, or by taints.
func restrictNode(r *admission.Request, self string) error {
	name := r.Name
	now, _ := r.Object.(*corev1.Node)
	if r.Operation == admission.Create && now != nil {
		name = now.Name
	}
	if name != self {
		return forbidden(r, fmt.Sprintf("node %q is not allowed to modify node %q", self, name))
	}
	switch r.Operation {
	case admission.Create:
		return restrictNewNode(r, now, self)
	case admission.Update:
		old, ok := r.Old.(*corev1.Node)
		if !ok || now == nil {
			return forbidden(r, fmt.Sprintf("unexpected types %T and %T", r.Old, r.Object))
		}
		return restrictNodeUpdate(r, now, old, self)
	}
	return nil
}

func restrictNewNode(r *admission.Request, now *corev1.Node, self string) error {
	switch {
	case now == nil:
		return forbidden(r, fmt.Sprintf("unexpected type %T", r.Object))
	case now.Spec.ConfigSource != nil:
		return forbidden(r, fmt.Sprintf("node %q is not allowed to create nodes with a non-nil configSource", self))
	case len(now.OwnerReferences) > 0:
		return forbidden(r, fmt.Sprintf("node %q is not allowed to set ownerReferences on itself", self))
	}
	if bad := reservedLabels(now.Labels, nil); len(bad) > 0 {
		return forbidden(r, fmt.Sprintf("node %q is not allowed to set the following labels: %s", self, strings.Join(bad, ", ")))
	}
	return nil
}

func restrictNodeUpdate(r *admission.Request, now, old *corev1.Node, self string) error {
	switch {
	case now.Spec.ConfigSource != nil && !equality.Semantic.DeepEqual(now.Spec.ConfigSource, old.Spec.ConfigSource):
		return forbidden(r, fmt.Sprintf("node %q is not allowed to update configSource to a new non-nil configSource", self))
	case !equality.Semantic.DeepEqual(now.Spec.Taints, old.Spec.Taints):
		return forbidden(r, fmt.Sprintf("node %q is not allowed to modify taints", self))
	case !equality.Semantic.DeepEqual(now.OwnerReferences, old.OwnerReferences):
		return forbidden(r, fmt.Sprintf("node %q is not allowed to modify ownerReferences", self))
	}
	if bad := reservedLabels(now.Labels, old.Labels); len(bad) > 0 {
		return forbidden(r, fmt.Sprintf("node %q is not allowed to modify labels: %s", self, strings.Join(bad, ", ")))
	}
	return nil
}

// reservedLabels returns, sorted, the labels in which now and old differ and that nodes may not write.
func reservedLabels(now, old map[string]string) []string {
	bad := map[string]bool{}
	for k, v := range now {
		if have, ok := old[k]; (!ok || have != v) && !nodeMayLabel(k) {
			bad[k] = true
		}
	}
	for k := range old {
		if _, ok := now[k]; !ok && !nodeMayLabel(k) {
			bad[k] = true
		}
	}
	return slices.Sorted(maps.Keys(bad))
}

// nodeMayLabel says whether an agent may write the label. Of Kubernetes' own only those that agents report; the prefix
// node-restriction.kubernetes.io is what administrators separate nodes by.
func nodeMayLabel(key string) bool {
	prefix, _, ok := strings.Cut(key, "/")
	if !ok {
		return true
	}
	under := func(domain string) bool { return prefix == domain || strings.HasSuffix(prefix, "."+domain) }
	if !under("kubernetes.io") && !under("k8s.io") {
		return true
	}
	if under("kubelet.kubernetes.io") || under("node.kubernetes.io") {
		return true
	}
	switch key {
	case corev1.LabelHostname, corev1.LabelTopologyZone, corev1.LabelTopologyRegion,
		corev1.LabelFailureDomainBetaZone, corev1.LabelFailureDomainBetaRegion,
		corev1.LabelInstanceType, corev1.LabelInstanceTypeStable, corev1.LabelOSStable, corev1.LabelArchStable,
		"beta.kubernetes.io/os", "beta.kubernetes.io/arch":
		return true
	}
	return false
}
