package podspec

import (
	"fmt"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds/check"
)

// maxSysctl bounds a sysctl's name.
const maxSysctl = 253

const sysctlWord = `[a-z0-9](?:[-_a-z0-9]*[a-z0-9])?`

// sysctlName accepts dots or slashes between the words; an interface's name may hold what is not a word's.
var sysctlName = regexp.MustCompile(`^(?:` + sysctlWord + `[./])*` + sysctlWord + `$`)

func (v *validator) containerSecurity(c *corev1.SecurityContext, path *field.Path) field.ErrorList {
	if c == nil {
		return nil
	}
	errs := validateIDs(c.RunAsUser, c.RunAsGroup, path)
	errs = append(errs, validateSeccomp(c.SeccompProfile, path.Child("seccompProfile"))...)
	errs = append(errs, validateAppArmor(c.AppArmorProfile, path.Child("appArmorProfile"))...)
	errs = append(errs, validateWindows(c.WindowsOptions, path.Child("windowsOptions"))...)
	if m := c.ProcMount; m != nil {
		at := path.Child("procMount")
		errs = append(errs, check.OneOf(*m, at, corev1.DefaultProcMount, corev1.UnmaskedProcMount)...)
		if *m == corev1.UnmaskedProcMount && (v.spec.HostUsers == nil || *v.spec.HostUsers) {
			errs = append(errs, field.Invalid(at, *m, "`hostUsers` must be false to use `Unmasked`"))
		}
	}
	if c.AllowPrivilegeEscalation != nil && !*c.AllowPrivilegeEscalation {
		if isTrue(c.Privileged) {
			errs = append(errs, field.Invalid(path, c, "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"))
		}
		if c.Capabilities != nil {
			for _, added := range c.Capabilities.Add {
				if added == "CAP_SYS_ADMIN" {
					errs = append(errs, field.Invalid(path, c, "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"))
				}
			}
		}
	}
	return errs
}

func isTrue(b *bool) bool { return b != nil && *b }

func validateIDs(user, group *int64, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if user != nil {
		errs = append(errs, invalids(path.Child("runAsUser"), *user, validation.IsValidUserID(*user))...)
	}
	if group != nil {
		errs = append(errs, invalids(path.Child("runAsGroup"), *group, validation.IsValidGroupID(*group))...)
	}
	return errs
}

func validateSeccomp(p *corev1.SeccompProfile, path *field.Path) field.ErrorList {
	if p == nil {
		return nil
	}
	at := path.Child("localhostProfile")
	var errs field.ErrorList
	switch p.Type {
	case corev1.SeccompProfileTypeLocalhost:
		if p.LocalhostProfile == nil {
			return field.ErrorList{field.Required(at, "must be set when seccomp type is Localhost")}
		}
		return check.LocalPath(*p.LocalhostProfile, at)
	case corev1.SeccompProfileTypeRuntimeDefault, corev1.SeccompProfileTypeUnconfined:
	case "":
		errs = append(errs, field.Required(path.Child("type"), "type is required when seccompProfile is set"))
	default:
		errs = append(errs, field.NotSupported(path.Child("type"), p.Type, []corev1.SeccompProfileType{
			corev1.SeccompProfileTypeLocalhost, corev1.SeccompProfileTypeRuntimeDefault, corev1.SeccompProfileTypeUnconfined,
		}))
	}
	if p.LocalhostProfile != nil {
		errs = append(errs, field.Invalid(at, p, "can only be set when seccomp type is Localhost"))
	}
	return errs
}

