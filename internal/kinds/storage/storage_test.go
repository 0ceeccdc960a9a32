package storage

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"canopus/internal/kinds"
)

// paths lists the type and place of each error.
func paths(errs field.ErrorList) string {
	var out []string
	for _, e := range errs {
		out = append(out, e.Field+" "+e.Type.String())
	}
	return strings.Join(out, "; ")
}

func meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, UID: "u", ResourceVersion: "1"}
}

// change is one edit of a good object, and the errors it brings on create and on update.
type change[P any] struct {
	edit           func(P)
	create, update string
}

func play[P kinds.Object](t *testing.T, k *kinds.Kind, good P, changes map[string]change[P]) {
	t.Helper()
	k.Default(good)
	if errs := k.Validate(good); len(errs) > 0 {
		t.Fatalf("good object: %v", errs)
	}
	for name, c := range changes {
		obj := good.DeepCopyObject().(P)
		c.edit(obj)
		if got := paths(k.Validate(obj)); got != c.create {
			t.Errorf("%s, create: got %q, want %q", name, got, c.create)
		}
		k.PrepareUpdate(obj, good)
		if got := paths(k.ValidateUpdate(obj, good)); got != c.update {
			t.Errorf("%s, update: got %q, want %q", name, got, c.update)
		}
	}
}

func TestStorageClass(t *testing.T) {
	t.Parallel()
	type P = *storagev1.StorageClass
	zone := func(values ...string) corev1.TopologySelectorTerm {
		return corev1.TopologySelectorTerm{MatchLabelExpressions: []corev1.TopologySelectorLabelRequirement{{Key: "zone", Values: values}}}
	}
	good := &storagev1.StorageClass{ObjectMeta: meta("fast"), Provisioner: "example.com/disk", Parameters: map[string]string{"type": "ssd"}}
	play(t, StorageClass(), good, map[string]change[P]{
		"labels":            {func(c P) { c.Labels = map[string]string{"a": "b"} }, "", ""},
		"expansion":         {func(c P) { c.AllowVolumeExpansion = ptr.To(true) }, "", ""},
		"no provisioner":    {func(c P) { c.Provisioner = "" }, "provisioner Required value", "provisioner Required value; provisioner Forbidden"},
		"odd provisioner":   {func(c P) { c.Provisioner = "a b" }, "provisioner Invalid value", "provisioner Invalid value; provisioner Forbidden"},
		"parameters":        {func(c P) { c.Parameters = map[string]string{"type": "hdd"} }, "", "parameters Forbidden"},
		"parameter unnamed": {func(c P) { c.Parameters = map[string]string{"": "x", "type": "ssd"} }, "parameters Invalid value", "parameters Invalid value; parameters Forbidden"},
		"huge parameters": {func(c P) { c.Parameters = map[string]string{"type": strings.Repeat("x", maxParametersSize)} },
			"parameters Too long", "parameters Too long; parameters Forbidden"},
		"retain":     {func(c P) { c.ReclaimPolicy = ptr.To(corev1.PersistentVolumeReclaimRetain) }, "", "reclaimPolicy Forbidden"},
		"recycle":    {func(c P) { c.ReclaimPolicy = ptr.To(corev1.PersistentVolumeReclaimRecycle) }, "reclaimPolicy Unsupported value", "reclaimPolicy Unsupported value; reclaimPolicy Forbidden"},
		"late":       {func(c P) { c.VolumeBindingMode = ptr.To(storagev1.VolumeBindingWaitForFirstConsumer) }, "", "volumeBindingMode Invalid value"},
		"topologies": {func(c P) { c.AllowedTopologies = []corev1.TopologySelectorTerm{zone("a"), zone("b")} }, "", ""},
		"same topology twice": {func(c P) { c.AllowedTopologies = []corev1.TopologySelectorTerm{zone("a", "b"), zone("b", "a")} },
			"allowedTopologies[1].matchLabelExpressions Duplicate value", "allowedTopologies[1].matchLabelExpressions Duplicate value"},
		"topology without values": {func(c P) { c.AllowedTopologies = []corev1.TopologySelectorTerm{zone()} },
			"allowedTopologies[0].matchLabelExpressions[0].values Required value", "allowedTopologies[0].matchLabelExpressions[0].values Required value"},
	})
	good.Annotations = map[string]string{defaultAnnotation: "true"}
	good.CreationTimestamp = metav1.NewTime(time.Unix(0, 0))
	if got := fmt.Sprint(StorageClass().Cells(good, time.Unix(60, 0))); got != "[fast (default) example.com/disk Delete Immediate false 60s]" {
		t.Errorf("got %s", got)
	}
}

