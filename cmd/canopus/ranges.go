package main

import (
	"net/netip"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
)

// serviceRanges returns the ranges that ServiceCIDRs add to the configured one: those that are ready and not deleted, in the order
// of their names.
func serviceRanges(f informers.SharedInformerFactory) func() []netip.Prefix {
	i := f.Networking().V1().ServiceCIDRs()
	i.Informer()
	return func() []netip.Prefix {
		list, err := i.Lister().List(labels.Everything())
		if err != nil {
			return nil
		}
		slices.SortFunc(list, func(a, b *networkingv1.ServiceCIDR) int { return strings.Compare(a.Name, b.Name) })
		var out []netip.Prefix
		for _, r := range list {
			if r.DeletionTimestamp != nil || !meta.IsStatusConditionTrue(r.Status.Conditions, networkingv1.ServiceCIDRConditionReady) {
				continue
			}
			for _, text := range r.Spec.CIDRs {
				if p, err := netip.ParsePrefix(text); err == nil {
					out = append(out, p)
				}
			}
		}
		return out
	}
}