func validateAppArmor(p *corev1.AppArmorProfile, path *field.Path) field.ErrorList {
	if p == nil {
		return nil
	}
	at := path.Child("localhostProfile")
	var errs field.ErrorList
	switch p.Type {
	case corev1.AppArmorProfileTypeLocalhost:
		switch {
		case p.LocalhostProfile == nil:
			errs = append(errs, field.Required(at, "must be set when AppArmor type is Localhost"))
		case strings.TrimSpace(*p.LocalhostProfile) != *p.LocalhostProfile:
			errs = append(errs, field.Invalid(at, *p.LocalhostProfile, "must not be padded with whitespace"))
		case *p.LocalhostProfile == "":
			errs = append(errs, field.Required(at, "must be set when AppArmor type is Localhost"))
		case len(*p.LocalhostProfile) > 4095:
			errs = append(errs, field.TooLong(at, *p.LocalhostProfile, 4095))
		}
		return errs
	case corev1.AppArmorProfileTypeRuntimeDefault, corev1.AppArmorProfileTypeUnconfined:
	case "":
		errs = append(errs, field.Required(path.Child("type"), "type is required when appArmorProfile is set"))
	default:
		errs = append(errs, field.NotSupported(path.Child("type"), p.Type, []corev1.AppArmorProfileType{
			corev1.AppArmorProfileTypeLocalhost, corev1.AppArmorProfileTypeRuntimeDefault, corev1.AppArmorProfileTypeUnconfined,
		}))
	}
	if p.LocalhostProfile != nil {
		errs = append(errs, field.Invalid(at, *p.LocalhostProfile, "can only be set when AppArmor type is Localhost"))
	}
	return errs
}

func validateWindows(w *corev1.WindowsSecurityContextOptions, path *field.Path) field.ErrorList {
	if w == nil {
		return nil
	}
	var errs field.ErrorList
	if w.GMSACredentialSpecName != nil {
		errs = append(errs, check.Subdomain(*w.GMSACredentialSpecName, path.Child("gmsaCredentialSpecName"))...)
	}
	if s := w.GMSACredentialSpec; s != nil {
		if *s == "" {
			errs = append(errs, field.Invalid(path.Child("gmsaCredentialSpec"), *s, "gmsaCredentialSpec cannot be an empty string"))
		} else if len(*s) > 64<<10 {
			errs = append(errs, field.Invalid(path.Child("gmsaCredentialSpec"), "<too long>", "gmsaCredentialSpec size must be under 64 KiB"))
		}
	}
	if u := w.RunAsUserName; u != nil && *u == "" {
		errs = append(errs, field.Invalid(path.Child("runAsUserName"), *u, "runAsUserName cannot be an empty string"))
	}
	return errs
}

func validatePodSecurity(spec *corev1.PodSpec, path *field.Path) field.ErrorList {
	c, at := spec.SecurityContext, path.Child("securityContext")
	var errs field.ErrorList
	if isTrue(spec.ShareProcessNamespace) && spec.HostPID {
		errs = append(errs, field.Invalid(path.Child("shareProcessNamespace"), *spec.ShareProcessNamespace, "ShareProcessNamespace and HostPID cannot both be enabled"))
	}
	errs = append(errs, validateUserNamespace(spec, path)...)
	errs = append(errs, validateHostProcess(spec, path)...)
	if c == nil {
		return errs
	}
	errs = append(errs, validateIDs(c.RunAsUser, c.RunAsGroup, at)...)
	if c.FSGroup != nil {
		errs = append(errs, invalids(at.Child("fsGroup"), *c.FSGroup, validation.IsValidGroupID(*c.FSGroup))...)
	}
	for i, id := range c.SupplementalGroups {
		errs = append(errs, invalids(at.Child("supplementalGroups").Index(i), id, validation.IsValidGroupID(id))...)
	}
	if p := c.FSGroupChangePolicy; p != nil {
		errs = append(errs, check.OneOf(*p, at.Child("fsGroupChangePolicy"), corev1.FSGroupChangeAlways, corev1.FSGroupChangeOnRootMismatch)...)
	}
	if p := c.SupplementalGroupsPolicy; p != nil {
		errs = append(errs, check.OneOf(*p, at.Child("supplementalGroupsPolicy"), corev1.SupplementalGroupsPolicyMerge, corev1.SupplementalGroupsPolicyStrict)...)
	}
	if p := c.SELinuxChangePolicy; p != nil {
		errs = append(errs, check.OneOf(*p, at.Child("seLinuxChangePolicy"), corev1.SELinuxChangePolicyMountOption, corev1.SELinuxChangePolicyRecursive)...)
	}
	errs = append(errs, validateSysctls(spec, c.Sysctls, at.Child("sysctls"))...)
	errs = append(errs, validateSeccomp(c.SeccompProfile, at.Child("seccompProfile"))...)
	errs = append(errs, validateAppArmor(c.AppArmorProfile, at.Child("appArmorProfile"))...)
	return append(errs, validateWindows(c.WindowsOptions, at.Child("windowsOptions"))...)
}

