package podspec

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds/check"
)

// maxRestartRules bounds the restart rules of one container.
const maxRestartRules = 20

func (v *validator) containers(path *field.Path) field.ErrorList {
	if len(v.spec.Containers) == 0 {
		return field.ErrorList{field.Required(path, "")}
	}
	var errs field.ErrorList
	seen := check.Duplicates[string]{}
	for i := range v.spec.Containers {
		c, at := &v.spec.Containers[i], path.Index(i)
		errs = append(errs, v.container(c, at)...)
		errs = append(errs, seen.Check(c.Name, at.Child("name"))...)
		errs = append(errs, v.running(c, at)...)
		errs = append(errs, validateRestart(c, at)...)
	}
	return append(errs, hostPortConflicts(v.spec.Containers, path)...)
}

func (v *validator) initContainers(path *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := check.Duplicates[string]{}
	for _, c := range v.spec.Containers {
		seen[c.Name] = true
	}
	for i := range v.spec.InitContainers {
		c, at := &v.spec.InitContainers[i], path.Index(i)
		errs = append(errs, v.container(c, at)...)
		if c.Name != "" {
			errs = append(errs, seen.Check(c.Name, at.Child("name"))...)
		}
		errs = append(errs, validateRestart(c, at)...)
		errs = append(errs, hostPortConflicts(v.spec.InitContainers[i:i+1], path)...)
		if sidecar(c) {
			errs = append(errs, v.running(c, at)...)
			continue
		}
		for _, f := range []struct {
			name string
			set  bool
		}{
			{"lifecycle", c.Lifecycle != nil}, {"livenessProbe", c.LivenessProbe != nil},
			{"readinessProbe", c.ReadinessProbe != nil}, {"startupProbe", c.StartupProbe != nil},
		} {
			if f.set {
				errs = append(errs, field.Forbidden(at.Child(f.name), "may not be set for init containers without restartPolicy=Always"))
			}
		}
	}
	return errs
}

// sidecar says whether an init container keeps running beside the others.
func sidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

func (v *validator) ephemeralContainers(path *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen, others := check.Duplicates[string]{}, map[string]bool{}
	for _, c := range v.spec.Containers {
		seen[c.Name], others[c.Name] = true, true
	}
	for _, c := range v.spec.InitContainers {
		seen[c.Name], others[c.Name] = true, true
	}
	for i := range v.spec.EphemeralContainers {
		e, at := &v.spec.EphemeralContainers[i], path.Index(i)
		c := corev1.Container(e.EphemeralContainerCommon)
		errs = append(errs, v.container(&c, at)...)
		errs = append(errs, seen.Check(c.Name, at.Child("name"))...)
		if e.TargetContainerName != "" && !others[e.TargetContainerName] {
			errs = append(errs, field.NotFound(at.Child("targetContainerName"), e.TargetContainerName))
		}
		errs = append(errs, onlyEphemeral(&c, at)...)
	}
	return errs
}

// onlyEphemeral refuses what makes no sense in a container that is added to a running pod.
func onlyEphemeral(c *corev1.Container, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"lifecycle", c.Lifecycle != nil}, {"livenessProbe", c.LivenessProbe != nil},
		{"ports", len(c.Ports) > 0}, {"readinessProbe", c.ReadinessProbe != nil},
		{"resizePolicy", len(c.ResizePolicy) > 0}, {"restartPolicy", c.RestartPolicy != nil},
		{"restartPolicyRules", len(c.RestartPolicyRules) > 0},
		{"resources", !equal(c.Resources, corev1.ResourceRequirements{})}, {"startupProbe", c.StartupProbe != nil},
	} {
		if f.set {
			errs = append(errs, field.Forbidden(path.Child(f.name), "cannot be set for an Ephemeral Container"))
		}
	}
	for i, m := range c.VolumeMounts {
		at := path.Child("volumeMounts").Index(i)
		if m.SubPath != "" {
			errs = append(errs, field.Forbidden(at.Child("subPath"), "cannot be set for an Ephemeral Container"))
		}
		if m.SubPathExpr != "" {
			errs = append(errs, field.Forbidden(at.Child("subPathExpr"), "cannot be set for an Ephemeral Container"))
		}
	}
	return errs
}

// container checks what holds of containers of all three sorts.
func (v *validator) container(c *corev1.Container, path *field.Path) field.ErrorList {
	errs := check.RequiredLabel(c.Name, path.Child("name"))
	if c.Image == "" {
		errs = append(errs, field.Required(path.Child("image"), ""))
	} else if strings.TrimSpace(c.Image) != c.Image {
		errs = append(errs, field.Invalid(path.Child("image"), c.Image, "must not have leading or trailing whitespace"))
	}
	errs = append(errs, check.RequiredOneOf(c.TerminationMessagePolicy, path.Child("terminationMessagePolicy"),
		corev1.TerminationMessageReadFile, corev1.TerminationMessageFallbackToLogsOnError)...)
	errs = append(errs, check.RequiredOneOf(c.ImagePullPolicy, path.Child("imagePullPolicy"),
		corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever)...)
	errs = append(errs, validatePorts(c.Ports, path.Child("ports"))...)
	if v.spec.HostNetwork {
		errs = append(errs, onHostNetwork(c.Ports, path.Child("ports"))...)
	}
	errs = append(errs, v.env(c.Env, path.Child("env"))...)
	errs = append(errs, validateEnvFrom(c.EnvFrom, path.Child("envFrom"))...)
	errs = append(errs, v.mounts(c, path.Child("volumeMounts"))...)
	errs = append(errs, v.devices(c, path.Child("volumeDevices"))...)
	errs = append(errs, ValidateResources(&c.Resources, v.claims, path.Child("resources"))...)
	errs = append(errs, v.resizePolicy(c.ResizePolicy, path.Child("resizePolicy"))...)
	return append(errs, v.containerSecurity(c.SecurityContext, path.Child("securityContext"))...)
}

