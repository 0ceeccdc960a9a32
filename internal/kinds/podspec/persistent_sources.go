package podspec

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds/check"
)

// ValidatePersistentSource checks what a persistent volume is made of; it is made of exactly one thing.
func ValidatePersistentSource(spec *corev1.PersistentVolumeSpec, path *field.Path) field.ErrorList {
	s := &spec.PersistentVolumeSource
	set := setMembers(s)
	if len(set) == 0 {
		return field.ErrorList{field.Required(path, "must specify a volume type")}
	}
	var errs field.ErrorList
	for _, extra := range set[1:] {
		errs = append(errs, field.Forbidden(path.Child(extra), "may not specify more than 1 volume type"))
	}
	at := path.Child(set[0])
	switch {
	case s.HostPath != nil:
		return append(errs, ValidateHostPath(s.HostPath, at)...)
	case s.CSI != nil:
		return append(errs, validatePersistentCSI(s.CSI, at)...)
	case s.Local != nil:
		errs = append(errs, check.Required(s.Local.Path, at.Child("path"))...)
		errs = append(errs, check.NoClimb(s.Local.Path, at.Child("path"))...)
		if spec.NodeAffinity == nil { // it is there on one node only
			errs = append(errs, field.Required(path.Child("nodeAffinity"), "Local volume requires node affinity"))
		}
		return errs
	case s.StorageOS != nil:
		return append(errs, validateStorageOS(s.StorageOS, at)...)
	}
	// The rest is made as in a pod; what differs is where its credentials lie.
	errs = append(errs, validateSource("", inPod(s), path)...)
	return append(errs, validateCredentials(s, at)...)
}

// inPod returns what s says in the terms of a pod's volumes.
func inPod(s *corev1.PersistentVolumeSource) *corev1.VolumeSource {
	v := &corev1.VolumeSource{
		GCEPersistentDisk: s.GCEPersistentDisk, AWSElasticBlockStore: s.AWSElasticBlockStore, NFS: s.NFS, FC: s.FC, Flocker: s.Flocker,
		VsphereVolume: s.VsphereVolume, Quobyte: s.Quobyte, AzureDisk: s.AzureDisk, PhotonPersistentDisk: s.PhotonPersistentDisk,
		PortworxVolume: s.PortworxVolume,
	}
	switch {
	case s.Glusterfs != nil:
		v.Glusterfs = &corev1.GlusterfsVolumeSource{EndpointsName: s.Glusterfs.EndpointsName, Path: s.Glusterfs.Path}
	case s.RBD != nil:
		v.RBD = &corev1.RBDVolumeSource{CephMonitors: s.RBD.CephMonitors, RBDImage: s.RBD.RBDImage}
	case s.ISCSI != nil:
		v.ISCSI = &corev1.ISCSIVolumeSource{TargetPortal: s.ISCSI.TargetPortal, IQN: s.ISCSI.IQN, Lun: s.ISCSI.Lun}
	case s.Cinder != nil:
		v.Cinder = &corev1.CinderVolumeSource{VolumeID: s.Cinder.VolumeID}
	case s.CephFS != nil:
		v.CephFS = &corev1.CephFSVolumeSource{Monitors: s.CephFS.Monitors}
	case s.FlexVolume != nil:
		v.FlexVolume = &corev1.FlexVolumeSource{Driver: s.FlexVolume.Driver}
	case s.AzureFile != nil:
		v.AzureFile = &corev1.AzureFileVolumeSource{SecretName: s.AzureFile.SecretName, ShareName: s.AzureFile.ShareName}
	case s.ScaleIO != nil:
		v.ScaleIO = &corev1.ScaleIOVolumeSource{Gateway: s.ScaleIO.Gateway, System: s.ScaleIO.System, VolumeName: s.ScaleIO.VolumeName}
	}
	return v
}

// validateCredentials: a persistent volume has no namespace, so what it refers to names one.
func validateCredentials(s *corev1.PersistentVolumeSource, at *field.Path) field.ErrorList {
	switch {
	case s.Glusterfs != nil && s.Glusterfs.EndpointsNamespace != nil:
		ns := *s.Glusterfs.EndpointsNamespace
		if ns == "" {
			return field.ErrorList{field.Invalid(at.Child("endpointsNamespace"), ns, "if the endpointnamespace is set, it must be a valid namespace name")}
		}
		return check.Label(ns, at.Child("endpointsNamespace"))
	case s.AzureFile != nil && s.AzureFile.SecretNamespace != nil && *s.AzureFile.SecretNamespace == "":
		return field.ErrorList{field.Required(at.Child("secretNamespace"), "")}
	case s.Cinder != nil:
		return secretRef(s.Cinder.SecretRef, at.Child("secretRef"))
	case s.FlexVolume != nil:
		return secretRef(s.FlexVolume.SecretRef, at.Child("secretRef"))
	case s.ISCSI != nil && s.ISCSI.SecretRef == nil && (s.ISCSI.DiscoveryCHAPAuth || s.ISCSI.SessionCHAPAuth):
		return field.ErrorList{field.Required(at.Child("secretRef"), "")}
	case s.ISCSI != nil && s.ISCSI.SecretRef != nil:
		return check.Required(s.ISCSI.SecretRef.Name, at.Child("secretRef", "name"))
	}
	return nil
}

func secretRef(ref *corev1.SecretReference, at *field.Path) field.ErrorList {
	if ref == nil {
		return nil
	}
	return append(check.Required(ref.Name, at.Child("name")), check.Required(ref.Namespace, at.Child("namespace"))...)
}

func validatePersistentCSI(c *corev1.CSIPersistentVolumeSource, at *field.Path) field.ErrorList {
	errs := CSIDriverName(c.Driver, at.Child("driver"))
	errs = append(errs, check.Required(c.VolumeHandle, at.Child("volumeHandle"))...)
	for _, s := range []struct {
		name string
		ref  *corev1.SecretReference
	}{
		{"controllerPublishSecretRef", c.ControllerPublishSecretRef},
		{"controllerExpandSecretRef", c.ControllerExpandSecretRef},
		{"nodePublishSecretRef", c.NodePublishSecretRef},
		{"nodeStageSecretRef", c.NodeStageSecretRef},
		{"nodeExpandSecretRef", c.NodeExpandSecretRef},
	} {
		errs = append(errs, secretRef(s.ref, at.Child(s.name))...)
	}
	return errs
}

func validateStorageOS(s *corev1.StorageOSPersistentVolumeSource, at *field.Path) field.ErrorList {
	errs := check.RequiredLabel(s.VolumeName, at.Child("volumeName"))
	if s.VolumeNamespace != "" {
		errs = append(errs, check.Label(s.VolumeNamespace, at.Child("volumeNamespace"))...)
	}
	if r := s.SecretRef; r != nil {
		errs = append(errs, check.Required(r.Name, at.Child("secretRef", "name"))...)
		errs = append(errs, check.Required(r.Namespace, at.Child("secretRef", "namespace"))...)
	}
	return errs
}
