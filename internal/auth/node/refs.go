package node

import (
	corev1 "k8s.io/api/core/v1"
)

// podRefs returns what p's node needs for p: p itself and every object it names. A mirror pod names nothing: its node made it, and
// could otherwise give itself any secret.
func podRefs(p *corev1.Pod) []ref {
	refs := []ref{{"pods", p.Namespace, p.Name}}
	if _, mirror := p.Annotations[corev1.MirrorPodAnnotationKey]; mirror {
		return refs
	}
	add := func(resource, name string) {
		if name != "" {
			refs = append(refs, ref{resource, p.Namespace, name})
		}
	}
	add("serviceaccounts", p.Spec.ServiceAccountName)
	for _, s := range p.Spec.ImagePullSecrets {
		add("secrets", s.Name)
	}
	for i := range p.Spec.InitContainers {
		containerRefs(p.Spec.InitContainers[i].EnvFrom, p.Spec.InitContainers[i].Env, add)
	}
	for i := range p.Spec.Containers {
		containerRefs(p.Spec.Containers[i].EnvFrom, p.Spec.Containers[i].Env, add)
	}
	for i := range p.Spec.EphemeralContainers {
		containerRefs(p.Spec.EphemeralContainers[i].EnvFrom, p.Spec.EphemeralContainers[i].Env, add)
	}
	for i := range p.Spec.Volumes {
		sourceRefs(p, &p.Spec.Volumes[i], add)
	}
	for _, c := range p.Spec.ResourceClaims {
		if c.ResourceClaimName != nil {
			add("resourceclaims", *c.ResourceClaimName)
		}
	}
	for _, c := range p.Status.ResourceClaimStatuses {
		if c.ResourceClaimName != nil {
			add("resourceclaims", *c.ResourceClaimName)
		}
	}
	add("resourceclaims", extendedClaim(p))
	return distinct(refs)
}

func containerRefs(from []corev1.EnvFromSource, env []corev1.EnvVar, add func(resource, name string)) {
	for _, f := range from {
		if f.ConfigMapRef != nil {
			add("configmaps", f.ConfigMapRef.Name)
		}
		if f.SecretRef != nil {
			add("secrets", f.SecretRef.Name)
		}
	}
	for _, e := range env {
		if e.ValueFrom == nil {
			continue
		}
		if k := e.ValueFrom.ConfigMapKeyRef; k != nil {
			add("configmaps", k.Name)
		}
		if k := e.ValueFrom.SecretKeyRef; k != nil {
			add("secrets", k.Name)
		}
	}
}

func sourceRefs(p *corev1.Pod, v *corev1.Volume, add func(resource, name string)) {
	secret := func(r *corev1.LocalObjectReference) {
		if r != nil {
			add("secrets", r.Name)
		}
	}
	switch {
	case v.Secret != nil:
		add("secrets", v.Secret.SecretName)
	case v.ConfigMap != nil:
		add("configmaps", v.ConfigMap.Name)
	case v.PersistentVolumeClaim != nil:
		add("persistentvolumeclaims", v.PersistentVolumeClaim.ClaimName)
	case v.Ephemeral != nil:
		add("persistentvolumeclaims", p.Name+"-"+v.Name)
	case v.Projected != nil:
		for _, s := range v.Projected.Sources {
			if s.Secret != nil {
				add("secrets", s.Secret.Name)
			}
			if s.ConfigMap != nil {
				add("configmaps", s.ConfigMap.Name)
			}
		}
	case v.CSI != nil:
		secret(v.CSI.NodePublishSecretRef)
	case v.AzureFile != nil:
		add("secrets", v.AzureFile.SecretName)
	case v.CephFS != nil:
		secret(v.CephFS.SecretRef)
	case v.Cinder != nil:
		secret(v.Cinder.SecretRef)
	case v.FlexVolume != nil:
		secret(v.FlexVolume.SecretRef)
	case v.ISCSI != nil:
		secret(v.ISCSI.SecretRef)
	case v.RBD != nil:
		secret(v.RBD.SecretRef)
	case v.ScaleIO != nil:
		secret(v.ScaleIO.SecretRef)
	case v.StorageOS != nil:
		secret(v.StorageOS.SecretRef)
	}
}

// volumeRefs returns the secrets that a node needs to mount pv. Secrets of a volume default to its claim's namespace.
func volumeRefs(pv *corev1.PersistentVolume) []ref {
	var refs []ref
	add := func(namespace, name string) {
		if namespace == "" && pv.Spec.ClaimRef != nil {
			namespace = pv.Spec.ClaimRef.Namespace
		}
		if name != "" {
			refs = append(refs, ref{"secrets", namespace, name})
		}
	}
	secret := func(s *corev1.SecretReference) {
		if s != nil {
			add(s.Namespace, s.Name)
		}
	}
	switch s := &pv.Spec.PersistentVolumeSource; {
	case s.CSI != nil:
		secret(s.CSI.NodePublishSecretRef)
		secret(s.CSI.NodeStageSecretRef)
		secret(s.CSI.NodeExpandSecretRef)
	case s.AzureFile != nil:
		namespace := ""
		if s.AzureFile.SecretNamespace != nil {
			namespace = *s.AzureFile.SecretNamespace
		}
		add(namespace, s.AzureFile.SecretName)
	case s.CephFS != nil:
		secret(s.CephFS.SecretRef)
	case s.Cinder != nil:
		secret(s.Cinder.SecretRef)
	case s.FlexVolume != nil:
		secret(s.FlexVolume.SecretRef)
	case s.ISCSI != nil:
		secret(s.ISCSI.SecretRef)
	case s.RBD != nil:
		secret(s.RBD.SecretRef)
	case s.ScaleIO != nil:
		secret(s.ScaleIO.SecretRef)
	case s.StorageOS != nil && s.StorageOS.SecretRef != nil:
		add(s.StorageOS.SecretRef.Namespace, s.StorageOS.SecretRef.Name)
	}
	return refs
}

// References says which sort of API object, if any, p names besides itself and its service account: "secrets" for instance.
func References(p *corev1.Pod) string {
	c := *p
	c.Annotations, c.Spec.ServiceAccountName = nil, ""
	for _, r := range podRefs(&c) {
		if r.resource != "pods" {
			return r.resource
		}
	}
	return ""
}
