package pods

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"canopus/internal/node/cri"
	"canopus/internal/node/crispec"
	"canopus/internal/node/devices"
	"canopus/internal/node/env"
	"canopus/internal/node/hooks"
	"canopus/internal/node/images"
)

const (
	reasonConfigError = "CreateContainerConfigError"
	reasonCreateError = "CreateContainerError"
	reasonRunError    = "RunContainerError"
	reasonHookError   = "PostStartHookError"

	configRetry = 10 * time.Second
)

// startError is why a container did not start; Reason is what its status shows.
type startError struct {
	Reason string
	Err    error
}

func (e *startError) Error() string { return e.Err.Error() }
func (e *startError) Unwrap() error { return e.Err }

// startAll starts containers one after the other, in the order of the spec.
func (w *worker) startAll(ctx context.Context, starts []Start) func() {
	for _, s := range starts {
		if ctx.Err() != nil {
			return nil
		}
		err := w.startOne(ctx, s)
		if _, rerr := w.m.cfg.Cache.Refresh(ctx, w.uid); rerr != nil && ctx.Err() == nil {
			w.m.cfg.Log.Warn("reading a pod from the runtime", "pod", w.String(), "error", rerr)
		}
		if ctx.Err() != nil {
			return nil // cancelled: what was made so far is found again
		}
		w.post(func() { w.started(s, err) })
	}
	return nil
}

// started notes the outcome of a start.
func (w *worker) started(s Start, err error) {
	name := s.Container.Name
	if imageOf(w.current(), name) != s.Container.Image {
		return // it is about an image that is not wanted any more
	}
	if s.Again {
		// Only now: while the next run is being made the container does not back off.
		w.crashes[name] = w.crashes[name].Next(w.m.cfg.Clock.Now())
	}
	if err == nil {
		delete(w.waits, name)
		delete(w.pulls, name)
		return
	}
	if errors.Is(err, context.Canceled) {
		return
	}
	now := w.m.cfg.Clock.Now()
	wait := Wait{Reason: reasonCreateError, Message: err.Error(), Since: now, Until: now.Add(configRetry)}
	var se *startError
	var ie *images.Error
	switch {
	case errors.As(err, &se):
		wait.Reason = se.Reason
		if se.Reason == reasonRunError || se.Reason == reasonHookError {
			return // the container exists and its end tells
		}
	case errors.As(err, &ie):
		wait.Reason = ie.Reason
		w.pulls[name] = w.pulls[name].Next(now)
		wait.Until = now.Add(w.pulls[name].Delay)
	}
	w.waits[name] = wait
	if ie == nil {
		w.m.event(w.current(), name, corev1.EventTypeWarning, "Failed", fmt.Sprintf("Error: %s", err))
	} else {
		w.m.event(w.current(), name, corev1.EventTypeWarning, "Failed", "Error: "+ie.Reason)
	}
}

// otherImages are the containers that have an image in now which they had not in old.
func otherImages(old, now *corev1.Pod) map[string]bool {
	out := map[string]bool{}
	for _, c := range containersOf(now) {
		if was := imageOf(old, c.Name); was != "" && was != c.Image {
			out[c.Name] = true
		}
	}
	return out
}

// imageOf is the image of a pod's container, "" if it has no such container.
func imageOf(pod *corev1.Pod, container string) string {
	for _, c := range containersOf(pod) {
		if c.Name == container {
			return c.Image
		}
	}
	return ""
}

// containersOf are all containers of a pod, of whatever sort.
func containersOf(pod *corev1.Pod) []*corev1.Container {
	var out []*corev1.Container
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			out = append(out, &list[i])
		}
	}
	for i := range pod.Spec.EphemeralContainers {
		c := corev1.Container(pod.Spec.EphemeralContainers[i].EphemeralContainerCommon)
		out = append(out, &c)
	}
	return out
}

// forgive forgets what a container has to wait for: that was with another image.
func (w *worker) forgive(container string) {
	delete(w.waits, container)
	delete(w.pulls, container)
	delete(w.crashes, container)
}

