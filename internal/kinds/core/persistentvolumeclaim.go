package core

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	storagehelpers "k8s.io/component-helpers/storage/volume"
	"k8s.io/utils/ptr"

	"canopus/internal/kinds"
	"canopus/internal/kinds/podspec"
	"canopus/internal/kinds/show"
)

// PersistentVolumeClaim is v1 persistentvolumeclaims: a request for storage that outlives pods.
func PersistentVolumeClaim() *kinds.Kind {
	return kinds.New(kinds.Spec[corev1.PersistentVolumeClaim, *corev1.PersistentVolumeClaim]{
		GVK:           corev1.SchemeGroupVersion.WithKind("PersistentVolumeClaim"),
		Plural:        "persistentvolumeclaims",
		ShortNames:    []string{"pvc"},
		Namespaced:    true,
		NewList:       func() runtime.Object { return &corev1.PersistentVolumeClaimList{} },
		ReturnDeleted: true,

		Default: defaultClaim,
		PrepareCreate: func(c *corev1.PersistentVolumeClaim) {
			c.Status = corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending}
			dropDataSource(&c.Spec, nil)
			pairDataSources(&c.Spec)
		},
		PrepareUpdate: func(obj, old *corev1.PersistentVolumeClaim) {
			obj.Status = old.Status
			dropDataSource(&obj.Spec, &old.Spec)
			pairDataSources(&obj.Spec)
		},
		Validate: func(c *corev1.PersistentVolumeClaim) field.ErrorList {
			return podspec.ValidateClaimSpec(&c.Spec, field.NewPath("spec"))
		},
		ValidateUpdate: validateClaimUpdate,
		Warnings:       claimWarnings,
		Columns:        claimColumns(),
		Cells:          claimCells,
		Subresources:   []kinds.Subresource{kinds.Status(prepareClaimStatus, validateClaimStatus)},
	})
}

func defaultClaim(c *corev1.PersistentVolumeClaim) {
	if c.Status.Phase == "" {
		c.Status.Phase = corev1.ClaimPending
	}
	if c.Spec.VolumeMode == nil {
		c.Spec.VolumeMode = ptr.To(corev1.PersistentVolumeFilesystem)
	}
	for _, list := range []corev1.ResourceList{c.Spec.Resources.Requests, c.Spec.Resources.Limits, c.Status.Capacity, c.Status.AllocatedResources} {
		podspec.RoundQuantities(list)
	}
}

// prepareClaimStatus keeps the spec, and drops the health of volumes, which is off by default.
func prepareClaimStatus(obj, old *corev1.PersistentVolumeClaim) {
	obj.Spec = old.Spec
	if old.Status.HealthStatus == nil {
		obj.Status.HealthStatus = nil
	}
}

// dropDataSource forgets what dataSource never could hold (silently, as clients are used to), and references into other
// namespaces, which are off by default. What is there already stays.
func dropDataSource(spec, old *corev1.PersistentVolumeClaimSpec) {
	if old == nil || old.DataSource == nil && old.DataSourceRef == nil {
		if d := spec.DataSource; d != nil && !populates(d) {
			spec.DataSource = nil
		}
	}
	crosses := func(s *corev1.PersistentVolumeClaimSpec) bool {
		return s != nil && s.DataSourceRef != nil && ptr.Deref(s.DataSourceRef.Namespace, "") != ""
	}
	if crosses(spec) && !crosses(old) {
		spec.DataSourceRef = nil
	}
}

// populates says whether a volume can be filled from d without a populator: from a claim or a snapshot.
func populates(d *corev1.TypedLocalObjectReference) bool {
	group := ptr.Deref(d.APIGroup, "")
	return group == "" && d.Kind == "PersistentVolumeClaim" || group == "snapshot.storage.k8s.io" && d.Kind == "VolumeSnapshot"
}

// pairDataSources makes dataSource and dataSourceRef say the same, for clients that know only one of them.
func pairDataSources(spec *corev1.PersistentVolumeClaimSpec) {
	switch d, r := spec.DataSource, spec.DataSourceRef; {
	case d != nil && r == nil:
		spec.DataSourceRef = &corev1.TypedObjectReference{APIGroup: d.APIGroup, Kind: d.Kind, Name: d.Name}
	case d == nil && r != nil && ptr.Deref(r.Namespace, "") == "":
		spec.DataSource = &corev1.TypedLocalObjectReference{APIGroup: r.APIGroup, Kind: r.Kind, Name: r.Name}
	}
}

func claimColumns() []metav1.TableColumnDefinition {
	spec, status := corev1.PersistentVolumeClaimSpec{}.SwaggerDoc(), corev1.PersistentVolumeClaimStatus{}.SwaggerDoc()
	return []metav1.TableColumnDefinition{
		show.Name(),
		show.Column("Status", "string", status["phase"]),
		show.Column("Volume", "string", spec["volumeName"]),
		show.Column("Capacity", "string", status["capacity"]),
		show.Column("Access Modes", "string", status["accessModes"]),
		show.Column("StorageClass", "string", "StorageClass of the pvc"),
		show.Column("VolumeAttributesClass", "string", "VolumeAttributesClass of the pvc"),
		show.AgeColumn(),
		show.Wide("VolumeMode", "string", spec["volumeMode"]),
	}
}

func claimCells(c *corev1.PersistentVolumeClaim, now time.Time) []any {
	phase, capacity, modes := string(c.Status.Phase), "", ""
	if c.DeletionTimestamp != nil {
		phase = "Terminating"
	}
	if c.Spec.VolumeName != "" {
		capacity, modes = storageSize(c.Status.Capacity), show.AccessModes(c.Status.AccessModes)
	}
	return []any{
		c.Name, phase, c.Spec.VolumeName, capacity, modes, storagehelpers.GetPersistentVolumeClaimClass(c),
		orUnset(c.Spec.VolumeAttributesClassName), show.Age(c.CreationTimestamp, now), orUnset(c.Spec.VolumeMode),
	}
}
