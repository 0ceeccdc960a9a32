package podspec

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds/check"
)

// validateSource checks what one volume is made of; it is made of exactly one thing.
func validateSource(name string, s *corev1.VolumeSource, path *field.Path) field.ErrorList {
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
	case s.EmptyDir != nil:
		if l := s.EmptyDir.SizeLimit; l != nil && l.Sign() < 0 {
			errs = append(errs, field.Forbidden(at.Child("sizeLimit"), "SizeLimit field must be a valid resource quantity"))
		}
	case s.HostPath != nil:
		errs = append(errs, ValidateHostPath(s.HostPath, at)...)
	case s.Secret != nil:
		errs = append(errs, check.Required(s.Secret.SecretName, at.Child("secretName"))...)
		errs = append(errs, validateMode(s.Secret.DefaultMode, at.Child("defaultMode"))...)
		errs = append(errs, keyPaths(s.Secret.Items, at.Child("items"))...)
	case s.ConfigMap != nil:
		errs = append(errs, check.Required(s.ConfigMap.Name, at.Child("name"))...)
		errs = append(errs, validateMode(s.ConfigMap.DefaultMode, at.Child("defaultMode"))...)
		errs = append(errs, keyPaths(s.ConfigMap.Items, at.Child("items"))...)
	case s.DownwardAPI != nil:
		errs = append(errs, validateMode(s.DownwardAPI.DefaultMode, at.Child("defaultMode"))...)
		errs = append(errs, downwardFiles(s.DownwardAPI.Items, at.Child("items"))...)
	case s.Projected != nil:
		errs = append(errs, validateMode(s.Projected.DefaultMode, at.Child("defaultMode"))...)
		errs = append(errs, validateProjections(s.Projected.Sources, at.Child("sources"))...)
	case s.PersistentVolumeClaim != nil:
		errs = append(errs, check.Required(s.PersistentVolumeClaim.ClaimName, at.Child("claimName"))...)
	case s.NFS != nil:
		errs = append(errs, check.Required(s.NFS.Server, at.Child("server"))...)
		errs = append(errs, absolute(s.NFS.Path, at.Child("path"))...)
	case s.CSI != nil:
		errs = append(errs, validateInlineCSI(s.CSI, at)...)
	case s.Ephemeral != nil:
		errs = append(errs, validateEphemeralVolume(name, s.Ephemeral, at)...)
	case s.Image != nil:
		errs = append(errs, validateImageVolume(s.Image, at)...)
	default:
		errs = append(errs, validateNetworkSource(s, at)...)
	}
	return errs
}

// ValidateHostPath checks a path on the node, of pods and of persistent volumes.
func ValidateHostPath(h *corev1.HostPathVolumeSource, path *field.Path) field.ErrorList {
	if h.Path == "" {
		return field.ErrorList{field.Required(path.Child("path"), "")}
	}
	errs := check.NoClimb(h.Path, path.Child("path"))
	if h.Type != nil {
		errs = append(errs, check.OneOf(*h.Type, path.Child("type"), corev1.HostPathUnset, corev1.HostPathDirectoryOrCreate, corev1.HostPathDirectory,
			corev1.HostPathFileOrCreate, corev1.HostPathFile, corev1.HostPathSocket, corev1.HostPathCharDev, corev1.HostPathBlockDev)...)
	}
	return errs
}

func validateInlineCSI(c *corev1.CSIVolumeSource, path *field.Path) field.ErrorList {
	errs := CSIDriverName(c.Driver, path.Child("driver"))
	if ref := c.NodePublishSecretRef; ref != nil {
		errs = append(errs, check.RequiredSubdomain(ref.Name, path.Child("nodePublishSecretRef", "name"))...)
	}
	return errs
}

// CSIDriverName checks the name of a CSI driver.
func CSIDriverName(name string, path *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	var errs field.ErrorList
	if len(name) > 63 {
		errs = append(errs, field.TooLong(path, name, 63))
	}
	return append(errs, check.Subdomain(strings.ToLower(name), path)...)
}

func validateEphemeralVolume(name string, e *corev1.EphemeralVolumeSource, path *field.Path) field.ErrorList {
	at := path.Child("volumeClaimTemplate")
	t := e.VolumeClaimTemplate
	if t == nil {
		return field.ErrorList{field.Required(at, "")}
	}
	errs := ValidateClaimSpec(&t.Spec, at.Child("spec"))
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"name", t.Name != ""}, {"generateName", t.GenerateName != ""}, {"namespace", t.Namespace != ""},
		{"uid", t.UID != ""}, {"resourceVersion", t.ResourceVersion != ""}, {"ownerReferences", len(t.OwnerReferences) > 0},
		{"finalizers", len(t.Finalizers) > 0},
	} {
		if f.set {
			errs = append(errs, field.Forbidden(at.Child("metadata", f.name), "may not be set in the claim template of volume "+name))
		}
	}
	return errs
}