// startOne gets the image, creates the container and starts it.
func (w *worker) startOne(ctx context.Context, s Start) error {
	rt := w.m.cfg.Cache.Get(w.uid)
	sandbox := rt.ReadySandbox()
	if sandbox == nil {
		return context.Canceled
	}
	pod := w.podWithIPs(rt)
	sandboxCfg, err := w.sandboxConfig(pod, int(sandbox.GetMetadata().GetAttempt()))
	if err != nil {
		return &startError{reasonConfigError, err}
	}
	img, err := w.m.cfg.Puller.Ensure(ctx, images.Request{
		Pod: pod, Container: s.Container, Secrets: w.pullSecrets(ctx, pod), Sandbox: sandboxCfg,
		Event: func(kind, reason, msg string) { w.m.event(pod, s.Container.Name, kind, reason, msg) },
	})
	if err != nil {
		return err
	}
	of, err := w.imageVolumes(ctx, pod, s.Container, sandboxCfg)
	if err != nil {
		return err
	}
	cfg, err := w.containerConfig(ctx, pod, s, contents{image: img, volumes: of})
	if err != nil {
		return &startError{reasonConfigError, err}
	}
	if s.Leftover != "" {
		if _, err := w.m.cfg.Runtime.RemoveContainer(ctx, &runtimeapi.RemoveContainerRequest{ContainerId: s.Leftover}); err != nil && !cri.Gone(err) {
			return &startError{reasonCreateError, fmt.Errorf("remove the container that never started: %w", err)}
		}
	}
	if err := os.MkdirAll(filepath.Join(w.m.cfg.Paths.PodLogDir(pod), s.Container.Name), 0o755); err != nil {
		return &startError{reasonConfigError, fmt.Errorf("log directory: %w", err)}
	}
	created, err := w.m.cfg.Runtime.CreateContainer(ctx, &runtimeapi.CreateContainerRequest{
		PodSandboxId: sandbox.GetId(), Config: cfg, SandboxConfig: sandboxCfg})
	if err != nil {
		return &startError{reasonCreateError, err}
	}
	w.m.event(pod, s.Container.Name, corev1.EventTypeNormal, "Created", "Container created")
	return w.launch(ctx, pod, s, created.GetContainerId())
}

// launch starts a created container and runs its postStart hook.
func (w *worker) launch(ctx context.Context, pod *corev1.Pod, s Start, id string) error {
	c := s.Container
	hook := c.Lifecycle != nil && c.Lifecycle.PostStart != nil
	if hook {
		// Before the start, so that the container never looks started in between.
		w.post(func() { w.hooking[id] = true })
	}
	if _, err := w.m.cfg.Runtime.StartContainer(ctx, &runtimeapi.StartContainerRequest{ContainerId: id}); err != nil {
		w.post(func() { delete(w.hooking, id) })
		if ctx.Err() != nil {
			return ctx.Err()
		}
		w.m.event(pod, c.Name, corev1.EventTypeWarning, "Failed", fmt.Sprintf("Error: %v", err))
		return &startError{reasonRunError, err}
	}
	w.m.event(pod, c.Name, corev1.EventTypeNormal, "Started", "Container started")
	w.linkLog(pod, c.Name, s.Attempt, id)
	if s.Attempt > 1 {
		w.dropOld(ctx, c.Name)
	}
	if !hook {
		return nil
	}
	err := w.m.cfg.Hooks.Run(ctx, c.Lifecycle.PostStart, hooks.Target{Container: c, ContainerID: id, PodIP: pod.Status.PodIP})
	w.post(func() { delete(w.hooking, id) })
	if err == nil || cri.Gone(err) {
		return nil
	}
	w.m.event(pod, c.Name, corev1.EventTypeWarning, "FailedPostStartHook", "PostStartHook failed")
	if _, err := w.m.cfg.Runtime.StopContainer(ctx, &runtimeapi.StopContainerRequest{
		ContainerId: id, Timeout: int64(graceOf(pod) / time.Second)}); err != nil && !cri.Gone(err) {
		w.m.cfg.Log.Warn("stopping a container after its hook failed", "pod", w.String(), "container", c.Name, "error", err)
	}
	return &startError{reasonHookError, err}
}

// dropOld removes all runs of a container but the current and the one before.
func (w *worker) dropOld(ctx context.Context, name string) {
	rt, err := w.m.cfg.Cache.Refresh(ctx, w.uid)
	if err != nil {
		return // the next start tries again
	}
	n := 0
	for _, st := range rt.Containers {
		if st.Name() != name {
			continue
		}
		if n++; n <= 2 || !st.Exited() {
			continue
		}
		if _, err := w.m.cfg.Runtime.RemoveContainer(ctx, &runtimeapi.RemoveContainerRequest{ContainerId: st.GetId()}); err != nil {
			continue
		}
		w.unlinkLog(st)
		_ = os.Remove(st.GetLogPath())
	}
}

