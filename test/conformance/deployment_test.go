package conformance

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

func deployments() []behaviour {
	return []behaviour{
		{"Deployment, completes the scaling of a Deployment subresource", deploymentScale},
		{"Deployment Recreate", deploymentRecreate},
		{"Deployment RollingUpdate", deploymentRollingUpdate},
		{"Deployment RevisionHistoryLimit", deploymentHistory},
		{"Deployment Proportional Scaling", deploymentProportion},
		{"Deployment Rollover", deploymentRollover},
		{"Deployment, completes the lifecycle of a Deployment", deploymentLifecycle},
		{"Deployment, status sub-resource", deploymentStatus},
	}
}

func deployment(name string, replicas int32, spec corev1.PodSpec) *appsv1.Deployment {
	return &appsv1.Deployment{
		ObjectMeta: meta(name),
		Spec:       appsv1.DeploymentSpec{Replicas: &replicas, Selector: selector(app(name)), Template: template(app(name), spec)},
	}
}

// rolling is a rolling update with absolute bounds.
func rolling(surge, unavailable int32) appsv1.DeploymentStrategy {
	return appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType, RollingUpdate: &appsv1.RollingUpdateDeployment{
		MaxSurge: ptr.To(intstr.FromInt32(surge)), MaxUnavailable: ptr.To(intstr.FromInt32(unavailable)),
	}}
}

func (s *space) deploy(t testing.TB, d *appsv1.Deployment) *appsv1.Deployment {
	t.Helper()
	return must(s.Client.AppsV1().Deployments(s.ns).Create(t.Context(), d, metav1.CreateOptions{}))(t)
}

func (s *space) changeDeployment(t testing.TB, name string, edit func(*appsv1.Deployment)) *appsv1.Deployment {
	t.Helper()
	return change(t, s.Client.AppsV1().Deployments(s.ns), name, edit)
}

// rolledOut waits until every replica is of the present template and available, and nothing else is left.
func (s *space) rolledOut(t testing.TB, name string) *appsv1.Deployment {
	t.Helper()
	var d *appsv1.Deployment
	until(t, "deployment "+name+" to be rolled out", func() error {
		var err error
		if d, err = s.Client.AppsV1().Deployments(s.ns).Get(t.Context(), name, metav1.GetOptions{}); err != nil {
			return err
		}
		st, n := d.Status, *d.Spec.Replicas
		if st.ObservedGeneration < d.Generation || st.UpdatedReplicas != n || st.Replicas != n || st.AvailableReplicas != n {
			return fmt.Errorf("generation %d, status %+v", d.Generation, st)
		}
		return nil
	})
	return d
}

// setsOf are the replica sets of a deployment, by revision.
func (s *space) setsOf(t testing.TB, name string) []appsv1.ReplicaSet {
	t.Helper()
	list := must(s.Client.AppsV1().ReplicaSets(s.ns).List(t.Context(), metav1.ListOptions{LabelSelector: "app=" + name}))(t)
	slices.SortFunc(list.Items, func(a, b appsv1.ReplicaSet) int { return cmp.Compare(revisionOf(&a), revisionOf(&b)) })
	return list.Items
}

func revisionOf(o metav1.Object) int {
	n, _ := strconv.Atoi(o.GetAnnotations()["deployment.kubernetes.io/revision"]) // 0 while there is none
	return n
}

func deploymentScale(t *testing.T, s *space) {
	s.deploy(t, deployment("scaled", 1, sleeps()))
	s.resource(appsv1.SchemeGroupVersion, "deployments").scale(t, "scaled", func(n int) { s.ready(t, app("scaled"), n) })
}

// deploymentRecreate: no new pod is made while an old one runs.
func deploymentRecreate(t *testing.T, s *space) {
	d := deployment("recreated", 2, sleeps())
	d.Spec.Strategy.Type = appsv1.RecreateDeploymentStrategyType
	version(&d.Spec.Template.Spec, "1")
	s.deploy(t, d)
	s.rolledOut(t, "recreated")
	h := s.record(t, app("recreated"))
	s.changeDeployment(t, "recreated", func(d *appsv1.Deployment) { version(&d.Spec.Template.Spec, "2") })
	s.rolledOut(t, "recreated")
	pods := s.ready(t, app("recreated"), 2)
	isNew := func(p *corev1.Pod) bool { return versionOf(&p.Spec) == "2" }
	oldRuns := func(p *corev1.Pod) bool { return !isNew(p) && !ended(p) }
	states(h.soFar(t, pods), func(e podEvent, all map[types.UID]*corev1.Pod) {
		if n := count(all, oldRuns); n > 0 && count(all, isNew) > 0 {
			t.Errorf("new pod %s is there while %d old ones run", e.pod.Name, n)
		}
	})
	for i := range pods {
		if !isNew(&pods[i]) {
			t.Errorf("%s is of the old version", pods[i].Name)
		}
	}
}

