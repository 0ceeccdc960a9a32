package podspec

import (
	"path"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"canopus/internal/kinds/check"
)

// DefaultVolumeSpec fills in what the spec of a persistent volume leaves out.
func DefaultVolumeSpec(spec *corev1.PersistentVolumeSpec) {
	setIfZero(&spec.PersistentVolumeReclaimPolicy, corev1.PersistentVolumeReclaimRetain)
	setIfNil(&spec.VolumeMode, corev1.PersistentVolumeFilesystem)
	roundUp(spec.Capacity)
	DefaultPersistentSource(&spec.PersistentVolumeSource)
}

// DefaultPersistentSource fills in what a persistent volume is made of.
func DefaultPersistentSource(s *corev1.PersistentVolumeSource) {
	switch {
	case s.HostPath != nil:
		setIfNil(&s.HostPath.Type, corev1.HostPathUnset)
	case s.ISCSI != nil:
		setIfZero(&s.ISCSI.ISCSIInterface, "default")
	case s.RBD != nil:
		setIfZero(&s.RBD.RBDPool, "rbd")
		setIfZero(&s.RBD.RadosUser, "admin")
		setIfZero(&s.RBD.Keyring, "/etc/ceph/keyring")
	case s.ScaleIO != nil:
		setIfZero(&s.ScaleIO.StorageMode, "ThinProvisioned")
		setIfZero(&s.ScaleIO.FSType, "xfs")
	case s.AzureDisk != nil:
		defaultLegacyVolume(&corev1.Volume{VolumeSource: corev1.VolumeSource{AzureDisk: s.AzureDisk}})
	}
}

// RoundQuantities keeps the quantities of a list to a precision of a thousandth, as everywhere in the core group.
func RoundQuantities(list corev1.ResourceList) { roundUp(list) }

// ValidateVolumeSpec checks the spec of a persistent volume.
func ValidateVolumeSpec(spec *corev1.PersistentVolumeSpec, at *field.Path) field.ErrorList {
	errs := validateVolumeModes(spec, at)
	errs = append(errs, validateCapacity(spec.Capacity, at.Child("capacity"))...)
	policy := at.Child("persistentVolumeReclaimPolicy")
	if p := spec.PersistentVolumeReclaimPolicy; p != "" {
		errs = append(errs, check.OneOf(p, policy, corev1.PersistentVolumeReclaimDelete,
			corev1.PersistentVolumeReclaimRecycle, corev1.PersistentVolumeReclaimRetain)...)
	}
	errs = append(errs, validateVolumeAffinity(spec.NodeAffinity, at.Child("nodeAffinity"))...)
	errs = append(errs, ValidatePersistentSource(spec, at)...)
	// Recycling would empty the node's whole file system.
	if h := spec.HostPath; h != nil && path.Clean(h.Path) == "/" && spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimRecycle {
		errs = append(errs, field.Forbidden(policy, "may not be 'recycle' for a hostPath mount of '/'"))
	}
	if spec.StorageClassName != "" {
		errs = append(errs, check.Subdomain(spec.StorageClassName, at.Child("storageClassName"))...)
	}
	if m := spec.VolumeMode; m != nil {
		errs = append(errs, check.OneOf(*m, at.Child("volumeMode"), corev1.PersistentVolumeBlock, corev1.PersistentVolumeFilesystem)...)
	}
	return append(errs, validateAttributes(spec, at)...)
}

// ValidateInlineVolumeSpec checks a volume that a VolumeAttachment carries itself: one of CSI that no claim binds.
func ValidateInlineVolumeSpec(spec *corev1.PersistentVolumeSpec, at *field.Path) field.ErrorList {
	const context = "may not be specified in the context of inline volumes"
	var errs field.ErrorList
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"claimRef", spec.ClaimRef != nil}, {"capacity", len(spec.Capacity) > 0}, {"storageClassName", spec.StorageClassName != ""},
	} {
		if f.set {
			errs = append(errs, field.Forbidden(at.Child(f.name), context))
		}
	}
	if spec.CSI == nil {
		errs = append(errs, field.Required(at.Child("csi"), "has to be specified in the context of inline volumes"))
	}
	if p := spec.PersistentVolumeReclaimPolicy; p != "" && p != corev1.PersistentVolumeReclaimRetain {
		errs = append(errs, field.Forbidden(at.Child("persistentVolumeReclaimPolicy"), "may only be Retain in the context of inline volumes"))
	}
	if ptr.Deref(spec.VolumeMode, corev1.PersistentVolumeFilesystem) != corev1.PersistentVolumeFilesystem {
		errs = append(errs, field.Forbidden(at.Child("volumeMode"), "may not specify volumeMode other than Filesystem in the context of inline volumes"))
	}
	errs = append(errs, validateVolumeModes(spec, at)...)
	errs = append(errs, validateVolumeAffinity(spec.NodeAffinity, at.Child("nodeAffinity"))...)
	errs = append(errs, ValidatePersistentSource(spec, at)...)
	return append(errs, validateAttributes(spec, at)...)
}

func validateVolumeModes(spec *corev1.PersistentVolumeSpec, at *field.Path) field.ErrorList {
	modes := at.Child("accessModes")
	if len(spec.AccessModes) == 0 {
		return field.ErrorList{field.Required(modes, "")}
	}
	return accessModes(spec.AccessModes, modes)
}

// accessModes: each is known; ReadWriteOncePod stands alone.
func accessModes(modes []corev1.PersistentVolumeAccessMode, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	alone := false
	for _, mode := range modes {
		errs = append(errs, check.OneOf(mode, at, corev1.ReadOnlyMany, corev1.ReadWriteMany, corev1.ReadWriteOnce, corev1.ReadWriteOncePod)...)
		alone = alone || mode == corev1.ReadWriteOncePod
	}
	if alone && len(modes) > 1 {
		errs = append(errs, field.Forbidden(at, "may not use ReadWriteOncePod with other access modes"))
	}
	return errs
}

// validateCapacity: a volume has a size, and nothing else to count.
func validateCapacity(capacity corev1.ResourceList, at *field.Path) field.ErrorList {
	if len(capacity) == 0 {
		return field.ErrorList{field.Required(at, "")}
	}
	var errs field.ErrorList
	if _, ok := capacity[corev1.ResourceStorage]; !ok || len(capacity) > 1 {
		errs = append(errs, field.NotSupported(at, capacity, []corev1.ResourceName{corev1.ResourceStorage}))
	}
	for _, name := range sortedNames(capacity) {
		q := capacity[name]
		if q.Sign() <= 0 {
			errs = append(errs, field.Invalid(at.Key(string(name)), q.String(), "must be greater than zero"))
		}
	}
	return errs
}

func validateVolumeAffinity(a *corev1.VolumeNodeAffinity, at *field.Path) field.ErrorList {
	switch {
	case a == nil:
		return nil
	case a.Required == nil:
		return field.ErrorList{field.Required(at.Child("required"), "must specify required node constraints")}
	default:
		return ValidateNodeSelector(a.Required, at.Child("required"))
	}
}

func validateAttributes(spec *corev1.PersistentVolumeSpec, at *field.Path) field.ErrorList {
	c, class := spec.VolumeAttributesClassName, at.Child("volumeAttributesClassName")
	if c == nil {
		return nil
	}
	var errs field.ErrorList
	if *c == "" {
		errs = append(errs, field.Required(class, "an empty string is disallowed"))
	} else {
		errs = append(errs, check.Subdomain(*c, class)...)
	}
	if spec.CSI == nil {
		errs = append(errs, field.Required(at.Child("csi"), "has to be specified when using volumeAttributesClassName"))
	}
	return errs
}