func TestVolumeAttachment(t *testing.T) {
	t.Parallel()
	type P = *storagev1.VolumeAttachment
	good := &storagev1.VolumeAttachment{ObjectMeta: meta("csi-1"), Spec: storagev1.VolumeAttachmentSpec{
		Attacher: "disk.example.com", NodeName: "n", Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: ptr.To("pv")},
	}}
	inline := corev1.PersistentVolumeSpec{
		AccessModes:            []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
		PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: "d", VolumeHandle: "h"}},
	}
	sized := inline
	sized.Capacity = corev1.ResourceList{"storage": resource.MustParse("1Gi")}
	play(t, VolumeAttachment(), good, map[string]change[P]{
		"no attacher": {func(a P) { a.Spec.Attacher = "" }, "spec.attacher Required value", "spec.attacher Required value; spec Invalid value"},
		"no node":     {func(a P) { a.Spec.NodeName = "" }, "spec.nodeName Invalid value", "spec.nodeName Invalid value; spec Invalid value"},
		"no source":   {func(a P) { a.Spec.Source = storagev1.VolumeAttachmentSource{} }, "spec.source Required value", "spec.source Required value; spec Invalid value"},
		"two sources": {func(a P) { a.Spec.Source.InlineVolumeSpec = &inline }, "spec.source Forbidden", "spec.source Forbidden; spec Invalid value"},
		"inline":      {func(a P) { a.Spec.Source = storagev1.VolumeAttachmentSource{InlineVolumeSpec: &inline} }, "", "spec Invalid value"},
		"inline with a size": {func(a P) { a.Spec.Source = storagev1.VolumeAttachmentSource{InlineVolumeSpec: &sized} },
			"spec.source.inlineVolumeSpec.capacity Forbidden", "spec.source.inlineVolumeSpec.capacity Forbidden; spec Invalid value"},
		"long error": {func(a P) { a.Status.AttachError = &storagev1.VolumeError{Message: strings.Repeat("x", maxErrorSize+1)} },
			"status.attachError.message Too long", ""}, // an update does not touch status
	})
	done := good.DeepCopy()
	done.Spec.NodeName, done.Status.Attached = "other", true
	done.Labels = map[string]string{"a": "b"}
	VolumeAttachment().Subresources[0].PrepareUpdate(done, good)
	if done.Spec.NodeName != "n" || done.Labels != nil || !done.Status.Attached {
		t.Errorf("a status write made %+v", done)
	}
}

func TestCSIDriver(t *testing.T) {
	t.Parallel()
	type P = *storagev1.CSIDriver
	good := &storagev1.CSIDriver{ObjectMeta: meta("disk.example.com"), Spec: storagev1.CSIDriverSpec{TokenRequests: []storagev1.TokenRequest{{Audience: "a"}}}}
	play(t, CSIDriver(), good, map[string]change[P]{
		"tells pods":      {func(d P) { d.Spec.PodInfoOnMount = ptr.To(true) }, "", ""},
		"does not attach": {func(d P) { d.Spec.AttachRequired = ptr.To(false) }, "", "spec.attachedRequired Invalid value"},
		"inline": {func(d P) {
			d.Spec.VolumeLifecycleModes = []storagev1.VolumeLifecycleMode{storagev1.VolumeLifecycleEphemeral}
		}, "", "spec.volumeLifecycleModes Invalid value"},
		"odd group policy":   {func(d P) { d.Spec.FSGroupPolicy = ptr.To(storagev1.FSGroupPolicy("x")) }, "spec.fsGroupPolicy Unsupported value", "spec.fsGroupPolicy Unsupported value"},
		"audience twice":     {func(d P) { d.Spec.TokenRequests = append(d.Spec.TokenRequests, storagev1.TokenRequest{Audience: "a"}) }, "spec.tokenRequests[1].audience Duplicate value", "spec.tokenRequests[1].audience Duplicate value"},
		"short tokens":       {func(d P) { d.Spec.TokenRequests[0].ExpirationSeconds = ptr.To[int64](599) }, "spec.tokenRequests[0].expirationSeconds Invalid value", "spec.tokenRequests[0].expirationSeconds Invalid value"},
		"secrets, no tokens": {func(d P) { d.Spec.TokenRequests, d.Spec.ServiceAccountTokenInSecrets = nil, ptr.To(true) }, "spec.serviceAccountTokenInSecrets Invalid value", "spec.serviceAccountTokenInSecrets Invalid value"},
		"too often":          {func(d P) { d.Spec.NodeAllocatableUpdatePeriodSeconds = ptr.To[int64](9) }, "spec.nodeAllocatableUpdatePeriodSeconds Invalid value", "spec.nodeAllocatableUpdatePeriodSeconds Invalid value"},
	})
	if s := good.Spec; !*s.AttachRequired || *s.PodInfoOnMount || *s.FSGroupPolicy != storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy || len(s.VolumeLifecycleModes) != 1 {
		t.Errorf("defaults %+v", s)
	}
	next := good.DeepCopy()
	next.Spec.RequiresRepublish = ptr.To(true)
	if CSIDriver().PrepareUpdate(next, good); next.Generation != good.Generation+1 {
		t.Error("the generation did not move with the spec")
	}
}

