package podspec_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"canopus/internal/kinds/podspec"
)

// pod returns a valid, defaulted pod after edit.
func pod(edit func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default"},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "nginx:1"}}},
	}
	if edit != nil {
		edit(p)
	}
	podspec.DefaultPod(p)
	return p
}

// expect compares errors by type, path and text: "Type path text", in any order; no text given matches any.
func expect(t *testing.T, errs field.ErrorList, want ...string) {
	t.Helper()
	for _, w := range want {
		parts := append(strings.SplitN(w, " ", 3), "")
		found := false
		for _, e := range errs {
			found = found || strings.HasSuffix(strings.ReplaceAll(e.Type.String(), " ", ""), parts[0]) && e.Field == parts[1] && strings.Contains(e.Detail, parts[2])
		}
		if !found {
			t.Errorf("want %q, got %v", w, errs)
		}
	}
	if len(errs) != len(want) {
		t.Errorf("want %d errors, got %d: %v", len(want), len(errs), errs)
	}
}

func TestValidatePod(t *testing.T) {
	t.Parallel()
	q := resource.MustParse
	type edit = func(*corev1.Pod)
	c := func(f func(*corev1.Container)) edit { return func(p *corev1.Pod) { f(&p.Spec.Containers[0]) } }
	volume := func(s corev1.VolumeSource) edit {
		return func(p *corev1.Pod) { p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: s}} }
	}
	for name, tc := range map[string]struct {
		edit edit
		want []string
	}{
		"plain":          {nil, nil},
		"no containers":  {func(p *corev1.Pod) { p.Spec.Containers = nil }, []string{"Requiredvalue spec.containers"}},
		"no name":        {c(func(c *corev1.Container) { c.Name = "" }), []string{"Requiredvalue spec.containers[0].name"}},
		"bad name":       {c(func(c *corev1.Container) { c.Name = "A" }), []string{"Invalidvalue spec.containers[0].name RFC 1123 label"}},
		"no image":       {c(func(c *corev1.Container) { c.Image = "" }), []string{"Requiredvalue spec.containers[0].image"}},
		"padded image":   {c(func(c *corev1.Container) { c.Image = " a" }), []string{"Invalidvalue spec.containers[0].image must not have leading or trailing whitespace"}},
		"pull policy":    {c(func(c *corev1.Container) { c.ImagePullPolicy = "x" }), []string{"Unsupportedvalue spec.containers[0].imagePullPolicy"}},
		"restart policy": {func(p *corev1.Pod) { p.Spec.RestartPolicy = "x" }, []string{"Unsupportedvalue spec.restartPolicy"}},
		"host process without the host's network": {func(p *corev1.Pod) {
			p.Spec.SecurityContext = &corev1.PodSecurityContext{WindowsOptions: &corev1.WindowsSecurityContextOptions{HostProcess: ptr.To(true)}}
		}, []string{"Invalidvalue spec.hostNetwork hostNetwork must be true if pod contains any hostProcess containers"}},
		"one host process": {func(p *corev1.Pod) {
			p.Spec.HostNetwork = true
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "d", Image: "i", SecurityContext: &corev1.SecurityContext{
				WindowsOptions: &corev1.WindowsSecurityContextOptions{HostProcess: ptr.To(true)},
			}})
		}, []string{"Invalidvalue spec If pod contains any hostProcess containers then all containers must be HostProcess containers"}},
		"dns policy": {func(p *corev1.Pod) { p.Spec.DNSPolicy = "x" }, []string{"Unsupportedvalue spec.dnsPolicy"}},
		"dns none":   {func(p *corev1.Pod) { p.Spec.DNSPolicy = corev1.DNSNone }, []string{"Requiredvalue spec.dnsConfig must provide `dnsConfig`"}},
		"nameservers": {func(p *corev1.Pod) {
			p.Spec.DNSConfig = &corev1.PodDNSConfig{Nameservers: []string{"1.1.1.1", "1.1.1.2", "1.1.1.3", "x"}}
		}, []string{"Invalidvalue spec.dnsConfig.nameservers must not have more than 3", "Invalidvalue spec.dnsConfig.nameservers[3]"}},
		"service account":   {func(p *corev1.Pod) { p.Spec.ServiceAccountName = "A" }, []string{"Invalidvalue spec.serviceAccountName"}},
		"node name":         {func(p *corev1.Pod) { p.Spec.NodeName = "A" }, []string{"Invalidvalue spec.nodeName"}},
		"hostname":          {func(p *corev1.Pod) { p.Spec.Hostname = "a.b" }, []string{"Invalidvalue spec.hostname"}},
		"deadline":          {func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = ptr.To(int64(0)) }, []string{"Invalidvalue spec.activeDeadlineSeconds must be between 1 and 2147483647, inclusive"}},
		"two of a name":     {func(p *corev1.Pod) { p.Spec.Containers = append(p.Spec.Containers, p.Spec.Containers[0]) }, []string{"Duplicatevalue spec.containers[1].name"}},
		"init of same name": {func(p *corev1.Pod) { p.Spec.InitContainers = p.Spec.Containers[:1:1] }, []string{"Duplicatevalue spec.initContainers[0].name"}},
		"init with probe": {func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{Name: "i", Image: "i", ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"x"}}}}}}
		}, []string{"Forbidden spec.initContainers[0].readinessProbe may not be set for init containers without restartPolicy=Always"}},
		"sidecar with probe": {func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{Name: "i", Image: "i", RestartPolicy: ptr.To(corev1.ContainerRestartPolicyAlways), ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"x"}}}}}}
		}, nil},
		"ephemeral on create": {func(p *corev1.Pod) {
			p.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "e", Image: "e"}}}
		}, []string{"Forbidden spec.ephemeralContainers cannot be set on create"}},
		"no container port": {c(func(c *corev1.Container) { c.Ports = []corev1.ContainerPort{{}} }), []string{"Requiredvalue spec.containers[0].ports[0].containerPort"}},
		"port range":        {c(func(c *corev1.Container) { c.Ports = []corev1.ContainerPort{{ContainerPort: 65536}} }), []string{"Invalidvalue spec.containers[0].ports[0].containerPort must be between 1 and 65535, inclusive"}},
		"port protocol":     {c(func(c *corev1.Container) { c.Ports = []corev1.ContainerPort{{ContainerPort: 1, Protocol: "tcp"}} }), []string{"Unsupportedvalue spec.containers[0].ports[0].protocol"}},
		"host port twice": {c(func(c *corev1.Container) {
			c.Ports = []corev1.ContainerPort{{ContainerPort: 1, HostPort: 9}, {ContainerPort: 2, HostPort: 9}}
		}), []string{"Duplicatevalue spec.containers[0].ports[1].hostPort"}},
		"host network port": {func(p *corev1.Pod) {
			p.Spec.HostNetwork = true
			p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 1, HostPort: 9}}
		}, []string{"Invalidvalue spec.containers[0].ports[0].containerPort must match `hostPort` when `hostNetwork` is true"}},
		"env without name": {c(func(c *corev1.Container) { c.Env = []corev1.EnvVar{{}} }), []string{"Requiredvalue spec.containers[0].env[0].name"}},
		"env two sources": {c(func(c *corev1.Container) {
			c.Env = []corev1.EnvVar{{Name: "A", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}, SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "s"}, Key: "k"}}}}
		}), []string{"Invalidvalue spec.containers[0].env[0].valueFrom may not have more than one field specified at a time"}},
		"env unknown field": {c(func(c *corev1.Container) {
			c.Env = []corev1.EnvVar{{Name: "A", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.foo"}}}}
		}), []string{"Invalidvalue spec.containers[0].env[0].valueFrom.fieldRef.fieldPath error converting fieldPath"}},
		"env unsupported field": {c(func(c *corev1.Container) {
			c.Env = []corev1.EnvVar{{Name: "A", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "status.phase"}}}}
		}), []string{"Unsupportedvalue spec.containers[0].env[0].valueFrom.fieldRef.fieldPath"}},
		"env from nothing": {c(func(c *corev1.Container) { c.EnvFrom = []corev1.EnvFromSource{{}} }), []string{"Invalidvalue spec.containers[0].envFrom must specify one of: `configMapRef` or `secretRef`"}},
		"request over limit": {c(func(c *corev1.Container) {
			c.Resources = corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": q("2")}, Limits: corev1.ResourceList{"cpu": q("1")}}
		}), []string{"Invalidvalue spec.containers[0].resources.requests must be less than or equal to cpu limit of 1"}},
		"odd resource": {c(func(c *corev1.Container) { c.Resources.Limits = corev1.ResourceList{"gpu": q("1")} }), []string{
			"Invalidvalue spec.containers[0].resources.limits[gpu] must be a standard resource type or fully qualified",
			"Invalidvalue spec.containers[0].resources.limits[gpu] must be a standard resource for containers",
			"Invalidvalue spec.containers[0].resources.requests[gpu] must be a standard resource type or fully qualified",
			"Invalidvalue spec.containers[0].resources.requests[gpu] must be a standard resource for containers",
		}},
		"negative resource":  {c(func(c *corev1.Container) { c.Resources.Requests = corev1.ResourceList{"cpu": q("-1")} }), []string{"Invalidvalue spec.containers[0].resources.requests[cpu] must be greater than or equal to 0"}},
		"half a device":      {c(func(c *corev1.Container) { c.Resources.Limits = corev1.ResourceList{"x.io/d": q("500m")} }), []string{"Invalidvalue spec.containers[0].resources.limits[x.io/d] must be an integer", "Invalidvalue spec.containers[0].resources.requests[x.io/d] must be an integer"}},
		"device unlimited":   {c(func(c *corev1.Container) { c.Resources.Requests = corev1.ResourceList{"x.io/d": q("1")} }), []string{"Requiredvalue spec.containers[0].resources.limits Limit must be set for non overcommitable resources"}},
		"probe does nothing": {c(func(c *corev1.Container) { c.LivenessProbe = &corev1.Probe{} }), []string{"Requiredvalue spec.containers[0].livenessProbe must specify a handler type"}},
		"probe does two": {c(func(c *corev1.Container) {
			c.ReadinessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(1)}, HTTPGet: &corev1.HTTPGetAction{Port: intstr.FromInt32(1)}}}
		}), []string{"Forbidden spec.containers[0].readinessProbe.tcpSocket may not specify more than 1 handler type"}},
		"liveness successes": {c(func(c *corev1.Container) {
			c.LivenessProbe = &corev1.Probe{SuccessThreshold: 2, ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromString("http")}}}
		}), []string{"Invalidvalue spec.containers[0].livenessProbe.successThreshold must be 1"}},
		"mount of no volume": {c(func(c *corev1.Container) { c.VolumeMounts = []corev1.VolumeMount{{Name: "x", MountPath: "/x"}} }), []string{"Notfound spec.containers[0].volumeMounts[0].name"}},
		"mount climbs out": {func(p *corev1.Pod) {
			volume(corev1.VolumeSource{})(p)
			p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/x", SubPath: "../y"}}
		}, []string{"Invalidvalue spec.containers[0].volumeMounts[0].subPath must not contain '..'"}},
		"two mounts one path": {func(p *corev1.Pod) {
			volume(corev1.VolumeSource{})(p)
			p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/x"}, {Name: "v", MountPath: "/x"}}
		}, []string{"Invalidvalue spec.containers[0].volumeMounts[1].mountPath must be unique"}},
		"volume of two types": {volume(corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}, HostPath: &corev1.HostPathVolumeSource{Path: "/x"}}), []string{"Forbidden spec.volumes[0].emptyDir may not specify more than 1 volume type"}},
		"secret without name": {volume(corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{}}), []string{"Requiredvalue spec.volumes[0].secret.secretName"}},
		"file mode":           {volume(corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "s", DefaultMode: ptr.To(int32(0o1000))}}), []string{"Invalidvalue spec.volumes[0].secret.defaultMode must be a number between 0 and 0777 (octal), both inclusive"}},
		"token life":          {volume(corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "t", ExpirationSeconds: ptr.To(int64(5))}}}}}), []string{"Invalidvalue spec.volumes[0].projected.sources[0].serviceAccountToken.expirationSeconds may not specify a duration less than 10 minutes"}},
		"no escalation, yet privileged": {c(func(c *corev1.Container) {
			c.SecurityContext = &corev1.SecurityContext{Privileged: ptr.To(true), AllowPrivilegeEscalation: ptr.To(false)}
		}), []string{"Invalidvalue spec.containers[0].securityContext cannot set `allowPrivilegeEscalation` to false and `privileged` to true"}},
		"seccomp without profile": {c(func(c *corev1.Container) {
			c.SecurityContext = &corev1.SecurityContext{SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeLocalhost}}
		}), []string{"Requiredvalue spec.containers[0].securityContext.seccompProfile.localhostProfile must be set when seccomp type is Localhost"}},
		"user id": {func(p *corev1.Pod) { p.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: ptr.To(int64(-1))} }, []string{"Invalidvalue spec.securityContext.runAsUser"}},
		"sysctl": {func(p *corev1.Pod) {
			p.Spec.SecurityContext = &corev1.PodSecurityContext{Sysctls: []corev1.Sysctl{{Name: "A b"}}}
		}, []string{"Invalidvalue spec.securityContext.sysctls[0].name must have at most 253 characters"}},
		"toleration no key": {func(p *corev1.Pod) { p.Spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpEqual}} }, []string{"Invalidvalue spec.tolerations[0].operator operator must be Exists when `key` is empty"}},
		"toleration effect": {func(p *corev1.Pod) { p.Spec.Tolerations = []corev1.Toleration{{Key: "a", Effect: "x"}} }, []string{"Unsupportedvalue spec.tolerations[0].effect"}},
		"toleration seconds": {func(p *corev1.Pod) {
			p.Spec.Tolerations = []corev1.Toleration{{Key: "a", TolerationSeconds: ptr.To(int64(1))}}
		}, []string{"Invalidvalue spec.tolerations[0].effect effect must be 'NoExecute' when `tolerationSeconds` is set"}},
		"node affinity empty": {func(p *corev1.Pod) {
			p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{}}}
		}, []string{"Requiredvalue spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms must have at least one node selector term"}},
		"spread": {func(p *corev1.Pod) {
			p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{TopologyKey: "zone"}}
		}, []string{"Invalidvalue spec.topologySpreadConstraints[0].maxSkew must be greater than zero", "Unsupportedvalue spec.topologySpreadConstraints[0].whenUnsatisfiable"}},
		"gated and bound": {func(p *corev1.Pod) {
			p.Spec.NodeName = "n"
			p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "g"}}
		}, []string{"Forbidden spec.nodeName cannot be set until all schedulingGates have been cleared"}},
		"windows user on linux": {func(p *corev1.Pod) {
			p.Spec.OS = &corev1.PodOS{Name: corev1.Linux}
			p.Spec.SecurityContext = &corev1.PodSecurityContext{WindowsOptions: &corev1.WindowsSecurityContextOptions{RunAsUserName: ptr.To("u")}}
		}, []string{"Forbidden spec.securityContext.windowsOptions windows options cannot be set for a linux pod"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			expect(t, podspec.ValidatePod(pod(tc.edit)), tc.want...)
		})
	}
}