func validateImageVolume(i *corev1.ImageVolumeSource, path *field.Path) field.ErrorList {
	errs := check.Required(i.Reference, path.Child("reference"))
	if strings.TrimSpace(i.Reference) != i.Reference {
		errs = append(errs, field.Invalid(path.Child("reference"), i.Reference, "must not have leading or trailing whitespace"))
	}
	return append(errs, check.RequiredOneOf(i.PullPolicy, path.Child("pullPolicy"), corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever)...)
}

// validateNetworkSource checks sources that name a disk or share elsewhere.
func validateNetworkSource(s *corev1.VolumeSource, path *field.Path) field.ErrorList {
	need := func(pairs ...string) field.ErrorList {
		var errs field.ErrorList
		for i := 0; i < len(pairs); i += 2 {
			errs = append(errs, check.Required(pairs[i+1], path.Child(pairs[i]))...)
		}
		return errs
	}
	switch {
	case s.GCEPersistentDisk != nil:
		return append(need("pdName", s.GCEPersistentDisk.PDName), partition(s.GCEPersistentDisk.Partition, path)...)
	case s.AWSElasticBlockStore != nil:
		return append(need("volumeID", s.AWSElasticBlockStore.VolumeID), partition(s.AWSElasticBlockStore.Partition, path)...)
	case s.GitRepo != nil:
		return append(need("repository", s.GitRepo.Repository), check.LocalPath(s.GitRepo.Directory, path.Child("directory"))...)
	case s.ISCSI != nil:
		errs := need("targetPortal", s.ISCSI.TargetPortal, "iqn", s.ISCSI.IQN)
		if s.ISCSI.Lun < 0 || s.ISCSI.Lun > 255 {
			errs = append(errs, field.Invalid(path.Child("lun"), s.ISCSI.Lun, "must be between 0 and 255, inclusive"))
		}
		return errs
	case s.Glusterfs != nil:
		return need("endpoints", s.Glusterfs.EndpointsName, "path", s.Glusterfs.Path)
	case s.RBD != nil:
		errs := need("image", s.RBD.RBDImage)
		if len(s.RBD.CephMonitors) == 0 {
			errs = append(errs, field.Required(path.Child("monitors"), ""))
		}
		return errs
	case s.CephFS != nil:
		if len(s.CephFS.Monitors) == 0 {
			return field.ErrorList{field.Required(path.Child("monitors"), "")}
		}
	case s.FlexVolume != nil:
		return need("driver", s.FlexVolume.Driver)
	case s.Cinder != nil:
		return need("volumeID", s.Cinder.VolumeID)
	case s.AzureFile != nil:
		return need("secretName", s.AzureFile.SecretName, "shareName", s.AzureFile.ShareName)
	case s.AzureDisk != nil:
		return need("diskName", s.AzureDisk.DiskName, "diskURI", s.AzureDisk.DataDiskURI)
	case s.VsphereVolume != nil:
		return need("volumePath", s.VsphereVolume.VolumePath)
	case s.PhotonPersistentDisk != nil:
		return need("pdID", s.PhotonPersistentDisk.PdID)
	case s.PortworxVolume != nil:
		return need("volumeID", s.PortworxVolume.VolumeID)
	case s.Quobyte != nil:
		return need("registry", s.Quobyte.Registry, "volume", s.Quobyte.Volume)
	case s.ScaleIO != nil:
		return need("gateway", s.ScaleIO.Gateway, "system", s.ScaleIO.System, "volumeName", s.ScaleIO.VolumeName)
	case s.FC != nil:
		return validateFC(s.FC, path)
	case s.Flocker != nil:
		if (s.Flocker.DatasetName == "") == (s.Flocker.DatasetUUID == "") {
			return field.ErrorList{field.Required(path, "exactly one of datasetUUID and datasetName is required")}
		}
	}
	return nil
}

func partition(n int32, path *field.Path) field.ErrorList {
	if n < 0 || n > 255 {
		return field.ErrorList{field.Invalid(path.Child("partition"), n, "must be between 0 and 255, inclusive")}
	}
	return nil
}

func validateFC(f *corev1.FCVolumeSource, path *field.Path) field.ErrorList {
	if (len(f.TargetWWNs) == 0) == (len(f.WWIDs) == 0) {
		return field.ErrorList{field.Required(path.Child("targetWWNs"), "exactly one of targetWWNs and wwids is required")}
	}
	if len(f.TargetWWNs) > 0 && f.Lun == nil {
		return field.ErrorList{field.Required(path.Child("lun"), "lun is required if targetWWNs is specified")}
	}
	if f.Lun != nil && (*f.Lun < 0 || *f.Lun > 255) {
		return field.ErrorList{field.Invalid(path.Child("lun"), *f.Lun, "must be between 0 and 255, inclusive")}
	}
	return nil
}