// validateUserNamespace: a pod with users of its own cannot share the host's other namespaces.
func validateUserNamespace(spec *corev1.PodSpec, path *field.Path) field.ErrorList {
	if spec.HostUsers == nil || *spec.HostUsers {
		return nil
	}
	var errs field.ErrorList
	for _, f := range []struct {
		name string
		set  bool
	}{{"hostNetwork", spec.HostNetwork}, {"hostPID", spec.HostPID}, {"hostIPC", spec.HostIPC}} {
		if f.set {
			errs = append(errs, field.Forbidden(path.Child(f.name), "when `hostUsers` is false"))
		}
	}
	for i := range spec.Containers {
		for j := range spec.Containers[i].VolumeDevices {
			errs = append(errs, field.Forbidden(path.Child("containers").Index(i).Child("volumeDevices").Index(j), "when `hostUsers` is false"))
		}
	}
	return errs
}

// validateHostProcess: on Windows, either all containers of a pod are processes of the host or none is.
func validateHostProcess(spec *corev1.PodSpec, path *field.Path) field.ErrorList {
	var whole *bool
	if c := spec.SecurityContext; c != nil && c.WindowsOptions != nil {
		whole = c.WindowsOptions.HostProcess
	}
	var errs field.ErrorList
	all, ofHost := 0, 0
	eachContainer(spec, path, func(c *corev1.Container, at *field.Path) {
		own := whole
		if s := c.SecurityContext; s != nil && s.WindowsOptions != nil && s.WindowsOptions.HostProcess != nil {
			own = s.WindowsOptions.HostProcess
			if whole != nil && *whole != *own {
				errs = append(errs, field.Invalid(at.Child("securityContext", "windowsOptions", "hostProcess"), *own,
					fmt.Sprintf("pod hostProcess value must be identical if both are specified, was %v", *whole)))
			}
		}
		all++
		if isTrue(own) {
			ofHost++
		}
	})
	if ofHost > 0 && ofHost != all {
		errs = append(errs, field.Invalid(path, "", "If pod contains any hostProcess containers then all containers must be HostProcess containers"))
	}
	if ofHost > 0 && !spec.HostNetwork {
		errs = append(errs, field.Invalid(path.Child("hostNetwork"), false, "hostNetwork must be true if pod contains any hostProcess containers"))
	}
	return errs
}

func validateSysctls(spec *corev1.PodSpec, sysctls []corev1.Sysctl, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := check.Duplicates[string]{}
	for i, s := range sysctls {
		at := path.Index(i).Child("name")
		name := strings.ReplaceAll(s.Name, "/", ".")
		switch {
		case s.Name == "":
			errs = append(errs, field.Required(at, ""))
		case len(s.Name) > maxSysctl || !sysctlName.MatchString(s.Name):
			errs = append(errs, field.Invalid(at, s.Name, "must have at most 253 characters and match regex "+sysctlName.String()))
		case spec.HostNetwork && strings.HasPrefix(name, "net."):
			errs = append(errs, field.Invalid(at, s.Name, "may not be specified when 'hostNetwork' is true"))
		case spec.HostIPC && (strings.HasPrefix(name, "kernel.shm") || strings.HasPrefix(name, "kernel.msg") ||
			name == "kernel.sem" || strings.HasPrefix(name, "fs.mqueue.")):
			errs = append(errs, field.Invalid(at, s.Name, "may not be specified when 'hostIPC' is true"))
		}
		errs = append(errs, seen.Check(name, at)...)
	}
	return errs
}