// deploymentRollingUpdate: pods of the old version give way to those of the new within the bounds, and one set of pods stays for undoing.
func deploymentRollingUpdate(t *testing.T, s *space) {
	d := deployment("rolled", 3, serves())
	d.Spec.Strategy = rolling(1, 0)
	version(&d.Spec.Template.Spec, "1")
	s.deploy(t, d)
	s.rolledOut(t, "rolled")
	h := s.record(t, app("rolled"))
	s.changeDeployment(t, "rolled", func(d *appsv1.Deployment) { version(&d.Spec.Template.Spec, "2") })
	done := s.rolledOut(t, "rolled")
	pods := s.ready(t, app("rolled"), 3)
	states(h.soFar(t, pods), func(e podEvent, all map[types.UID]*corev1.Pod) {
		if n := count(all, staying); n > 4 {
			t.Errorf("%d pods, when at most one more than the 3 may be there; last %s %s", n, e.what, e.pod.Name)
		}
	})
	s.neverFewer(t, h, pods, 3)
	sets := s.setsOf(t, "rolled")
	if len(sets) != 2 || *sets[0].Spec.Replicas != 0 || *sets[1].Spec.Replicas != 3 || revisionOf(done) != 2 || revisionOf(&sets[1]) != 2 {
		t.Fatalf("revision %d, replica sets %+v", revisionOf(done), sets)
	}
	for i := range pods {
		if owner(&pods[i]) != string(sets[1].UID) || versionOf(&pods[i].Spec) != "2" {
			t.Errorf("%s of version %q belongs to %s, not to %s", pods[i].Name, versionOf(&pods[i].Spec), owner(&pods[i]), sets[1].Name)
		}
	}
}

// neverFewer: from the time that n pods were ready on there were never fewer.
func (s *space) neverFewer(t testing.TB, h *history, now []corev1.Pod, n int) {
	t.Helper()
	reached := false
	states(h.soFar(t, now), func(e podEvent, all map[types.UID]*corev1.Pod) {
		serving := count(all, isReady)
		if reached && serving < n {
			t.Errorf("only %d of %d pods are ready after %s %s", serving, n, e.what, e.pod.Name)
		}
		reached = reached || serving >= n
	})
	if !reached {
		t.Errorf("there never were %d ready pods", n)
	}
}

// deploymentHistory: no more old replica sets are kept than asked for, and of those the latest.
func deploymentHistory(t *testing.T, s *space) {
	d := deployment("history", 1, sleeps())
	d.Spec.RevisionHistoryLimit = ptr.To[int32](1)
	s.deploy(t, d)
	s.rolledOut(t, "history")
	for i := range 3 {
		s.changeDeployment(t, "history", func(d *appsv1.Deployment) { version(&d.Spec.Template.Spec, strconv.Itoa(i)) })
		s.rolledOut(t, "history")
	}
	left := func(want string) {
		t.Helper()
		until(t, "the replica sets of revisions "+want, func() error {
			var revisions []int
			for _, rs := range s.setsOf(t, "history") {
				revisions = append(revisions, revisionOf(&rs))
			}
			if fmt.Sprint(revisions) != want {
				return fmt.Errorf("they are %v", revisions)
			}
			return nil
		})
	}
	left("[3 4]")
	s.changeDeployment(t, "history", func(d *appsv1.Deployment) { d.Spec.RevisionHistoryLimit = ptr.To[int32](0) })
	left("[4]")
	s.ready(t, app("history"), 1)
}

// deploymentProportion: when a Deployment is scaled in the middle of a rollout, its replica sets share in proportion to their size.
func deploymentProportion(t *testing.T, s *space) {
	d := deployment("proportion", 5, sleeps())
	d.Spec.Strategy = rolling(2, 1)
	s.deploy(t, d)
	s.rolledOut(t, "proportion")
	s.changeDeployment(t, "proportion", func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = missingImage })
	sizes := func() []int32 {
		var out []int32
		for _, rs := range s.setsOf(t, "proportion") {
			out = append(out, *rs.Spec.Replicas)
		}
		return out
	}
	reach := func(want string) {
		t.Helper()
		until(t, "replica sets of sizes "+want, func() error {
			if got := fmt.Sprint(sizes()); got != want {
				return fmt.Errorf("they are %s", got)
			}
			return nil
		})
	}
	reach("[4 3]") // 5 and 2 more at the most, of which 1 may be missing
	s.changeDeployment(t, "proportion", func(d *appsv1.Deployment) { d.Spec.Replicas = ptr.To[int32](10) })
	reach("[7 5]") // the 12 that may be, as 4 to 3
	holds(t, "sizes of a stalled rollout", func() error {
		if got := fmt.Sprint(sizes()); got != "[7 5]" {
			return fmt.Errorf("they are %s", got)
		}
		return nil
	})
}

