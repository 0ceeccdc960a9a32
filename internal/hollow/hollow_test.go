package hollow_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"

	"canopus/internal/apiserver"
	"canopus/internal/apiserver/apitest"
	"canopus/internal/auth"
	"canopus/internal/hollow"
)

// everybody may do everything: what nodes may do is the node authorizer's business.
type everybody struct{}

func (everybody) Authorize(context.Context, *auth.Attributes) (auth.Decision, string, error) {
	return auth.Allow, "", nil
}

func config(s *apitest.Server) hollow.Config {
	return hollow.Config{
		REST: s.Admin, Nodes: 5, First: 10, Zones: 2, RunFor: 50 * time.Millisecond, StopAfter: time.Millisecond, Version: "v1",
		Capacity: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourcePods: resource.MustParse("110")},
		Clock:    clock.RealClock{}, Log: slog.New(slog.DiscardHandler),
	}
}

// begin runs hollow nodes until the returned function is called.
func begin(t *testing.T, c hollow.Config) (*hollow.Nodes, func()) {
	t.Helper()
	n, err := hollow.New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	stop := func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		ended <- nil
	}
	t.Cleanup(stop)
	return n, stop
}

func until(t *testing.T, what string, holds func() error) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		err := holds()
		if err == nil {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("%s: %v", what, err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func podOn(node int, name string, policy corev1.RestartPolicy) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: corev1.PodSpec{
			NodeName: fmt.Sprintf("hollow-%d", node), RestartPolicy: policy,
			InitContainers: []corev1.Container{{Name: "i", Image: "i"}}, Containers: []corev1.Container{{Name: "c", Image: "c"}},
		},
	}
}

func TestNodesRunTheirPods(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, func(c *apiserver.Config) { c.Authorizer = everybody{} })
	pods := s.Client.CoreV1().Pods("default")
	create := func(p *corev1.Pod) {
		t.Helper()
		if _, err := pods.Create(t.Context(), p, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	create(podOn(10, "early", corev1.RestartPolicyAlways))
	n, stop := begin(t, config(s))
	until(t, "nodes", func() error {
		if c := n.Counts(); c.Registered != 5 || c.Watching != 5 {
			return fmt.Errorf("%+v", c)
		}
		return nil
	})
	create(podOn(14, "late", corev1.RestartPolicyAlways))
	create(podOn(12, "batch", corev1.RestartPolicyNever))
	phase := func(name string, want corev1.PodPhase) func() error {
		return func() error {
			p, err := pods.Get(t.Context(), name, metav1.GetOptions{})
			if err == nil && (p.Status.Phase != want || p.Status.PodIP == "" || p.Status.StartTime == nil || len(p.Status.ContainerStatuses) != 1) {
				err = fmt.Errorf("%+v", p.Status)
			}
			return err
		}
	}
	until(t, "a pod that was there before", phase("early", corev1.PodRunning))
	until(t, "a pod that came later", phase("late", corev1.PodRunning))
	until(t, "a pod that ends", phase("batch", corev1.PodSucceeded))
	node, err := s.Client.CoreV1().Nodes().Get(t.Context(), "hollow-13", metav1.GetOptions{})
	if err != nil || node.Labels[corev1.LabelTopologyZone] != "zone-1" || node.Status.Allocatable.Cpu().Value() != 4 {
		t.Errorf("node %+v, %v", node, err)
	}
	lease, err := s.Client.CoordinationV1().Leases(corev1.NamespaceNodeLease).Get(t.Context(), "hollow-11", metav1.GetOptions{})
	if err != nil || lease.Spec.RenewTime == nil {
		t.Errorf("lease %+v, %v", lease, err)
	}

	stop()
	before, err := pods.Get(t.Context(), "late", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	n, _ = begin(t, config(s))
	until(t, "the pods after a restart", func() error {
		if c := n.Counts(); c.Running != 2 || c.Pods != 2 {
			return fmt.Errorf("%+v", c)
		}
		return nil
	})
	if after, err := pods.Get(t.Context(), "late", metav1.GetOptions{}); err != nil || after.ResourceVersion != before.ResourceVersion {
		t.Errorf("a running pod was written again: %+v, %v", after, err)
	}
	if err := pods.Delete(t.Context(), "late", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	until(t, "the end of a pod", func() error {
		list, err := pods.List(t.Context(), metav1.ListOptions{})
		if err == nil && (len(list.Items) != 2 || n.Counts().Stopped != 1) {
			err = fmt.Errorf("%d pods, %+v", len(list.Items), n.Counts())
		}
		return err
	})
}

func TestBadConfigurations(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t)
	for name, spoil := range map[string]func(*hollow.Config){
		"no nodes":      func(c *hollow.Config) { c.Nodes = 0 },
		"too many":      func(c *hollow.Config) { c.First = 1 << 14 },
		"negative":      func(c *hollow.Config) { c.First = -1 },
		"zones":         func(c *hollow.Config) { c.Zones = -1 },
		"no capacity":   func(c *hollow.Config) { c.Capacity = nil },
		"no connection": func(c *hollow.Config) { c.REST = nil },
	} {
		c := config(s)
		spoil(&c)
		if _, err := hollow.New(c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
