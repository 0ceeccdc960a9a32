package objects

import corev1 "k8s.io/api/core/v1"

// Refs returns every ConfigMap and Secret that a pod's spec refers to.
func Refs(pod *corev1.Pod) []Key {
	r := refs{ns: pod.Namespace, seen: map[Key]bool{}}
	for _, s := range pod.Spec.ImagePullSecrets {
		r.secret(s.Name)
	}
	for i := range pod.Spec.InitContainers {
		r.container(pod.Spec.InitContainers[i].EnvFrom, pod.Spec.InitContainers[i].Env)
	}
	for i := range pod.Spec.Containers {
		r.container(pod.Spec.Containers[i].EnvFrom, pod.Spec.Containers[i].Env)
	}
	for i := range pod.Spec.EphemeralContainers {
		r.container(pod.Spec.EphemeralContainers[i].EnvFrom, pod.Spec.EphemeralContainers[i].Env)
	}
	for i := range pod.Spec.Volumes {
		r.volume(&pod.Spec.Volumes[i])
	}
	return r.keys
}

type refs struct {
	ns   string
	seen map[Key]bool
	keys []Key
}

func (r *refs) add(k Key) {
	if k.Name != "" && !r.seen[k] {
		r.seen[k] = true
		r.keys = append(r.keys, k)
	}
}

func (r *refs) secret(name string)    { r.add(Key{Secret: true, Namespace: r.ns, Name: name}) }
func (r *refs) configMap(name string) { r.add(Key{Namespace: r.ns, Name: name}) }

func (r *refs) container(from []corev1.EnvFromSource, vars []corev1.EnvVar) {
	for _, f := range from {
		if f.ConfigMapRef != nil {
			r.configMap(f.ConfigMapRef.Name)
		}
		if f.SecretRef != nil {
			r.secret(f.SecretRef.Name)
		}
	}
	for _, v := range vars {
		if v.ValueFrom == nil {
			continue
		}
		if v.ValueFrom.ConfigMapKeyRef != nil {
			r.configMap(v.ValueFrom.ConfigMapKeyRef.Name)
		}
		if v.ValueFrom.SecretKeyRef != nil {
			r.secret(v.ValueFrom.SecretKeyRef.Name)
		}
	}
}

func (r *refs) volume(v *corev1.Volume) {
	if v.ConfigMap != nil {
		r.configMap(v.ConfigMap.Name)
	}
	if v.Secret != nil {
		r.secret(v.Secret.SecretName)
	}
	if v.Projected == nil {
		return
	}
	for _, s := range v.Projected.Sources {
		if s.ConfigMap != nil {
			r.configMap(s.ConfigMap.Name)
		}
		if s.Secret != nil {
			r.secret(s.Secret.Name)
		}
	}
}
