package scheduler

import configv1 "k8s.io/kube-scheduler/config/v1"

// ignoredByExtenders are the resources that extenders see to, so that our own filter need not.
func ignoredByExtenders(list []configv1.Extender) []string {
	var out []string
	for _, e := range list {
		for _, r := range e.ManagedResources {
			if r.IgnoredByScheduler {
				out = append(out, r.Name)
			}
		}
	}
	return out
}