// podWithIPs returns the pod with the addresses that its environment may refer to.
func (w *worker) podWithIPs(rt *cri.Pod) *corev1.Pod {
	pod := w.current().DeepCopy()
	s := stater{Facts: &Facts{Pod: pod, Runtime: rt, HostIPs: w.m.cfg.HostIPs}}
	s.addresses(&pod.Status)
	return pod
}

func (w *worker) pullSecrets(ctx context.Context, pod *corev1.Pod) []*corev1.Secret {
	var out []*corev1.Secret
	for _, ref := range pod.Spec.ImagePullSecrets {
		s, found, err := w.m.cfg.Objects.Reader(ctx).Secret(pod.Namespace, ref.Name)
		if err != nil || !found {
			w.m.event(pod, "", corev1.EventTypeWarning, "FailedToRetrieveImagePullSecret",
				fmt.Sprintf("Unable to retrieve some image pull secrets (%s); attempting to pull the image may not succeed.", ref.Name))
			continue
		}
		out = append(out, s)
	}
	return out
}

// contents is the images that a container needs: its own and those of its volumes, by their names.
type contents struct {
	image   images.Image
	volumes map[string]*runtimeapi.ImageSpec
}

// imageVolumes gets the images that the container mounts.
func (w *worker) imageVolumes(ctx context.Context, pod *corev1.Pod, c *corev1.Container, sandbox *runtimeapi.PodSandboxConfig) (map[string]*runtimeapi.ImageSpec, error) {
	out := map[string]*runtimeapi.ImageSpec{}
	for i := range c.VolumeMounts {
		v := volumeNamed(pod, c.VolumeMounts[i].Name)
		if v == nil || v.Image == nil || out[v.Name] != nil {
			continue
		}
		img, err := w.m.cfg.Puller.Ensure(ctx, images.Request{
			Pod: pod, Container: &corev1.Container{Image: v.Image.Reference, ImagePullPolicy: v.Image.PullPolicy},
			Secrets: w.pullSecrets(ctx, pod), Sandbox: sandbox,
			Event: func(kind, reason, msg string) { w.m.event(pod, c.Name, kind, reason, msg) },
		})
		if err != nil {
			return nil, err
		}
		out[v.Name] = &runtimeapi.ImageSpec{Image: img.Ref, UserSpecifiedImage: v.Image.Reference}
	}
	return out, nil
}

func volumeNamed(pod *corev1.Pod, name string) *corev1.Volume {
	for i := range pod.Spec.Volumes {
		if pod.Spec.Volumes[i].Name == name {
			return &pod.Spec.Volumes[i]
		}
	}
	return nil
}

// containerConfig evaluates everything that the container's spec refers to.
func (w *worker) containerConfig(ctx context.Context, pod *corev1.Pod, s Start, img contents) (*runtimeapi.ContainerConfig, error) {
	services, err := w.m.cfg.Services.List(labels.Everything())
	if err != nil {
		return nil, fmt.Errorf("services: %w", err)
	}
	res, err := env.Make(env.Input{
		Pod: pod, Container: s.Container, Services: services, Objects: w.m.cfg.Objects.Reader(ctx), Allocatable: w.m.cfg.Volumes.Allocatable})
	if err != nil {
		return nil, err
	}
	if len(res.Skipped) > 0 {
		w.m.event(pod, s.Container.Name, corev1.EventTypeWarning, "InvalidEnvironmentVariableNames",
			fmt.Sprintf("Keys %q were skipped since they are considered invalid environment variable names.", res.Skipped))
	}
	mounts, err := w.mounts(pod, s, res.Vars, img.volumes)
	if err != nil {
		return nil, err
	}
	cdi, err := w.devices(ctx, pod, s.Container)
	if err != nil {
		return nil, err
	}
	return crispec.Container(crispec.ContainerInput{
		Pod: pod, Container: s.Container, Attempt: s.Attempt, ImageRef: img.image.Ref, ImageUser: img.image.User, Env: res.Vars, Mounts: mounts, CDI: cdi,
		TargetID: s.Target, Version: w.m.cfg.Cgroups.Version(), Memory: w.m.cfg.Memory, Paths: w.m.cfg.Paths,
	})
}

// devices are those that the container gets from its pod's claims.
func (w *worker) devices(ctx context.Context, pod *corev1.Pod, c *corev1.Container) ([]string, error) {
	if !devices.Wants(pod, c) {
		return nil, nil
	}
	// Prepared before the sandbox was, unless that was by a program that knew nothing of devices.
	if err := w.m.cfg.Devices.Prepare(ctx, pod); err != nil {
		return nil, err
	}
	return w.m.cfg.Devices.For(pod, c)
}
