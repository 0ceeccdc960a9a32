package podspec

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds/check"
)

// PodWarnings says what a new pod asks for that has no effect, or not the expected one. Of an update it says nothing: people
// seldom write pods themselves, and agents do so all the time.
func PodWarnings(obj, old *corev1.Pod) []string {
	if old != nil {
		return nil
	}
	var out []string
	if msgs := validation.IsDNS1123Label(obj.Name); len(msgs) > 0 {
		out = append(out, fmt.Sprintf("metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: %v", msgs))
	}
	return append(out, warningsOf(&obj.ObjectMeta, &obj.Spec, nil)...)
}

// TemplateWarnings is PodWarnings for a workload's template, which is at path.
func TemplateWarnings(t *corev1.PodTemplateSpec, path *field.Path) []string {
	w := warner{meta: &t.ObjectMeta, spec: &t.Spec, at: path.Child("spec"), metaAt: path.Child("metadata", "annotations"), template: true}
	return w.all()
}

func warningsOf(meta *metav1.ObjectMeta, spec *corev1.PodSpec, path *field.Path) []string {
	w := warner{meta: meta, spec: spec, at: path.Child("spec"), metaAt: path.Child("metadata", "annotations")}
	return w.all()
}

// warner collects what there is to say about one pod or template.
type warner struct {
	meta     *metav1.ObjectMeta
	spec     *corev1.PodSpec
	at       *field.Path // of spec
	metaAt   *field.Path // of meta's annotations
	template bool
	out      []string
}

func (w *warner) all() []string {
	w.nodes()
	w.spread()
	w.annotations()
	w.volumes()
	w.overlaps()
	w.repeated()
	w.fractions(w.spec.Overhead, w.at.Child("overhead"))
	w.containers()
	w.ports()
	if g := w.spec.TerminationGracePeriodSeconds; g != nil && *g < 0 {
		w.say(w.at.Child("terminationGracePeriodSeconds"), "must be >= 0; negative values are invalid and will be treated as 1")
	}
	w.affinity()
	w.addresses()
	return w.out
}

func (w *warner) say(at *field.Path, format string, args ...any) {
	w.out = append(w.out, fmt.Sprintf("%s: %s", at, fmt.Sprintf(format, args...)))
}

// nodes: labels of nodes that have been replaced by others.
func (w *warner) nodes() {
	for _, key := range slices.Sorted(maps.Keys(w.spec.NodeSelector)) {
		if text := check.OldNodeLabel(key); text != "" {
			w.say(w.at.Child("nodeSelector").Key(key), "%s", text)
		}
	}
	if w.spec.Affinity == nil || w.spec.Affinity.NodeAffinity == nil {
		return
	}
	affinity, at := w.spec.Affinity.NodeAffinity, w.at.Child("affinity", "nodeAffinity")
	if required := affinity.RequiredDuringSchedulingIgnoredDuringExecution; required != nil {
		w.out = append(w.out, NodeSelectorWarnings(required, at.Child("requiredDuringSchedulingIgnoredDuringExecution"))...)
	}
	for i := range affinity.PreferredDuringSchedulingIgnoredDuringExecution {
		preferred := &affinity.PreferredDuringSchedulingIgnoredDuringExecution[i]
		w.term(&preferred.Preference, at.Child("preferredDuringSchedulingIgnoredDuringExecution").Index(i).Child("preference"))
	}
}

// NodeSelectorWarnings are about a selector of nodes, which is at path.
func NodeSelectorWarnings(s *corev1.NodeSelector, path *field.Path) []string {
	w := warner{}
	for i := range s.NodeSelectorTerms {
		w.term(&s.NodeSelectorTerms[i], path.Child("nodeSelectorTerms").Index(i))
	}
	return w.out
}

func (w *warner) term(t *corev1.NodeSelectorTerm, at *field.Path) {
	for i, e := range t.MatchExpressions {
		if text := check.OldNodeLabel(e.Key); text != "" {
			w.say(at.Child("matchExpressions").Index(i).Child("key"), "%s is %s", e.Key, text)
		}
	}
}

