package endpointslice

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"canopus/internal/controllers/slicepack"
)

func service() *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default", UID: "svc", Labels: map[string]string{"team": "a"}},
		Spec: corev1.ServiceSpec{
			ClusterIP: "10.96.0.7", IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}, Selector: map[string]string{"app": "web"},
			Ports: []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromString("http")}},
		},
	}
}

func pod(i int, port int32, ready bool) *corev1.Pod {
	ip := fmt.Sprintf("10.244.%d.%d", i/250, i%250+1)
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("p", i), Namespace: "default", UID: types.UID(fmt.Sprint("u", i))},
		Spec: corev1.PodSpec{
			NodeName:   "n1",
			Containers: []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: port, Protocol: corev1.ProtocolTCP}}}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}}},
	}
	if ready {
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	}
	return p
}

func nodes() map[string]*corev1.Node {
	return map[string]*corev1.Node{"n1": {ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{corev1.LabelTopologyZone: "z1"}}}}
}

func TestEndpoint(t *testing.T) {
	t.Parallel()
	terminating := func(p *corev1.Pod) *corev1.Pod {
		p.DeletionTimestamp = &metav1.Time{}
		return p
	}
	for _, tc := range []struct {
		name    string
		pod     *corev1.Pod
		publish bool
		want    string // ready serving terminating; "" for no endpoint
	}{
		{"ready", pod(1, 80, true), false, "true true false"},
		{"not ready", pod(1, 80, false), false, "false false false"},
		{"not ready, published", pod(1, 80, false), true, "true false false"},
		{"on its way out, still answering", terminating(pod(1, 80, true)), false, "false true true"},
		{"on its way out", terminating(pod(1, 80, false)), false, "false false true"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			svc := service()
			svc.Spec.PublishNotReadyAddresses = tc.publish
			groups, _ := desired(svc, []*corev1.Pod{tc.pod}, nodes())
			e := groups[0].Endpoints[0]
			if got := fmt.Sprint(*e.Conditions.Ready, *e.Conditions.Serving, *e.Conditions.Terminating); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
			if *e.NodeName != "n1" || *e.Zone != "z1" || e.TargetRef.Name != "p1" || *groups[0].Ports[0].Port != 80 {
				t.Errorf("%+v", e)
			}
		})
	}
	finished, elsewhere := pod(1, 80, true), pod(2, 80, true)
	finished.Status.Phase, elsewhere.Spec.NodeName = corev1.PodSucceeded, "unknown"
	published := service()
	published.Spec.PublishNotReadyAddresses = true
	if groups, missing := desired(published, []*corev1.Pod{finished, elsewhere}, nodes()); len(groups) != 1 || len(groups[0].Endpoints) != 1 || !missing {
		t.Errorf("published whatever there is: %v, %v", groups, missing)
	}
	if groups, missing := desired(service(), []*corev1.Pod{finished, elsewhere}, nodes()); len(groups) != 0 || !missing {
		t.Errorf("finished pods and pods of unknown nodes are no endpoints: %+v", groups)
	}
}

func TestHeadlessNames(t *testing.T) {
	t.Parallel()
	svc, p := service(), pod(1, 80, true)
	svc.Spec.ClusterIP, svc.Spec.Ports = corev1.ClusterIPNone, nil
	p.Spec.Hostname, p.Spec.Subdomain = "db-0", "web"
	groups, _ := desired(svc, []*corev1.Pod{p}, nodes())
	a := slicepack.Plan(target(svc), nil, groups)
	s := a.Create[0]
	if *s.Endpoints[0].Hostname != "db-0" || len(s.Ports) != 0 {
		t.Errorf("%+v", s)
	}
	if _, ok := s.Labels[corev1.IsHeadlessService]; !ok || s.Labels["team"] != "a" || s.Labels[discoveryv1.LabelServiceName] != "web" || s.Labels[discoveryv1.LabelManagedBy] != managedBy {
		t.Errorf("labels %v", s.Labels)
	}
}

// book is the server's slices in a test.
type book struct {
	slices []*discoveryv1.EndpointSlice
	made   int
	writes int
}

