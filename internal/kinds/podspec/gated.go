package podspec

import (
	corev1 "k8s.io/api/core/v1"
)

// gate names a group of fields that upstream has behind one feature gate.
type gate int

// The gates that 1.37 brings, off by default.
const (
	evictionRequests   gate = iota // EvictionRequestAPI
	emptyDirModes                  // EmptyDirVolumeMode
	fileOwners                     // AtomicWriteVolumeUserFields
	bindMountOptions               // VolumeBindMountOptions
	plaintextHTTP2                 // H2CContainerProbe
	encryptedGRPCProbe             // GRPCContainerProbeTLS
)

// DropGated clears the fields of spec that have no effect here because upstream has them off by default, so that nobody believes
// in them: whoever reads the object back sees that they are not there. A gate of which old, if it is not nil, has a field stays
// open: what is stored is not lost by an update.
func DropGated(spec, old *corev1.PodSpec) {
	found := collectGated(spec)
	if len(found) == 0 {
		return
	}
	open := map[gate]bool{}
	if old != nil {
		for _, f := range collectGated(old) {
			open[f.gate] = true
		}
	}
	for _, f := range found {
		if !open[f.gate] {
			f.clear()
		}
	}
}

// gatedField is a field that is set.
type gatedField struct {
	gate  gate
	clear func()
}

// gatedFields collects the fields that are set.
type gatedFields []gatedField

func collectGated(spec *corev1.PodSpec) gatedFields {
	var g gatedFields
	if len(spec.EvictionResponders) > 0 {
		g = append(g, gatedField{evictionRequests, func() { spec.EvictionResponders = nil }})
	}
	for i := range spec.Volumes {
		g.volume(&spec.Volumes[i].VolumeSource)
	}
	for i := range spec.InitContainers {
		g.container(&spec.InitContainers[i])
	}
	for i := range spec.Containers {
		g.container(&spec.Containers[i])
	}
	for i := range spec.EphemeralContainers {
		g.container((*corev1.Container)(&spec.EphemeralContainers[i].EphemeralContainerCommon))
	}
	return g
}

// pointer notes an optional field, if it is set.
func pointer[T any](g *gatedFields, of gate, field **T) {
	if *field != nil {
		*g = append(*g, gatedField{of, func() { *field = nil }})
	}
}

func (g *gatedFields) volume(s *corev1.VolumeSource) {
	switch {
	case s.EmptyDir != nil:
		pointer(g, emptyDirModes, &s.EmptyDir.Mode)
	case s.Secret != nil:
		pointer(g, fileOwners, &s.Secret.DefaultUser)
		g.keys(s.Secret.Items)
	case s.ConfigMap != nil:
		pointer(g, fileOwners, &s.ConfigMap.DefaultUser)
		g.keys(s.ConfigMap.Items)
	case s.DownwardAPI != nil:
		pointer(g, fileOwners, &s.DownwardAPI.DefaultUser)
		g.downward(s.DownwardAPI.Items)
	case s.Projected != nil:
		pointer(g, fileOwners, &s.Projected.DefaultUser)
		for i := range s.Projected.Sources {
			g.projection(&s.Projected.Sources[i])
		}
	}
}

func (g *gatedFields) projection(p *corev1.VolumeProjection) {
	switch {
	case p.Secret != nil:
		g.keys(p.Secret.Items)
	case p.ConfigMap != nil:
		g.keys(p.ConfigMap.Items)
	case p.DownwardAPI != nil:
		g.downward(p.DownwardAPI.Items)
	case p.ServiceAccountToken != nil:
		pointer(g, fileOwners, &p.ServiceAccountToken.User)
	case p.ClusterTrustBundle != nil:
		pointer(g, fileOwners, &p.ClusterTrustBundle.User)
	case p.PodCertificate != nil:
		pointer(g, fileOwners, &p.PodCertificate.User)
	}
}

func (g *gatedFields) keys(items []corev1.KeyToPath) {
	for i := range items {
		pointer(g, fileOwners, &items[i].User)
	}
}

func (g *gatedFields) downward(items []corev1.DownwardAPIVolumeFile) {
	for i := range items {
		pointer(g, fileOwners, &items[i].User)
	}
}

func (g *gatedFields) container(c *corev1.Container) {
	for i := range c.VolumeMounts {
		if m := &c.VolumeMounts[i]; len(m.BindMountOptions) > 0 {
			*g = append(*g, gatedField{bindMountOptions, func() { m.BindMountOptions = nil }})
		}
	}
	for _, p := range []*corev1.Probe{c.LivenessProbe, c.ReadinessProbe, c.StartupProbe} {
		if p == nil {
			continue
		}
		g.get(p.HTTPGet)
		if p.GRPC != nil {
			pointer(g, encryptedGRPCProbe, &p.GRPC.Mode)
		}
	}
	if l := c.Lifecycle; l != nil {
		for _, h := range []*corev1.LifecycleHandler{l.PostStart, l.PreStop} {
			if h != nil {
				g.get(h.HTTPGet)
			}
		}
	}
}

func (g *gatedFields) get(h *corev1.HTTPGetAction) {
	if h != nil {
		pointer(g, plaintextHTTP2, &h.Protocol)
	}
}
