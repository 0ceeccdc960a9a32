package pods

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"canopus/internal/node/cri"
	"canopus/internal/node/crispec"
	"canopus/internal/node/hooks"
)

// minimumGrace is what a container gets to end after its preStop hook used the pod's grace period up.
const minimumGrace = 2 * time.Second

// createSandbox makes the pod's cgroup and sandbox, after the devices that the pod claims.
func (w *worker) createSandbox(ctx context.Context, attempt int) func() {
	if err := w.m.cfg.Devices.Prepare(ctx, w.current()); err != nil {
		return w.noSandbox(ctx, "FailedPrepareDynamicResources", "Failed to prepare dynamic resources: ", err)
	}
	select {
	case w.m.sandboxes <- struct{}{}:
		defer func() { <-w.m.sandboxes }()
	case <-ctx.Done():
		return nil
	}
	if err := w.runSandbox(ctx, attempt); err != nil {
		return w.noSandbox(ctx, "FailedCreatePodSandBox", "Failed to create pod sandbox: ", err)
	}
	return func() {
		w.outcome("sandbox", nil)
		w.sandbox = Wait{}
	}
}

// noSandbox notes why there is no sandbox yet.
func (w *worker) noSandbox(ctx context.Context, reason, text string, err error) func() {
	cancelled := ctx.Err() != nil
	return func() {
		w.outcome("sandbox", err)
		w.sandbox = Wait{Reason: reason, Message: err.Error(), Since: w.m.cfg.Clock.Now(), Until: w.retry["sandbox"].until}
		if !cancelled {
			w.m.event(w.current(), "", corev1.EventTypeWarning, reason, text+err.Error())
		}
	}
}

func (w *worker) runSandbox(ctx context.Context, attempt int) error {
	pod := w.current()
	if old := w.m.cfg.Cache.Get(w.uid).Sandbox(); old != nil {
		w.m.event(pod, "", corev1.EventTypeNormal, "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.")
		if _, err := w.m.cfg.Runtime.StopPodSandbox(ctx, &runtimeapi.StopPodSandboxRequest{PodSandboxId: old.GetId()}); err != nil && !cri.Gone(err) {
			return fmt.Errorf("stop the old sandbox: %w", err)
		}
	}
	cfg, err := w.sandboxConfig(pod, attempt)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(cfg.GetLogDirectory(), 0o755); err != nil {
		return fmt.Errorf("pod log directory: %w", err)
	}
	handler, err := w.runtimeHandler(ctx, pod)
	if err != nil {
		return err
	}
	if _, err = w.m.cfg.Runtime.RunPodSandbox(ctx, &runtimeapi.RunPodSandboxRequest{Config: cfg, RuntimeHandler: handler}); err != nil {
		return err
	}
	_, err = w.m.cfg.Cache.Refresh(ctx, w.uid)
	return err
}

// runtimeHandler is what the runtime calls the pod's runtime class; "" is its default.
func (w *worker) runtimeHandler(ctx context.Context, pod *corev1.Pod) (string, error) {
	if pod.Spec.RuntimeClassName == nil || *pod.Spec.RuntimeClassName == "" {
		return "", nil
	}
	class, err := w.m.cfg.Client.NodeV1().RuntimeClasses().Get(ctx, *pod.Spec.RuntimeClassName, metav1.GetOptions{})
	if err != nil {
		return "", fmt.Errorf("look up the runtime handler of class %q: %w", *pod.Spec.RuntimeClassName, err)
	}
	return class.Handler, nil
}

// sandboxConfig returns the configuration of the pod's sandbox and makes the pod's cgroup.
func (w *worker) sandboxConfig(pod *corev1.Pod, attempt int) (*runtimeapi.PodSandboxConfig, error) {
	parent, err := w.m.cfg.Cgroups.EnsurePod(pod)
	if err != nil {
		return nil, err
	}
	host, _, err := w.m.cfg.DNS.Hostname(pod)
	if err != nil {
		return nil, err
	}
	dns, notes := w.m.cfg.DNS.Resolve(pod)
	for _, n := range notes {
		w.m.event(pod, "", corev1.EventTypeWarning, "DNSConfigForming", n)
	}
	return crispec.Sandbox(crispec.SandboxInput{Pod: pod, Attempt: attempt, DNS: dns, Hostname: host, CgroupParent: parent, Paths: w.m.cfg.Paths})
}

// setUpVolumes makes the volumes of the pod available.
func (w *worker) setUpVolumes(ctx context.Context, pod *corev1.Pod) func() {
	failed := w.vols.SetUp(ctx, pod, w.m.cfg.Objects.Reader(ctx))
	if ctx.Err() != nil {
		return nil
	}
	return func() {
		var err error
		for _, f := range failed {
			err = f.Err
			w.m.event(pod, "", corev1.EventTypeWarning, "FailedMount", fmt.Sprintf("MountVolume.SetUp failed for volume %q : %v", f.Volume, f.Err))
		}
		w.outcome("volumes", err)
		// A volume that was there stays usable when bringing it up to date fails.
		w.volsOK = w.volsOK || err == nil
	}
}

