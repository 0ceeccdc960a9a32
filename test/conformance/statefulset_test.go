package conformance

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/utils/ptr"

	"canopus/test/harness"
)

func statefulSets() []behaviour {
	return []behaviour{
		{"StatefulSet, Scaling", statefulScaling},
		{"StatefulSet, Burst Scaling", statefulBurst},
		{"StatefulSet, Recreate Failed Pod", statefulFailed},
		{"StatefulSet resource Replica scaling", statefulScale},
		{"StatefulSet, list, patch and delete a collection of StatefulSets", statefulCollection},
		{"StatefulSet, Rolling Update", statefulUpdate},
		{"StatefulSet, Rolling Update with Partition", statefulPartition},
		{"StatefulSet, status sub-resource", statefulStatus},
	}
}

func statefulSet(name string, replicas int32, spec corev1.PodSpec) *appsv1.StatefulSet {
	return &appsv1.StatefulSet{
		ObjectMeta: meta(name),
		Spec:       appsv1.StatefulSetSpec{ServiceName: name, Replicas: &replicas, Selector: selector(app(name)), Template: template(app(name), spec)},
	}
}

func (s *space) createStateful(t testing.TB, set *appsv1.StatefulSet) *appsv1.StatefulSet {
	t.Helper()
	return must(s.Client.AppsV1().StatefulSets(s.ns).Create(t.Context(), set, metav1.CreateOptions{}))(t)
}

func (s *space) changeStateful(t testing.TB, name string, edit func(*appsv1.StatefulSet)) *appsv1.StatefulSet {
	t.Helper()
	return change(t, s.Client.AppsV1().StatefulSets(s.ns), name, edit)
}

func (s *space) scaleStateful(t testing.TB, name string, n int32) {
	t.Helper()
	s.changeStateful(t, name, func(set *appsv1.StatefulSet) { set.Spec.Replicas = &n })
}

// running waits for a pod's container, ready or not.
func (s *space) running(t testing.TB, name string) {
	t.Helper()
	until(t, name+" to run", func() error {
		p, err := s.Client.CoreV1().Pods(s.ns).Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if p.Status.Phase != corev1.PodRunning || p.DeletionTimestamp != nil {
			return fmt.Errorf("%s", describe([]corev1.Pod{*p}))
		}
		return nil
	})
}

// heal makes a gated pod Ready.
func (s *space) heal(t testing.TB, name string) {
	t.Helper()
	s.running(t, name)
	s.shell(t, name, "touch /tmp/ready")
	s.runs(t, name)
}

// fallIll makes a gated pod not Ready.
func (s *space) fallIll(t testing.TB, name string) {
	t.Helper()
	s.shell(t, name, "rm /tmp/ready")
	until(t, name+" not to be ready", func() error {
		if p := s.pod(t, name); isReady(p) {
			return fmt.Errorf("it is")
		}
		return nil
	})
}

// stays holds that the pods are these, by name.
func (s *space) stays(t testing.TB, l map[string]string, want ...string) {
	t.Helper()
	holds(t, "the pods", func() error {
		var names []string
		for _, p := range s.pods(t, l) {
			if p.DeletionTimestamp == nil {
				names = append(names, p.Name)
			}
		}
		if !slices.Equal(names, want) {
			return fmt.Errorf("they are %v, want %v", names, want)
		}
		return nil
	})
}

