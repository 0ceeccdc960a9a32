package core_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"canopus/internal/kinds"
	"canopus/internal/kinds/core"
)

func storage(size string) corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)}
}

// paths lists the type and place of each error.
func paths(errs field.ErrorList) string {
	var out []string
	for _, e := range errs {
		out = append(out, fmt.Sprintf("%s %s", e.Field, e.Type.String()))
	}
	return strings.Join(out, "; ")
}

func goodVolume(edit ...func(*corev1.PersistentVolume)) *corev1.PersistentVolume {
	pv := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: "pv", UID: "u", ResourceVersion: "1"},
		Spec: corev1.PersistentVolumeSpec{
			Capacity: storage("1Gi"), AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: "d.example.com", VolumeHandle: "h"}},
		},
	}
	core.PersistentVolume().Default(pv)
	for _, f := range edit {
		f(pv)
	}
	return pv
}

func onNodes(key, value string) *corev1.VolumeNodeAffinity {
	return &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
		MatchExpressions: []corev1.NodeSelectorRequirement{{Key: key, Operator: corev1.NodeSelectorOpIn, Values: []string{value}}},
	}}}}
}

func TestVolumeDefaults(t *testing.T) {
	t.Parallel()
	pv := goodVolume()
	if pv.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimRetain || *pv.Spec.VolumeMode != corev1.PersistentVolumeFilesystem {
		t.Errorf("got %+v", pv.Spec)
	}
	pv.CreationTimestamp = ago(time.Hour)
	pv.Status = corev1.PersistentVolumeStatus{Phase: corev1.VolumeBound, Message: "mine"}
	k := core.PersistentVolume()
	k.PrepareCreate(pv)
	if s := pv.Status; s.Phase != corev1.VolumePending || s.Message != "" || !s.LastPhaseTransitionTime.Equal(ptr.To(ago(time.Hour))) {
		t.Errorf("a create sets status: %+v", s)
	}
	stamp := k.Subresources[0].Stamp
	same, moved := pv.DeepCopy(), pv.DeepCopy()
	stamp(same, pv, now)
	moved.Status.Phase = corev1.VolumeAvailable
	stamp(moved, pv, now)
	if !same.Status.LastPhaseTransitionTime.Equal(pv.Status.LastPhaseTransitionTime) || !moved.Status.LastPhaseTransitionTime.Time.Equal(now) {
		t.Errorf("times %v, %v", same.Status.LastPhaseTransitionTime, moved.Status.LastPhaseTransitionTime)
	}
}

