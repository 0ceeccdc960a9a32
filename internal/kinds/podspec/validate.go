package podspec

import (
	"math"

	corev1 "k8s.io/api/core/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds/check"
)

// ValidatePod checks a pod that is being created.
func ValidatePod(pod *corev1.Pod) field.ErrorList {
	errs := append(validatePod(pod), oneAppArmor(pod)...)
	path := field.NewPath("spec")
	if len(pod.Spec.EphemeralContainers) > 0 {
		errs = append(errs, field.Forbidden(path.Child("ephemeralContainers"), "cannot be set on create"))
	}
	if pod.Spec.NodeName != "" && len(pod.Spec.SchedulingGates) > 0 {
		errs = append(errs, field.Forbidden(path.Child("nodeName"), "cannot be set until all schedulingGates have been cleared"))
	}
	return errs
}

// validatePod checks what holds of a pod at any time.
func validatePod(pod *corev1.Pod) field.ErrorList {
	errs := validateAnnotations(pod.Annotations, &pod.Spec, field.NewPath("metadata", "annotations"))
	return append(errs, Validate(&pod.Spec, field.NewPath("spec"))...)
}

// ValidateTemplate checks the pod template of a workload, whose metadata matters only for its labels and annotations.
func ValidateTemplate(t *corev1.PodTemplateSpec, path *field.Path) field.ErrorList {
	errs := metavalidation.ValidateLabels(t.Labels, path.Child("labels"))
	errs = append(errs, validateTemplateAnnotations(t, path.Child("annotations"))...)
	errs = append(errs, Validate(&t.Spec, path.Child("spec"))...)
	if len(t.Spec.EphemeralContainers) > 0 {
		errs = append(errs, field.Forbidden(path.Child("spec", "ephemeralContainers"), "ephemeral containers not allowed in pod template"))
	}
	return errs
}

// Validate checks a pod spec that has its defaults.
func Validate(spec *corev1.PodSpec, path *field.Path) field.ErrorList {
	volumes, errs := validateVolumes(spec.Volumes, path.Child("volumes"))
	v := &validator{spec: spec, volumes: volumes, claims: claimNames(spec)}
	errs = append(errs, validateClaims(spec.ResourceClaims, path.Child("resourceClaims"))...)
	errs = append(errs, v.containers(path.Child("containers"))...)
	errs = append(errs, v.initContainers(path.Child("initContainers"))...)
	errs = append(errs, v.ephemeralContainers(path.Child("ephemeralContainers"))...)
	errs = append(errs, validatePodResources(spec, path.Child("resources"))...)
	errs = append(errs, check.RequiredOneOf(spec.RestartPolicy, path.Child("restartPolicy"),
		corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever)...)
	errs = append(errs, validateDNS(spec, path)...)
	errs = append(errs, metavalidation.ValidateLabels(spec.NodeSelector, path.Child("nodeSelector"))...)
	errs = append(errs, validatePodSecurity(spec, path)...)
	errs = append(errs, validateScheduling(spec, path)...)
	errs = append(errs, validateNames(spec, path)...)
	errs = append(errs, validateHostAliases(spec.HostAliases, path.Child("hostAliases"))...)
	if s := spec.ActiveDeadlineSeconds; s != nil && (*s < 1 || *s > math.MaxInt32) {
		errs = append(errs, field.Invalid(path.Child("activeDeadlineSeconds"), *s, validation.InclusiveRangeError(1, math.MaxInt32)))
	}
	for _, name := range sortedNames(spec.Overhead) { // upstream checks overhead as if it were limits
		errs = append(errs, validateResource(name, spec.Overhead[name], path.Child("overhead", "limits").Key(string(name)))...)
	}
	return append(errs, validateOS(spec, path)...)
}

// validator carries what the containers of one pod spec are checked against.
type validator struct {
	spec    *corev1.PodSpec
	volumes map[string]*corev1.VolumeSource
	claims  map[string]bool
}

// validateNames checks the fields that name other objects.
func validateNames(spec *corev1.PodSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	subdomain := func(value, name string) {
		if value != "" {
			errs = append(errs, check.Subdomain(value, path.Child(name))...)
		}
	}
	subdomain(spec.ServiceAccountName, "serviceAccountName")
	subdomain(spec.NodeName, "nodeName")
	subdomain(spec.PriorityClassName, "priorityClassName")
	if spec.Hostname != "" {
		errs = append(errs, check.Label(spec.Hostname, path.Child("hostname"))...)
	}
	if spec.Subdomain != "" {
		errs = append(errs, check.Label(spec.Subdomain, path.Child("subdomain"))...)
	}
	if spec.RuntimeClassName != nil {
		errs = append(errs, check.Subdomain(*spec.RuntimeClassName, path.Child("runtimeClassName"))...)
	}
	if h := spec.HostnameOverride; h != nil {
		errs = append(errs, validateHostnameOverride(spec, *h, path)...)
	}
	if p := spec.PreemptionPolicy; p != nil {
		errs = append(errs, check.RequiredOneOf(*p, path.Child("preemptionPolicy"), corev1.PreemptLowerPriority, corev1.PreemptNever)...)
	}
	return errs
}

func validateHostnameOverride(spec *corev1.PodSpec, name string, path *field.Path) field.ErrorList {
	at := path.Child("hostnameOverride")
	errs := check.Subdomain(name, at)
	if len(name) > validation.DNS1123LabelMaxLength+1 {
		errs = append(errs, field.TooLong(at, name, validation.DNS1123LabelMaxLength+1))
	}
	if spec.HostNetwork {
		errs = append(errs, field.Invalid(at, name, "may not be set when `hostNetwork` is true"))
	}
	if spec.SetHostnameAsFQDN != nil && *spec.SetHostnameAsFQDN {
		errs = append(errs, field.Invalid(at, name, "may not be set when `setHostnameAsFQDN` is true"))
	}
	return errs
}

func validateHostAliases(aliases []corev1.HostAlias, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, alias := range aliases {
		errs = append(errs, check.LegacyIP(alias.IP, path.Index(i).Child("ip"))...)
		for j, name := range alias.Hostnames {
			errs = append(errs, check.Subdomain(name, path.Index(i).Child("hostnames").Index(j))...)
		}
	}
	return errs
}

func claimNames(spec *corev1.PodSpec) map[string]bool {
	names := map[string]bool{}
	for _, c := range spec.ResourceClaims {
		names[c.Name] = true
	}
	return names
}

func validateClaims(claims []corev1.PodResourceClaim, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := check.Duplicates[string]{}
	for i, c := range claims {
		at := path.Index(i)
		errs = append(errs, check.RequiredLabel(c.Name, at.Child("name"))...)
		errs = append(errs, seen.Check(c.Name, at.Child("name"))...)
		switch {
		case c.ResourceClaimName != nil && c.ResourceClaimTemplateName != nil:
			errs = append(errs, field.Invalid(at, c, "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"))
		case c.ResourceClaimName == nil && c.ResourceClaimTemplateName == nil:
			errs = append(errs, field.Invalid(at, c, "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"))
		case c.ResourceClaimName != nil:
			errs = append(errs, check.Subdomain(*c.ResourceClaimName, at.Child("resourceClaimName"))...)
		default:
			errs = append(errs, check.Subdomain(*c.ResourceClaimTemplateName, at.Child("resourceClaimTemplateName"))...)
		}
	}
	return errs
}
