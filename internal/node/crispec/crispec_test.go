package crispec

import (
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/ptr"
)

func TestResolve(t *testing.T) {
	t.Parallel()
	d := &DNS{ClusterIPs: []string{"10.96.0.10"}, Domain: "cluster.local", Node: &runtimeapi.DNSConfig{Servers: []string{"1.1.1.1", "1.1.1.1"}, Searches: []string{"lan"}, Options: []string{"edns0"}}}
	cluster := "10.96.0.10 | shop.svc.cluster.local svc.cluster.local cluster.local lan | ndots:5"
	for name, c := range map[string]struct {
		spec corev1.PodSpec
		want string
	}{
		"cluster first":               {corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirst}, cluster},
		"cluster first, host network": {corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirst, HostNetwork: true}, "1.1.1.1 | lan | edns0"},
		"with host network":           {corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirstWithHostNet, HostNetwork: true}, cluster},
		"default":                     {corev1.PodSpec{DNSPolicy: corev1.DNSDefault}, "1.1.1.1 | lan | edns0"},
		"none":                        {corev1.PodSpec{DNSPolicy: corev1.DNSNone, DNSConfig: &corev1.PodDNSConfig{Nameservers: []string{"9.9.9.9"}}}, "9.9.9.9 |  | "},
		"config on top": {corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirst, DNSConfig: &corev1.PodDNSConfig{Nameservers: []string{"9.9.9.9"}, Searches: []string{"corp", "lan"},
			Options: []corev1.PodDNSConfigOption{{Name: "ndots", Value: ptr.To("2")}, {Name: "rotate"}}}},
			"10.96.0.10 9.9.9.9 | shop.svc.cluster.local svc.cluster.local cluster.local lan corp | ndots:2 rotate"},
		"too many servers": {corev1.PodSpec{DNSPolicy: corev1.DNSNone, DNSConfig: &corev1.PodDNSConfig{Nameservers: []string{"1.0.0.1", "1.0.0.2", "1.0.0.3", "1.0.0.4"}}}, "1.0.0.1 1.0.0.2 1.0.0.3 |  |  (cut)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, notes := d.Resolve(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop"}, Spec: c.spec})
			text := strings.Join(got.Servers, " ") + " | " + strings.Join(got.Searches, " ") + " | " + strings.Join(got.Options, " ")
			if len(notes) > 0 {
				text += " (cut)"
			}
			if text != c.want {
				t.Errorf("got  %s\nwant %s", text, c.want)
			}
		})
	}
}