// running checks probes and lifecycle hooks of containers that stay.
func (v *validator) running(c *corev1.Container, path *field.Path) field.ErrorList {
	grace := v.spec.TerminationGracePeriodSeconds
	errs := validateLifecycle(c.Lifecycle, grace, path.Child("lifecycle"))
	if l := c.Lifecycle; l != nil && l.StopSignal != nil {
		errs = append(errs, v.stopSignal(*l.StopSignal, path.Child("lifecycle", "stopSignal"))...)
	}
	errs = append(errs, validateProbe(c.LivenessProbe, grace, path.Child("livenessProbe"))...)
	errs = append(errs, onceIsEnough(c.LivenessProbe, path.Child("livenessProbe"))...)
	errs = append(errs, validateProbe(c.ReadinessProbe, grace, path.Child("readinessProbe"))...)
	if p := c.ReadinessProbe; p != nil && p.TerminationGracePeriodSeconds != nil {
		errs = append(errs, field.Invalid(path.Child("readinessProbe", "terminationGracePeriodSeconds"),
			*p.TerminationGracePeriodSeconds, "must not be set for readinessProbes"))
	}
	errs = append(errs, validateProbe(c.StartupProbe, grace, path.Child("startupProbe"))...)
	return append(errs, onceIsEnough(c.StartupProbe, path.Child("startupProbe"))...)
}

func onceIsEnough(p *corev1.Probe, path *field.Path) field.ErrorList {
	if p == nil || p.SuccessThreshold == 1 {
		return nil
	}
	return field.ErrorList{field.Invalid(path.Child("successThreshold"), p.SuccessThreshold, "must be 1")}
}

// stopSignal needs to know the operating system: the same name means different things, or nothing.
func (v *validator) stopSignal(s corev1.Signal, path *field.Path) field.ErrorList {
	if v.spec.OS == nil || v.spec.OS.Name == "" {
		return field.ErrorList{field.Forbidden(path, "may not be set for containers with empty `spec.os.name`")}
	}
	if !strings.HasPrefix(string(s), "SIG") {
		return field.ErrorList{field.Invalid(path, s, "must be the name of a signal, such as SIGTERM")}
	}
	if v.spec.OS.Name == corev1.Windows && s != corev1.SIGTERM && s != corev1.SIGKILL {
		return field.ErrorList{field.NotSupported(path, s, []corev1.Signal{corev1.SIGTERM, corev1.SIGKILL})}
	}
	return nil
}

// validateRestart checks a container's own restart policy and rules.
func validateRestart(c *corev1.Container, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if p := c.RestartPolicy; p != nil {
		errs = check.OneOf(*p, path.Child("restartPolicy"),
			corev1.ContainerRestartPolicyAlways, corev1.ContainerRestartPolicyNever, corev1.ContainerRestartPolicyOnFailure)
	}
	rules := c.RestartPolicyRules
	if len(rules) == 0 {
		return errs
	}
	at := path.Child("restartPolicyRules")
	switch {
	case c.RestartPolicy == nil:
		errs = append(errs, field.Required(path.Child("restartPolicy"), "must specify restartPolicy when restart rules are used"))
	case len(rules) > maxRestartRules:
		errs = append(errs, field.TooMany(at, len(rules), maxRestartRules))
	}
	for i, rule := range rules {
		errs = append(errs, validateRestartRule(rule, at.Index(i))...)
	}
	return errs
}

func validateRestartRule(rule corev1.ContainerRestartRule, path *field.Path) field.ErrorList {
	errs := check.OneOf(rule.Action, path.Child("action"),
		corev1.ContainerRestartRuleActionRestart, corev1.ContainerRestartRuleActionRestartAllContainers)
	codes := rule.ExitCodes
	if codes == nil {
		return append(errs, field.Required(path.Child("exitCodes"), "must be specified"))
	}
	errs = append(errs, check.OneOf(codes.Operator, path.Child("exitCodes", "operator"),
		corev1.ContainerRestartRuleOnExitCodesOpIn, corev1.ContainerRestartRuleOnExitCodesOpNotIn)...)
	values := path.Child("exitCodes", "values")
	if len(codes.Values) == 0 {
		errs = append(errs, field.Invalid(values, codes.Values, "must have at least one value"))
	}
	if len(codes.Values) > 255 {
		errs = append(errs, field.TooMany(values, len(codes.Values), 255))
	}
	seen := check.Duplicates[int32]{}
	for i, code := range codes.Values {
		if code < 0 || code > 255 {
			errs = append(errs, field.Invalid(values.Index(i), code, fmt.Sprintf("must be between %d and %d, inclusive", 0, 255)))
		}
		errs = append(errs, seen.Check(code, values.Index(i))...)
	}
	return errs
}