func TestCSINode(t *testing.T) {
	t.Parallel()
	type P = *storagev1.CSINode
	good := &storagev1.CSINode{ObjectMeta: meta("n"), Spec: storagev1.CSINodeSpec{Drivers: []storagev1.CSINodeDriver{
		{Name: "disk.example.com", NodeID: "i-1", TopologyKeys: []string{"zone"}},
	}}}
	play(t, CSINode(), good, map[string]change[P]{
		"another driver": {func(n P) {
			n.Spec.Drivers = append(n.Spec.Drivers, storagev1.CSINodeDriver{Name: "x", NodeID: "y"})
		}, "", ""},
		"no drivers":     {func(n P) { n.Spec.Drivers = nil }, "", ""},
		"driver changed": {func(n P) { n.Spec.Drivers[0].NodeID = "i-2" }, "", "CSINodeDriver Invalid value"},
		"room changed":   {func(n P) { n.Spec.Drivers[0].Allocatable = &storagev1.VolumeNodeResources{Count: ptr.To[int32](3)} }, "", ""},
		"less than no room": {func(n P) { n.Spec.Drivers[0].Allocatable = &storagev1.VolumeNodeResources{Count: ptr.To[int32](-1)} },
			"spec.drivers[0].allocatable.count Invalid value", "spec.drivers[0].allocatable.count Invalid value"},
		"no id":     {func(n P) { n.Spec.Drivers[0].NodeID = "" }, "spec.drivers[0].nodeID Required value", "spec.drivers[0].nodeID Required value; CSINodeDriver Invalid value"},
		"twice":     {func(n P) { n.Spec.Drivers = append(n.Spec.Drivers, n.Spec.Drivers[0]) }, "spec.drivers[1].name Duplicate value", "spec.drivers[1].name Duplicate value"},
		"key twice": {func(n P) { n.Spec.Drivers[0].TopologyKeys = []string{"zone", "zone"} }, "spec.drivers[0].topologyKeys Duplicate value", "spec.drivers[0].topologyKeys Duplicate value; CSINodeDriver Invalid value"},
	})
}

func TestCSIStorageCapacity(t *testing.T) {
	t.Parallel()
	type P = *storagev1.CSIStorageCapacity
	good := &storagev1.CSIStorageCapacity{ObjectMeta: meta("c"), StorageClassName: "fast", Capacity: ptr.To(resource.MustParse("1Gi"))}
	good.Namespace = "ns"
	play(t, CSIStorageCapacity(), good, map[string]change[P]{
		"capacity":      {func(c P) { c.Capacity = ptr.To(resource.MustParse("2Gi")) }, "", ""},
		"debt":          {func(c P) { c.Capacity = ptr.To(resource.MustParse("-1")) }, "capacity Invalid value", "capacity Invalid value"},
		"another class": {func(c P) { c.StorageClassName = "slow" }, "", "storageClassName Invalid value"},
		"no class":      {func(c P) { c.StorageClassName = "" }, "storageClassName Invalid value", "storageClassName Invalid value; storageClassName Invalid value"},
		"elsewhere":     {func(c P) { c.NodeTopology = &metav1.LabelSelector{} }, "", "nodeTopology Invalid value"},
	})
}

func TestVolumeAttributesClass(t *testing.T) {
	t.Parallel()
	type P = *storagev1.VolumeAttributesClass
	good := &storagev1.VolumeAttributesClass{ObjectMeta: meta("gold"), DriverName: "disk.example.com", Parameters: map[string]string{"iops": "5"}}
	play(t, VolumeAttributesClass(), good, map[string]change[P]{
		"labels":         {func(c P) { c.Labels = map[string]string{"a": "b"} }, "", ""},
		"no driver":      {func(c P) { c.DriverName = "" }, "driverName Required value", "driverName Invalid value"},
		"no parameters":  {func(c P) { c.Parameters = nil }, "parameters Required value", "parameters Invalid value"},
		"new parameters": {func(c P) { c.Parameters = map[string]string{"iops": "6"} }, "", "parameters Invalid value"},
	})
}
