package conformance

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"canopus/test/harness"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

func daemonSets() []behaviour {
	return []behaviour{
		{"DaemonSet-Creation", daemonCreation},
		{"DaemonSet-NodeSelection", daemonSelection},
		{"DaemonSet-FailedPodCreation", daemonFailed},
		{"DaemonSet-RollingUpdate", daemonUpdate},
		{"DaemonSet-Rollback", daemonRollback},
		{"DaemonSet, list and delete a collection of DaemonSets", daemonCollection},
		{"DaemonSet, status sub-resource", daemonStatus},
	}
}

func daemonSet(name string, spec corev1.PodSpec) *appsv1.DaemonSet {
	return &appsv1.DaemonSet{
		ObjectMeta: meta(name), Spec: appsv1.DaemonSetSpec{Selector: selector(app(name)), Template: template(app(name), spec)},
	}
}

func (s *space) createDaemon(t testing.TB, ds *appsv1.DaemonSet) *appsv1.DaemonSet {
	t.Helper()
	return must(s.Client.AppsV1().DaemonSets(s.ns).Create(t.Context(), ds, metav1.CreateOptions{}))(t)
}

func (s *space) changeDaemon(t testing.TB, name string, edit func(*appsv1.DaemonSet)) *appsv1.DaemonSet {
	t.Helper()
	return change(t, s.Client.AppsV1().DaemonSets(s.ns), name, edit)
}

// daemons waits until exactly the given nodes each have one ready pod, and returns the pods by node.
func (s *space) daemons(t testing.TB, name string, nodes ...string) map[string]corev1.Pod {
	t.Helper()
	on := map[string]corev1.Pod{}
	until(t, fmt.Sprintf("a ready pod of %s on each of %v", name, nodes), func() error {
		clear(on)
		pods := s.pods(t, app(name))
		for i := range pods {
			if !isReady(&pods[i]) || !slices.Contains(nodes, pods[i].Spec.NodeName) {
				return fmt.Errorf("%s", describe(pods[i:i+1]))
			}
			on[pods[i].Spec.NodeName] = pods[i]
		}
		if len(pods) != len(nodes) || len(on) != len(nodes) {
			return fmt.Errorf("%d pods on %d nodes", len(pods), len(on))
		}
		return nil
	})
	return on
}

// daemonNumbers waits until the status has the numbers of nodes that should run a pod, that run an up-to-date one, and of which it is available.
func (s *space) daemonNumbers(t testing.TB, name string, n int32) {
	t.Helper()
	until(t, fmt.Sprintf("a status that counts %d nodes", n), func() error {
		ds, err := s.Client.AppsV1().DaemonSets(s.ns).Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		st := ds.Status
		if st.ObservedGeneration != ds.Generation || st.DesiredNumberScheduled != n || st.CurrentNumberScheduled != n ||
			st.UpdatedNumberScheduled != n || st.NumberAvailable != n || st.NumberReady != n || st.NumberMisscheduled != 0 {
			return fmt.Errorf("generation %d, status %+v", ds.Generation, st)
		}
		return nil
	})
}

// daemonCreation: a pod on every node, again after one is deleted, and none once the DaemonSet is gone.
func daemonCreation(t *testing.T, s *space) {
	s.createDaemon(t, daemonSet("daemon", sleeps()))
	before := s.daemons(t, "daemon", harness.NodeName, harness.SecondNode)
	s.daemonNumbers(t, "daemon", 2)
	s.delete(t, before[harness.SecondNode].Name)
	until(t, "another pod on the node of the deleted one", func() error {
		now := s.daemons(t, "daemon", harness.NodeName, harness.SecondNode)
		if now[harness.SecondNode].UID == before[harness.SecondNode].UID {
			return fmt.Errorf("it is still the old one")
		}
		if now[harness.NodeName].UID != before[harness.NodeName].UID {
			t.Fatal("the pod of the other node was replaced too")
		}
		return nil
	})
	check(t, s.Client.AppsV1().DaemonSets(s.ns).Delete(t.Context(), "daemon", metav1.DeleteOptions{}))
	s.ready(t, app("daemon"), 0)
}