func (b *book) apply(a slicepack.Actions) {
	for _, s := range a.Create {
		b.made++
		s.Name = fmt.Sprintf("web-%04d", b.made)
		b.slices = append(b.slices, s)
	}
	for _, s := range a.Update {
		i := slices.IndexFunc(b.slices, func(x *discoveryv1.EndpointSlice) bool { return x.Name == s.Name })
		b.slices[i] = s
	}
	for _, s := range a.Remove {
		b.slices = slices.DeleteFunc(b.slices, func(x *discoveryv1.EndpointSlice) bool { return x.Name == s.Name })
	}
	b.writes = len(a.Create) + len(a.Update) + len(a.Remove)
}

func (b *book) sizes() string {
	var out []string
	for _, s := range b.slices {
		out = append(out, fmt.Sprint(len(s.Endpoints)))
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// TestFewWrites walks one Service through its life.
func TestFewWrites(t *testing.T) {
	t.Parallel()
	pods := func(n int) []*corev1.Pod {
		var out []*corev1.Pod
		for i := range n {
			out = append(out, pod(i, 80, true))
		}
		return out
	}
	b := &book{}
	for _, step := range []struct {
		name   string
		pods   []*corev1.Pod
		sizes  string
		writes int
	}{
		{"a placeholder", nil, "0", 1},
		{"it is reused", pods(1), "1", 1},
		{"nothing new", pods(1), "1", 0},
		{"full slices", pods(250), "100 100 50", 3},
		{"one more", pods(251), "100 100 51", 1},
		{"two fewer in two slices", pods(250)[1:], "100 100 49", 2},
		{"all gone", nil, "0", 3},
	} {
		groups, _ := desired(service(), step.pods, nodes())
		b.apply(slicepack.Plan(target(service()), b.slices, groups))
		if got := b.sizes(); got != step.sizes || b.writes > step.writes {
			t.Errorf("%s: sizes %s with %d writes, want %s with at most %d", step.name, got, b.writes, step.sizes, step.writes)
		}
	}
}

// TestSlicesAlwaysTellTheTruth: after any change the slices hold exactly the wanted endpoints, none is over-full, each holds
// one set of ports, and planning again changes nothing.
func TestSlicesAlwaysTellTheTruth(t *testing.T) {
	t.Parallel()
	for seed := range uint64(25) {
		r := rand.New(rand.NewPCG(seed, 3))
		b := &book{}
		for range 25 {
			var pods []*corev1.Pod
			most := r.IntN(350)
			for i := range most {
				if r.IntN(4) > 0 {
					pods = append(pods, pod(i, []int32{80, 80, 80, 8080}[r.IntN(4)], r.IntN(5) > 0))
				}
			}
			svc := service()
			groups, _ := desired(svc, pods, nodes())
			b.apply(slicepack.Plan(target(svc), b.slices, groups))
			want := map[string]bool{}
			for _, g := range groups {
				for _, e := range g.Endpoints {
					want[fmt.Sprint(g.Key(), slicepack.Identity(&e), *e.Conditions.Ready)] = true
				}
			}
			for _, s := range b.slices {
				if len(s.Endpoints) > slicepack.Full || len(s.Endpoints) == 0 && len(b.slices) > 1 {
					t.Fatalf("seed %d: a slice of %d among %d", seed, len(s.Endpoints), len(b.slices))
				}
				for _, e := range s.Endpoints {
					key := fmt.Sprint(slicepack.Group{Family: s.AddressType, Ports: s.Ports}.Key(), slicepack.Identity(&e), *e.Conditions.Ready)
					if !want[key] {
						t.Fatalf("seed %d: %s is there twice, or not wanted", seed, key)
					}
					delete(want, key)
				}
			}
			if len(want) > 0 || len(b.slices) == 0 {
				t.Fatalf("seed %d: %d endpoints are missing", seed, len(want))
			}
			if a := slicepack.Plan(target(svc), b.slices, groups); len(a.Create)+len(a.Update)+len(a.Remove) > 0 {
				t.Fatalf("seed %d: planning again changes %d, %d, %d", seed, len(a.Create), len(a.Update), len(a.Remove))
			}
		}
	}
}
