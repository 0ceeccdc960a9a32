package podspec_test

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"canopus/internal/kinds/podspec"
)

func TestTemplateWarnings(t *testing.T) {
	t.Parallel()
	type template = corev1.PodTemplateSpec
	env := func(vars ...corev1.EnvVar) func(*template) {
		return func(t *template) { t.Spec.Containers[0].Env = vars }
	}
	ports := func(ports ...corev1.ContainerPort) func(*template) {
		return func(t *template) { t.Spec.Containers[0].Ports = ports }
	}
	hides := `spec.template.spec.containers[0].env[1]: hides previous definition of "A", which may be dropped when using apply`
	for name, tc := range map[string]struct {
		edit func(*template)
		want string
	}{
		"nothing":           {func(*template) {}, ""},
		"hidden":            {env(corev1.EnvVar{Name: "A", Value: "1"}, corev1.EnvVar{Name: "A", Value: "2"}), hides},
		"repeated":          {env(corev1.EnvVar{Name: "A", Value: "1"}, corev1.EnvVar{Name: "A", Value: "$(A)"}), hides},
		"replaced by field": {env(corev1.EnvVar{Name: "A"}, corev1.EnvVar{Name: "A", ValueFrom: &corev1.EnvVarSource{}}), hides},
		"built upon":        {env(corev1.EnvVar{Name: "A", Value: "1"}, corev1.EnvVar{Name: "A", Value: "$(A):2"}), ""},
		"same port": {ports(corev1.ContainerPort{ContainerPort: 80, Protocol: "TCP"}, corev1.ContainerPort{ContainerPort: 80, Protocol: "TCP", Name: "b"}),
			"spec.template.spec.containers[0].ports[1]: duplicate port definition with spec.template.spec.containers[0].ports[0]"},
		"other protocol": {ports(corev1.ContainerPort{ContainerPort: 80, Protocol: "TCP"}, corev1.ContainerPort{ContainerPort: 80, Protocol: "UDP"}), ""},
		"one on the host": {ports(corev1.ContainerPort{ContainerPort: 80, Protocol: "TCP", HostPort: 80}, corev1.ContainerPort{ContainerPort: 80, Protocol: "TCP"}),
			"spec.template.spec.containers[0].ports[1]: overlapping port definition with spec.template.spec.containers[0].ports[0]"},
		"one on an address": {ports(corev1.ContainerPort{ContainerPort: 80, Protocol: "TCP", HostPort: 80}, corev1.ContainerPort{ContainerPort: 80, Protocol: "TCP", HostPort: 80, HostIP: "10.0.0.1"}),
			"spec.template.spec.containers[0].ports[1]: dangerously ambiguous port definition with spec.template.spec.containers[0].ports[0]"},
		"old label": {func(t *template) { t.Spec.NodeSelector = map[string]string{"beta.kubernetes.io/os": "linux"} },
			`spec.template.spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use "kubernetes.io/os" instead`},
		"old label in affinity": {func(t *template) {
			t.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
				NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "failure-domain.beta.kubernetes.io/zone", Operator: "Exists"}}}},
			}}}
		}, "spec.template.spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].key: " +
			`failure-domain.beta.kubernetes.io/zone is deprecated since v1.17; use "topology.kubernetes.io/zone" instead`},
		"spread over nothing": {func(t *template) {
			t.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{TopologyKey: "zone"}}
		}, "spec.template.spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod"},
		"affinity to nothing": {func(t *template) {
			t.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{{}}}}
		}, "spec.template.spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm.labelSelector: a null labelSelector results in matching no pod"},
		"seccomp annotation": {func(t *template) {
			t.Annotations = map[string]string{"seccomp.security.alpha.kubernetes.io/pod": "runtime/default"}
		}, `spec.template.metadata.annotations[seccomp.security.alpha.kubernetes.io/pod]: non-functional in v1.27+; use the "seccompProfile" field instead`},
		"seccomp field too": {func(t *template) {
			t.Annotations = map[string]string{"seccomp.security.alpha.kubernetes.io/pod": "runtime/default"}
			t.Spec.SecurityContext = &corev1.PodSecurityContext{SeccompProfile: &corev1.SeccompProfile{}}
		}, ""},
		"apparmor annotation": {func(t *template) {
			t.Annotations = map[string]string{"container.apparmor.security.beta.kubernetes.io/c": "unconfined"}
		}, `spec.template.metadata.annotations[container.apparmor.security.beta.kubernetes.io/c]: deprecated since v1.30; use the "appArmorProfile" field instead`},
		"old volume": {func(t *template) {
			t.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Glusterfs: &corev1.GlusterfsVolumeSource{}}}}
		}, "spec.template.spec.volumes[0].glusterfs: deprecated in v1.25, non-functional in v1.26+"},
		"part of a byte": {func(t *template) {
			t.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("100m")}
		}, `spec.template.spec.containers[0].resources.limits[memory]: fractional byte value "100m" is invalid, must be an integer`},
		"pull secret without a name": {func(t *template) { t.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{}} },
			`spec.template.spec.imagePullSecrets[0].name: invalid empty name ""`},
		"pull secret twice": {func(t *template) {
			t.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "a"}, {Name: "a"}}
		}, `spec.template.spec.imagePullSecrets[1].name: duplicate name "a"`},
		"host alias twice": {func(t *template) { t.Spec.HostAliases = []corev1.HostAlias{{IP: "10.0.0.1"}, {IP: "10.0.0.1"}} },
			`spec.template.spec.hostAliases[1].ip: duplicate ip "10.0.0.1"`},
		"leading zeros": {func(t *template) { t.Spec.DNSConfig = &corev1.PodDNSConfig{Nameservers: []string{"010.0.0.1"}} },
			`spec.template.spec.dnsConfig.nameservers[0]: non-standard IP address "010.0.0.1" is invalid: use "10.0.0.1"`},
		"file below a file": {func(t *template) {
			t.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
				LocalObjectReference: corev1.LocalObjectReference{Name: "m"}, Items: []corev1.KeyToPath{{Path: "a"}, {Path: "ab"}, {Path: "a/b"}},
			}}}}
		}, `volume "v" (ConfigMap "m"): overlapping paths: "a/b" with "a"`},
		"token below a file": {func(t *template) {
			t.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
				{Secret: &corev1.SecretProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "s"}, Items: []corev1.KeyToPath{{Path: "token/x"}}}},
				{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token"}},
			}}}}}
		}, `volume "v" (Projected): overlapping paths: "token" (ServiceAccountToken) with "token/x" (Secret "s")`},
		"negative grace": {func(t *template) { t.Spec.TerminationGracePeriodSeconds = ptr.To(int64(-1)) },
			"spec.template.spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spec := &template{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}}}
			tc.edit(spec)
			if got := strings.Join(podspec.TemplateWarnings(spec, field.NewPath("spec", "template")), "\n"); got != tc.want {
				t.Errorf("warned:\n%s\nwant:\n%s", got, tc.want)
			}
		})
	}
}

