package pods

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"canopus/internal/node/cri"
	"canopus/internal/node/crispec"
	"canopus/internal/node/env"
	"canopus/internal/node/volume"
)

const (
	etcHosts        = "/etc/hosts"
	maxMessage      = 4096 // bytes of a termination message
	maxLogMessage   = 2048 // of one taken from the log
	maxMessageLines = 80
)

// mounts returns what is mounted into a container.
func (w *worker) mounts(pod *corev1.Pod, s Start, vars []corev1.EnvVar, images map[string]*runtimeapi.ImageSpec) ([]*runtimeapi.Mount, error) {
	c := s.Container
	if len(c.VolumeDevices) > 0 {
		return nil, fmt.Errorf("block volumes (volumeDevices) are not provided by this node")
	}
	var out []*runtimeapi.Mount
	ownHosts := false
	for i := range c.VolumeMounts {
		m, err := w.volumeMount(pod, c, i, vars)
		if err != nil {
			return nil, err
		}
		if image := images[c.VolumeMounts[i].Name]; image != nil {
			m.Image = image
		}
		out = append(out, m)
		ownHosts = ownHosts || m.GetContainerPath() == etcHosts
	}
	if !ownHosts {
		file, err := w.writeHosts(pod)
		if err != nil {
			return nil, err
		}
		out = append(out, &runtimeapi.Mount{ContainerPath: etcHosts, HostPath: file})
	}
	if c.TerminationMessagePath != "" {
		file, err := w.messageFile(pod, c, s.Attempt)
		if err != nil {
			return nil, err
		}
		out = append(out, &runtimeapi.Mount{ContainerPath: c.TerminationMessagePath, HostPath: file})
	}
	return out, nil
}

// volumeMount returns the mount of one of the container's volumeMounts.
func (w *worker) volumeMount(pod *corev1.Pod, c *corev1.Container, index int, vars []corev1.EnvVar) (*runtimeapi.Mount, error) {
	vm := &c.VolumeMounts[index]
	dir, ok := w.vols.Dir(vm.Name)
	if !ok {
		return nil, fmt.Errorf("volume %q is not available", vm.Name)
	}
	sub, err := subPath(vm, vars)
	if err != nil {
		return nil, err
	}
	image := false
	if v := volumeNamed(pod, vm.Name); v != nil {
		image = v.Image != nil
	}
	if sub != "" && !image {
		s := volume.SubPath{Root: w.m.cfg.Volumes.Root, UID: pod.UID, Volume: vm.Name, Container: c.Name, Index: index}
		if dir, err = s.Bind(w.m.cfg.Volumes.Mounter, dir, sub); err != nil {
			return nil, err
		}
	}
	target := vm.MountPath
	if !filepath.IsAbs(target) {
		target = filepath.Join("/", target)
	}
	out := &runtimeapi.Mount{ContainerPath: target, HostPath: dir, Readonly: vm.ReadOnly || volumeReadOnly(pod, vm.Name)}
	if image {
		// The runtime finds the path in the image.
		out.Readonly, out.ImageSubPath = true, sub
	}
	if vm.MountPropagation != nil {
		switch *vm.MountPropagation {
		case corev1.MountPropagationHostToContainer:
			out.Propagation = runtimeapi.MountPropagation_PROPAGATION_HOST_TO_CONTAINER
		case corev1.MountPropagationBidirectional:
			out.Propagation = runtimeapi.MountPropagation_PROPAGATION_BIDIRECTIONAL
		}
	}
	if r := vm.RecursiveReadOnly; r != nil && *r == corev1.RecursiveReadOnlyEnabled {
		out.RecursiveReadOnly = true
	}
	return out, nil
}

// subPath returns the path inside the volume, with the container's variables in it.
func subPath(vm *corev1.VolumeMount, vars []corev1.EnvVar) (string, error) {
	if vm.SubPathExpr == "" {
		return vm.SubPath, nil
	}
	missing := ""
	sub := env.Expand(vm.SubPathExpr, func(name string) (string, bool) {
		for _, v := range vars {
			if v.Name == name {
				return v.Value, true
			}
		}
		missing = name
		return "", false
	})
	if missing != "" {
		return "", fmt.Errorf("subPathExpr %q refers to %s, which is not in the container's environment", vm.SubPathExpr, missing)
	}
	if filepath.IsAbs(sub) || slices.Contains(strings.Split(sub, "/"), "..") {
		return "", fmt.Errorf("subPathExpr %q is %q here: it must be relative and must not contain '..'", vm.SubPathExpr, sub)
	}
	return sub, nil
}

// volumeReadOnly says whether no container may write to a volume: those the agent writes, and claims that say so.
func volumeReadOnly(pod *corev1.Pod, name string) bool {
	v := volumeNamed(pod, name)
	return v != nil && (v.ConfigMap != nil || v.Secret != nil || v.DownwardAPI != nil || v.Projected != nil ||
		v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ReadOnly)
}

// writeHosts writes the pod's hosts file.
func (w *worker) writeHosts(pod *corev1.Pod) (string, error) {
	host, domain, err := w.m.cfg.DNS.Hostname(pod)
	if err != nil {
		return "", err
	}
	var node []byte
	if pod.Spec.HostNetwork {
		if node, err = os.ReadFile(etcHosts); err != nil {
			return "", fmt.Errorf("the node's hosts file: %w", err)
		}
	}
	var ips []string
	for _, ip := range pod.Status.PodIPs {
		ips = append(ips, ip.IP)
	}
	file := filepath.Join(volume.PodDir(w.m.cfg.Volumes.Root, pod.UID), "etc-hosts")
	if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
		return "", fmt.Errorf("hosts file: %w", err)
	}
	if err := os.WriteFile(file, []byte(crispec.Hosts(pod, ips, host, domain, node)), 0o644); err != nil {
		return "", fmt.Errorf("hosts file: %w", err)
	}
	return file, nil
}

// messageFile makes the file in which the container can say why it ended.
func (w *worker) messageFile(pod *corev1.Pod, c *corev1.Container, attempt int) (string, error) {
	dir := filepath.Join(volume.PodDir(w.m.cfg.Volumes.Root, pod.UID), "containers", c.Name)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return "", fmt.Errorf("termination message: %w", err)
	}
	file := filepath.Join(dir, strconv.Itoa(attempt)+".message")
	if err := os.WriteFile(file, nil, 0o666); err != nil {
		return "", fmt.Errorf("termination message: %w", err)
	}
	// Again, as the umask took its part of the first: any user of the container may write it.
	if err := os.Chmod(file, 0o666); err != nil {
		return "", fmt.Errorf("termination message: %w", err)
	}
	return file, nil
}

// terminationMessage returns what a container left behind: its message file, else the end of its log if that is wanted.
func terminationMessage(root string, st *cri.Container) string {
	target := st.GetAnnotations()[cri.AnnotationTerminationPath]
	if target == "" {
		return ""
	}
	for _, m := range st.GetMounts() {
		if m.GetContainerPath() != target || !strings.HasPrefix(m.GetHostPath(), root+"/") {
			continue
		}
		if b := readTail(m.GetHostPath(), maxMessage, false); b != "" {
			return b
		}
	}
	if st.GetExitCode() == 0 || st.GetAnnotations()[cri.AnnotationTerminationPolicy] != string(corev1.TerminationMessageFallbackToLogsOnError) {
		return ""
	}
	return logTail(st.GetLogPath())
}