// statefulScaling: pods come one after the other and go in reverse, and nothing moves while one is not well.
func statefulScaling(t *testing.T, s *space) {
	s.createStateful(t, statefulSet("ordered", 1, gated()))
	s.heal(t, "ordered-0")
	h := s.record(t, app("ordered"))
	s.fallIll(t, "ordered-0")
	s.scaleStateful(t, "ordered", 3)
	s.stays(t, app("ordered"), "ordered-0")
	s.heal(t, "ordered-0")
	s.heal(t, "ordered-1")
	s.heal(t, "ordered-2")
	pods := s.ready(t, app("ordered"), 3)
	inOrder(t, h.soFar(t, pods))
	for i := range pods {
		s.fallIll(t, pods[i].Name)
	}
	s.scaleStateful(t, "ordered", 0)
	s.stays(t, app("ordered"), "ordered-0", "ordered-1", "ordered-2")
	// The last is healed first: one that is ill itself goes as soon as those before it are well.
	for i := range slices.Backward(pods) {
		s.shell(t, pods[i].Name, "touch /tmp/ready")
	}
	s.ready(t, app("ordered"), 0)
	var went []string
	until(t, "the watch to show three deletions", func() error {
		went = nil
		for _, e := range h.soFar(t, nil) {
			if e.what == watch.Deleted {
				went = append(went, e.pod.Name)
			}
		}
		if len(went) < 3 {
			return fmt.Errorf("%v", went)
		}
		return nil
	})
	if fmt.Sprint(went) != "[ordered-2 ordered-1 ordered-0]" {
		t.Errorf("pods went in the order %v", went)
	}
	oneGoing(t, h.soFar(t, nil))
}

// inOrder: when a pod appears, all with lower numbers are ready.
func inOrder(t testing.TB, events []podEvent) {
	t.Helper()
	states(events, func(e podEvent, all map[types.UID]*corev1.Pod) {
		if e.what != watch.Added {
			return
		}
		for _, p := range all {
			if p.Name < e.pod.Name && !isReady(p) {
				t.Errorf("%s was made while %s was not ready", e.pod.Name, p.Name)
			}
		}
	})
}

// oneGoing: while one pod is being deleted, no other is.
func oneGoing(t testing.TB, events []podEvent) {
	t.Helper()
	states(events, func(e podEvent, all map[types.UID]*corev1.Pod) {
		if n := count(all, func(p *corev1.Pod) bool { return p.DeletionTimestamp != nil }); n > 1 {
			t.Errorf("%d pods are being deleted at once after %s %s", n, e.what, e.pod.Name)
		}
	})
}

// statefulBurst: with the Parallel policy pods come and go whether others are well or not.
func statefulBurst(t *testing.T, s *space) {
	set := statefulSet("burst", 1, gated())
	set.Spec.PodManagementPolicy = appsv1.ParallelPodManagement
	s.createStateful(t, set)
	s.running(t, "burst-0")
	s.scaleStateful(t, "burst", 3)
	for i := range 3 {
		s.running(t, fmt.Sprintf("burst-%d", i))
	}
	pods := s.pods(t, app("burst"))
	for i := range pods {
		if isReady(&pods[i]) {
			t.Errorf("%s is ready, so this shows nothing", pods[i].Name)
		}
	}
	s.scaleStateful(t, "burst", 0)
	s.ready(t, app("burst"), 0)
}

// statefulFailed: a node rejects a pod because its port is taken; the set makes it again until the port is free.
func statefulFailed(t *testing.T, s *space) {
	port := corev1.ContainerPort{ContainerPort: 21017, HostPort: 21017}
	blocker := podOf("blocker", sleeps())
	blocker.Spec.NodeName, blocker.Spec.Containers[0].Ports = harness.SecondNode, []corev1.ContainerPort{port}
	s.run(t, blocker)
	s.runs(t, "blocker")
	set := statefulSet("again", 1, sleeps())
	set.Spec.Template.Spec.NodeName, set.Spec.Template.Spec.Containers[0].Ports = harness.SecondNode, []corev1.ContainerPort{port}
	h := s.record(t, app("again"))
	s.createStateful(t, set)
	until(t, "two pods that failed", func() error {
		failed := map[types.UID]bool{}
		for _, e := range h.soFar(t, nil) {
			if e.pod.Name == "again-0" && e.pod.Status.Phase == corev1.PodFailed {
				failed[e.pod.UID] = true
			}
		}
		if len(failed) < 2 {
			return fmt.Errorf("%d so far", len(failed))
		}
		return nil
	})
	s.delete(t, "blocker")
	s.runs(t, "again-0")
}

func statefulScale(t *testing.T, s *space) {
	s.createStateful(t, statefulSet("scaled", 1, sleeps()))
	s.resource(appsv1.SchemeGroupVersion, "statefulsets").scale(t, "scaled", func(n int) { s.ready(t, app("scaled"), n) })
}

