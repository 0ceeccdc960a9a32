package conformance

import (
	"testing"

	"canopus/test/harness"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func controllerRevisions() []behaviour {
	return []behaviour{{"ControllerRevision, resource lifecycle", controllerRevision}}
}

// controllerRevision: those of a DaemonSet, made by its controller and by us, labelled, deleted singly and as a collection.
func controllerRevision(t *testing.T, s *space) {
	api := s.Client.AppsV1().ControllerRevisions(s.ns)
	r := s.resource(appsv1.SchemeGroupVersion, "controllerrevisions")
	s.createDaemon(t, daemonSet("daemon", sleeps()))
	pods := s.daemons(t, "daemon", harness.NodeName, harness.SecondNode)
	list := must(api.List(t.Context(), metav1.ListOptions{LabelSelector: "app=daemon"}))(t)
	if len(list.Items) != 1 || list.Items[0].Revision != 1 {
		t.Fatalf("revisions %+v", list.Items)
	}
	first := list.Items[0]
	if u := r.merge(t, first.Name, map[string]any{"metadata": map[string]any{"labels": map[string]any{"stage": "patched"}}}); u.GetLabels()["stage"] != "patched" {
		t.Errorf("labels after a patch: %v", u.GetLabels())
	}
	own := &appsv1.ControllerRevision{
		ObjectMeta: metav1.ObjectMeta{Name: "own", Labels: first.Labels, OwnerReferences: first.OwnerReferences},
		Data:       first.Data, Revision: first.Revision + 1,
	}
	must(api.Create(t.Context(), own, metav1.CreateOptions{}))(t)
	r.expect(t, "app=daemon", 2)
	check(t, api.Delete(t.Context(), first.Name, metav1.DeleteOptions{}))
	r.expect(t, "app=daemon", 1)
	holds(t, "the one revision", func() error { r.expect(t, "app=daemon", 1); return nil })
	updated := change(t, api, "own", func(c *appsv1.ControllerRevision) { c.Labels["stage"] = "updated" })
	if updated.Labels["stage"] != "updated" || len(r.names(t, "stage=updated")) != 1 {
		t.Errorf("labels after an update: %v", updated.Labels)
	}
	for node, p := range s.daemons(t, "daemon", harness.NodeName, harness.SecondNode) {
		if p.UID != pods[node].UID {
			t.Errorf("the pod of %s was replaced, and its template never changed", node)
		}
	}
	s.changeDaemon(t, "daemon", func(ds *appsv1.DaemonSet) { version(&ds.Spec.Template.Spec, "2") })
	r.expect(t, "app=daemon", 2)
	r.deleteAll(t, "stage=updated")
	r.expect(t, "app=daemon", 1)
	list = must(api.List(t.Context(), metav1.ListOptions{LabelSelector: "app=daemon"}))(t)
	if list.Items[0].Revision != 3 {
		t.Errorf("the last revision is number %d, want 3", list.Items[0].Revision)
	}
}