// noLabels is said where a selector is left out and so selects nothing.
const noLabels = "a null labelSelector results in matching no pod"

func (w *warner) spread() {
	for i, c := range w.spec.TopologySpreadConstraints {
		at := w.at.Child("topologySpreadConstraints").Index(i)
		if text := check.OldNodeLabel(c.TopologyKey); text != "" {
			w.say(at.Child("topologyKey"), "%s is %s", c.TopologyKey, text)
		}
		if c.LabelSelector == nil {
			w.say(at.Child("labelSelector"), noLabels)
		}
	}
}

func (w *warner) affinity() {
	if w.spec.Affinity == nil {
		return
	}
	at := w.at.Child("affinity")
	if a := w.spec.Affinity.PodAffinity; a != nil {
		w.podTerms(a.RequiredDuringSchedulingIgnoredDuringExecution, a.PreferredDuringSchedulingIgnoredDuringExecution, at.Child("podAffinity"))
	}
	if a := w.spec.Affinity.PodAntiAffinity; a != nil {
		w.podTerms(a.RequiredDuringSchedulingIgnoredDuringExecution, a.PreferredDuringSchedulingIgnoredDuringExecution, at.Child("podAntiAffinity"))
	}
}

func (w *warner) podTerms(required []corev1.PodAffinityTerm, preferred []corev1.WeightedPodAffinityTerm, at *field.Path) {
	for i := range required {
		if required[i].LabelSelector == nil {
			w.say(at.Child("requiredDuringSchedulingIgnoredDuringExecution").Index(i).Child("labelSelector"), noLabels)
		}
	}
	for i := range preferred {
		if preferred[i].PodAffinityTerm.LabelSelector == nil {
			w.say(at.Child("preferredDuringSchedulingIgnoredDuringExecution").Index(i).Child("podAffinityTerm", "labelSelector"), noLabels)
		}
	}
}

// Annotations from before there were fields.
const (
	podSeccomp        = "seccomp.security.alpha.kubernetes.io/pod"
	containerSeccomp  = "container.seccomp.security.alpha.kubernetes.io/"
	containerAppArmor = corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix
	useSeccomp        = `non-functional in v1.27+; use the "seccompProfile" field instead`
)

// annotations: those that have become fields.
func (w *warner) annotations() {
	for _, old := range []struct{ key, text string }{
		{"scheduler.alpha.kubernetes.io/critical-pod", `non-functional in v1.16+; use the "priorityClassName" field instead`},
		{"security.alpha.kubernetes.io/sysctls", `non-functional in v1.11+; use the "sysctls" field instead`},
		{"security.alpha.kubernetes.io/unsafe-sysctls", `non-functional in v1.11+; use the "sysctls" field instead`},
	} {
		w.annotation(old.key, old.text)
	}
	if s := w.spec.SecurityContext; s == nil || s.SeccompProfile == nil {
		w.annotation(podSeccomp, useSeccomp)
	}
}

func (w *warner) annotation(key, text string) {
	if _, ok := w.meta.Annotations[key]; ok {
		w.say(w.metaAt.Key(key), "%s", text)
	}
}

// repeated: entries that apply merges into one, and names that are missing.
func (w *warner) repeated() {
	ips, names := map[string]bool{}, map[string]bool{}
	for i, alias := range w.spec.HostAliases {
		if ips[alias.IP] {
			w.say(w.at.Child("hostAliases").Index(i).Child("ip"), "duplicate ip %q", alias.IP)
		}
		ips[alias.IP] = true
	}
	at := w.at.Child("imagePullSecrets")
	for i, ref := range w.spec.ImagePullSecrets {
		if names[ref.Name] {
			w.say(at.Index(i).Child("name"), "duplicate name %q", ref.Name)
		}
		names[ref.Name] = true
	}
	for i, ref := range w.spec.ImagePullSecrets {
		if ref.Name == "" {
			w.say(at.Index(i).Child("name"), "invalid empty name %q", ref.Name)
		}
	}
}

