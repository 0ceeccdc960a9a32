package localvolume

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestBelongsTo shows that no PersistentVolume talks a node into touching anything but the one directory of that name.
func TestBelongsTo(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*corev1.PersistentVolume)
		want   bool
	}{
		"ours":                 {func(*corev1.PersistentVolume) {}, true},
		"another node's":       {func(pv *corev1.PersistentVolume) { pv.Labels[NodeLabel] = "n2" }, false},
		"without a node":       {func(pv *corev1.PersistentVolume) { pv.Labels = nil }, false},
		"another provisioner":  {func(pv *corev1.PersistentVolume) { pv.Annotations["pv.kubernetes.io/provisioned-by"] = "x" }, false},
		"of an administrator":  {func(pv *corev1.PersistentVolume) { pv.Annotations = nil }, false},
		"elsewhere":            {func(pv *corev1.PersistentVolume) { pv.Spec.Local.Path = "/etc" }, false},
		"the root itself":      {func(pv *corev1.PersistentVolume) { pv.Spec.Local.Path = "/data/volumes" }, false},
		"another's directory":  {func(pv *corev1.PersistentVolume) { pv.Spec.Local.Path = "/data/volumes/other" }, false},
		"out of the root":      {func(pv *corev1.PersistentVolume) { pv.Name, pv.Spec.Local.Path = "..", "/data" }, false},
		"out, spelled":         {func(pv *corev1.PersistentVolume) { pv.Spec.Local.Path = "/data/volumes/pv/../../etc" }, false},
		"name with separators": {func(pv *corev1.PersistentVolume) { pv.Name, pv.Spec.Local.Path = "a/b", "/data/volumes/a/b" }, false},
		"empty name":           {func(pv *corev1.PersistentVolume) { pv.Name, pv.Spec.Local.Path = "", "/data/volumes" }, false},
		"not local":            {func(pv *corev1.PersistentVolume) { pv.Spec.Local = nil }, false},
	} {
		pv := &corev1.PersistentVolume{
			ObjectMeta: metav1.ObjectMeta{Name: "pv", Labels: map[string]string{NodeLabel: "n1"}, Annotations: map[string]string{"pv.kubernetes.io/provisioned-by": Provisioner}},
			Spec:       corev1.PersistentVolumeSpec{PersistentVolumeSource: corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: "/data/volumes/pv"}}},
		}
		c.change(pv)
		if got := BelongsTo(pv, "n1", "/data/volumes"); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
		if BelongsTo(pv, "n1", "") {
			t.Errorf("%s: belongs to a node without a root", name)
		}
	}
}