func TestValidatePodUpdate(t *testing.T) {
	t.Parallel()
	type edit = func(*corev1.Pod)
	gate := func(p *corev1.Pod) { p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "g"}} }
	tolerate := func(p *corev1.Pod) {
		p.Spec.Tolerations = []corev1.Toleration{{Key: "a", Operator: corev1.TolerationOpExists}}
	}
	const other = "Forbidden spec pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`"
	for name, tc := range map[string]struct {
		old, edit edit
		want      []string
	}{
		"nothing":   {nil, nil, nil},
		"image":     {nil, func(p *corev1.Pod) { p.Spec.Containers[0].Image = "nginx:2" }, nil},
		"command":   {nil, func(p *corev1.Pod) { p.Spec.Containers[0].Command = []string{"x"} }, []string{other}},
		"node name": {nil, func(p *corev1.Pod) { p.Spec.NodeName = "n" }, []string{other}},
		"another container": {nil, func(p *corev1.Pod) {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "d", Image: "d"})
		}, []string{"Forbidden spec.containers pod updates may not add or remove containers"}},
		"first deadline":      {nil, func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = ptr.To(int64(9)) }, nil},
		"later deadline":      {func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = ptr.To(int64(5)) }, func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = ptr.To(int64(9)) }, []string{"Invalidvalue spec.activeDeadlineSeconds must be less than or equal to previous value"}},
		"one toleration more": {nil, tolerate, nil},
		"a toleration less":   {tolerate, func(p *corev1.Pod) { p.Spec.Tolerations = nil }, []string{"Forbidden spec.tolerations existing toleration can not be modified except its tolerationSeconds"}},
		"gate removed":        {gate, func(p *corev1.Pod) { p.Spec.SchedulingGates = nil }, nil},
		"gate added":          {nil, gate, []string{"Forbidden spec.schedulingGates[0] only deletion is allowed, but found new scheduling gate 'g'"}},
		"selector when gated": {gate, func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"a": "b"} }, nil},
		"selector when not":   {nil, func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"a": "b"} }, []string{other}},
		"negative grace to 1": {func(p *corev1.Pod) { p.Spec.TerminationGracePeriodSeconds = ptr.To(int64(-1)) }, func(p *corev1.Pod) { p.Spec.TerminationGracePeriodSeconds = ptr.To(int64(1)) }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			old := pod(tc.old)
			obj := old.DeepCopy()
			if tc.edit != nil {
				tc.edit(obj)
				podspec.DefaultPod(obj)
			}
			expect(t, podspec.ValidatePodUpdate(obj, old), tc.want...)
		})
	}
}

