package discovery

import (
	"cmp"
	"slices"
)

// compareGroups puts groups in the order that decides which kind a bare name means where two groups have it:
// the built-in ones as upstream lists them, then all others by name.
func compareGroups(a, b group) int {
	return cmp.Or(cmp.Compare(rank(a.name), rank(b.name)), cmp.Compare(a.name, b.name))
}

func rank(name string) int {
	order := []string{
		"",
		"apiregistration.k8s.io",
		"apps",
		"events.k8s.io",
		"authentication.k8s.io",
		"authorization.k8s.io",
		"autoscaling",
		"batch",
		"certificates.k8s.io",
		"networking.k8s.io",
		"policy",
		"rbac.authorization.k8s.io",
		"storage.k8s.io",
		"admissionregistration.k8s.io",
		"apiextensions.k8s.io",
		"scheduling.k8s.io",
		"coordination.k8s.io",
		"node.k8s.io",
		"discovery.k8s.io",
		"resource.k8s.io",
		"flowcontrol.apiserver.k8s.io",
		"internal.apiserver.k8s.io",
		"storagemigration.k8s.io",
	}
	if i := slices.Index(order, name); i >= 0 {
		return i
	}
	return len(order)
}
