package crispec

import (
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// maskedPaths and readonlyPaths return what a container with the default procMount may not see or write in /proc and /sys.
func maskedPaths() []string {
	return []string{"/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
		"/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap"}
}

func readonlyPaths() []string {
	return []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
}

func containerSecurity(in ContainerInput) (*runtimeapi.LinuxContainerSecurityContext, error) {
	pod, c := in.Pod, in.Container
	sc, psc := c.SecurityContext, pod.Spec.SecurityContext
	if sc == nil {
		sc = &corev1.SecurityContext{}
	}
	if psc == nil {
		psc = &corev1.PodSecurityContext{}
	}
	out := &runtimeapi.LinuxContainerSecurityContext{
		NamespaceOptions:         namespaces(pod, in.TargetID),
		Privileged:               isTrue(sc.Privileged),
		ReadonlyRootfs:           isTrue(sc.ReadOnlyRootFilesystem),
		NoNewPrivs:               sc.AllowPrivilegeEscalation != nil && !*sc.AllowPrivilegeEscalation,
		SupplementalGroups:       groups(pod),
		SupplementalGroupsPolicy: groupsPolicy(psc),
		Seccomp:                  seccomp(sc.SeccompProfile, psc.SeccompProfile, in.Paths),
		Apparmor:                 apparmor(sc.AppArmorProfile, psc.AppArmorProfile),
	}
	if sc.ProcMount == nil || *sc.ProcMount == corev1.DefaultProcMount {
		if !out.Privileged {
			out.MaskedPaths, out.ReadonlyPaths = maskedPaths(), readonlyPaths()
		}
	}
	if sc.Capabilities != nil {
		out.Capabilities = &runtimeapi.Capability{}
		for _, cap := range sc.Capabilities.Add {
			out.Capabilities.AddCapabilities = append(out.Capabilities.AddCapabilities, string(cap))
		}
		for _, cap := range sc.Capabilities.Drop {
			out.Capabilities.DropCapabilities = append(out.Capabilities.DropCapabilities, string(cap))
		}
	}
	if o := first(sc.SELinuxOptions, psc.SELinuxOptions); o != nil {
		out.SelinuxOptions = selinux(o)
	}
	return out, setUser(in, out, sc, psc)
}

// setUser chooses the user and group and enforces runAsNonRoot.
func setUser(in ContainerInput, out *runtimeapi.LinuxContainerSecurityContext, sc *corev1.SecurityContext, psc *corev1.PodSecurityContext) error {
	user, group := first(sc.RunAsUser, psc.RunAsUser), first(sc.RunAsGroup, psc.RunAsGroup)
	nonRoot := first(sc.RunAsNonRoot, psc.RunAsNonRoot)
	if isTrue(nonRoot) {
		switch {
		case user != nil && *user == 0:
			return rootRefused(in.Pod, in.Container, "container's runAsUser breaks non-root policy")
		case user == nil && in.ImageUser.Name != "":
			return rootRefused(in.Pod, in.Container, "container has runAsNonRoot and image has non-numeric user ("+in.ImageUser.Name+"), cannot verify user is non-root")
		case user == nil && (in.ImageUser.UID == nil || *in.ImageUser.UID == 0):
			return rootRefused(in.Pod, in.Container, "container has runAsNonRoot and image will run as root")
		}
	}
	switch {
	case user != nil:
		out.RunAsUser = &runtimeapi.Int64Value{Value: *user}
	case in.ImageUser.UID != nil:
		out.RunAsUser = &runtimeapi.Int64Value{Value: *in.ImageUser.UID}
	default:
		out.RunAsUsername = in.ImageUser.Name
	}
	if group != nil {
		out.RunAsGroup = &runtimeapi.Int64Value{Value: *group}
	}
	return nil
}

// seccomp translates the container's profile, else the pod's. Without either nothing is confined, as upstream's default says.
func seccomp(c, p *corev1.SeccompProfile, paths Paths) *runtimeapi.SecurityProfile {
	prof := first(c, p)
	if prof == nil {
		return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Unconfined}
	}
	switch prof.Type {
	case corev1.SeccompProfileTypeRuntimeDefault:
		return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault}
	case corev1.SeccompProfileTypeLocalhost:
		ref := ""
		if prof.LocalhostProfile != nil {
			ref = filepath.Join(paths.Seccomp, filepath.Join("/", *prof.LocalhostProfile))
		}
		return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Localhost, LocalhostRef: ref}
	}
	return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Unconfined}
}

func apparmor(c, p *corev1.AppArmorProfile) *runtimeapi.SecurityProfile {
	prof := first(c, p)
	if prof == nil {
		return nil
	}
	switch prof.Type {
	case corev1.AppArmorProfileTypeUnconfined:
		return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Unconfined}
	case corev1.AppArmorProfileTypeLocalhost:
		ref := ""
		if prof.LocalhostProfile != nil {
			ref = strings.TrimSpace(*prof.LocalhostProfile)
		}
		return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Localhost, LocalhostRef: ref}
	}
	return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault}
}

// first returns a unless it is nil, else b: what a container says goes before what its pod says.
func first[T any](a, b *T) *T {
	if a != nil {
		return a
	}
	return b
}

func isTrue(b *bool) bool { return b != nil && *b }