// TestPodWarnings: of pods themselves, new ones are warned about, with paths of their own.
func TestPodWarnings(t *testing.T) {
	t.Parallel()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "a.b", Annotations: map[string]string{
		"container.apparmor.security.beta.kubernetes.io/c": "unconfined", "scheduler.alpha.kubernetes.io/critical-pod": "",
	}}, Spec: corev1.PodSpec{
		Containers:     []corev1.Container{{Name: "c", Ports: []corev1.ContainerPort{{ContainerPort: 80}}}},
		InitContainers: []corev1.Container{{Name: "d", Ports: []corev1.ContainerPort{{ContainerPort: 80}}}},
	}}
	podspec.PrepareCreate(pod)
	got := podspec.PodWarnings(pod, nil)
	if len(got) == 0 || !strings.HasPrefix(got[0], "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior") {
		t.Errorf("of the name: %q", got)
	}
	want := []string{
		`metadata.annotations[scheduler.alpha.kubernetes.io/critical-pod]: non-functional in v1.16+; use the "priorityClassName" field instead`,
		`metadata.annotations[container.apparmor.security.beta.kubernetes.io/c]: deprecated since v1.30; use the "appArmorProfile" field instead`,
		"spec.containers[0].ports[0]: duplicate port definition with spec.initContainers[0].ports[0]",
	}
	if !slices.Equal(got[1:], want) {
		t.Errorf("%q, want %q", got[1:], want)
	}
	if got := podspec.PodWarnings(pod, pod); got != nil {
		t.Errorf("an update: %q", got)
	}
}
