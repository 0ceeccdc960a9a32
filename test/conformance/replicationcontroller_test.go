package conformance

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"canopus/test/harness"
)

func replicationControllers() []behaviour {
	return []behaviour{
		{"Replication Controller, adopt matching pods", controllerAdopts},
		{"Replication Controller, release pods", controllerReleases},
		{"Replication Controller, get and update ReplicationController scale", controllerScale},
		{"Replication Controller, run basic image", controllerServes},
		{"Replication Controller, check for issues like exceeding allocated quota", controllerQuota},
		{"Replication Controller, lifecycle", controllerLifecycle},
	}
}

func (s *space) createController(t testing.TB, name string, replicas int32, spec corev1.PodSpec) *corev1.ReplicationController {
	t.Helper()
	rc := &corev1.ReplicationController{ObjectMeta: meta(name), Spec: corev1.ReplicationControllerSpec{
		Replicas: &replicas, Selector: app(name), Template: ptr.To(template(app(name), spec)),
	}}
	return must(s.Client.CoreV1().ReplicationControllers(s.ns).Create(t.Context(), rc, metav1.CreateOptions{}))(t)
}

func controllerAdopts(t *testing.T, s *space) {
	s.run(t, podOf("orphan", sleeps()))
	rc := s.createController(t, "orphan", 1, sleeps())
	s.adopts(t, "orphan", string(rc.UID))
}

func controllerReleases(t *testing.T, s *space) {
	rc := s.createController(t, "release", 1, sleeps())
	s.releases(t, "release", string(rc.UID))
}

func controllerScale(t *testing.T, s *space) {
	s.createController(t, "scaled", 1, sleeps())
	s.resource(corev1.SchemeGroupVersion, "replicationcontrollers").scale(t, "scaled", func(n int) { s.ready(t, app("scaled"), n) })
}

// controllerServes: a pod on each node answers each machine by HTTP, TCP and UDP.
func controllerServes(t *testing.T, s *space) {
	web := s.createController(t, "web", 2, apart(serves(), app("web")))
	pods := s.ready(t, app("web"), 2)
	s.answers(t, pods)
	for i := range pods {
		if owner(&pods[i]) != string(web.UID) {
			t.Errorf("%s belongs to %q", pods[i].Name, owner(&pods[i]))
		}
	}
	spec := sleeps()
	spec.Containers[0].Command = []string{"/bin/echoserver", "-listen", ":9000"}
	s.createController(t, "echo", 2, apart(spec, app("echo")))
	for _, p := range s.ready(t, app("echo"), 2) {
		for _, m := range s.Nodes {
			for _, network := range []string{"tcp", "udp"} {
				until(t, fmt.Sprintf("an answer by %s of %s to %s", network, p.Name, m.Name), func() error {
					return echoes(t, m, network, net.JoinHostPort(p.Status.PodIP, "9000"), p.Name)
				})
			}
		}
	}
}

// echoes asks an echo server, which answers with its host name before the text that it got.
func echoes(t testing.TB, m *harness.Machine, network, address, host string) error {
	conn, err := m.Dial(t.Context(), network, address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("hello\n")); err != nil {
		return err
	}
	buf := make([]byte, 200)
	n, err := conn.Read(buf)
	if err != nil {
		return err
	}
	if got := strings.TrimSpace(string(buf[:n])); got != host+" hello" {
		return fmt.Errorf("answer %q", got)
	}
	return nil
}

// controllerQuota: what the quota does not let it make, the controller says in a condition, until it wants no more than it may.
func controllerQuota(t *testing.T, s *space) {
	quota := &corev1.ResourceQuota{
		ObjectMeta: meta("two"), Spec: corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{corev1.ResourcePods: quantity("2")}},
	}
	must(s.Client.CoreV1().ResourceQuotas(s.ns).Create(t.Context(), quota, metav1.CreateOptions{}))(t)
	until(t, "the quota's status", func() error {
		q := must(s.Client.CoreV1().ResourceQuotas(s.ns).Get(t.Context(), "two", metav1.GetOptions{}))(t)
		if hard := q.Status.Hard[corev1.ResourcePods]; hard.Value() != 2 {
			return fmt.Errorf("status %+v", q.Status)
		}
		return nil
	})
	s.createController(t, "greedy", 3, sleeps())
	api := s.Client.CoreV1().ReplicationControllers(s.ns)
	failure := func() *corev1.ReplicationControllerCondition {
		rc := must(api.Get(t.Context(), "greedy", metav1.GetOptions{}))(t)
		for i, c := range rc.Status.Conditions {
			if c.Type == corev1.ReplicationControllerReplicaFailure {
				return &rc.Status.Conditions[i]
			}
		}
		return nil
	}
	until(t, "the condition ReplicaFailure", func() error {
		if c := failure(); c == nil || c.Status != corev1.ConditionTrue || c.Reason != "FailedCreate" || !strings.Contains(c.Message, "exceeded quota: two") {
			return fmt.Errorf("it is %+v", c)
		}
		return nil
	})
	s.ready(t, app("greedy"), 2)
	change(t, api, "greedy", func(rc *corev1.ReplicationController) { rc.Spec.Replicas = ptr.To[int32](2) })
	until(t, "the condition to go", func() error {
		if c := failure(); c != nil {
			return fmt.Errorf("it is %+v", c)
		}
		return nil
	})
}

// controllerLifecycle: create, read, patch, scale by patch, the status, update, list, delete.
func controllerLifecycle(t *testing.T, s *space) {
	api := s.Client.CoreV1().ReplicationControllers(s.ns)
	s.createController(t, "life", 1, sleeps())
	s.ready(t, app("life"), 1)
	patch := `{"metadata":{"labels":{"stage":"patched"}},"spec":{"replicas":2,"template":{"spec":{"terminationGracePeriodSeconds":2}}}}`
	rc := must(api.Patch(t.Context(), "life", types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}))(t)
	if rc.Labels["stage"] != "patched" || *rc.Spec.Replicas != 2 || *rc.Spec.Template.Spec.TerminationGracePeriodSeconds != 2 {
		t.Errorf("after a patch: %+v", rc)
	}
	s.ready(t, app("life"), 2)
	until(t, "a status of two replicas", func() error {
		if st := must(api.Get(t.Context(), "life", metav1.GetOptions{}))(t).Status; st.Replicas != 2 || st.ReadyReplicas != 2 || st.AvailableReplicas != 2 {
			return fmt.Errorf("status %+v", st)
		}
		return nil
	})
	s.resource(corev1.SchemeGroupVersion, "replicationcontrollers").status(t, "life")
	updated := change(t, api, "life", func(rc *corev1.ReplicationController) { rc.Spec.Replicas = ptr.To[int32](3) })
	if *updated.Spec.Replicas != 3 {
		t.Errorf("after an update: %d replicas", *updated.Spec.Replicas)
	}
	s.ready(t, app("life"), 3)
	list := must(s.Client.CoreV1().ReplicationControllers("").List(t.Context(), metav1.ListOptions{LabelSelector: "app=life,stage=patched"}))(t)
	if len(list.Items) != 1 || list.Items[0].UID != rc.UID {
		t.Errorf("the list of all namespaces has %d", len(list.Items))
	}
	s.resource(corev1.SchemeGroupVersion, "replicationcontrollers").deleteAll(t, "stage=patched")
	gone(t, "the replication controller", func() (*corev1.ReplicationController, error) {
		return api.Get(t.Context(), "life", metav1.GetOptions{})
	})
	s.ready(t, app("life"), 0)
}