// validateOS refuses what the pod's operating system does not have.
func validateOS(spec *corev1.PodSpec, path *field.Path) field.ErrorList {
	if spec.OS == nil {
		return nil
	}
	errs := check.RequiredOneOf(spec.OS.Name, path.Child("os", "name"), corev1.Linux, corev1.Windows)
	switch spec.OS.Name {
	case corev1.Linux:
		eachSecurityContext(spec, path, func(c *corev1.SecurityContext, at *field.Path) {
			if c.WindowsOptions != nil {
				errs = append(errs, field.Forbidden(at.Child("windowsOptions"), "windows options cannot be set for a linux pod"))
			}
		})
		if c := spec.SecurityContext; c != nil && c.WindowsOptions != nil {
			errs = append(errs, field.Forbidden(path.Child("securityContext", "windowsOptions"), "windows options cannot be set for a linux pod"))
		}
	case corev1.Windows:
		errs = append(errs, onWindows(spec, path)...)
	}
	return errs
}

func eachSecurityContext(spec *corev1.PodSpec, path *field.Path, visit func(*corev1.SecurityContext, *field.Path)) {
	eachContainer(spec, path, func(c *corev1.Container, at *field.Path) {
		if c.SecurityContext != nil {
			visit(c.SecurityContext, at.Child("securityContext"))
		}
	})
}

// onWindows refuses Linux's means of isolation.
func onWindows(spec *corev1.PodSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	forbid := func(set bool, at *field.Path) {
		if set {
			errs = append(errs, field.Forbidden(at, "cannot be set for a windows pod"))
		}
	}
	forbid(spec.HostPID, path.Child("hostPID"))
	forbid(spec.HostIPC, path.Child("hostIPC"))
	forbid(spec.HostUsers != nil, path.Child("hostUsers"))
	forbid(spec.ShareProcessNamespace != nil, path.Child("shareProcessNamespace"))
	if c := spec.SecurityContext; c != nil {
		at := path.Child("securityContext")
		forbid(c.AppArmorProfile != nil, at.Child("appArmorProfile"))
		forbid(c.SELinuxOptions != nil, at.Child("seLinuxOptions"))
		forbid(c.SeccompProfile != nil, at.Child("seccompProfile"))
		forbid(c.FSGroup != nil, at.Child("fsGroup"))
		forbid(c.FSGroupChangePolicy != nil, at.Child("fsGroupChangePolicy"))
		forbid(len(c.Sysctls) > 0, at.Child("sysctls"))
		forbid(c.RunAsUser != nil, at.Child("runAsUser"))
		forbid(c.RunAsGroup != nil, at.Child("runAsGroup"))
		forbid(c.SupplementalGroups != nil, at.Child("supplementalGroups"))
		forbid(c.SupplementalGroupsPolicy != nil, at.Child("supplementalGroupsPolicy"))
	}
	eachSecurityContext(spec, path, func(c *corev1.SecurityContext, at *field.Path) {
		forbid(c.AppArmorProfile != nil, at.Child("appArmorProfile"))
		forbid(c.SELinuxOptions != nil, at.Child("seLinuxOptions"))
		forbid(c.SeccompProfile != nil, at.Child("seccompProfile"))
		forbid(c.Capabilities != nil, at.Child("capabilities"))
		forbid(c.ReadOnlyRootFilesystem != nil, at.Child("readOnlyRootFilesystem"))
		forbid(c.Privileged != nil, at.Child("privileged"))
		forbid(c.AllowPrivilegeEscalation != nil, at.Child("allowPrivilegeEscalation"))
		forbid(c.ProcMount != nil, at.Child("procMount"))
		forbid(c.RunAsUser != nil, at.Child("runAsUser"))
		forbid(c.RunAsGroup != nil, at.Child("runAsGroup"))
	})
	return errs
}