// deploymentRollover: a third version replaces a second one that never became available, and the first one serves until then.
func deploymentRollover(t *testing.T, s *space) {
	d := deployment("rollover", 2, serves())
	d.Spec.Strategy = rolling(1, 0)
	version(&d.Spec.Template.Spec, "1")
	s.deploy(t, d)
	s.rolledOut(t, "rollover")
	h := s.record(t, app("rollover"))
	good := d.Spec.Template.Spec.Containers[0].Image
	s.changeDeployment(t, "rollover", func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = missingImage })
	until(t, "a pod of the second version", func() error {
		for _, p := range s.pods(t, app("rollover")) {
			if p.Spec.Containers[0].Image == missingImage && p.Spec.NodeName != "" {
				return nil
			}
		}
		return fmt.Errorf("none yet")
	})
	s.changeDeployment(t, "rollover", func(d *appsv1.Deployment) {
		d.Spec.Template.Spec.Containers[0].Image = good
		version(&d.Spec.Template.Spec, "3")
	})
	s.rolledOut(t, "rollover")
	pods := s.ready(t, app("rollover"), 2)
	s.neverFewer(t, h, pods, 2)
	for i := range pods {
		if versionOf(&pods[i].Spec) != "3" {
			t.Errorf("%s is of version %s", pods[i].Name, versionOf(&pods[i].Spec))
		}
	}
	sets := s.setsOf(t, "rollover")
	if len(sets) != 3 || *sets[0].Spec.Replicas != 0 || *sets[1].Spec.Replicas != 0 || *sets[2].Spec.Replicas != 2 {
		t.Errorf("replica sets %+v", sets)
	}
}

// deploymentLifecycle: create, patch, scale, the status, delete, with what each does to pods.
func deploymentLifecycle(t *testing.T, s *space) {
	api := s.Client.AppsV1().Deployments(s.ns)
	s.deploy(t, deployment("life", 1, sleeps()))
	s.rolledOut(t, "life")
	s.ready(t, app("life"), 1)
	patch := `{"metadata":{"labels":{"stage":"patched"}},"spec":{"replicas":2,"template":{"spec":{"containers":[{"name":"main","env":[{"name":"VERSION","value":"2"}]}]}}}}`
	d := must(api.Patch(t.Context(), "life", types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}))(t)
	if d.Labels["stage"] != "patched" || *d.Spec.Replicas != 2 || d.Spec.Template.Spec.Containers[0].Image == "" {
		t.Errorf("after a patch: %+v", d)
	}
	s.rolledOut(t, "life")
	for _, p := range s.ready(t, app("life"), 2) {
		if versionOf(&p.Spec) != "2" {
			t.Errorf("%s runs version %q", p.Name, versionOf(&p.Spec))
		}
	}
	list := must(s.Client.AppsV1().Deployments("").List(t.Context(), metav1.ListOptions{LabelSelector: "app=life,stage=patched"}))(t)
	if len(list.Items) != 1 || list.Items[0].UID != d.UID {
		t.Errorf("the list of all namespaces: %+v", list.Items)
	}
	status := must(api.Patch(t.Context(), "life", types.MergePatchType,
		[]byte(`{"metadata":{"annotations":{"status":"patched"}},"status":{"conditions":[{"type":"Patched","status":"True","reason":"Tested"}]}}`), metav1.PatchOptions{}, "status"))(t)
	if status.Annotations["status"] != "patched" || !slices.ContainsFunc(status.Status.Conditions, func(c appsv1.DeploymentCondition) bool { return c.Type == "Patched" }) {
		t.Errorf("after a patch of the status: %+v", status)
	}
	check(t, api.Delete(t.Context(), "life", metav1.DeleteOptions{}))
	gone(t, "the deployment", func() (*appsv1.Deployment, error) { return api.Get(t.Context(), "life", metav1.GetOptions{}) })
	s.ready(t, app("life"), 0)
	until(t, "its replica sets to be gone", func() error {
		if n := len(s.setsOf(t, "life")); n > 0 {
			return fmt.Errorf("%d are there", n)
		}
		return nil
	})
}

func deploymentStatus(t *testing.T, s *space) {
	s.deploy(t, deployment("status", 1, sleeps()))
	s.rolledOut(t, "status")
	s.resource(appsv1.SchemeGroupVersion, "deployments").status(t, "status")
}