func TestValidateVolume(t *testing.T) {
	t.Parallel()
	source := func(s corev1.PersistentVolumeSource) func(*corev1.PersistentVolume) {
		return func(pv *corev1.PersistentVolume) { pv.Spec.PersistentVolumeSource = s }
	}
	for name, tc := range map[string]struct {
		edit func(*corev1.PersistentVolume)
		want string
	}{
		"good":        {func(*corev1.PersistentVolume) {}, ""},
		"no capacity": {func(pv *corev1.PersistentVolume) { pv.Spec.Capacity = nil }, "spec.capacity Required value"},
		"odd capacity": {func(pv *corev1.PersistentVolume) {
			pv.Spec.Capacity = corev1.ResourceList{"cpu": resource.MustParse("1")}
		}, "spec.capacity Unsupported value"},
		"no size":    {func(pv *corev1.PersistentVolume) { pv.Spec.Capacity = storage("0") }, "spec.capacity[storage] Invalid value"},
		"no modes":   {func(pv *corev1.PersistentVolume) { pv.Spec.AccessModes = nil }, "spec.accessModes Required value"},
		"odd mode":   {func(pv *corev1.PersistentVolume) { pv.Spec.AccessModes[0] = "Write" }, "spec.accessModes Unsupported value"},
		"odd policy": {func(pv *corev1.PersistentVolume) { pv.Spec.PersistentVolumeReclaimPolicy = "Burn" }, "spec.persistentVolumeReclaimPolicy Unsupported value"},
		"one pod and others": {func(pv *corev1.PersistentVolume) {
			pv.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOncePod, corev1.ReadOnlyMany}
		}, "spec.accessModes Forbidden"},
		"nothing": {source(corev1.PersistentVolumeSource{}), "spec Required value"},
		"two things": {source(corev1.PersistentVolumeSource{
			HostPath: &corev1.HostPathVolumeSource{Path: "/a"}, NFS: &corev1.NFSVolumeSource{Server: "s", Path: "/"},
		}), "spec.nfs Forbidden"},
		"driver without handle": {source(corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: "d"}}), "spec.csi.volumeHandle Required value"},
		"half a secret": {source(corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{
			Driver: "d", VolumeHandle: "h", NodeStageSecretRef: &corev1.SecretReference{Name: "s"},
		}}), "spec.csi.nodeStageSecretRef.namespace Required value"},
		"local anywhere": {source(corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: "/x"}}), "spec.nodeAffinity Required value"},
		"recycle the node": {func(pv *corev1.PersistentVolume) {
			source(corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/srv/.."}})(pv)
			pv.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimRecycle
		}, "spec.hostPath.path Invalid value; spec.persistentVolumeReclaimPolicy Forbidden"},
		"iscsi with a password it lacks": {source(corev1.PersistentVolumeSource{ISCSI: &corev1.ISCSIPersistentVolumeSource{
			TargetPortal: "1.2.3.4", IQN: "iqn.2001-04.com.example:a", SessionCHAPAuth: true,
		}}), "spec.iscsi.secretRef Required value"},
		"empty affinity": {func(pv *corev1.PersistentVolume) { pv.Spec.NodeAffinity = &corev1.VolumeNodeAffinity{} }, "spec.nodeAffinity.required Required value"},
		"attributes without a driver": {func(pv *corev1.PersistentVolume) {
			source(corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/a"}})(pv)
			pv.Spec.VolumeAttributesClassName = ptr.To("gold")
		}, "spec.csi Required value"},
	} {
		if got := paths(core.PersistentVolume().Validate(goodVolume(tc.edit))); got != tc.want {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
	}
}

func TestUpdateVolume(t *testing.T) {
	t.Parallel()
	old := goodVolume()
	placed := goodVolume(func(pv *corev1.PersistentVolume) {
		pv.Spec.NodeAffinity = onNodes(corev1.LabelFailureDomainBetaZone, "a")
	})
	for name, tc := range map[string]struct {
		old  *corev1.PersistentVolume
		edit func(*corev1.PersistentVolume)
		want string
	}{
		"size and policy": {old, func(pv *corev1.PersistentVolume) {
			pv.Spec.Capacity, pv.Spec.PersistentVolumeReclaimPolicy = storage("9Gi"), corev1.PersistentVolumeReclaimDelete
		}, ""},
		"another handle": {old, func(pv *corev1.PersistentVolume) { pv.Spec.CSI.VolumeHandle = "x" }, "spec.persistentvolumesource Forbidden"},
		"secret to expand with": {old, func(pv *corev1.PersistentVolume) {
			pv.Spec.CSI.ControllerExpandSecretRef = &corev1.SecretReference{Name: "a", Namespace: "b"}
		}, ""},
		"another mode": {old, func(pv *corev1.PersistentVolume) { pv.Spec.VolumeMode = ptr.To(corev1.PersistentVolumeBlock) }, "volumeMode Invalid value"},
		"placed":       {old, func(pv *corev1.PersistentVolume) { pv.Spec.NodeAffinity = onNodes("zone", "a") }, ""},
		"moved": {placed, func(pv *corev1.PersistentVolume) {
			pv.Spec.NodeAffinity = onNodes(corev1.LabelFailureDomainBetaZone, "b")
		}, "nodeAffinity Invalid value"},
		"label renamed":  {placed, func(pv *corev1.PersistentVolume) { pv.Spec.NodeAffinity = onNodes(corev1.LabelTopologyZone, "a") }, ""},
		"label replaced": {placed, func(pv *corev1.PersistentVolume) { pv.Spec.NodeAffinity = onNodes(corev1.LabelHostname, "a") }, "nodeAffinity Invalid value"},
		"freed anywhere": {placed, func(pv *corev1.PersistentVolume) { pv.Spec.NodeAffinity = nil }, "nodeAffinity Invalid value"},
	} {
		obj := tc.old.DeepCopy()
		tc.edit(obj)
		if got := paths(core.PersistentVolume().ValidateUpdate(obj, tc.old)); got != tc.want {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
	}
}

func goodClaim(edit ...func(*corev1.PersistentVolumeClaim)) *corev1.PersistentVolumeClaim {
	c := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: "data", Namespace: "ns", UID: "u", ResourceVersion: "1"},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, StorageClassName: ptr.To("fast"),
			Resources: corev1.VolumeResourceRequirements{Requests: storage("4Gi")},
		},
	}
	core.PersistentVolumeClaim().Default(c)
	for _, f := range edit {
		f(c)
	}
	return c
}

