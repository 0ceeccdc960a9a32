package conformance

import (
	"fmt"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

func replicaSets() []behaviour {
	return []behaviour{
		{"ReplicaSet, is created, Replaced and Patched", replicaSetReplaced},
		{"ReplicaSet, completes the scaling of a ReplicaSet subresource", replicaSetScale},
		{"Replica Set, adopt matching pods and release non matching pods", replicaSetAdopts},
		{"ReplicaSet, list and delete a collection of ReplicaSets", replicaSetCollection},
		{"Replica Set, run basic image", replicaSetServes},
		{"ReplicaSet, status sub-resource", replicaSetStatus},
	}
}

func replicaSet(name string, replicas int32, spec corev1.PodSpec) *appsv1.ReplicaSet {
	return &appsv1.ReplicaSet{
		ObjectMeta: meta(name),
		Spec:       appsv1.ReplicaSetSpec{Replicas: &replicas, Selector: selector(app(name)), Template: template(app(name), spec)},
	}
}

func (s *space) createSet(t testing.TB, rs *appsv1.ReplicaSet) *appsv1.ReplicaSet {
	t.Helper()
	return must(s.Client.AppsV1().ReplicaSets(s.ns).Create(t.Context(), rs, metav1.CreateOptions{}))(t)
}

// replicaSetReplaced: an update of the whole object scales, and a patch scales again and changes what new pods are made of.
func replicaSetReplaced(t *testing.T, s *space) {
	api := s.Client.AppsV1().ReplicaSets(s.ns)
	s.createSet(t, replicaSet("set", 1, sleeps()))
	first := s.ready(t, app("set"), 1)[0]
	change(t, api, "set", func(rs *appsv1.ReplicaSet) { rs.Spec.Replicas = ptr.To[int32](2) })
	s.ready(t, app("set"), 2)
	patch := `{"metadata":{"labels":{"stage":"patched"}},"spec":{"replicas":3,"template":{"spec":{"terminationGracePeriodSeconds":2}}}}`
	rs := must(api.Patch(t.Context(), "set", types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}))(t)
	if rs.Labels["stage"] != "patched" || rs.Labels["app"] != "set" || *rs.Spec.Replicas != 3 {
		t.Errorf("after a patch: labels %v, %d replicas", rs.Labels, *rs.Spec.Replicas)
	}
	grace := map[int64]int{}
	for _, p := range s.ready(t, app("set"), 3) {
		grace[*p.Spec.TerminationGracePeriodSeconds]++
	}
	if grace[1] != 2 || grace[2] != 1 {
		t.Errorf("pods by grace period: %v, want the two old ones and a new one", grace)
	}
	if s.pod(t, first.Name).UID != first.UID {
		t.Error("the first pod was replaced")
	}
}

func replicaSetScale(t *testing.T, s *space) {
	s.createSet(t, replicaSet("scaled", 1, sleeps()))
	s.resource(appsv1.SchemeGroupVersion, "replicasets").scale(t, "scaled", func(n int) { s.ready(t, app("scaled"), n) })
}

func replicaSetAdopts(t *testing.T, s *space) {
	s.run(t, podOf("orphan", sleeps()))
	rs := s.createSet(t, replicaSet("orphan", 1, sleeps()))
	s.adoptsAndReleases(t, "orphan", string(rs.UID))
}

// adoptsAndReleases: of a set of one, pod NAME was there before. Either it belongs to the set now, or another one does in
// its place. A pod that loses the label loses its owner, goes on, and is replaced.
func (s *space) adoptsAndReleases(t testing.TB, name, set string) {
	t.Helper()
	s.adopts(t, name, set)
	s.releases(t, name, set)
}

func (s *space) adopts(t testing.TB, name, set string) {
	t.Helper()
	until(t, "a pod that belongs to "+name, func() error {
		pods := s.pods(t, app(name))
		if len(pods) != 1 || owner(&pods[0]) != set {
			return fmt.Errorf("%d pods, the first is %s's", len(pods), owner(&pods[0]))
		}
		return nil
	})
	holds(t, "the adopted pod", func() error {
		if pods := s.pods(t, app(name)); len(pods) != 1 || owner(&pods[0]) != set {
			return fmt.Errorf("there are %s", describe(pods))
		}
		return nil
	})
}

func (s *space) releases(t testing.TB, name, set string) {
	t.Helper()
	before := s.ready(t, app(name), 1)[0]
	s.label(t, before.Name, "app", "released")
	until(t, "the pod to be released", func() error {
		if p := s.pod(t, before.Name); len(p.OwnerReferences) != 0 {
			return fmt.Errorf("owners %v", p.OwnerReferences)
		}
		return nil
	})
	after := s.ready(t, app(name), 1)[0]
	if after.UID == before.UID || owner(&after) != set {
		t.Errorf("%s of %s took its place", after.Name, owner(&after))
	}
	if p := s.pod(t, before.Name); p.UID != before.UID || !isReady(p) {
		t.Errorf("the released pod does not go on: %s", describe([]corev1.Pod{*p}))
	}
}

// label sets a label of a pod.
func (s *space) label(t testing.TB, pod, key, value string) {
	t.Helper()
	patch := fmt.Sprintf(`{"metadata":{"labels":{%q:%q}}}`, key, value)
	must(s.Client.CoreV1().Pods(s.ns).Patch(t.Context(), pod, types.MergePatchType, []byte(patch), metav1.PatchOptions{}))(t)
}

func replicaSetCollection(t *testing.T, s *space) {
	r := s.resource(appsv1.SchemeGroupVersion, "replicasets")
	r.collection(t, func(name string) runtime.Object { return replicaSet(name, 1, sleeps()) })
	s.ready(t, app("other"), 1)
	for _, name := range []string{"one", "two", "three"} {
		s.ready(t, app(name), 0)
	}
}

// replicaSetServes: a pod on each node, and each machine gets an answer of each.
func replicaSetServes(t *testing.T, s *space) {
	s.createSet(t, replicaSet("web", 2, apart(serves(), app("web"))))
	s.answers(t, s.ready(t, app("web"), 2))
}

// answers asks pods of the demo image for their names, from every machine.
func (s *space) answers(t testing.TB, pods []corev1.Pod) {
	t.Helper()
	for _, m := range s.Nodes {
		for _, p := range pods {
			until(t, fmt.Sprintf("an answer of %s on %s to %s", p.Name, p.Spec.NodeName, m.Name), func() error {
				body, err := s.Get(m, p.Status.PodIP+":8080/hostname")
				if err == nil && strings.TrimSpace(body) != p.Name {
					err = fmt.Errorf("%s answered", body)
				}
				return err
			})
		}
	}
}

func replicaSetStatus(t *testing.T, s *space) {
	s.createSet(t, replicaSet("status", 1, sleeps()))
	s.ready(t, app("status"), 1)
	s.resource(appsv1.SchemeGroupVersion, "replicasets").status(t, "status")
}
