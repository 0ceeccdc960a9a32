package localvolume

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"canopus/internal/localvolume"
)

// wanting is a claim for which the binder wants a volume of ours and the scheduler has chosen node n1.
func wanting() request {
	return request{
		claim: &corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "data", UID: "u1", Annotations: map[string]string{
				"volume.kubernetes.io/storage-provisioner": "canopus.io/local", "volume.kubernetes.io/selected-node": "n1",
			}},
			Spec: corev1.PersistentVolumeClaimSpec{
				AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, StorageClassName: ptr.To("local"),
				Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
			},
		},
		class: &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "local"}, Provisioner: "canopus.io/local"},
		node: &corev1.Node{ObjectMeta: metav1.ObjectMeta{
			Name: "n1", Labels: map[string]string{corev1.LabelHostname: "host-1"}, Annotations: map[string]string{"canopus.io/volume-root": "/data/volumes"},
		}},
	}
}

func TestSelected(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*corev1.PersistentVolumeClaim)
		want   string
	}{
		"ready":               {func(*corev1.PersistentVolumeClaim) {}, "n1"},
		"bound":               {func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeName = "pv" }, ""},
		"leaving":             {func(c *corev1.PersistentVolumeClaim) { c.DeletionTimestamp = &metav1.Time{} }, ""},
		"another provisioner": {func(c *corev1.PersistentVolumeClaim) { c.Annotations["volume.kubernetes.io/storage-provisioner"] = "x" }, ""},
		"no node yet":         {func(c *corev1.PersistentVolumeClaim) { delete(c.Annotations, "volume.kubernetes.io/selected-node") }, ""},
		"the old annotation": {func(c *corev1.PersistentVolumeClaim) {
			delete(c.Annotations, "volume.kubernetes.io/storage-provisioner")
			c.Annotations["volume.beta.kubernetes.io/storage-provisioner"] = "canopus.io/local"
		}, "n1"},
	} {
		r := wanting()
		c.change(r.claim)
		if got := selected(r.claim); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestPlanVolume(t *testing.T) {
	t.Parallel()
	r := wanting()
	r.class.ReclaimPolicy = ptr.To(corev1.PersistentVolumeReclaimRetain)
	pv := plan(r).volume
	if pv == nil {
		t.Fatalf("no volume: %+v", plan(r))
	}
	terms := pv.Spec.NodeAffinity.Required.NodeSelectorTerms
	size := pv.Spec.Capacity[corev1.ResourceStorage]
	switch {
	case pv.Name != "pvc-u1" || pv.Labels["canopus.io/node"] != "n1" || pv.Annotations["pv.kubernetes.io/provisioned-by"] != "canopus.io/local",
		len(pv.Finalizers) != 1 || pv.Finalizers[0] != "canopus.io/local-volume",
		pv.Spec.Local.Path != "/data/volumes/pvc-u1" || size.String() != "1Gi" || pv.Spec.StorageClassName != "local",
		pv.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimRetain || pv.Spec.ClaimRef.UID != "u1" || pv.Spec.ClaimRef.Name != "data",
		len(terms) != 1 || terms[0].MatchExpressions[0].Key != "kubernetes.io/hostname" || terms[0].MatchExpressions[0].Values[0] != "host-1":
		t.Errorf("%+v", pv)
	}
	if !localvolume.BelongsTo(pv, "n1", "/data/volumes") {
		t.Error("the node does not take it for its own")
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change       func(*request)
		refuse, move string // parts of
	}{
		"another's class":   {func(r *request) { r.class.Provisioner = "x" }, "", ""},
		"no class":          {func(r *request) { r.class = nil }, "", ""},
		"many nodes":        {func(r *request) { r.claim.Spec.AccessModes = append(r.claim.Spec.AccessModes, corev1.ReadWriteMany) }, "access mode ReadWriteMany", ""},
		"block":             {func(r *request) { r.claim.Spec.VolumeMode = ptr.To(corev1.PersistentVolumeBlock) }, "volume mode Block", ""},
		"selector":          {func(r *request) { r.claim.Spec.Selector = &metav1.LabelSelector{} }, "Selector", ""},
		"snapshot":          {func(r *request) { r.claim.Spec.DataSourceRef = &corev1.TypedObjectReference{} }, "data sources", ""},
		"attributes":        {func(r *request) { r.claim.Spec.VolumeAttributesClassName = ptr.To("gold") }, "attributes", ""},
		"mount options":     {func(r *request) { r.class.MountOptions = []string{"ro"} }, "mount options", ""},
		"unknown parameter": {func(r *request) { r.class.Parameters = map[string]string{"path": "/etc"} }, `unknown parameter "path"`, ""},
		"node gone":         {func(r *request) { r.node = nil }, "", `node "n1" is not there`},
		"node without root": {func(r *request) { r.node.Annotations = nil }, "", "offers no local volumes"},
	} {
		r := wanting()
		c.change(&r)
		got := plan(r)
		if got.volume != nil || (got.refuse != "") != (c.refuse != "") || (got.move != "") != (c.move != "") ||
			!strings.Contains(got.refuse, c.refuse) || !strings.Contains(got.move, c.move) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestEnd(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change   func(*corev1.PersistentVolume)
		nodeGone bool
		want     ending
	}{
		"bound":                   {func(pv *corev1.PersistentVolume) { pv.Status.Phase = corev1.VolumeBound }, false, keep},
		"available":               {func(pv *corev1.PersistentVolume) { pv.Status.Phase = corev1.VolumeAvailable }, false, keep},
		"released":                {func(*corev1.PersistentVolume) {}, false, remove},
		"released, its node gone": {func(*corev1.PersistentVolume) {}, true, remove},
		"released to retain": {func(pv *corev1.PersistentVolume) {
			pv.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimRetain
		}, false, keep},
		"of an administrator":    {func(pv *corev1.PersistentVolume) { pv.Annotations = nil }, false, keep},
		"leaving":                {func(pv *corev1.PersistentVolume) { pv.DeletionTimestamp = &metav1.Time{} }, false, keep},
		"leaving, its node gone": {func(pv *corev1.PersistentVolume) { pv.DeletionTimestamp = &metav1.Time{} }, true, release},
		"leaving, bound, its node gone": {func(pv *corev1.PersistentVolume) {
			pv.DeletionTimestamp, pv.Status.Phase = &metav1.Time{}, corev1.VolumeBound
		}, true, keep},
		"leaving, let go, node gone": {func(pv *corev1.PersistentVolume) { pv.DeletionTimestamp, pv.Finalizers = &metav1.Time{}, nil }, true, keep},
	} {
		pv := plan(wanting()).volume
		pv.Status.Phase = corev1.VolumeReleased
		c.change(pv)
		if got := end(pv, c.nodeGone); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}