// daemonSelection: pods come and go with the labels of nodes and with the node selector.
func daemonSelection(t *testing.T, s *space) {
	key := "conformance.test/" + s.ns
	spec := sleeps()
	spec.NodeSelector = map[string]string{key: "blue"}
	s.createDaemon(t, daemonSet("choosy", spec))
	s.daemonNumbers(t, "choosy", 0)
	holds(t, "a selector that no node matches", func() error {
		if pods := s.pods(t, app("choosy")); len(pods) > 0 {
			return fmt.Errorf("%s", describe(pods))
		}
		return nil
	})
	t.Cleanup(func() { s.labelNode(t, harness.SecondNode, key, nil) })
	blue, green := "blue", "green"
	s.labelNode(t, harness.SecondNode, key, &blue)
	s.daemons(t, "choosy", harness.SecondNode)
	s.daemonNumbers(t, "choosy", 1)
	s.labelNode(t, harness.SecondNode, key, &green)
	s.ready(t, app("choosy"), 0)
	s.daemonNumbers(t, "choosy", 0)
	s.changeDaemon(t, "choosy", func(ds *appsv1.DaemonSet) { ds.Spec.Template.Spec.NodeSelector[key] = green })
	s.daemons(t, "choosy", harness.SecondNode)
	s.daemonNumbers(t, "choosy", 1)
}

// labelNode sets or, given nil, removes a label of a node.
func (s *space) labelNode(t testing.TB, node, key string, value *string) {
	t.Helper()
	text := "null"
	if value != nil {
		text = fmt.Sprintf("%q", *value)
	}
	patch := fmt.Sprintf(`{"metadata":{"labels":{%q:%s}}}`, key, text)
	ctx := context.WithoutCancel(t.Context()) // it also cleans up
	must(s.Client.CoreV1().Nodes().Patch(ctx, node, types.MergePatchType, []byte(patch), metav1.PatchOptions{}))(t)
}

// daemonFailed: a pod that failed is deleted and another takes its place.
func daemonFailed(t *testing.T, s *space) {
	s.createDaemon(t, daemonSet("failing", sleeps()))
	before := s.daemons(t, "failing", harness.NodeName, harness.SecondNode)
	h := s.record(t, app("failing"))
	failed := before[harness.NodeName]
	patch := `{"status":{"phase":"Failed","reason":"Tested"}}`
	must(s.Client.CoreV1().Pods(s.ns).Patch(t.Context(), failed.Name, types.MergePatchType, []byte(patch), metav1.PatchOptions{}, "status"))(t)
	until(t, "a pod in place of the failed one", func() error {
		now := s.daemons(t, "failing", harness.NodeName, harness.SecondNode)
		if now[harness.NodeName].UID == failed.UID {
			return fmt.Errorf("the failed one is still there")
		}
		return nil
	})
	now := s.daemons(t, "failing", harness.NodeName, harness.SecondNode)
	gone := slices.ContainsFunc(h.soFar(t, []corev1.Pod{now[harness.NodeName]}), func(e podEvent) bool {
		return e.what == watch.Deleted && e.pod.UID == failed.UID
	})
	if !gone {
		t.Error("the failed pod was not deleted")
	}
	if now[harness.SecondNode].UID != before[harness.SecondNode].UID {
		t.Error("the pod of the other node was replaced too")
	}
}