func TestDefaultPod(t *testing.T) {
	t.Parallel()
	p := &corev1.Pod{Spec: corev1.PodSpec{
		HostNetwork: true,
		Volumes:     []corev1.Volume{{Name: "e"}, {Name: "s", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{}}}},
		Containers: []corev1.Container{{
			Image: "registry.local:5000/web", Ports: []corev1.ContainerPort{{ContainerPort: 80}},
			Env:            []corev1.EnvVar{{Name: "N", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}}},
			Resources:      corev1.ResourceRequirements{Limits: corev1.ResourceList{"cpu": resource.MustParse("0.0001")}},
			ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{}}},
		}},
	}}
	podspec.DefaultPod(p)
	s, c := p.Spec, p.Spec.Containers[0]
	for name, ok := range map[string]bool{
		"dnsPolicy":      s.DNSPolicy == corev1.DNSClusterFirst,
		"restartPolicy":  s.RestartPolicy == corev1.RestartPolicyAlways,
		"grace":          *s.TerminationGracePeriodSeconds == 30,
		"scheduler":      s.SchedulerName == "default-scheduler",
		"links":          *s.EnableServiceLinks,
		"security":       s.SecurityContext != nil,
		"emptyDir":       s.Volumes[0].EmptyDir != nil,
		"secret mode":    *s.Volumes[1].Secret.DefaultMode == 0o644,
		"pull policy":    c.ImagePullPolicy == corev1.PullAlways,
		"message":        c.TerminationMessagePath == "/dev/termination-log" && c.TerminationMessagePolicy == corev1.TerminationMessageReadFile,
		"protocol":       c.Ports[0].Protocol == corev1.ProtocolTCP,
		"host port":      c.Ports[0].HostPort == 80,
		"field version":  c.Env[0].ValueFrom.FieldRef.APIVersion == "v1",
		"request":        c.Resources.Requests.Cpu().String() == "1m",
		"probe":          c.ReadinessProbe.TimeoutSeconds == 1 && c.ReadinessProbe.PeriodSeconds == 10 && c.ReadinessProbe.SuccessThreshold == 1 && c.ReadinessProbe.FailureThreshold == 3,
		"probe path":     c.ReadinessProbe.HTTPGet.Path == "/" && c.ReadinessProbe.HTTPGet.Scheme == "HTTP",
		"template links": func() bool { var t corev1.PodSpec; podspec.Default(&t); return t.EnableServiceLinks == nil }(),
	} {
		if !ok {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

func TestPullPolicyFollowsTheTag(t *testing.T) {
	t.Parallel()
	for image, want := range map[string]corev1.PullPolicy{
		"nginx": corev1.PullAlways, "nginx:latest": corev1.PullAlways, "h:5000/nginx": corev1.PullAlways,
		"nginx:1.2": corev1.PullIfNotPresent, "h:5000/nginx:1": corev1.PullIfNotPresent, "": corev1.PullIfNotPresent,
		"nginx@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855":        corev1.PullIfNotPresent,
		"nginx:latest@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855": corev1.PullAlways,
	} {
		p := pod(func(p *corev1.Pod) { p.Spec.Containers[0].Image = image })
		if got := p.Spec.Containers[0].ImagePullPolicy; got != want {
			t.Errorf("%q: %s, want %s", image, got, want)
		}
	}
}

func TestQOS(t *testing.T) {
	t.Parallel()
	both := corev1.ResourceList{"cpu": resource.MustParse("1"), "memory": resource.MustParse("1Gi")}
	for name, tc := range map[string]struct {
		r    corev1.ResourceRequirements
		want corev1.PodQOSClass
	}{
		"nothing":     {corev1.ResourceRequirements{}, corev1.PodQOSBestEffort},
		"both limits": {corev1.ResourceRequirements{Limits: both}, corev1.PodQOSGuaranteed},
		"requests":    {corev1.ResourceRequirements{Requests: both}, corev1.PodQOSBurstable},
		"one limit":   {corev1.ResourceRequirements{Limits: corev1.ResourceList{"cpu": resource.MustParse("1")}}, corev1.PodQOSBurstable},
		"less asked":  {corev1.ResourceRequirements{Limits: both, Requests: corev1.ResourceList{"cpu": resource.MustParse("500m"), "memory": resource.MustParse("1Gi")}}, corev1.PodQOSBurstable},
		"other only":  {corev1.ResourceRequirements{Limits: corev1.ResourceList{"ephemeral-storage": resource.MustParse("1Gi")}}, corev1.PodQOSBestEffort},
	} {
		p := pod(func(p *corev1.Pod) { p.Spec.Containers[0].Resources = tc.r })
		podspec.PrepareCreate(p)
		if p.Status.QOSClass != tc.want || p.Status.Phase != corev1.PodPending {
			t.Errorf("%s: %s %s, want %s", name, p.Status.QOSClass, p.Status.Phase, tc.want)
		}
	}
}

func TestGrace(t *testing.T) {
	t.Parallel()
	bound := pod(func(p *corev1.Pod) { p.Spec.NodeName = "n" })
	done := bound.DeepCopy()
	done.Status.Phase = corev1.PodSucceeded
	for _, tc := range []struct {
		p     *corev1.Pod
		asked *int64
		want  int64
	}{{bound, nil, 30}, {bound, ptr.To(int64(5)), 5}, {bound, ptr.To(int64(0)), 0}, {bound, ptr.To(int64(-3)), 1}, {pod(nil), nil, 0}, {done, nil, 0}} {
		if got := podspec.Grace(tc.p, tc.asked); got != tc.want {
			t.Errorf("asked %v: %d, want %d", tc.asked, got, tc.want)
		}
	}
}
