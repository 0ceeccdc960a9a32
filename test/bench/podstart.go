package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"canopus/internal/node/cri"
	"canopus/test/plane"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	criv1 "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/ptr"
)

// startImage is inside canopus: it need not be pulled.
const startImage = "canopus.local/pause:1"

// singleStarts is how many pods are started one after the other.
const singleStarts = 20

// measurePodStart is how long pods take from create to Ready, beside bare CRI calls for the same on the same containerd.
func (b *bench) measurePodStart(ctx context.Context, s *plane.Server, endpoint string) error {
	ns, err := plane.Namespace(ctx, s.Proto)
	if err != nil {
		return err
	}
	c, err := cri.Dial(endpoint)
	if err != nil {
		return err
	}
	defer c.Close()
	r := &bareRuntime{client: c, cgroup: b.cgroup() + "/bare", logs: filepath.Join(b.work, "bare")}
	var ours, bare plane.Latencies
	for i := range singleStarts {
		took, err := r.start(ctx, fmt.Sprintf("one-%d", i), 1)
		if err != nil {
			return fmt.Errorf("bare pod: %w", err)
		}
		bare = append(bare, took)
		if took, err = startPods(ctx, s, ns, fmt.Sprintf("one-%d", i), 1); err != nil {
			return err
		}
		ours = append(ours, took)
	}
	b.say("pod.start.one.p50", ours.Quantile(.5), "ms", bare.Quantile(.5))
	b.say("pod.start.one.p99", ours.Quantile(.99), "ms", bare.Quantile(.99))
	for _, n := range []int{50, 100} {
		if err := stopPods(ctx, s, ns); err != nil {
			return err
		}
		limit, err := r.start(ctx, fmt.Sprintf("burst-%d", n), n)
		if err != nil {
			return fmt.Errorf("bare pods: %w", err)
		}
		if err := r.stop(ctx); err != nil {
			return fmt.Errorf("remove bare pods: %w", err)
		}
		took, err := startPods(ctx, s, ns, fmt.Sprintf("burst-%d", n), n)
		if err != nil {
			return err
		}
		b.say(fmt.Sprintf("pod.start.burst%d", n), plane.Milliseconds(took), "ms", plane.Milliseconds(limit))
	}
	began := time.Now()
	if err := stopPods(ctx, s, ns); err != nil {
		return err
	}
	b.say("pod.stop.burst100", plane.Milliseconds(time.Since(began)), "ms", 0)
	return nil
}

func realPod(name string) *corev1.Pod {
	p := pod(name, corev1.DefaultSchedulerName)
	p.Spec.Containers[0].Image, p.Spec.Containers[0].ImagePullPolicy = startImage, corev1.PullNever
	p.Spec.Containers[0].Resources = corev1.ResourceRequirements{}
	p.Spec.AutomountServiceAccountToken = nil
	return p
}

// startPods starts n pods at once and returns how long it took until all were Ready.
func startPods(ctx context.Context, s *plane.Server, ns, prefix string, n int) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	w, err := s.Proto.CoreV1().Pods(ns).Watch(ctx, metav1.ListOptions{})
	if err != nil {
		return 0, err
	}
	defer w.Stop()
	began := time.Now()
	g, ctx := errgroup.WithContext(ctx)
	for i := range n {
		g.Go(func() error {
			p := realPod(fmt.Sprintf("%s-%d", prefix, i))
			_, err := s.Proto.CoreV1().Pods(ns).Create(ctx, p, metav1.CreateOptions{})
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return 0, err
	}
	ready := map[string]bool{}
	for e := range w.ResultChan() {
		if p, ok := e.Object.(*corev1.Pod); ok && e.Type != watch.Deleted && podReady(p) && strings.HasPrefix(p.Name, prefix+"-") {
			ready[p.Name] = true
		}
		if len(ready) == n {
			return time.Since(began), nil
		}
	}
	return 0, fmt.Errorf("%d of %d pods became ready: %w", len(ready), n, errGone)
}

func podReady(p *corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// stopPods deletes all pods and returns when they are gone.
func stopPods(ctx context.Context, s *plane.Server, ns string) error {
	err := s.Proto.CoreV1().Pods(ns).DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](1)}, metav1.ListOptions{})
	if err != nil {
		return err
	}
	return plane.Until(ctx, patience, func(ctx context.Context) error {
		l, err := s.Proto.CoreV1().Pods(ns).List(ctx, metav1.ListOptions{ResourceVersion: "0"})
		if err == nil && len(l.Items) > 0 {
			err = fmt.Errorf("%d pods are still there", len(l.Items))
		}
		return err
	})
}

// bareRuntime starts pods by CRI calls and nothing else.
type bareRuntime struct {
	client    *cri.Client
	cgroup    string
	logs      string
	sandboxes []string
}

// start starts n pods of one container at once. The sandboxes are remembered for stop.
func (r *bareRuntime) start(ctx context.Context, prefix string, n int) (time.Duration, error) {
	ids := make([]string, n)
	began := time.Now()
	g, ctx := errgroup.WithContext(ctx)
	for i := range n {
		g.Go(func() (err error) {
			ids[i], err = r.startOne(ctx, fmt.Sprintf("%s-%d", prefix, i))
			return err
		})
	}
	err := g.Wait()
	took := time.Since(began)
	r.sandboxes = append(r.sandboxes, ids...)
	return took, err
}

func (r *bareRuntime) startOne(ctx context.Context, name string) (string, error) {
	config := &criv1.PodSandboxConfig{
		Metadata:     &criv1.PodSandboxMetadata{Name: name, Namespace: "bare", Uid: "bare-" + name},
		LogDirectory: filepath.Join(r.logs, name),
		Linux:        &criv1.LinuxPodSandboxConfig{CgroupParent: r.cgroup, SecurityContext: &criv1.LinuxSandboxSecurityContext{NamespaceOptions: &criv1.NamespaceOption{}}},
	}
	sandbox, err := r.client.RunPodSandbox(ctx, &criv1.RunPodSandboxRequest{Config: config})
	if err != nil {
		return "", err
	}
	id := sandbox.GetPodSandboxId()
	container, err := r.client.CreateContainer(ctx, &criv1.CreateContainerRequest{PodSandboxId: id, SandboxConfig: config, Config: &criv1.ContainerConfig{
		Metadata: &criv1.ContainerMetadata{Name: "c"}, Image: &criv1.ImageSpec{Image: startImage}, LogPath: "log",
		Linux: &criv1.LinuxContainerConfig{},
	}})
	if err != nil {
		return id, err
	}
	_, err = r.client.StartContainer(ctx, &criv1.StartContainerRequest{ContainerId: container.GetContainerId()})
	return id, err
}

// stop removes everything that start has started.
func (r *bareRuntime) stop(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(16)
	for _, id := range r.sandboxes {
		if id == "" {
			continue
		}
		g.Go(func() error {
			if _, err := r.client.StopPodSandbox(ctx, &criv1.StopPodSandboxRequest{PodSandboxId: id}); err != nil {
				return err
			}
			_, err := r.client.RemovePodSandbox(ctx, &criv1.RemovePodSandboxRequest{PodSandboxId: id})
			return err
		})
	}
	r.sandboxes = nil
	return g.Wait()
}
