package podspec

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// fileMode is the mode of files that are projected from the API.
const fileMode int32 = 0o644

// tokenSeconds is how long a projected service account token lives.
const tokenSeconds int64 = 60 * 60

// defaultVolume fills in one volume; a volume that says nothing is an emptyDir.
func defaultVolume(v *corev1.Volume) {
	if v.VolumeSource == (corev1.VolumeSource{}) {
		v.EmptyDir = &corev1.EmptyDirVolumeSource{}
	}
	switch {
	case v.Secret != nil:
		setMode(&v.Secret.DefaultMode)
	case v.ConfigMap != nil:
		setMode(&v.ConfigMap.DefaultMode)
	case v.DownwardAPI != nil:
		setMode(&v.DownwardAPI.DefaultMode)
		defaultDownward(v.DownwardAPI.Items)
	case v.Projected != nil:
		setMode(&v.Projected.DefaultMode)
		for i := range v.Projected.Sources {
			defaultProjection(&v.Projected.Sources[i])
		}
	case v.HostPath != nil:
		if v.HostPath.Type == nil {
			v.HostPath.Type = ptr.To(corev1.HostPathUnset)
		}
	case v.Image != nil:
		if v.Image.PullPolicy == "" {
			v.Image.PullPolicy = pullPolicy(v.Image.Reference)
		}
	case v.Ephemeral != nil:
		if t := v.Ephemeral.VolumeClaimTemplate; t != nil && t.Spec.VolumeMode == nil {
			t.Spec.VolumeMode = ptr.To(corev1.PersistentVolumeFilesystem)
		}
	default:
		defaultLegacyVolume(v)
	}
}

// defaultLegacyVolume fills in sources that run through CSI drivers today.
func defaultLegacyVolume(v *corev1.Volume) {
	switch {
	case v.ISCSI != nil:
		setIfZero(&v.ISCSI.ISCSIInterface, "default")
	case v.RBD != nil:
		setIfZero(&v.RBD.RBDPool, "rbd")
		setIfZero(&v.RBD.RadosUser, "admin")
		setIfZero(&v.RBD.Keyring, "/etc/ceph/keyring")
	case v.ScaleIO != nil:
		setIfZero(&v.ScaleIO.StorageMode, "ThinProvisioned")
		setIfZero(&v.ScaleIO.FSType, "xfs")
	case v.AzureDisk != nil:
		d := v.AzureDisk
		setIfNil(&d.CachingMode, corev1.AzureDataDiskCachingReadWrite)
		setIfNil(&d.Kind, corev1.AzureSharedBlobDisk)
		setIfNil(&d.FSType, "ext4")
		setIfNil(&d.ReadOnly, false)
	}
}

func defaultProjection(p *corev1.VolumeProjection) {
	if p.ServiceAccountToken != nil {
		setIfNil(&p.ServiceAccountToken.ExpirationSeconds, tokenSeconds)
	}
	if p.DownwardAPI != nil {
		defaultDownward(p.DownwardAPI.Items)
	}
	if p.PodCertificate != nil {
		setIfNil(&p.PodCertificate.MaxExpirationSeconds, 24*60*60)
	}
}

func defaultDownward(items []corev1.DownwardAPIVolumeFile) {
	for i := range items {
		if ref := items[i].FieldRef; ref != nil && ref.APIVersion == "" {
			ref.APIVersion = "v1"
		}
	}
}

func setMode(mode **int32) { setIfNil(mode, fileMode) }

func setIfNil[T any](field **T, value T) {
	if *field == nil {
		*field = &value
	}
}