// daemonUpdate: a new template reaches every node, one node after the other.
func daemonUpdate(t *testing.T, s *space) {
	ds := daemonSet("updated", serves())
	version(&ds.Spec.Template.Spec, "1")
	s.createDaemon(t, ds)
	before := s.daemons(t, "updated", harness.NodeName, harness.SecondNode)
	h := s.record(t, app("updated"))
	s.changeDaemon(t, "updated", func(ds *appsv1.DaemonSet) { version(&ds.Spec.Template.Spec, "2") })
	s.daemonNumbers(t, "updated", 2)
	after := s.daemons(t, "updated", harness.NodeName, harness.SecondNode)
	list := must(s.Client.AppsV1().ControllerRevisions(s.ns).List(t.Context(), metav1.ListOptions{LabelSelector: "app=updated"}))(t)
	hash := map[int64]string{}
	for _, r := range list.Items {
		hash[r.Revision] = r.Labels[appsv1.ControllerRevisionHashLabelKey]
	}
	if len(hash) != 2 {
		t.Errorf("revisions %v", hash)
	}
	var pods []corev1.Pod
	for node, p := range after {
		was := before[node]
		label := appsv1.ControllerRevisionHashLabelKey
		if p.UID == was.UID || versionOf(&p.Spec) != "2" || was.Labels[label] != hash[1] || p.Labels[label] != hash[2] {
			t.Errorf("%s: %s of version %s and revision %q, before %q; revisions %v", node, p.Name, versionOf(&p.Spec), p.Labels[label], was.Labels[label], hash)
		}
		if was.Labels["pod-template-generation"] != "1" || p.Labels["pod-template-generation"] != "2" {
			t.Errorf("%s: template generation %q, before %q", node, p.Labels["pod-template-generation"], was.Labels["pod-template-generation"])
		}
		pods = append(pods, p)
	}
	s.neverFewer(t, h, pods, 1)
}

// daemonRollback: when an update that does not work is undone, only pods that it has reached are replaced.
func daemonRollback(t *testing.T, s *space) {
	s.createDaemon(t, daemonSet("undone", sleeps()))
	before := s.daemons(t, "undone", harness.NodeName, harness.SecondNode)
	good := s.changeDaemon(t, "undone", func(*appsv1.DaemonSet) {}).Spec.Template.Spec.Containers[0].Image
	s.changeDaemon(t, "undone", func(ds *appsv1.DaemonSet) { ds.Spec.Template.Spec.Containers[0].Image = missingImage })
	reached := ""
	until(t, "a pod with the new image", func() error {
		for _, p := range s.pods(t, app("undone")) {
			if p.Spec.Containers[0].Image == missingImage {
				reached = target(&p)
				return nil
			}
		}
		return fmt.Errorf("there is none")
	})
	s.changeDaemon(t, "undone", func(ds *appsv1.DaemonSet) { ds.Spec.Template.Spec.Containers[0].Image = good })
	s.daemonNumbers(t, "undone", 2)
	for node, p := range s.daemons(t, "undone", harness.NodeName, harness.SecondNode) {
		was := before[node]
		switch kept := p.UID == was.UID; {
		case node == reached && kept:
			t.Errorf("the pod of %s was not replaced by the update", node)
		case node != reached && (!kept || p.Status.ContainerStatuses[0].RestartCount != 0):
			t.Errorf("%s: %s was replaced or restarted, which the update had not reached", node, was.Name)
		}
		if p.Spec.Containers[0].Image != good {
			t.Errorf("%s runs %s", p.Name, p.Spec.Containers[0].Image)
		}
	}
}

// target is the node that a pod of a DaemonSet is for, bound or not.
func target(p *corev1.Pod) string {
	if p.Spec.NodeName != "" {
		return p.Spec.NodeName
	}
	for _, term := range p.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
		for _, f := range term.MatchFields {
			return f.Values[0]
		}
	}
	return ""
}

func daemonCollection(t *testing.T, s *space) {
	r := s.resource(appsv1.SchemeGroupVersion, "daemonsets")
	r.collection(t, func(name string) runtime.Object { return daemonSet(name, sleeps()) })
	s.daemons(t, "other", harness.NodeName, harness.SecondNode)
	s.ready(t, app("one"), 0)
}

func daemonStatus(t *testing.T, s *space) {
	s.createDaemon(t, daemonSet("status", sleeps()))
	s.daemonNumbers(t, "status", 2)
	s.resource(appsv1.SchemeGroupVersion, "daemonsets").status(t, "status")
}
