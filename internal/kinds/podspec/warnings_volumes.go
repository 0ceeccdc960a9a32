package podspec

import (
	"fmt"
	"path"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// volumes: sources that no node mounts any more.
func (w *warner) volumes() {
	for i := range w.spec.Volumes {
		v, at := &w.spec.Volumes[i], w.at.Child("volumes").Index(i)
		for _, old := range []struct {
			used       bool
			name, text string
		}{
			{v.PhotonPersistentDisk != nil, "photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"},
			{v.GitRepo != nil, "gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"},
			{v.ScaleIO != nil, "scaleIO", "deprecated in v1.16, non-functional in v1.22+"},
			{v.Flocker != nil, "flocker", "deprecated in v1.22, non-functional in v1.25+"},
			{v.StorageOS != nil, "storageOS", "deprecated in v1.22, non-functional in v1.25+"},
			{v.Quobyte != nil, "quobyte", "deprecated in v1.22, non-functional in v1.25+"},
			{v.Glusterfs != nil, "glusterfs", "deprecated in v1.25, non-functional in v1.26+"},
			{v.CephFS != nil, "cephfs", "deprecated in v1.28, non-functional in v1.31+"},
			{v.RBD != nil, "rbd", "deprecated in v1.28, non-functional in v1.31+"},
		} {
			if old.used {
				w.say(at.Child(old.name), "%s", old.text)
			}
		}
		if v.Ephemeral != nil && v.Ephemeral.VolumeClaimTemplate != nil {
			w.out = append(w.out, ClaimWarnings(&v.Ephemeral.VolumeClaimTemplate.Spec, at.Child("ephemeral", "volumeClaimTemplate", "spec"))...)
		}
	}
}

// ClaimWarnings are about the spec of a persistent volume claim.
func ClaimWarnings(spec *corev1.PersistentVolumeClaimSpec, path *field.Path) []string {
	w := warner{}
	if q, ok := spec.Resources.Requests[corev1.ResourceStorage]; ok && q.MilliValue()%1000 != 0 {
		w.say(path.Child("resources", "requests").Key(string(corev1.ResourceStorage)), fraction, q.String())
	}
	return w.out
}

// projectedFile is a file that a volume writes, and from what.
type projectedFile struct{ path, source string }

// overlaps: files of a volume that another takes for a directory. One of the two is lost.
func (w *warner) overlaps() {
	for i := range w.spec.Volumes {
		v := &w.spec.Volumes[i]
		if v.Projected != nil {
			w.overlapsOfProjected(v.Name, v.Projected)
			continue
		}
		kind, files := "", []string(nil)
		switch {
		case v.ConfigMap != nil:
			kind, files = fmt.Sprintf("ConfigMap %q", v.ConfigMap.Name), pathsOf(v.ConfigMap.Items)
		case v.Secret != nil:
			kind, files = fmt.Sprintf("Secret %q", v.Secret.SecretName), pathsOf(v.Secret.Items)
		case v.DownwardAPI != nil:
			kind = "DownwardAPI"
			for _, item := range v.DownwardAPI.Items {
				files = append(files, item.Path)
			}
		}
		for j, file := range files {
			for _, before := range files[:j] {
				if nested(file, before) {
					w.out = append(w.out, fmt.Sprintf("volume %q (%s): overlapping paths: %q with %q", v.Name, kind, file, before))
				}
			}
		}
	}
}

func (w *warner) overlapsOfProjected(name string, p *corev1.ProjectedVolumeSource) {
	var all []projectedFile
	for i := range p.Sources {
		source := sourceName(&p.Sources[i])
		for _, file := range projectedFiles(&p.Sources[i]) {
			if file == "" {
				continue
			}
			for _, before := range all {
				if nested(file, before.path) {
					w.out = append(w.out, fmt.Sprintf("volume %q (Projected): overlapping paths: %q (%s) with %q (%s)", name, file, source, before.path, before.source))
				}
			}
			all = append(all, projectedFile{file, source})
		}
	}
}

// sourceName is what warnings call one source of a projected volume.
func sourceName(s *corev1.VolumeProjection) string {
	switch {
	case s.Secret != nil:
		return fmt.Sprintf("Secret %q", s.Secret.Name)
	case s.ConfigMap != nil:
		return fmt.Sprintf("ConfigMap %q", s.ConfigMap.Name)
	case s.DownwardAPI != nil:
		return "DownwardAPI"
	case s.ServiceAccountToken != nil:
		return "ServiceAccountToken"
	case s.ClusterTrustBundle != nil:
		return "ClusterTrustBundle"
	case s.PodCertificate != nil:
		return "PodCertificate"
	}
	return ""
}

func pathsOf(items []corev1.KeyToPath) []string {
	files := make([]string, len(items))
	for i := range items {
		files[i] = items[i].Path
	}
	return files
}

// nested says whether two files are the same or one is in a directory of the other's name.
func nested(a, b string) bool {
	a, b = path.Clean(a), path.Clean(b)
	return a == b || strings.HasPrefix(a, b+"/") || strings.HasPrefix(b, a+"/")
}