// addresses: those in unusual forms.
func (w *warner) addresses() {
	if w.spec.DNSConfig != nil {
		for i, ip := range w.spec.DNSConfig.Nameservers {
			w.out = append(w.out, check.IPWarnings(ip, w.at.Child("dnsConfig", "nameservers").Index(i))...)
		}
	}
	for i := range w.spec.HostAliases {
		w.out = append(w.out, check.IPWarnings(w.spec.HostAliases[i].IP, w.at.Child("hostAliases").Index(i).Child("ip"))...)
	}
}

func (w *warner) containers() {
	confined := w.spec.SecurityContext != nil && w.spec.SecurityContext.AppArmorProfile != nil
	eachContainer(w.spec, w.at, func(c *corev1.Container, at *field.Path) {
		s := c.SecurityContext
		if s == nil || s.SeccompProfile == nil {
			w.annotation(containerSeccomp+c.Name, useSeccomp)
		}
		if w.template && !confined && appArmorField(c) == nil || !w.template && w.confinedByAnnotation(c) {
			w.annotation(containerAppArmor+c.Name, `deprecated since v1.30; use the "appArmorProfile" field instead`)
		}
		w.fractions(c.Resources.Limits, at.Child("resources", "limits"))
		w.fractions(c.Resources.Requests, at.Child("resources", "requests"))
		w.env(c.Env, at.Child("env"))
	})
}

// confinedByAnnotation says whether a pod's container has its profile from the annotation, or would have if that named one.
func (w *warner) confinedByAnnotation(c *corev1.Container) bool {
	profile := appArmorOf(w.meta.Annotations[containerAppArmor+c.Name])
	return profile == nil || equal(profile, appArmorField(c))
}

// fraction is said of sizes that are not whole bytes.
const fraction = "fractional byte value %q is invalid, must be an integer"

func (w *warner) fractions(list corev1.ResourceList, at *field.Path) {
	for _, name := range []corev1.ResourceName{corev1.ResourceMemory, corev1.ResourceEphemeralStorage} {
		if q, ok := list[name]; ok && q.MilliValue()%1000 != 0 {
			w.say(at.Key(string(name)), fraction, q.String())
		}
	}
}

// env: a variable that is set again without building on what it was. Apply merges the two.
func (w *warner) env(vars []corev1.EnvVar, at *field.Path) {
	seen := map[string]bool{}
	for i, e := range vars {
		if !seen[e.Name] {
			seen[e.Name] = true
			continue
		}
		if before := "$(" + e.Name + ")"; e.ValueFrom != nil || e.Value == before || !strings.Contains(e.Value, before) {
			w.say(at.Index(i), "hides previous definition of %q, which may be dropped when using apply", e.Name)
		}
	}
}

// ports: those that the same container port and protocol make ambiguous, in one container or across them.
func (w *warner) ports() {
	type place struct {
		at   *field.Path
		port corev1.ContainerPort
	}
	type key struct {
		number   int32
		protocol corev1.Protocol
	}
	all := map[key][]place{}
	eachContainer(w.spec, w.at, func(c *corev1.Container, path *field.Path) {
		for i, p := range c.Ports {
			at := path.Child("ports").Index(i)
			if p.HostIP != "" && p.HostPort == 0 {
				w.say(at, "hostIP set without hostPort: %+v", p)
			}
			k := key{p.ContainerPort, p.Protocol}
			for _, other := range all[k] {
				oneHost := (p.HostIP == "") != (other.port.HostIP == "")
				switch {
				case p.HostIP == other.port.HostIP && p.HostPort == other.port.HostPort:
					w.say(at, "duplicate port definition with %s", other.at)
				case p.HostPort == 0 || other.port.HostPort == 0:
					w.say(at, "overlapping port definition with %s", other.at)
				case p.HostPort == other.port.HostPort && oneHost:
					w.say(at, "dangerously ambiguous port definition with %s", other.at)
				}
			}
			all[k] = append(all[k], place{at, p})
		}
	})
}