func statefulCollection(t *testing.T, s *space) {
	r := s.resource(appsv1.SchemeGroupVersion, "statefulsets")
	set := s.createStateful(t, statefulSet("patched", 1, sleeps()))
	u := r.merge(t, "patched", map[string]any{"metadata": map[string]any{"labels": map[string]any{"stage": "patched"}}, "spec": map[string]any{"replicas": 2}})
	if u.GetLabels()["stage"] != "patched" || u.GetGeneration() != set.Generation+1 {
		t.Errorf("after a patch: labels %v, generation %d", u.GetLabels(), u.GetGeneration())
	}
	s.ready(t, app("patched"), 2)
	r.collection(t, func(name string) runtime.Object { return statefulSet(name, 1, sleeps()) })
	s.ready(t, app("other"), 1)
	s.ready(t, app("one"), 0)
}

// statefulUpdate: a new template reaches the pods one by one from the last to the first; the template of before is the revision of before.
func statefulUpdate(t *testing.T, s *space) {
	set := statefulSet("rolled", 3, sleeps())
	version(&set.Spec.Template.Spec, "1")
	s.createStateful(t, set)
	s.ready(t, app("rolled"), 3)
	first := s.settled(t, "rolled", 3)
	h := s.record(t, app("rolled"))
	s.changeStateful(t, "rolled", func(set *appsv1.StatefulSet) { version(&set.Spec.Template.Spec, "2") })
	until(t, "a status that names both revisions", func() error {
		st := must(s.Client.AppsV1().StatefulSets(s.ns).Get(t.Context(), "rolled", metav1.GetOptions{}))(t).Status
		if st.CurrentRevision != first || st.UpdateRevision == first {
			return fmt.Errorf("current %s, update %s, first %s", st.CurrentRevision, st.UpdateRevision, first)
		}
		return nil
	})
	second := s.settled(t, "rolled", 3)
	pods := s.ready(t, app("rolled"), 3)
	for i := range pods {
		if versionOf(&pods[i].Spec) != "2" || pods[i].Labels[appsv1.ControllerRevisionHashLabelKey] != second {
			t.Errorf("%s is of version %s, revision %s", pods[i].Name, versionOf(&pods[i].Spec), pods[i].Labels[appsv1.ControllerRevisionHashLabelKey])
		}
	}
	events := h.soFar(t, pods)
	inReverse(t, events)
	s.neverFewer(t, h, pods, 2)
	s.changeStateful(t, "rolled", func(set *appsv1.StatefulSet) { version(&set.Spec.Template.Spec, "1") })
	if again := s.settled(t, "rolled", 3); again != first {
		t.Errorf("the rollback is revision %s, the template's was %s", again, first)
	}
	pods = s.ready(t, app("rolled"), 3)
	for i := range pods {
		if versionOf(&pods[i].Spec) != "1" || pods[i].Labels[appsv1.ControllerRevisionHashLabelKey] != first {
			t.Errorf("after the rollback %s is of version %s", pods[i].Name, versionOf(&pods[i].Spec))
		}
	}
	if list := must(s.Client.AppsV1().ControllerRevisions(s.ns).List(t.Context(), metav1.ListOptions{LabelSelector: "app=rolled"}))(t); len(list.Items) != 2 {
		t.Errorf("there are %d revisions of two templates", len(list.Items))
	}
}

// inReverse: pods of the second version appeared from the last to the first, each when those before it were ready.
func inReverse(t testing.TB, events []podEvent) {
	t.Helper()
	var made []string
	states(events, func(e podEvent, all map[types.UID]*corev1.Pod) {
		if e.what != watch.Added || versionOf(&e.pod.Spec) != "2" {
			return
		}
		made = append(made, e.pod.Name)
		for _, p := range all {
			if p.UID != e.pod.UID && !isReady(p) {
				t.Errorf("%s was updated while %s was not ready", e.pod.Name, p.Name)
			}
		}
	})
	if fmt.Sprint(made) != "[rolled-2 rolled-1 rolled-0]" {
		t.Errorf("pods were updated in the order %v", made)
	}
}

