package why

import (
	"cmp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// explainPods tells of the pods of a workload: the worst trouble first, each once for all pods that have it.
func (f *Facts) explainPods(pods []*corev1.Pod) []Finding {
	type group struct {
		chain []Finding
		names []string
		key   string
	}
	var groups []*group
	for _, p := range pods {
		chain := f.explainPod(p)
		if len(chain) == 0 {
			continue
		}
		key := chainKey(chain)
		i := slices.IndexFunc(groups, func(g *group) bool { return g.key == key })
		if i < 0 {
			i = len(groups)
			groups = append(groups, &group{chain: chain, key: key})
		}
		groups[i].names = append(groups[i].names, p.Name)
		if len(chain[0].Log) > 0 && len(groups[i].chain[0].Log) == 0 {
			groups[i].chain = chain // logs are read of one pod of each kind of trouble
		}
	}
	slices.SortStableFunc(groups, func(a, b *group) int {
		return cmp.Or(cmp.Compare(a.chain[0].Severity.rank(), b.chain[0].Severity.rank()), cmp.Compare(len(b.names), len(a.names)))
	})
	var out []Finding
	for _, g := range groups {
		for _, x := range g.chain {
			x.Count, x.Of, x.Objects = len(g.names), len(pods), g.names
			out = append(out, x)
		}
	}
	return out
}

// chainKey is equal for chains that are the same trouble.
func chainKey(chain []Finding) string {
	var b strings.Builder
	for _, x := range chain {
		b.WriteString(string(x.Severity) + " " + string(x.Link) + " " + x.Reason + " " + x.key + "\n")
	}
	return b.String()
}

// dropDone leaves out pods that ended well, and failed ones that a controller has made anew.
func dropDone(pods []*corev1.Pod) []*corev1.Pod {
	return slices.DeleteFunc(slices.Clone(pods), func(p *corev1.Pod) bool {
		return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
	})
}
