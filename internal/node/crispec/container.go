package crispec

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"path/filepath"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"canopus/internal/node/cgroup"
	"canopus/internal/node/cri"
	"canopus/internal/node/env"
)

// ContainerInput is what a container's configuration depends on.
type ContainerInput struct {
	Pod       *corev1.Pod
	Container *corev1.Container
	Attempt   int
	ImageRef  string // what the runtime calls the image
	ImageUser ImageUser
	Env       []corev1.EnvVar // evaluated
	Mounts    []*runtimeapi.Mount
	Devices   []*runtimeapi.Device
	CDI       []string // devices by the names that their drivers gave them
	TargetID  string   // of an ephemeral container's target
	Version   cgroup.Version
	Memory    int64 // the node's
	Paths     Paths
}

// ImageUser is the user an image asks for: a number, or a name when Name is not empty.
type ImageUser struct {
	UID  *int64
	Name string
}

// Container returns the configuration of one container.
func Container(in ContainerInput) (*runtimeapi.ContainerConfig, error) {
	c, pod := in.Container, in.Pod
	sec, err := containerSecurity(in)
	if err != nil {
		return nil, err
	}
	values := map[string]string{}
	for _, e := range in.Env {
		values[e.Name] = e.Value
	}
	lookup := func(name string) (string, bool) { v, ok := values[name]; return v, ok }
	cfg := &runtimeapi.ContainerConfig{
		Metadata:   &runtimeapi.ContainerMetadata{Name: c.Name, Attempt: uint32(in.Attempt)},
		Image:      &runtimeapi.ImageSpec{Image: in.ImageRef, UserSpecifiedImage: c.Image},
		Command:    expandAll(c.Command, lookup),
		Args:       expandAll(c.Args, lookup),
		WorkingDir: c.WorkingDir,
		Mounts:     in.Mounts,
		Devices:    in.Devices,
		Labels: map[string]string{
			cri.LabelContainerName: c.Name, cri.LabelPodName: pod.Name,
			cri.LabelPodNamespace: pod.Namespace, cri.LabelPodUID: string(pod.UID),
		},
		Annotations: annotations(in),
		LogPath:     filepath.Join(c.Name, strconv.Itoa(in.Attempt)+".log"),
		Stdin:       c.Stdin,
		StdinOnce:   c.StdinOnce,
		Tty:         c.TTY,
		Linux: &runtimeapi.LinuxContainerConfig{
			Resources:       Resources(pod, c, in.Memory),
			SecurityContext: sec,
		},
		StopSignal: stopSignal(c),
	}
	for _, name := range in.CDI {
		cfg.CDIDevices = append(cfg.CDIDevices, &runtimeapi.CDIDevice{Name: name})
	}
	for _, e := range in.Env {
		cfg.Envs = append(cfg.Envs, &runtimeapi.KeyValue{Key: e.Name, Value: []byte(e.Value)})
	}
	return cfg, nil
}

func annotations(in ContainerInput) map[string]string {
	out := map[string]string{
		cri.AnnotationHash:              Hash(in.Container),
		cri.AnnotationRestartCount:      strconv.Itoa(in.Attempt),
		cri.AnnotationTerminationPath:   in.Container.TerminationMessagePath,
		cri.AnnotationTerminationPolicy: string(in.Container.TerminationMessagePolicy),
	}
	if g := in.Pod.Spec.TerminationGracePeriodSeconds; g != nil {
		out[cri.AnnotationGracePeriod] = strconv.FormatInt(*g, 10)
	}
	return out
}

// Hash changes when a running container has to be replaced because its spec changed. Only the image may change in place.
func Hash(c *corev1.Container) string {
	h := fnv.New32a()
	// Encoding two strings cannot fail.
	b, _ := json.Marshal([]string{c.Name, c.Image})
	_, _ = h.Write(b)
	return strconv.FormatUint(uint64(h.Sum32()), 16)
}

func expandAll(in []string, lookup func(string) (string, bool)) []string {
	if len(in) == 0 {
		return nil
	}
	out := make([]string, len(in))
	for i, s := range in {
		out[i] = env.Expand(s, lookup)
	}
	return out
}

// Resources returns what a container is limited to, in the terms of CRI.
func Resources(pod *corev1.Pod, c *corev1.Container, memory int64) *runtimeapi.LinuxContainerResources {
	req, lim := c.Resources.Requests, c.Resources.Limits
	request := req.Cpu().MilliValue()
	if _, ok := req[corev1.ResourceCPU]; !ok {
		request = lim.Cpu().MilliValue()
	}
	out := &runtimeapi.LinuxContainerResources{
		CpuShares:          cgroup.Shares(request),
		CpuPeriod:          cgroup.QuotaPeriod,
		CpuQuota:           cgroup.Quota(lim.Cpu().MilliValue()),
		MemoryLimitInBytes: lim.Memory().Value(),
		OomScoreAdj:        cgroup.OOMScoreAdjust(pod, c, memory),
	}
	l := cgroup.PodLimits(&corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{*c}}}, 0)
	for size, n := range l.Huge {
		out.HugepageLimits = append(out.HugepageLimits, &runtimeapi.HugepageLimit{PageSize: size, Limit: uint64(n)})
	}
	return out
}

func stopSignal(c *corev1.Container) runtimeapi.Signal {
	if c.Lifecycle == nil || c.Lifecycle.StopSignal == nil {
		return runtimeapi.Signal_SIGNAL_RUNTIME_DEFAULT
	}
	v, ok := runtimeapi.Signal_value["SIGNAL_"+string(*c.Lifecycle.StopSignal)]
	if !ok {
		// SIGRTMIN+1 is spelled SIGNAL_SIGRTMINPLUS1.
		v = runtimeapi.Signal_value["SIGNAL_"+realtime(string(*c.Lifecycle.StopSignal))]
	}
	return runtimeapi.Signal(v)
}

func realtime(s string) string {
	out := make([]byte, 0, len(s)+4)
	for i := range len(s) {
		switch s[i] {
		case '+':
			out = append(out, "PLUS"...)
		case '-':
			out = append(out, "MINUS"...)
		default:
			out = append(out, s[i])
		}
	}
	return string(out)
}

// ErrRunAsRoot is returned when a container that must not run as root would.
type ErrRunAsRoot struct{ Why string }

func (e *ErrRunAsRoot) Error() string { return e.Why }

func rootRefused(pod *corev1.Pod, c *corev1.Container, why string) error {
	return &ErrRunAsRoot{Why: fmt.Sprintf("%s (pod: %q, container: %s)", why, pod.Name+"_"+pod.Namespace+"("+string(pod.UID)+")", c.Name)}
}