// settled waits until n pods are of the set's newest revision and it is the current one, and returns its name.
func (s *space) settled(t testing.TB, name string, n int32) string {
	t.Helper()
	var revision string
	until(t, "statefulset "+name+" to be of one revision", func() error {
		set, err := s.Client.AppsV1().StatefulSets(s.ns).Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		st := set.Status
		if st.ObservedGeneration != set.Generation || st.CurrentRevision != st.UpdateRevision || st.UpdateRevision == "" || st.ReadyReplicas != n || st.CurrentReplicas != n {
			return fmt.Errorf("generation %d, status %+v", set.Generation, st)
		}
		revision = st.UpdateRevision
		return nil
	})
	return revision
}

// statefulPartition: an update reaches pods from the partition on; pods that are deleted meanwhile come back as the partition says.
func statefulPartition(t *testing.T, s *space) {
	set := statefulSet("phased", 3, sleeps())
	set.Spec.UpdateStrategy = partition(3)
	version(&set.Spec.Template.Spec, "1")
	s.createStateful(t, set)
	s.settled(t, "phased", 3)
	before := s.ready(t, app("phased"), 3)
	s.changeStateful(t, "phased", func(set *appsv1.StatefulSet) { version(&set.Spec.Template.Spec, "2") })
	until(t, "a new revision", func() error {
		st := must(s.Client.AppsV1().StatefulSets(s.ns).Get(t.Context(), "phased", metav1.GetOptions{}))(t).Status
		if st.CurrentRevision == st.UpdateRevision {
			return fmt.Errorf("still %s", st.UpdateRevision)
		}
		return nil
	})
	s.stays(t, app("phased"), "phased-0", "phased-1", "phased-2")
	for i, p := range s.ready(t, app("phased"), 3) {
		if p.UID != before[i].UID {
			t.Errorf("%s was replaced though the partition is 3", p.Name)
		}
	}
	s.changeStateful(t, "phased", func(set *appsv1.StatefulSet) { set.Spec.UpdateStrategy = partition(2) })
	s.versions(t, "phased", "1 1 2")
	s.delete(t, "phased-0")
	s.delete(t, "phased-2")
	until(t, "other pods in place of the deleted ones", func() error {
		now := s.ready(t, app("phased"), 3)
		if now[0].UID == before[0].UID || now[2].UID == before[2].UID {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	s.versions(t, "phased", "1 1 2")
	if p := s.pod(t, "phased-1"); p.UID != before[1].UID {
		t.Errorf("%s was replaced", p.Name)
	}
	for i, want := range []string{"1 2 2", "2 2 2"} {
		s.changeStateful(t, "phased", func(set *appsv1.StatefulSet) { set.Spec.UpdateStrategy = partition(int32(1 - i)) })
		s.versions(t, "phased", want)
	}
	s.settled(t, "phased", 3)
}

func partition(from int32) appsv1.StatefulSetUpdateStrategy {
	return appsv1.StatefulSetUpdateStrategy{
		Type: appsv1.RollingUpdateStatefulSetStrategyType, RollingUpdate: &appsv1.RollingUpdateStatefulSetStrategy{Partition: ptr.To(from)},
	}
}

// versions waits until the three pods are ready and of these versions, by number, and stay so.
func (s *space) versions(t testing.TB, name, want string) {
	t.Helper()
	look := func() error {
		pods, err := s.listPods(t.Context(), app(name))
		if err != nil {
			return err
		}
		var have []string
		for i := range pods {
			if !isReady(&pods[i]) {
				return fmt.Errorf("%s", describe(pods[i:i+1]))
			}
			have = append(have, versionOf(&pods[i].Spec))
		}
		if got := strings.Join(have, " "); got != want {
			return fmt.Errorf("they are %s", got)
		}
		return nil
	}
	until(t, "pods of versions "+want, look)
	holds(t, "versions "+want, look)
}

func statefulStatus(t *testing.T, s *space) {
	s.createStateful(t, statefulSet("status", 1, sleeps()))
	s.settled(t, "status", 1)
	s.resource(appsv1.SchemeGroupVersion, "statefulsets").status(t, "status")
}