func TestClaimDataSources(t *testing.T) {
	t.Parallel()
	snapshot := &corev1.TypedLocalObjectReference{APIGroup: ptr.To("snapshot.storage.k8s.io"), Kind: "VolumeSnapshot", Name: "s"}
	other := &corev1.TypedObjectReference{APIGroup: ptr.To("example.com"), Kind: "Backup", Name: "b"}
	far := other.DeepCopy()
	far.Namespace = ptr.To("elsewhere")
	for name, tc := range map[string]struct {
		source *corev1.TypedLocalObjectReference
		ref    *corev1.TypedObjectReference
		want   string
	}{
		"none":              {nil, nil, "<nil> <nil>"},
		"old field":         {snapshot, nil, "VolumeSnapshot VolumeSnapshot"},
		"new field":         {nil, other, "Backup Backup"},
		"old field, unable": {&corev1.TypedLocalObjectReference{APIGroup: ptr.To("example.com"), Kind: "Backup", Name: "b"}, nil, "<nil> <nil>"},
		"other namespace":   {nil, far, "<nil> <nil>"},
	} {
		c := goodClaim(func(c *corev1.PersistentVolumeClaim) {
			c.Spec.DataSource, c.Spec.DataSourceRef = tc.source, tc.ref.DeepCopy()
		})
		core.PersistentVolumeClaim().PrepareCreate(c)
		source, ref := "<nil>", "<nil>"
		if c.Spec.DataSource != nil {
			source = c.Spec.DataSource.Kind
		}
		if c.Spec.DataSourceRef != nil {
			ref = c.Spec.DataSourceRef.Kind
		}
		if got := source + " " + ref; got != tc.want {
			t.Errorf("%s: got %s, want %s", name, got, tc.want)
		}
	}
}

func TestUpdateClaim(t *testing.T) {
	t.Parallel()
	set := func(size string) func(*corev1.PersistentVolumeClaim) {
		return func(c *corev1.PersistentVolumeClaim) { c.Spec.Resources.Requests = storage(size) }
	}
	class := func(name *string) func(*corev1.PersistentVolumeClaim) {
		return func(c *corev1.PersistentVolumeClaim) { c.Spec.StorageClassName = name }
	}
	attributes := func(name *string) func(*corev1.PersistentVolumeClaim) {
		return func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeAttributesClassName = name }
	}
	pending := goodClaim()
	bound := goodClaim(func(c *corev1.PersistentVolumeClaim) {
		c.Spec.VolumeName = "pv"
		c.Status = corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimBound, Capacity: storage("2Gi")}
	})
	gold := bound.DeepCopy()
	gold.Spec.VolumeAttributesClassName = ptr.To("gold")
	applied := gold.DeepCopy()
	applied.Status.CurrentVolumeAttributesClassName = ptr.To("gold")
	unclassed := goodClaim(class(nil))
	annotated := goodClaim(class(nil), func(c *corev1.PersistentVolumeClaim) {
		c.Annotations = map[string]string{corev1.BetaStorageClassAnnotation: "slow"}
	})
	for name, tc := range map[string]struct {
		old  *corev1.PersistentVolumeClaim
		edit func(*corev1.PersistentVolumeClaim)
		want string
	}{
		"labels":                   {bound, func(c *corev1.PersistentVolumeClaim) { c.Labels = map[string]string{"a": "b"} }, ""},
		"volume, once":             {pending, func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeName = "pv" }, ""},
		"volume, again":            {bound, func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeName = "other" }, "spec Forbidden"},
		"volume, taken away":       {bound, func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeName = "" }, "spec Forbidden"},
		"class, given later":       {unclassed, class(ptr.To("fast")), ""},
		"class, another":           {pending, class(ptr.To("slow")), "spec Forbidden"},
		"class, from annotation":   {annotated, class(ptr.To("slow")), ""},
		"class, not as annotated":  {annotated, class(ptr.To("fast")), "spec Forbidden"},
		"annotation":               {annotated, func(c *corev1.PersistentVolumeClaim) { c.Annotations[corev1.BetaStorageClassAnnotation] = "x" }, "metadata.annotations[volume.beta.kubernetes.io/storage-class] Invalid value"},
		"grow unbound":             {pending, set("5Gi"), "spec Forbidden"},
		"grow":                     {bound, set("5Gi"), ""},
		"take back what is not":    {bound, set("3Gi"), ""},
		"shrink":                   {bound, set("2Gi"), "spec.resources.requests.storage Forbidden"},
		"modes":                    {bound, func(c *corev1.PersistentVolumeClaim) { c.Spec.AccessModes[0] = corev1.ReadWriteMany }, "spec Forbidden"},
		"block":                    {pending, func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeMode = ptr.To(corev1.PersistentVolumeBlock) }, "spec Forbidden; volumeMode Invalid value"},
		"attributes":               {bound, attributes(ptr.To("gold")), ""},
		"attributes, unbound":      {pending, attributes(ptr.To("gold")), "spec Forbidden"},
		"attributes, cancelled":    {gold, attributes(nil), ""},
		"attributes, taken away":   {applied, attributes(nil), "spec.volumeAttributesClassName Forbidden"},
		"attributes, others":       {applied, attributes(ptr.To("silver")), ""},
		"attributes, made nothing": {applied, attributes(ptr.To("")), "spec.volumeAttributesClassName Forbidden"},
	} {
		obj := tc.old.DeepCopy()
		tc.edit(obj)
		k := core.PersistentVolumeClaim()
		k.PrepareUpdate(obj, tc.old)
		if got := paths(k.ValidateUpdate(obj, tc.old)); got != tc.want {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
	}
}

