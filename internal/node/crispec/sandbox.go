// Package crispec turns a pod's spec into the configuration that the container runtime takes: the sandbox, its resolver
// and hosts file, and each container with its security context and resources. Everything here is a pure function.
package crispec

import (
	"fmt"
	"maps"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
	resourcehelper "k8s.io/component-helpers/resource"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"canopus/internal/node/cgroup"
	"canopus/internal/node/cri"
)

// Paths are the directories a configuration names.
type Paths struct {
	PodLogs string // /var/log/pods
	Root    string // /var/lib/kubelet
	Seccomp string // Root/seccomp: Localhost profiles
}

// PodLogDir returns the directory of a pod's logs.
func (p Paths) PodLogDir(pod *corev1.Pod) string {
	return filepath.Join(p.PodLogs, fmt.Sprintf("%s_%s_%s", pod.Namespace, pod.Name, pod.UID))
}

// PodDir returns the directory of a pod's volumes and files.
func (p Paths) PodDir(uid string) string { return filepath.Join(p.Root, "pods", uid) }

// SandboxInput is what a sandbox configuration depends on.
type SandboxInput struct {
	Pod          *corev1.Pod
	Attempt      int
	DNS          *runtimeapi.DNSConfig
	Hostname     string
	CgroupParent string
	Paths        Paths
}

