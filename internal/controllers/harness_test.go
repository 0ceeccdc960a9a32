package controllers

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"

	"canopus/internal/apiserver/apitest"
)

// patience is for a machine with much else to do.
const patience = 2 * time.Minute

// cluster is an API server with all controllers, and hollow nodes that say their pods run.
type cluster struct {
	*kubernetes.Clientset
	t      testing.TB
	server *apitest.Server
}

// start runs the controllers against a real API server until the test ends. tune may change their configuration.
func start(t testing.TB, tune func(*Config, *rest.Config)) *cluster {
	t.Helper()
	return startOn(t, apitest.Start(t), tune)
}

// startOn is start against a server that is there.
func startOn(t testing.TB, server *apitest.Server, tune func(*Config, *rest.Config)) *cluster {
	t.Helper()
	config := rest.CopyConfig(server.Admin)
	config.ContentType = "application/vnd.kubernetes.protobuf"
	config.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	reader, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	c := Config{
		Informers: informers.NewSharedInformerFactory(reader, 0), Reader: reader, Clock: clock.RealClock{},
		Log:    slog.New(slog.NewTextHandler(logWriter{t}, &slog.HandlerOptions{Level: slog.LevelWarn})),
		RootCA: []byte("-----BEGIN CERTIFICATE-----\n"), ClusterCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")},
	}
	writer := rest.CopyConfig(config)
	if tune != nil {
		tune(&c, writer)
	}
	c.Client = func(string) (kubernetes.Interface, metadata.Interface, error) { return clientsOf(writer) }
	set, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	run(t, set.Run)
	for _, ns := range []string{"default", "kube-system", "kube-node-lease"} {
		_, err := reader.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}}, metav1.CreateOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			t.Fatal(err)
		}
	}
	return &cluster{Clientset: reader, t: t, server: server}
}

func clientsOf(config *rest.Config) (kubernetes.Interface, metadata.Interface, error) {
	k, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, nil, err
	}
	m, err := metadata.NewForConfig(config)
	return k, m, err
}

// run runs f until the test ends, and waits for it.
func run(t testing.TB, f func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := f(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
}

type logWriter struct{ t testing.TB }

func (w logWriter) Write(b []byte) (int, error) {
	if w.t.Context().Err() == nil {
		w.t.Logf("%s", b)
	}
	return len(b), nil
}

// eventually waits until ok says "", and fails with what it said last.
func (c *cluster) eventually(what string, ok func(ctx context.Context) (string, error)) {
	c.t.Helper()
	last := ""
	err := wait.PollUntilContextTimeout(c.t.Context(), 20*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
		var err error
		last, err = ok(ctx)
		return last == "" && err == nil, nil //nolint:nilerr // tried again
	})
	if err != nil {
		c.t.Fatalf("%s: %v; last: %s", what, err, last)
	}
}

// node registers a ready node whose pods run as soon as they are bound. It never renews a lease.
func (c *cluster) node(name string) {
	c.t.Helper()
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if _, err := c.CoreV1().Nodes().Create(c.t.Context(), n, metav1.CreateOptions{}); err != nil {
		c.t.Fatal(err)
	}
	c.beat(name)
}

// beat posts a ready status with a fresh heartbeat.
func (c *cluster) beat(name string) {
	c.t.Helper()
	patch, err := json.Marshal(map[string]any{"status": map[string]any{"conditions": []corev1.NodeCondition{{
		Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", LastHeartbeatTime: metav1.Now(), LastTransitionTime: metav1.Now(),
	}}}})
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := c.CoreV1().Nodes().Patch(c.t.Context(), name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status"); err != nil {
		c.t.Fatal(err)
	}
}

// hollow stands in for scheduler and kubelets until the test ends: every pod is bound to node, then runs and is ready
// (unless its image is "bad"), or ends at once (images "exit-0" and "exit-1"), and is gone soon after its deletion.
func (c *cluster) hollow(node string) {
	c.t.Helper()
	c.node(node)
	factory := informers.NewSharedInformerFactory(c.Clientset, 0)
	pods := factory.Core().V1().Pods().Informer()
	number := 0
	live := func(ctx context.Context, p *corev1.Pod) error {
		switch {
		case p.DeletionTimestamp != nil:
			return c.CoreV1().Pods(p.Namespace).Delete(ctx, p.Name, *metav1.NewDeleteOptions(0))
		case p.Spec.NodeName == "":
			return c.CoreV1().Pods(p.Namespace).Bind(ctx, &corev1.Binding{
				ObjectMeta: metav1.ObjectMeta{Name: p.Name, Namespace: p.Namespace}, Target: corev1.ObjectReference{Kind: "Node", Name: node},
			}, metav1.CreateOptions{})
		case p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed:
		case p.Spec.Containers[0].Image == "exit-0":
			return c.exit(ctx, p, corev1.PodSucceeded, 0)
		case p.Spec.Containers[0].Image == "exit-1":
			return c.exit(ctx, p, corev1.PodFailed, 1)
		case p.Status.Phase != corev1.PodRunning:
			number++
			ip := fmt.Sprintf("10.244.%d.%d", number/250, number%250+1)
			ready := corev1.ConditionTrue
			if p.Spec.Containers[0].Image == "bad" {
				ready = corev1.ConditionFalse
			}
			patch, err := json.Marshal(map[string]any{"status": map[string]any{
				"phase": corev1.PodRunning, "podIP": ip, "podIPs": []corev1.PodIP{{IP: ip}},
				"conditions": []corev1.PodCondition{{Type: corev1.PodReady, Status: ready, LastTransitionTime: metav1.Now()}},
			}})
			if err != nil {
				return err
			}
			_, err = c.CoreV1().Pods(p.Namespace).Patch(ctx, p.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
			return err
		}
		return nil
	}
	run(c.t, func(ctx context.Context) error {
		handle := func(obj any) {
			if p, ok := obj.(*corev1.Pod); ok {
				if err := live(ctx, p); err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) && ctx.Err() == nil {
					c.t.Errorf("hollow node: %v", err)
				}
			}
		}
		_, err := pods.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: handle, UpdateFunc: func(_, obj any) { handle(obj) }})
		if err != nil {
			return err
		}
		pods.RunWithContext(ctx)
		return nil
	})
}

// exit ends p's only container.
func (c *cluster) exit(ctx context.Context, p *corev1.Pod, phase corev1.PodPhase, code int32) error {
	now := metav1.Now()
	patch, err := json.Marshal(map[string]any{"status": map[string]any{"phase": phase, "containerStatuses": []corev1.ContainerStatus{{
		Name:  p.Spec.Containers[0].Name,
		State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, FinishedAt: now}},
	}}}})
	if err != nil {
		return err
	}
	_, err = c.CoreV1().Pods(p.Namespace).Patch(ctx, p.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	return err
}

// faults fails the n-th write that passes through it, once.
type faults struct {
	next http.RoundTripper
	mu   *sync.Mutex
	left *int
}

func (f faults) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodGet {
		f.mu.Lock()
		*f.left--
		hit := *f.left == 0
		f.mu.Unlock()
		if hit {
			return nil, fmt.Errorf("%s %s: injected fault", r.Method, r.URL.Path)
		}
	}
	return f.next.RoundTrip(r)
}
