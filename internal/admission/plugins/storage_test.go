package plugins

import (
	"slices"
	"strings"
	"testing"
	"time"

	"canopus/internal/admission"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

func storageClass(name string, isDefault string, born int64) *storagev1.StorageClass {
	return &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{
		Name: name, CreationTimestamp: metav1.NewTime(time.Unix(born, 0)),
		Annotations: map[string]string{"storageclass.kubernetes.io/is-default-class": isDefault},
	}}
}

func withClasses(t *testing.T, classes ...*storagev1.StorageClass) Config {
	t.Helper()
	c := testConfig(t)
	for _, class := range classes {
		if err := c.Informers.Storage().V1().StorageClasses().Informer().GetStore().Add(class); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func TestDefaultStorageClass(t *testing.T) {
	t.Parallel()
	old, newer, twin, other := storageClass("z-old", "true", 10), storageClass("b-new", "true", 20), storageClass("a-twin", "true", 20), storageClass("other", "false", 30)
	for name, c := range map[string]struct {
		classes []*storagev1.StorageClass
		claim   corev1.PersistentVolumeClaim
		want    *string
	}{
		"none":                {[]*storagev1.StorageClass{other}, corev1.PersistentVolumeClaim{}, nil},
		"the marked one":      {[]*storagev1.StorageClass{old, other}, corev1.PersistentVolumeClaim{}, ptr.To("z-old")},
		"newest of several":   {[]*storagev1.StorageClass{newer, old, other}, corev1.PersistentVolumeClaim{}, ptr.To("b-new")},
		"first name of twins": {[]*storagev1.StorageClass{newer, twin, old}, corev1.PersistentVolumeClaim{}, ptr.To("a-twin")},
		"no class asked for": {[]*storagev1.StorageClass{old}, corev1.PersistentVolumeClaim{
			Spec: corev1.PersistentVolumeClaimSpec{StorageClassName: ptr.To("")},
		}, ptr.To("")},
		"annotation": {[]*storagev1.StorageClass{old}, corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{corev1.BetaStorageClassAnnotation: "x"}},
		}, nil},
	} {
		p := NewDefaultStorageClass(withClasses(t, c.classes...))
		if err := admit(t, p, req(admission.Create, "PersistentVolumeClaim", "persistentvolumeclaims", &c.claim, nil)); err != nil {
			t.Fatal(name, err)
		}
		if got := c.claim.Spec.StorageClassName; !ptr.Equal(got, c.want) {
			t.Errorf("%s: class %v, want %v", name, ptr.Deref(got, "<nil>"), ptr.Deref(c.want, "<nil>"))
		}
	}
}

func claimOf(class, size string, phase corev1.PersistentVolumeClaimPhase) *corev1.PersistentVolumeClaim {
	return &corev1.PersistentVolumeClaim{
		ObjectMeta: meta("apps", "data"),
		Spec: corev1.PersistentVolumeClaimSpec{StorageClassName: &class, Resources: corev1.VolumeResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)},
		}},
		Status: corev1.PersistentVolumeClaimStatus{Phase: phase},
	}
}

func TestClaimResize(t *testing.T) {
	t.Parallel()
	grows, fixed := storageClass("grows", "", 1), storageClass("fixed", "", 1)
	grows.AllowVolumeExpansion = ptr.To(true)
	p := NewPersistentVolumeClaimResize(withClasses(t, grows, fixed))
	for name, c := range map[string]struct {
		old, now *corev1.PersistentVolumeClaim
		want     string
	}{
		"same size":    {claimOf("fixed", "1Gi", corev1.ClaimBound), claimOf("fixed", "1Gi", corev1.ClaimBound), ""},
		"grows":        {claimOf("grows", "1Gi", corev1.ClaimBound), claimOf("grows", "2Gi", corev1.ClaimBound), ""},
		"taken back":   {claimOf("fixed", "2Gi", corev1.ClaimBound), claimOf("fixed", "1Gi", corev1.ClaimBound), ""},
		"not bound":    {claimOf("grows", "1Gi", corev1.ClaimPending), claimOf("grows", "2Gi", corev1.ClaimPending), "only bound persistent volume claims can be expanded"},
		"fixed class":  {claimOf("fixed", "1Gi", corev1.ClaimBound), claimOf("fixed", "2Gi", corev1.ClaimBound), "must support resize"},
		"lost class":   {claimOf("gone", "1Gi", corev1.ClaimBound), claimOf("gone", "2Gi", corev1.ClaimBound), "must support resize"},
		"static claim": {claimOf("", "1Gi", corev1.ClaimBound), claimOf("", "2Gi", corev1.ClaimBound), "only dynamically provisioned pvc"},
	} {
		r := req(admission.Update, "PersistentVolumeClaim", "persistentvolumeclaims", c.now, c.old)
		if !p.Handles(r) {
			t.Fatal("an update of a claim is not looked at")
		}
		err := p.Validate(t.Context(), r)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	r := req(admission.Update, "PersistentVolumeClaim", "persistentvolumeclaims", claimOf("fixed", "2Gi", corev1.ClaimBound), claimOf("fixed", "1Gi", corev1.ClaimBound))
	if r.Subresource = "status"; p.Handles(r) {
		t.Error("status does not resize")
	}
}

func TestStorageObjectInUseProtection(t *testing.T) {
	t.Parallel()
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Finalizers: []string{"mine"}}}
	for range 2 { // the second time it is there already
		if err := admit(t, StorageObjectInUseProtection{}, req(admission.Create, "PersistentVolumeClaim", "persistentvolumeclaims", claim, nil)); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"mine", "kubernetes.io/pvc-protection"}; !slices.Equal(claim.Finalizers, want) {
		t.Errorf("claim has %v, want %v", claim.Finalizers, want)
	}
	pv := &corev1.PersistentVolume{}
	if err := admit(t, StorageObjectInUseProtection{}, req(admission.Create, "PersistentVolume", "persistentvolumes", pv, nil)); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(pv.Finalizers, []string{"kubernetes.io/pv-protection"}) {
		t.Errorf("volume has %v", pv.Finalizers)
	}
	if (StorageObjectInUseProtection{}).Handles(req(admission.Create, "Pod", "pods", &corev1.Pod{}, nil)) {
		t.Error("pods are not storage")
	}
}