// Sandbox returns the configuration of a pod's sandbox.
func Sandbox(in SandboxInput) (*runtimeapi.PodSandboxConfig, error) {
	pod := in.Pod
	sec, err := sandboxSecurity(pod, in.Paths)
	if err != nil {
		return nil, err
	}
	labels := maps.Clone(pod.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	labels[cri.LabelPodName], labels[cri.LabelPodNamespace], labels[cri.LabelPodUID] = pod.Name, pod.Namespace, string(pod.UID)
	annotations := maps.Clone(pod.Annotations)
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations["kubernetes.io/config.source"] = "api"
	cfg := &runtimeapi.PodSandboxConfig{
		Metadata:     &runtimeapi.PodSandboxMetadata{Name: pod.Name, Namespace: pod.Namespace, Uid: string(pod.UID), Attempt: uint32(in.Attempt)},
		LogDirectory: in.Paths.PodLogDir(pod),
		DnsConfig:    in.DNS,
		PortMappings: portMappings(pod),
		Labels:       labels,
		Annotations:  annotations,
		Linux: &runtimeapi.LinuxPodSandboxConfig{
			CgroupParent:    in.CgroupParent,
			SecurityContext: sec,
			Sysctls:         sysctls(pod),
			Overhead:        overhead(pod),
			Resources:       podResources(pod),
		},
	}
	if !pod.Spec.HostNetwork {
		cfg.Hostname = in.Hostname
	}
	return cfg, nil
}

func portMappings(pod *corev1.Pod) []*runtimeapi.PortMapping {
	if pod.Spec.HostNetwork {
		return nil
	}
	var out []*runtimeapi.PortMapping
	add := func(cs []corev1.Container) {
		for _, c := range cs {
			for _, p := range c.Ports {
				if p.HostPort == 0 {
					continue
				}
				out = append(out, &runtimeapi.PortMapping{Protocol: protocol(p.Protocol), ContainerPort: p.ContainerPort, HostPort: p.HostPort, HostIp: p.HostIP})
			}
		}
	}
	for _, c := range pod.Spec.InitContainers {
		if Restartable(&c) {
			add([]corev1.Container{c})
		}
	}
	add(pod.Spec.Containers)
	return out
}

func protocol(p corev1.Protocol) runtimeapi.Protocol {
	switch p {
	case corev1.ProtocolUDP:
		return runtimeapi.Protocol_UDP
	case corev1.ProtocolSCTP:
		return runtimeapi.Protocol_SCTP
	}
	return runtimeapi.Protocol_TCP
}

// Restartable says whether an init container is a sidecar: one that runs beside the regular containers.
func Restartable(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

func sysctls(pod *corev1.Pod) map[string]string {
	if pod.Spec.SecurityContext == nil {
		return nil
	}
	out := map[string]string{}
	for _, s := range pod.Spec.SecurityContext.Sysctls {
		out[strings.ReplaceAll(s.Name, "/", ".")] = s.Value
	}
	return out
}

func overhead(pod *corev1.Pod) *runtimeapi.LinuxContainerResources {
	if len(pod.Spec.Overhead) == 0 {
		return nil
	}
	cpu, mem := pod.Spec.Overhead.Cpu(), pod.Spec.Overhead.Memory()
	return &runtimeapi.LinuxContainerResources{
		CpuShares: cgroup.Shares(cpu.MilliValue()), CpuPeriod: cgroup.QuotaPeriod, CpuQuota: cgroup.Quota(cpu.MilliValue()),
		MemoryLimitInBytes: mem.Value(),
	}
}

// podResources tells the runtime the pod's total, without overhead, for runtimes that size a virtual machine by it.
func podResources(pod *corev1.Pod) *runtimeapi.LinuxContainerResources {
	opts := resourcehelper.PodResourcesOptions{ExcludeOverhead: true}
	req, lim := resourcehelper.PodRequests(pod, opts), resourcehelper.PodLimits(pod, opts)
	return &runtimeapi.LinuxContainerResources{
		CpuShares: cgroup.Shares(req.Cpu().MilliValue()), CpuPeriod: cgroup.QuotaPeriod, CpuQuota: cgroup.Quota(lim.Cpu().MilliValue()),
		MemoryLimitInBytes: lim.Memory().Value(),
	}
}

func sandboxSecurity(pod *corev1.Pod, paths Paths) (*runtimeapi.LinuxSandboxSecurityContext, error) {
	out := &runtimeapi.LinuxSandboxSecurityContext{
		NamespaceOptions: namespaces(pod, ""),
		Seccomp:          &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault},
	}
	for i := range pod.Spec.Containers {
		if sc := pod.Spec.Containers[i].SecurityContext; sc != nil && sc.Privileged != nil && *sc.Privileged {
			out.Privileged = true
		}
	}
	psc := pod.Spec.SecurityContext
	if psc == nil {
		return out, nil
	}
	if psc.RunAsUser != nil {
		out.RunAsUser = &runtimeapi.Int64Value{Value: *psc.RunAsUser}
	}
	if psc.RunAsGroup != nil {
		out.RunAsGroup = &runtimeapi.Int64Value{Value: *psc.RunAsGroup}
	}
	out.SupplementalGroups = groups(pod)
	out.SupplementalGroupsPolicy = groupsPolicy(psc)
	if psc.SELinuxOptions != nil {
		out.SelinuxOptions = selinux(psc.SELinuxOptions)
	}
	if out.RunAsGroup != nil && out.RunAsUser == nil {
		return nil, fmt.Errorf("runAsGroup is set without runAsUser: set both in the pod's securityContext")
	}
	return out, nil
}

// namespaces returns which namespaces are shared; target is the container whose processes an ephemeral one sees.
func namespaces(pod *corev1.Pod, target string) *runtimeapi.NamespaceOption {
	o := &runtimeapi.NamespaceOption{
		Network: runtimeapi.NamespaceMode_POD, Pid: runtimeapi.NamespaceMode_CONTAINER, Ipc: runtimeapi.NamespaceMode_POD,
	}
	if pod.Spec.HostNetwork {
		o.Network = runtimeapi.NamespaceMode_NODE
	}
	if pod.Spec.HostIPC {
		o.Ipc = runtimeapi.NamespaceMode_NODE
	}
	switch {
	case pod.Spec.HostPID:
		o.Pid = runtimeapi.NamespaceMode_NODE
	case pod.Spec.ShareProcessNamespace != nil && *pod.Spec.ShareProcessNamespace:
		o.Pid = runtimeapi.NamespaceMode_POD
	case target != "":
		o.Pid, o.TargetId = runtimeapi.NamespaceMode_TARGET, target
	}
	return o
}

// groups returns the supplemental groups of every process of the pod.
func groups(pod *corev1.Pod) []int64 {
	psc := pod.Spec.SecurityContext
	if psc == nil {
		return nil
	}
	out := append([]int64{}, psc.SupplementalGroups...)
	if psc.FSGroup != nil {
		out = append(out, *psc.FSGroup)
	}
	return out
}

func groupsPolicy(psc *corev1.PodSecurityContext) runtimeapi.SupplementalGroupsPolicy {
	if psc.SupplementalGroupsPolicy != nil && *psc.SupplementalGroupsPolicy == corev1.SupplementalGroupsPolicyStrict {
		return runtimeapi.SupplementalGroupsPolicy_Strict
	}
	return runtimeapi.SupplementalGroupsPolicy_Merge
}

func selinux(o *corev1.SELinuxOptions) *runtimeapi.SELinuxOption {
	return &runtimeapi.SELinuxOption{User: o.User, Role: o.Role, Type: o.Type, Level: o.Level}
}