// startKill stops a container, or shortens the time it was given.
func (w *worker) startKill(ctx context.Context, k Kill) {
	key := "kill:" + k.ID
	given, under := w.killing[k.ID]
	if under && !k.Deadline.Before(given.Add(-time.Second)) {
		return
	}
	w.killing[k.ID] = k.Deadline
	hook := true
	if under {
		key, hook = fmt.Sprintf("%s#%d", key, k.Deadline.UnixNano()), false
	} else {
		w.m.event(w.current(), k.Name, corev1.EventTypeNormal, "Killing", k.Message)
	}
	rt := w.m.cfg.Cache.Get(w.uid)
	c := w.container(k.Name)
	w.cancelPrefix("hook:" + k.ID)
	w.do(ctx, key, func(ctx context.Context) func() {
		err := w.stop(ctx, k, c, rt, hook)
		cancelled := ctx.Err() != nil
		return func() {
			if !under || err != nil {
				delete(w.killing, k.ID)
			}
			if err != nil && !cancelled {
				w.m.cfg.Log.Warn("stopping a container", "pod", w.String(), "container", k.Name, "error", err)
				w.outcome(key, err)
			}
		}
	})
}

func (w *worker) cancelPrefix(prefix string) {
	for k, cancel := range w.busy {
		if strings.HasPrefix(k, prefix) {
			cancel()
		}
	}
}

// container returns the container called name, nil when the spec has none.
func (w *worker) container(name string) *corev1.Container {
	for _, c := range allContainers(w.current()) {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// stop runs the preStop hook and has the runtime stop the container before the deadline.
func (w *worker) stop(ctx context.Context, k Kill, c *corev1.Container, rt *cri.Pod, hook bool) error {
	left := func() time.Duration { return max(k.Deadline.Sub(w.m.cfg.Clock.Now()), 0) }
	st := rt.ByID(k.ID)
	if hook && c != nil && c.Lifecycle != nil && c.Lifecycle.PreStop != nil && st != nil && st.Running() && left() > 0 {
		hctx, cancel := context.WithTimeout(ctx, left())
		err := w.m.cfg.Hooks.Run(hctx, c.Lifecycle.PreStop, hooks.Target{Container: c, ContainerID: k.ID, PodIP: w.podIP(rt)})
		cancel()
		if err != nil && !cri.Gone(err) && ctx.Err() == nil {
			w.m.event(w.current(), k.Name, corev1.EventTypeWarning, "FailedPreStopHook", "PreStopHook failed")
		}
		k.Deadline = later(k.Deadline, w.m.cfg.Clock.Now().Add(minimumGrace))
	}
	seconds := int64((left() + time.Second - 1) / time.Second)
	_, err := w.m.cfg.Runtime.StopContainer(ctx, &runtimeapi.StopContainerRequest{ContainerId: k.ID, Timeout: seconds})
	if err != nil && !cri.Gone(err) {
		return fmt.Errorf("stop container: %w", err)
	}
	_, err = w.m.cfg.Cache.Refresh(ctx, w.uid)
	return err
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// tearDown releases what the pod holds of the node: network, volumes, devices, cgroups. Containers stay for their logs.
func (w *worker) tearDown(ctx context.Context) func() {
	pod := w.current()
	var errs []error
	for _, s := range w.m.cfg.Cache.Get(w.uid).Sandboxes {
		if s.GetState() != runtimeapi.PodSandboxState_SANDBOX_READY {
			continue
		}
		if _, err := w.m.cfg.Runtime.StopPodSandbox(ctx, &runtimeapi.StopPodSandboxRequest{PodSandboxId: s.GetId()}); err != nil && !cri.Gone(err) {
			errs = append(errs, fmt.Errorf("stop sandbox: %w", err))
		}
	}
	if len(errs) == 0 {
		errs = append(errs, w.vols.TearDown(ctx, pod), w.m.cfg.Devices.Release(ctx, w.uid), w.m.cfg.Cgroups.RemovePod(ctx, pod))
	}
	_, err := w.m.cfg.Cache.Refresh(ctx, w.uid)
	err = errors.Join(append(errs, err)...)
	cancelled := ctx.Err() != nil
	return func() {
		if err != nil && !cancelled {
			w.m.cfg.Log.Warn("releasing a pod's resources", "pod", w.String(), "error", err)
		}
		w.outcome("teardown", err)
		w.tornDown = err == nil
	}
}

// remove deletes the last traces of a pod that the API no longer has.
func (w *worker) remove(ctx context.Context) func() {
	var errs []error
	rt, err := w.m.cfg.Cache.Refresh(ctx, w.uid)
	if err == nil {
		for _, st := range rt.Containers {
			w.unlinkLog(st)
		}
		for _, s := range rt.Sandboxes {
			if _, err := w.m.cfg.Runtime.RemovePodSandbox(ctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: s.GetId()}); err != nil && !cri.Gone(err) {
				errs = append(errs, fmt.Errorf("remove sandbox: %w", err))
			}
		}
		if len(rt.Sandboxes) == 0 {
			for _, st := range rt.Containers {
				if _, err := w.m.cfg.Runtime.RemoveContainer(ctx, &runtimeapi.RemoveContainerRequest{ContainerId: st.GetId()}); err != nil && !cri.Gone(err) {
					errs = append(errs, fmt.Errorf("remove container: %w", err))
				}
			}
		}
	}
	errs = append(errs, err)
	if err := errors.Join(errs...); err != nil {
		cancelled := ctx.Err() != nil
		return func() {
			if !cancelled {
				w.m.cfg.Log.Warn("removing a pod", "pod", w.String(), "error", err)
			}
			w.outcome("remove", err)
		}
	}
	err = os.RemoveAll(w.m.cfg.Paths.PodLogDir(w.current()))
	_, _ = w.m.cfg.Cache.Refresh(ctx, w.uid)
	return func() {
		w.outcome("remove", err)
		w.finished = err == nil
	}
}