func TestClaimStatus(t *testing.T) {
	t.Parallel()
	k := core.PersistentVolumeClaim()
	old := goodClaim()
	obj := old.DeepCopy()
	obj.Spec.VolumeName = "sneaked in"
	obj.Status.AllocatedResources = corev1.ResourceList{"storage": resource.MustParse("1"), "cpu": resource.MustParse("1")}
	obj.Status.AllocatedResourceStatuses = map[corev1.ResourceName]corev1.ClaimResourceStatus{"example.com/iops": "Odd"}
	obj.Status.HealthStatus = &corev1.VolumeHealthStatus{}
	k.Subresources[0].PrepareUpdate(obj, old)
	if obj.Spec.VolumeName != "" || obj.Status.HealthStatus != nil {
		t.Errorf("a status write changed %+v", obj)
	}
	want := "status.allocatedResources[cpu] Unsupported value; status.allocatedResourceStatuses[example.com/iops] Unsupported value"
	if got := paths(k.Subresources[0].ValidateUpdate(obj, old)); got != want {
		t.Errorf("got %q", got)
	}
}

func TestStorageColumns(t *testing.T) {
	t.Parallel()
	pv := goodVolume(func(pv *corev1.PersistentVolume) {
		pv.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany, corev1.ReadWriteOnce, corev1.ReadWriteMany}
		pv.Spec.ClaimRef = &corev1.ObjectReference{Namespace: "ns", Name: "data"}
		pv.Spec.StorageClassName, pv.CreationTimestamp, pv.Status.Phase = "fast", ago(time.Minute), corev1.VolumeBound
	})
	claim := goodClaim(func(c *corev1.PersistentVolumeClaim) {
		c.CreationTimestamp = ago(time.Minute)
		c.Spec.VolumeName = "pv"
		c.Status.Phase, c.Status.Capacity, c.Status.AccessModes = corev1.ClaimBound, storage("1Gi"), pv.Spec.AccessModes
	})
	going := goodClaim(func(c *corev1.PersistentVolumeClaim) {
		c.DeletionTimestamp, c.CreationTimestamp = &metav1.Time{}, ago(time.Hour)
	})
	for _, tc := range []struct {
		k    *kinds.Kind
		obj  kinds.Object
		want string
	}{
		{core.PersistentVolume(), pv, "pv|1Gi|RWO,RWX|Retain|Bound|ns/data|fast|<unset>||60s|Filesystem"},
		{core.PersistentVolumeClaim(), claim, "data|Bound|pv|1Gi|RWO,RWX|fast|<unset>|60s|Filesystem"},
		{core.PersistentVolumeClaim(), going, "data|Terminating||||fast|<unset>|60m|Filesystem"},
	} {
		var cells []string
		for _, cell := range tc.k.Cells(tc.obj, now) {
			cells = append(cells, fmt.Sprint(cell))
		}
		if got := strings.Join(cells, "|"); got != tc.want {
			t.Errorf("got %s, want %s", got, tc.want)
		}
	}
}
