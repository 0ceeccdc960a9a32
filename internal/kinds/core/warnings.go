package core

import (
	"crypto/tls"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds/check"
	"canopus/internal/kinds/podspec"
)

// Annotations that have become fields or other annotations.
const (
	oldTopologyHints = "service.kubernetes.io/topology-aware-hints"
	oldMountOptions  = "volume.beta.kubernetes.io/mount-options"
)

// serviceWarnings are about what a Service says in vain, and about addresses that are not in the usual form.
func serviceWarnings(s, _ *corev1.Service) []string {
	spec, path := &s.Spec, field.NewPath("spec")
	var out []string
	if _, ok := s.Annotations[oldTopologyHints]; ok {
		out = append(out, fmt.Sprintf("annotation %s is deprecated, please use %s instead", oldTopologyHints, corev1.AnnotationTopologyMode))
	}
	for i, ip := range spec.ClusterIPs { // "None" is no address and not warned about
		out = append(out, check.IPWarnings(ip, path.Child("clusterIPs").Index(i))...)
	}
	for i, ip := range spec.ExternalIPs {
		out = append(out, check.IPWarnings(ip, path.Child("externalIPs").Index(i))...)
	}
	out = append(out, check.IPWarnings(spec.LoadBalancerIP, path.Child("loadBalancerIP"))...)
	for i, cidr := range spec.LoadBalancerSourceRanges {
		out = append(out, check.CIDRWarnings(cidr, path.Child("loadBalancerSourceRanges").Index(i))...)
	}
	headless, elsewhere := spec.ClusterIP == corev1.ClusterIPNone, spec.Type == corev1.ServiceTypeExternalName
	for _, w := range []struct {
		inVain bool
		text   string
	}{
		{headless && spec.LoadBalancerIP != "", "spec.loadBalancerIP is ignored for headless services"},
		{headless && len(spec.ExternalIPs) > 0, "spec.externalIPs is ignored for headless services"},
		{headless && spec.SessionAffinity != corev1.ServiceAffinityNone, "spec.SessionAffinity is ignored for headless services"},
		{elsewhere && len(spec.ExternalIPs) > 0, `spec.externalIPs is ignored when spec.type is "ExternalName"`},
		{!elsewhere && spec.ExternalName != "", `spec.externalName is ignored when spec.type is not "ExternalName"`},
	} {
		if w.inVain {
			out = append(out, w.text)
		}
	}
	return out
}

// nodeWarnings are about what a node says of itself in vain, and about forms of addresses.
func nodeWarnings(n, _ *corev1.Node) []string {
	var out []string
	if n.Spec.DoNotUseExternalID != "" {
		out = append(out, "spec.externalID: this field is deprecated, and is unused by Kubernetes")
	}
	for i, cidr := range n.Spec.PodCIDRs {
		out = append(out, check.CIDRWarnings(cidr, field.NewPath("spec", "podCIDRs").Index(i))...)
	}
	for i, a := range n.Status.Addresses {
		if a.Type == corev1.NodeInternalIP || a.Type == corev1.NodeExternalIP {
			out = append(out, check.IPWarnings(a.Address, field.NewPath("status", "addresses").Index(i).Child("address"))...)
		}
	}
	return out
}

// secretWarnings are about a certificate that its key does not fit.
func secretWarnings(s, _ *corev1.Secret) []string {
	if s.Type != corev1.SecretTypeTLS {
		return nil
	}
	if _, err := tls.X509KeyPair(s.Data[corev1.TLSCertKey], s.Data[corev1.TLSPrivateKeyKey]); err != nil {
		return []string{err.Error()}
	}
	return nil
}

// volumeWarnings are about what volumes are made of that no node mounts any more, and how they once were described.
func volumeWarnings(pv, _ *corev1.PersistentVolume) []string {
	out := annotationWarnings(pv.Annotations, corev1.BetaStorageClassAnnotation, `deprecated since v1.8; use "storageClassName" attribute instead`)
	out = append(out, annotationWarnings(pv.Annotations, oldMountOptions, `deprecated since v1.31; use "mountOptions" attribute instead`)...)
	spec := &pv.Spec
	if spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimRecycle {
		out = append(out, "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.")
	}
	if a := spec.NodeAffinity; a != nil && a.Required != nil {
		out = append(out, podspec.NodeSelectorWarnings(a.Required, field.NewPath("spec", "nodeAffinity", "required"))...)
	}
	for _, old := range []struct {
		used bool
		text string
	}{
		{spec.PhotonPersistentDisk != nil, "spec.photonPersistentDisk: deprecated in v1.11, non-functional in v1.16+"},
		{spec.ScaleIO != nil, "spec.scaleIO: deprecated in v1.16, non-functional in v1.22+"},
		{spec.Flocker != nil, "spec.flocker: deprecated in v1.22, non-functional in v1.25+"},
		{spec.StorageOS != nil, "spec.storageOS: deprecated in v1.22, non-functional in v1.25+"},
		{spec.Quobyte != nil, "spec.quobyte: deprecated in v1.22, non-functional in v1.25+"},
		{spec.Glusterfs != nil, "spec.glusterfs: deprecated in v1.25, non-functional in v1.26+"},
		{spec.CephFS != nil, "spec.cephfs: deprecated in v1.28, non-functional in v1.31+"},
		{spec.RBD != nil, "spec.rbd: deprecated in v1.28, non-functional in v1.31+"},
	} {
		if old.used {
			out = append(out, old.text)
		}
	}
	return out
}

// claimWarnings are about the annotation that named the class once, and about sizes.
func claimWarnings(c, _ *corev1.PersistentVolumeClaim) []string {
	out := annotationWarnings(c.Annotations, corev1.BetaStorageClassAnnotation, `deprecated since v1.8; use "storageClassName" attribute instead`)
	return append(out, podspec.ClaimWarnings(&c.Spec, field.NewPath("spec"))...)
}

func annotationWarnings(annotations map[string]string, key, text string) []string {
	if _, ok := annotations[key]; !ok {
		return nil
	}
	return []string{fmt.Sprintf("%s: %s", field.NewPath("metadata", "annotations").Key(key), text)}
}
