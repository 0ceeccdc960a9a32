package scheduler

import (
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

func spreadBy(when corev1.UnsatisfiableConstraintAction, topology string, change func(*corev1.TopologySpreadConstraint)) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		c := corev1.TopologySpreadConstraint{MaxSkew: 1, TopologyKey: topology, WhenUnsatisfiable: when, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "a"}}}
		if change != nil {
			change(&c)
		}
		p.Spec.TopologySpreadConstraints = append(p.Spec.TopologySpreadConstraints, c)
	}
}

func TestSpreadFilter(t *testing.T) {
	t.Parallel()
	hard := func(topology string, change func(*corev1.TopologySpreadConstraint)) func(*corev1.Pod) {
		return spreadBy(corev1.DoNotSchedule, topology, change)
	}
	honor, ignore := ptr.To(corev1.NodeInclusionPolicyHonor), ptr.To(corev1.NodeInclusionPolicyIgnore)
	inZones := func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"disk": "ssd"} }
	version := func(v string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Labels["version"] = v } }
	// a and b (ssd) are in zones 1 and 2, c (tainted) in zone 3, bare has no zone.
	tests := []struct {
		name   string
		placed map[string]func(*corev1.Pod)
		pod    func(*corev1.Pod)
		want   []string
	}{
		{"all equal", nil, hard("zone", nil), []string{"a", "b"}},
		{"an empty zone, tainted, counts", map[string]func(*corev1.Pod){"a": nil, "b": nil}, hard("zone", nil), nil},
		{"taints honored", map[string]func(*corev1.Pod){"a": nil, "b": nil}, hard("zone", func(c *corev1.TopologySpreadConstraint) { c.NodeTaintsPolicy = honor }), []string{"a", "b"}},
		{"affinity honored", map[string]func(*corev1.Pod){"a": nil, "b": nil}, with(inZones, hard("zone", nil)), []string{"a", "b"}},
		{"affinity ignored", map[string]func(*corev1.Pod){"a": nil, "b": nil}, with(inZones, hard("zone", func(c *corev1.TopologySpreadConstraint) { c.NodeAffinityPolicy = ignore })), nil},
		{"too few domains", map[string]func(*corev1.Pod){"a": nil}, with(inZones, hard("zone", func(c *corev1.TopologySpreadConstraint) { c.MinDomains = ptr.To(int32(3)) })), []string{"b"}},
		{"enough domains", map[string]func(*corev1.Pod){"a": nil, "b": nil}, with(inZones, hard("zone", func(c *corev1.TopologySpreadConstraint) { c.MinDomains = ptr.To(int32(2)) })), []string{"a", "b"}},
		{"terminating pods do not count", map[string]func(*corev1.Pod){"a": func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{} }}, hard("zone", nil), []string{"a", "b"}},
		{"a pod that it does not select", map[string]func(*corev1.Pod){"a": nil}, with(app("b"), hard("zone", nil)), []string{"a", "b"}},
		{"other versions do not count", map[string]func(*corev1.Pod){"a": version("1")}, with(version("2"), hard("zone", func(c *corev1.TopologySpreadConstraint) { c.MatchLabelKeys = []string{"version"} })),
			[]string{"a", "b"}},
		{"nodes without all labels are not looked at", map[string]func(*corev1.Pod){"a": nil, "b": nil},
			with(func(p *corev1.Pod) { p.Spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}} }, hard("zone", nil), hard("disk", nil)), []string{"a", "b"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := newCluster()
			for name, zone := range map[string]string{"a": "1", "b": "2", "c": "3", "bare": ""} {
				c.setNode(testNode(name, func(n *corev1.Node) {
					if zone != "" {
						n.Labels["zone"] = zone
					}
					if name < "bare" || name == "b" {
						n.Labels["disk"] = "ssd"
					}
					if name == "c" {
						n.Spec.Taints = []corev1.Taint{{Key: "k", Effect: corev1.TaintEffectNoSchedule}}
					}
				}))
			}
			for node, change := range tt.placed {
				c.place(newPodInfo(testPod("on-"+node, change)), node, false)
			}
			c.candidates()
			var got []string
			d := decision{}
			for _, n := range filter(c, newPending(testPod("p", tt.pod)), testOptions(), &d) {
				got = append(got, n.name)
			}
			if slices.Sort(got); !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v; %v", got, tt.want, d.tally.summary(d.total))
			}
		})
	}
}

func TestSpreadScore(t *testing.T) {
	t.Parallel()
	zone := func(z string) func(*corev1.Node) {
		return func(n *corev1.Node) {
			if z != "" {
				n.Labels[corev1.LabelTopologyZone] = z
			}
		}
	}
	owned := func(p *corev1.Pod) {
		p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web", UID: "web", Controller: ptr.To(true)}}
	}
	service := func(c *cluster) {
		c.workloads.setService(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "s"}, Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "a"}}})
	}
	set := func(c *cluster) {
		s := &Scheduler{cluster: c}
		s.observeReplicaSet(&appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", UID: "web"},
			Spec: appsv1.ReplicaSetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "a"}}}})
	}
	tests := []struct {
		name string
		know func(*cluster)
		pod  func(*corev1.Pod)
		want []int64 // by hand: 2 (+ln 6 a pod) for the host, 4 (+ln 4 a pod) for the zone, then to scale; of nodes a and b in zone 1, c in zone 2, bare without zone; nil: indifferent. There is one pod on a.
	}{
		{"belongs to nothing", nil, nil, nil},
		{"a Service", service, nil, []int64{22, 44, 55, 100}},
		{"a Service of others", service, app("b"), nil},
		{"a Service that is gone", func(c *cluster) {
			service(c)
			c.workloads.removeService(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "s"}})
		}, nil, nil},
		{"a ReplicaSet", set, owned, []int64{22, 44, 55, 100}},
		{"a ReplicaSet that is not its controller", set, nil, nil},
		{"own soft constraints", service, spreadBy(corev1.ScheduleAnyway, corev1.LabelTopologyZone, nil), []int64{0, 0, 100, 0}},
		{"own hard constraints keep the defaults off", service, spreadBy(corev1.DoNotSchedule, corev1.LabelTopologyZone, nil), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := newCluster()
			names := []string{"a", "b", "c", "bare"}
			for i, z := range []string{"1", "1", "2", ""} {
				c.setNode(testNode(names[i], zone(z)))
			}
			c.place(newPodInfo(testPod("q", nil)), "a", false)
			if tt.know != nil {
				tt.know(c)
			}
			c.candidates()
			score := scoreSpread(c, newPending(testPod("p", tt.pod)))
			var got []int64
			if score != nil {
				for _, name := range names {
					got = append(got, score(c.nodes[name]))
				}
				normalSpread(got)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}