func TestHostname(t *testing.T) {
	t.Parallel()
	d := &DNS{Domain: "cluster.local"}
	for want, spec := range map[string]corev1.PodSpec{
		"web ":                       {},
		"h ":                         {Hostname: "h"},
		"h s.shop.svc.cluster.local": {Hostname: "h", Subdomain: "s"},
		"h.s.shop.svc.cluster.local s.shop.svc.cluster.local": {Hostname: "h", Subdomain: "s", SetHostnameAsFQDN: ptr.To(true)},
	} {
		host, domain, err := d.Hostname(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop"}, Spec: spec})
		if err != nil || host+" "+domain != want {
			t.Errorf("got %q %q %v, want %q", host, domain, err, want)
		}
	}
	long := corev1.PodSpec{Hostname: strings.Repeat("h", 60), Subdomain: "s", SetHostnameAsFQDN: ptr.To(true)}
	if _, _, err := d.Hostname(&corev1.Pod{Spec: long}); err == nil {
		t.Error("a host name over 64 characters was accepted")
	}
}

func TestSecurity(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		pod   *corev1.PodSecurityContext
		c     *corev1.SecurityContext
		image ImageUser
		check func(*runtimeapi.LinuxContainerSecurityContext) bool // nil: refused
	}{
		"nothing set": {nil, nil, ImageUser{}, func(s *runtimeapi.LinuxContainerSecurityContext) bool {
			return !s.Privileged && !s.NoNewPrivs && len(s.MaskedPaths) > 0 && s.Seccomp.ProfileType == runtimeapi.SecurityProfile_Unconfined && s.RunAsUser == nil
		}},
		"pod's user": {&corev1.PodSecurityContext{RunAsUser: ptr.To(int64(5)), FSGroup: ptr.To(int64(7)), SupplementalGroups: []int64{8}}, nil, ImageUser{}, func(s *runtimeapi.LinuxContainerSecurityContext) bool {
			return s.RunAsUser.Value == 5 && len(s.SupplementalGroups) == 2
		}},
		"container's user wins": {&corev1.PodSecurityContext{RunAsUser: ptr.To(int64(5))}, &corev1.SecurityContext{RunAsUser: ptr.To(int64(6))}, ImageUser{}, func(s *runtimeapi.LinuxContainerSecurityContext) bool { return s.RunAsUser.Value == 6 }},
		"image's user":          {nil, nil, ImageUser{Name: "www"}, func(s *runtimeapi.LinuxContainerSecurityContext) bool { return s.RunAsUsername == "www" }},
		"non-root, root image":  {nil, &corev1.SecurityContext{RunAsNonRoot: ptr.To(true)}, ImageUser{UID: ptr.To(int64(0))}, nil},
		"non-root, named image": {nil, &corev1.SecurityContext{RunAsNonRoot: ptr.To(true)}, ImageUser{Name: "www"}, nil},
		"non-root, root asked":  {nil, &corev1.SecurityContext{RunAsNonRoot: ptr.To(true), RunAsUser: ptr.To(int64(0))}, ImageUser{}, nil},
		"non-root, fine":        {nil, &corev1.SecurityContext{RunAsNonRoot: ptr.To(true)}, ImageUser{UID: ptr.To(int64(3))}, func(s *runtimeapi.LinuxContainerSecurityContext) bool { return s.RunAsUser.Value == 3 }},
		"privileged":            {nil, &corev1.SecurityContext{Privileged: ptr.To(true)}, ImageUser{}, func(s *runtimeapi.LinuxContainerSecurityContext) bool { return s.Privileged && len(s.MaskedPaths) == 0 }},
		"hardened": {nil, &corev1.SecurityContext{AllowPrivilegeEscalation: ptr.To(false), ReadOnlyRootFilesystem: ptr.To(true),
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeLocalhost, LocalhostProfile: ptr.To("../p.json")},
			Capabilities:   &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}, Add: []corev1.Capability{"NET_BIND_SERVICE"}}}, ImageUser{}, func(s *runtimeapi.LinuxContainerSecurityContext) bool {
			return s.NoNewPrivs && s.ReadonlyRootfs && s.Seccomp.LocalhostRef == "/seccomp/p.json" && s.Capabilities.DropCapabilities[0] == "ALL" && len(s.Capabilities.AddCapabilities) == 1
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pod := &corev1.Pod{Spec: corev1.PodSpec{SecurityContext: c.pod, Containers: []corev1.Container{{Name: "c", SecurityContext: c.c}}}}
			got, err := containerSecurity(ContainerInput{Pod: pod, Container: &pod.Spec.Containers[0], ImageUser: c.image, Paths: Paths{Seccomp: "/seccomp"}})
			var root *ErrRunAsRoot
			switch {
			case c.check == nil:
				if !errors.As(err, &root) {
					t.Errorf("not refused: %v", err)
				}
			case err != nil || !c.check(got):
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}

func TestStopSignal(t *testing.T) {
	t.Parallel()
	for in, want := range map[corev1.Signal]runtimeapi.Signal{
		"SIGQUIT": runtimeapi.Signal_SIGNAL_SIGQUIT, "SIGRTMIN+3": runtimeapi.Signal_SIGNAL_SIGRTMINPLUS3, "SIGRTMAX-2": runtimeapi.Signal_SIGNAL_SIGRTMAXMINUS2, "nonsense": runtimeapi.Signal_SIGNAL_RUNTIME_DEFAULT,
	} {
		if got := stopSignal(&corev1.Container{Lifecycle: &corev1.Lifecycle{StopSignal: &in}}); got != want {
			t.Errorf("%s: %v", in, got)
		}
	}
}
