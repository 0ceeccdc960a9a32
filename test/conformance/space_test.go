package conformance

import (
	"context"
	"fmt"
	"testing"
	"time"

	"canopus/test/harness"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/util/retry"
)

// space is the namespace of one test on the cluster.
type space struct {
	*harness.Cluster
	dynamic dynamic.Interface
	ns      string
}

// newSpace makes a namespace that goes with t. When t fails, what is in it is shown first.
func newSpace(t *testing.T, c *harness.Cluster, d dynamic.Interface) *space {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	ns := must(c.Client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "conformance-"}}, metav1.CreateOptions{}))(t)
	s := &space{Cluster: c, dynamic: d, ns: ns.Name}
	t.Cleanup(func() {
		if t.Failed() {
			c.Dump(t, s.ns)
		}
		if err := c.Client.CoreV1().Namespaces().Delete(ctx, s.ns, metav1.DeleteOptions{}); err != nil {
			t.Logf("delete namespace %s: %v", s.ns, err)
		}
	})
	until(t, "the service account of the namespace", func() error {
		_, err := c.Client.CoreV1().ServiceAccounts(s.ns).Get(ctx, "default", metav1.GetOptions{})
		return err
	})
	return s
}

// must takes the results of a call that has to succeed: must(c.Get(…))(t).
func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// check ends t when err is not nil.
func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// until waits for a condition.
func until(t testing.TB, what string, check func() error) {
	t.Helper()
	harness.Until(t, patience, what, check)
}

// still is how long a state is watched that must not change. What would change it takes milliseconds.
const still = 4 * time.Second

// holds fails t when check does within the time of still: for what must not happen though nothing else is to come.
func holds(t testing.TB, what string, check func() error) {
	t.Helper()
	end := time.Now().Add(still)
	for time.Now().Before(end) {
		if err := check(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		harness.Pause(t.Context(), 100*time.Millisecond)
	}
}

// store is the part of a typed client that change needs.
type store[T any] interface {
	Get(ctx context.Context, name string, options metav1.GetOptions) (T, error)
	Update(ctx context.Context, object T, options metav1.UpdateOptions) (T, error)
}

// change edits an object, again when somebody else was faster.
func change[T any](t testing.TB, c store[T], name string, edit func(T)) T {
	t.Helper()
	var out T
	check(t, retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		object, err := c.Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		edit(object)
		out, err = c.Update(t.Context(), object, metav1.UpdateOptions{})
		return err
	}))
	return out
}

// gone waits until get says that there is nothing.
func gone[T any](t testing.TB, what string, get func() (T, error)) {
	t.Helper()
	until(t, what+" to be gone", func() error {
		switch _, err := get(); {
		case apierrors.IsNotFound(err):
			return nil
		case err != nil:
			return err
		}
		return fmt.Errorf("%s is still there", what)
	})
}

// pods are the pods that a selector picks, in the order of their names.
func (s *space) pods(t testing.TB, selector map[string]string) []corev1.Pod {
	t.Helper()
	return must(s.listPods(t.Context(), selector))(t)
}

func (s *space) listPods(ctx context.Context, selector map[string]string) ([]corev1.Pod, error) {
	list, err := s.Client.CoreV1().Pods(s.ns).List(ctx, metav1.ListOptions{LabelSelector: labels.SelectorFromSet(selector).String()})
	if err != nil {
		return nil, err
	}
	return list.Items, nil
}

// pod returns one pod.
func (s *space) pod(t testing.TB, name string) *corev1.Pod {
	t.Helper()
	return must(s.Client.CoreV1().Pods(s.ns).Get(t.Context(), name, metav1.GetOptions{}))(t)
}

// ready waits until a selector picks n pods and all are Ready, and returns them.
func (s *space) ready(t testing.TB, selector map[string]string, n int) []corev1.Pod {
	t.Helper()
	var pods []corev1.Pod
	until(t, fmt.Sprintf("%d ready pods", n), func() error {
		var err error
		if pods, err = s.listPods(t.Context(), selector); err != nil {
			return err
		}
		if len(pods) != n {
			return fmt.Errorf("%d pods: %s", len(pods), describe(pods))
		}
		for i := range pods {
			if !isReady(&pods[i]) {
				return fmt.Errorf("%s is not ready", describe(pods[i:i+1]))
			}
		}
		return nil
	})
	return pods
}

// run creates a pod.
func (s *space) run(t testing.TB, pod *corev1.Pod) *corev1.Pod {
	t.Helper()
	return must(s.Client.CoreV1().Pods(s.ns).Create(t.Context(), pod, metav1.CreateOptions{}))(t)
}

// runs waits until a pod is Ready.
func (s *space) runs(t testing.TB, name string) *corev1.Pod {
	t.Helper()
	var pod *corev1.Pod
	until(t, name+" to be ready", func() error {
		var err error
		if pod, err = s.Client.CoreV1().Pods(s.ns).Get(t.Context(), name, metav1.GetOptions{}); err != nil {
			return err
		}
		if !isReady(pod) {
			return fmt.Errorf("%s", describe([]corev1.Pod{*pod}))
		}
		return nil
	})
	return pod
}

// delete deletes a pod and does not wait.
func (s *space) delete(t testing.TB, pod string) {
	t.Helper()
	check(t, s.Client.CoreV1().Pods(s.ns).Delete(t.Context(), pod, metav1.DeleteOptions{}))
}

// shell runs a script in a pod and returns what it printed.
func (s *space) shell(t testing.TB, pod, script string) string {
	t.Helper()
	return s.Kubectl(t, "-n", s.ns, "exec", pod, "--", "sh", "-c", script)
}

// machine is the one with the node of that name.
func (s *space) machine(t testing.TB, node string) *harness.Machine {
	t.Helper()
	for _, m := range s.Nodes {
		if m.Name == node {
			return m
		}
	}
	t.Fatalf("no machine %q", node)
	return nil
}

// isReady reports whether a pod is Ready and not on its way out.
func isReady(p *corev1.Pod) bool {
	return p.DeletionTimestamp == nil && podCondition(p, corev1.PodReady) == corev1.ConditionTrue
}

func podCondition(p *corev1.Pod, which corev1.PodConditionType) corev1.ConditionStatus {
	for _, c := range p.Status.Conditions {
		if c.Type == which {
			return c.Status
		}
	}
	return ""
}

// ended reports whether a pod has no running container any more.
func ended(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

// owner is the UID of a pod's controller, or "".
func owner(p *corev1.Pod) string {
	if ref := metav1.GetControllerOf(p); ref != nil {
		return string(ref.UID)
	}
	return ""
}

// describe names pods and how they are.
func describe(pods []corev1.Pod) string {
	var out string
	for i := range pods {
		p := &pods[i]
		out += fmt.Sprintf("%s on %q is %s, ready %q, deleted %v; ", p.Name, p.Spec.NodeName, p.Status.Phase, podCondition(p, corev1.PodReady), p.DeletionTimestamp != nil)
	}
	return out
}
