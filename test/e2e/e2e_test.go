// Package e2e runs Canopus on real containers, as one process and as separate ones, and uses it as people do: with kubectl
// and ordinary manifests (manifests/). Each scenario is a subtest with a namespace of its own; most run side by side,
// those that kill processes take turns afterwards.
//
//	make e2e                                                     builds what this needs, then
//	go test ./test/e2e -run 'TestOneProcess/apply/rollout' -v    one scenario
package e2e

import (
	"context"
	"embed"
	"os"
	"path"
	"strings"
	"testing"
	"time"

	"canopus/test/harness"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

//go:embed manifests
var manifests embed.FS

// patience is how long anything may take that is only a matter of Canopus doing its work.
const patience = 60 * time.Second

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

func TestOneProcess(t *testing.T) { suite(t, harness.OneProcess) }
func TestSeparateProcesses(t *testing.T) {
	suite(t, harness.Separate, story{"why-stopped", whyStopped})
}

// story is one thing that people do, or that happens to them.
type story struct {
	name string
	run  func(*testing.T, *scenario)
}

// suite tells all stories on one cluster: first those that bear company, then those that kill Canopus, and those that take this topology.
func suite(t *testing.T, topology harness.Topology, more ...story) {
	c := harness.Start(t, topology)
	t.Run("apply", func(t *testing.T) {
		for _, s := range together() {
			t.Run(s.name, func(t *testing.T) {
				t.Parallel()
				s.run(t, newScenario(t, c, s.name))
			})
		}
	})
	for _, s := range append(alone(), more...) {
		t.Run(s.name, func(t *testing.T) { s.run(t, newScenario(t, c, s.name)) })
	}
}

// scenario is a story's namespace on a cluster.
type scenario struct {
	*harness.Cluster
	ns string
}

// newScenario makes the namespace. It goes with t; when t fails, what is in it is shown first.
func newScenario(t *testing.T, c *harness.Cluster, name string) *scenario {
	t.Helper()
	s := &scenario{Cluster: c, ns: "e2e-" + strings.ReplaceAll(name, "_", "-")}
	ctx := context.WithoutCancel(t.Context())
	_, err := c.Client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: s.ns}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			c.Dump(t, s.ns)
		}
		if err := c.Client.CoreV1().Namespaces().Delete(ctx, s.ns, metav1.DeleteOptions{}); err != nil {
			t.Logf("delete namespace %s: %v", s.ns, err)
		}
	})
	harness.Until(t, patience, "the service account of the namespace", func() error {
		_, err := c.Client.CoreV1().ServiceAccounts(s.ns).Get(ctx, "default", metav1.GetOptions{})
		return err
	})
	return s
}

// k runs kubectl in the scenario's namespace; it must succeed.
func (s *scenario) k(t *testing.T, args ...string) string {
	t.Helper()
	return s.Kubectl(t, s.args(args)...)
}

func (s *scenario) args(args []string) []string { return append([]string{"-n", s.ns}, args...) }

// manifest is the text of manifests/NAME with replacements ("old", "new", …).
func manifest(t *testing.T, name string, replace ...string) string {
	t.Helper()
	data, err := manifests.ReadFile(path.Join("manifests", name))
	if err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer(replace...).Replace(string(data))
}

// apply applies manifests/NAME.
func (s *scenario) apply(t *testing.T, name string, replace ...string) string {
	t.Helper()
	return s.Input(t, manifest(t, name, replace...), s.args([]string{"apply", "-f", "-"})...)
}

// jsonpath reads one field of an object.
func (s *scenario) jsonpath(t *testing.T, object, path string) string {
	t.Helper()
	return s.k(t, "get", object, "-o", "jsonpath="+path)
}

// pods are the pods of a label selector, in the order of their names.
func (s *scenario) pods(t *testing.T, selector string) []corev1.Pod {
	t.Helper()
	list, err := s.Client.CoreV1().Pods(s.ns).List(t.Context(), metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		t.Fatal(err)
	}
	return list.Items
}

func (s *scenario) pod(t *testing.T, name string) *corev1.Pod {
	t.Helper()
	p, err := s.Client.CoreV1().Pods(s.ns).Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// shell runs a script in a pod by kubectl exec and returns what it printed.
func (s *scenario) shell(t *testing.T, pod, script string) string {
	t.Helper()
	return s.k(t, "exec", pod, "--", "sh", "-c", script)
}

// ready reports whether a pod is Ready and not on its way out.
func ready(p *corev1.Pod) bool {
	if p.DeletionTimestamp != nil {
		return false
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}
