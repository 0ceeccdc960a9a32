package persistentvolume

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	storagehelpers "k8s.io/component-helpers/storage/volume"
	"k8s.io/utils/ptr"
)

func storageOf(size string) corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)}
}

func claimOf(name, size string, edit ...func(*corev1.PersistentVolumeClaim)) *corev1.PersistentVolumeClaim {
	c := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID("uid-" + name), Annotations: map[string]string{}},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, StorageClassName: ptr.To("fast"),
			Resources: corev1.VolumeResourceRequirements{Requests: storageOf(size)},
		},
		Status: corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending},
	}
	for _, f := range edit {
		f(c)
	}
	return c
}

func volumeOf(name, size string, edit ...func(*corev1.PersistentVolume)) *corev1.PersistentVolume {
	pv := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{}},
		Spec: corev1.PersistentVolumeSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, StorageClassName: "fast", Capacity: storageOf(size),
			PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
		},
		Status: corev1.PersistentVolumeStatus{Phase: corev1.VolumeAvailable},
	}
	for _, f := range edit {
		f(pv)
	}
	return pv
}

func reservedFor(c *corev1.PersistentVolumeClaim, uid types.UID) func(*corev1.PersistentVolume) {
	return func(pv *corev1.PersistentVolume) {
		pv.Spec.ClaimRef = &corev1.ObjectReference{Namespace: c.Namespace, Name: c.Name, UID: uid}
	}
}

func classOf(provisioner string, mode storagev1.VolumeBindingMode) *storagev1.StorageClass {
	return &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "fast"}, Provisioner: provisioner, VolumeBindingMode: &mode}
}

func note(key string) func(*corev1.PersistentVolumeClaim) {
	return func(c *corev1.PersistentVolumeClaim) { c.Annotations[key] = "yes" }
}

func names(volume string) func(*corev1.PersistentVolumeClaim) {
	return func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeName = volume }
}

func TestPlanClaim(t *testing.T) {
	t.Parallel()
	data := claimOf("data", "5Gi")
	noClass := claimOf("data", "5Gi", func(c *corev1.PersistentVolumeClaim) { c.Spec.StorageClassName = nil })
	ours := claimOf("data", "5Gi", names("v"), note(storagehelpers.AnnBindCompleted))
	immediate, late := classOf("example.com/disk", storagev1.VolumeBindingImmediate), classOf("example.com/disk", storagev1.VolumeBindingWaitForFirstConsumer)
	many := func(pv *corev1.PersistentVolume) {
		pv.Spec.AccessModes = append(pv.Spec.AccessModes, corev1.ReadWriteMany)
	}
	pvs := func(list ...*corev1.PersistentVolume) []*corev1.PersistentVolume { return list }
	for name, tc := range map[string]struct {
		view claimView
		want string // bind X | class X | ask X | phase [reason message]
	}{
		"smallest that fits":        {claimView{claim: data, candidates: pvs(volumeOf("big", "20Gi"), volumeOf("ok", "6Gi"), volumeOf("tiny", "1Gi"))}, "bind ok"},
		"of equals the first name":  {claimView{claim: data, candidates: pvs(volumeOf("b", "6Gi"), volumeOf("a", "6Gi"))}, "bind a"},
		"fewest modes before size":  {claimView{claim: data, candidates: pvs(volumeOf("many", "5Gi", many), volumeOf("one", "9Gi"))}, "bind one"},
		"reserved before smaller":   {claimView{claim: data, candidates: pvs(volumeOf("a", "5Gi"), volumeOf("mine", "9Gi", many, reservedFor(data, "")))}, "bind mine"},
		"reserved for its ancestor": {claimView{claim: data, class: immediate, candidates: pvs(volumeOf("a", "9Gi", reservedFor(data, "older")))}, "ask example.com/disk"},
		"reserved but too small":    {claimView{claim: data, class: immediate, candidates: pvs(volumeOf("a", "1Gi", reservedFor(data, "")))}, "ask example.com/disk"},
		"not available yet":         {claimView{claim: data, class: immediate, candidates: pvs(volumeOf("a", "9Gi", func(pv *corev1.PersistentVolume) { pv.Status.Phase = corev1.VolumePending }))}, "ask example.com/disk"},
		"selector": {claimView{claim: claimOf("data", "1Gi", func(c *corev1.PersistentVolumeClaim) {
			c.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"tier": "gold"}}
		}), candidates: pvs(volumeOf("lead", "1Gi"), volumeOf("gold", "9Gi", func(pv *corev1.PersistentVolume) { pv.Labels = map[string]string{"tier": "gold"} }))}, "bind gold"},
		"block": {claimView{claim: claimOf("data", "1Gi", func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeMode = ptr.To(corev1.PersistentVolumeBlock) }),
			class: immediate, candidates: pvs(volumeOf("fs", "1Gi"))}, "ask example.com/disk"},

		"waits for a consumer":     {claimView{claim: data, class: late, candidates: pvs(volumeOf("a", "9Gi"))}, "Pending WaitForFirstConsumer waiting for first consumer to be created before binding"},
		"waits for a pod":          {claimView{claim: data, class: late, waiting: []string{"web-0"}}, "Pending WaitForPodScheduled waiting for pod web-0 to be scheduled"},
		"waits for pods":           {claimView{claim: data, class: late, waiting: []string{"a", "b"}}, "Pending WaitForPodScheduled waiting for pods a,b to be scheduled"},
		"scheduler reserved":       {claimView{claim: data, class: late, candidates: pvs(volumeOf("a", "9Gi", reservedFor(data, data.UID)))}, "bind a"},
		"scheduler chose a node":   {claimView{claim: claimOf("data", "5Gi", note(storagehelpers.AnnSelectedNode)), class: late, candidates: pvs(volumeOf("elsewhere", "9Gi"))}, "ask example.com/disk"},
		"no class at all":          {claimView{claim: noClass}, "Pending FailedBinding no persistent volumes available for this claim and no storage class is set"},
		"default class later":      {claimView{claim: noClass, defaultClass: "standard"}, "class standard"},
		"wants no class":           {claimView{claim: claimOf("data", "1Gi", func(c *corev1.PersistentVolumeClaim) { c.Spec.StorageClassName = ptr.To("") }), defaultClass: "standard"}, "Pending FailedBinding no persistent volumes available for this claim and no storage class is set"},
		"class is not there":       {claimView{claim: data}, `Pending ProvisioningFailed storageclass.storage.k8s.io "fast" not found`},
		"static class":             {claimView{claim: data, class: classOf("kubernetes.io/no-provisioner", storagev1.VolumeBindingImmediate)}, "Pending ProvisioningFailed no volume plugin matched name: kubernetes.io/no-provisioner"},
		"provisioner that moved":   {claimView{claim: data, class: classOf("kubernetes.io/aws-ebs", storagev1.VolumeBindingImmediate)}, "ask ebs.csi.aws.com"},
		"nobody wants it any more": {claimView{claim: claimOf("data", "1Gi", func(c *corev1.PersistentVolumeClaim) { c.DeletionTimestamp = &metav1.Time{} }), class: immediate}, ""},

		"named, absent":          {claimView{claim: claimOf("data", "1Gi", names("v"))}, "Pending"},
		"named, free":            {claimView{claim: claimOf("data", "1Gi", names("v")), volume: volumeOf("v", "1Gi")}, "bind v"},
		"named, too small":       {claimView{claim: claimOf("data", "2Gi", names("v")), volume: volumeOf("v", "1Gi")}, `Pending VolumeMismatch Cannot bind to requested volume "v": requested PV is too small`},
		"named, other class":     {claimView{claim: claimOf("data", "1Gi", names("v")), volume: volumeOf("v", "1Gi", func(pv *corev1.PersistentVolume) { pv.Spec.StorageClassName = "slow" })}, `Pending VolumeMismatch Cannot bind to requested volume "v": storageClassName does not match`},
		"named, reserved for us": {claimView{claim: claimOf("data", "1Gi", names("v")), volume: volumeOf("v", "1Gi", reservedFor(data, ""))}, "bind v"},
		"named, taken":           {claimView{claim: claimOf("data", "1Gi", names("v")), volume: volumeOf("v", "1Gi", reservedFor(claimOf("other", "1Gi"), "u"))}, `Pending FailedBinding volume "v" already bound to a different claim.`},
		"given by us, taken":     {claimView{claim: claimOf("data", "1Gi", names("v"), note(storagehelpers.AnnBoundByController)), volume: volumeOf("v", "1Gi", reservedFor(claimOf("other", "1Gi"), "u"))}, "error invalid binding"},
		"bound":                  {claimView{claim: ours, volume: volumeOf("v", "1Gi", reservedFor(data, data.UID))}, "bind v"},
		"bound, volume forgot":   {claimView{claim: ours, volume: volumeOf("v", "1Gi")}, "bind v"},
		"bound, volume gone":     {claimView{claim: ours}, "Lost ClaimLost Bound claim has lost its PersistentVolume. Data on the volume is lost!"},
		"bound, reference gone":  {claimView{claim: claimOf("data", "1Gi", note(storagehelpers.AnnBindCompleted))}, "Lost ClaimLost Bound claim has lost reference to PersistentVolume. Data on the volume is lost!"},
		"bound, to another's":    {claimView{claim: ours, volume: volumeOf("v", "1Gi", reservedFor(data, "newer"))}, "Lost ClaimMisbound Two claims are bound to the same volume, this one is bound incorrectly"},
	} {
		p, err := planClaim(tc.view)
		got := strings.TrimSpace(fmt.Sprintf("%s %s %s", p.phase, p.event.reason, p.event.message))
		switch {
		case err != nil:
			got = "error " + strings.SplitN(err.Error(), " of", 2)[0]
		case p.bind != nil:
			got = "bind " + p.bind.Name
		case p.class != "":
			got = "class " + p.class
		case p.provisioner != "":
			got = "ask " + p.provisioner
		}
		if got != tc.want {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
	}
}

func TestPlanVolume(t *testing.T) {
	t.Parallel()
	bound := claimOf("data", "1Gi", names("v"))
	mine := reservedFor(bound, bound.UID)
	policy := func(p corev1.PersistentVolumeReclaimPolicy) func(*corev1.PersistentVolume) {
		return func(pv *corev1.PersistentVolume) { pv.Spec.PersistentVolumeReclaimPolicy = p }
	}
	by := func(name string) func(*corev1.PersistentVolume) {
		return func(pv *corev1.PersistentVolume) { pv.Annotations[storagehelpers.AnnDynamicallyProvisioned] = name }
	}
	block := func(pv *corev1.PersistentVolume) { pv.Spec.VolumeMode = ptr.To(corev1.PersistentVolumeBlock) }
	failed := func(pv *corev1.PersistentVolume) { pv.Status.Phase = corev1.VolumeFailed }
	const del = corev1.PersistentVolumeReclaimDelete
	for name, tc := range map[string]struct {
		pv    *corev1.PersistentVolume
		claim *corev1.PersistentVolumeClaim
		want  string // phase [reason] [unbind]
	}{
		"free":                       {volumeOf("v", "1Gi"), nil, "Available"},
		"reserved":                   {volumeOf("v", "1Gi", reservedFor(bound, "")), nil, "Available"},
		"bound":                      {volumeOf("v", "1Gi", mine), bound, "Bound"},
		"claim to be written":        {volumeOf("v", "1Gi", mine), claimOf("data", "1Gi"), ""},
		"of another mode":            {volumeOf("v", "1Gi", mine, block), claimOf("data", "1Gi"), "VolumeMismatch"},
		"claim took another":         {volumeOf("w", "1Gi", mine), bound, "Available unbind"},
		"claim took another, ours":   {volumeOf("w", "1Gi", mine, by("x.org/y"), policy(del)), bound, "Released"},
		"claim gone, retained":       {volumeOf("v", "1Gi", mine), nil, "Released"},
		"claim made anew":            {volumeOf("v", "1Gi", reservedFor(bound, "older")), bound, "Released"},
		"claim gone, to be deleted":  {volumeOf("v", "1Gi", mine, policy(del), by("x.org/y")), nil, "Released"},
		"its provisioner moved":      {volumeOf("v", "1Gi", mine, policy(del), by("kubernetes.io/gce-pd")), nil, "Released"},
		"nobody deletes it":          {volumeOf("v", "1Gi", mine, policy(del)), nil, "Failed VolumeFailedDelete"},
		"recycling":                  {volumeOf("v", "1Gi", mine, policy(corev1.PersistentVolumeReclaimRecycle)), nil, "Failed VolumeFailedRecycle"},
		"odd policy":                 {volumeOf("v", "1Gi", mine, policy("Burn")), nil, "Failed VolumeUnknownReclaimPolicy"},
		"its deleter failed already": {volumeOf("v", "1Gi", mine, failed, policy(del), by("x.org/y")), nil, ""},
	} {
		p := planVolume(tc.pv, tc.claim)
		got := strings.TrimSpace(string(p.phase) + " " + p.event.reason)
		if p.unbind {
			got += " unbind"
		}
		if got != tc.want {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
	}
}

// TestHistories plays random lives of claims and volumes against both plans, in any order, and checks that what is left when
// nothing more happens is a matching: no volume has two claims, and nobody waits for what is there.
func TestHistories(t *testing.T) {
	t.Parallel()
	for seed := range uint64(100) {
		w := &world{r: rand.New(rand.NewPCG(seed, 7)), claims: map[string]*corev1.PersistentVolumeClaim{}, volumes: map[string]*corev1.PersistentVolume{}}
		for step := range 60 {
			w.happen(step)
			for range w.r.IntN(6) {
				w.sync(t)
			}
		}
		for range 5 { // more rounds than a chain of consequences is long
			for name := range w.volumes {
				w.syncVolume(name)
			}
			for name := range w.claims {
				w.syncClaim(t, name, false)
			}
		}
		w.settle(t)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

type world struct {
	r       *rand.Rand
	claims  map[string]*corev1.PersistentVolumeClaim
	volumes map[string]*corev1.PersistentVolume
}

func (w *world) happen(step int) {
	size := fmt.Sprintf("%dGi", 1+w.r.IntN(5))
	switch w.r.IntN(8) {
	case 0, 1, 2:
		pv := volumeOf(fmt.Sprint("v", step), size, func(pv *corev1.PersistentVolume) { pv.Status.Phase = corev1.VolumePending })
		if w.r.IntN(4) == 0 {
			reservedFor(claimOf(fmt.Sprint("c", w.r.IntN(60)), "1Gi"), "")(pv)
		}
		w.volumes[pv.Name] = pv
	case 3, 4, 5:
		c := claimOf(fmt.Sprint("c", w.r.IntN(12)), size)
		if w.claims[c.Name] == nil {
			c.UID = types.UID(fmt.Sprint(c.Name, "-", step))
			if w.r.IntN(4) == 0 {
				c.Spec.VolumeName = fmt.Sprint("v", w.r.IntN(60))
			}
			w.claims[c.Name] = c
		}
	case 6:
		delete(w.claims, fmt.Sprint("c", w.r.IntN(12)))
	case 7: // an administrator frees what was released
		for _, pv := range w.volumes {
			if pv.Status.Phase == corev1.VolumeReleased {
				pv.Spec.ClaimRef = nil
				return
			}
		}
	}
}

// sync does what the controller does for one random key.
func (w *world) sync(t *testing.T) {
	t.Helper()
	if names := slices.Sorted(maps.Keys(w.volumes)); w.r.IntN(2) == 0 && len(names) > 0 {
		w.syncVolume(names[w.r.IntN(len(names))])
	}
	if names := slices.Sorted(maps.Keys(w.claims)); len(names) > 0 {
		w.syncClaim(t, names[w.r.IntN(len(names))], w.r.IntN(5) == 0)
	}
}

func (w *world) syncVolume(name string) {
	pv := w.volumes[name]
	var claim *corev1.PersistentVolumeClaim
	if ref := pv.Spec.ClaimRef; ref != nil && w.claims[ref.Name] != nil && w.claims[ref.Name].UID == ref.UID {
		claim = w.claims[ref.Name]
	}
	p := planVolume(pv, claim)
	if p.unbind {
		w.volumes[name] = unbound(pv)
	}
	if p.phase != "" {
		w.volumes[name].Status.Phase = p.phase
	}
}

// syncClaim stops between two writes if it is told to.
func (w *world) syncClaim(t *testing.T, name string, stop bool) {
	t.Helper()
	claim := w.claims[name]
	v := claimView{claim: claim, volume: w.volumes[claim.Spec.VolumeName]}
	for _, pv := range w.volumes {
		v.candidates = append(v.candidates, pv)
	}
	p, err := planClaim(v)
	if err != nil {
		return // retried
	}
	if p.bind == nil {
		claim.Status.Phase = p.phase
		return
	}
	pv, _, err := storagehelpers.GetBindVolumeToClaim(p.bind, claim)
	if err != nil {
		t.Error(err)
		return
	}
	pv.Status.Phase = corev1.VolumeBound
	w.volumes[pv.Name] = pv
	if stop {
		return
	}
	if next := bound(claim, pv); next != nil {
		w.claims[name] = next
	}
	w.claims[name].Status.Phase = corev1.ClaimBound
}

func (w *world) settle(t *testing.T) {
	t.Helper()
	taken := map[string]string{}
	for name, c := range w.claims {
		if c.Status.Phase != corev1.ClaimBound {
			for _, pv := range w.volumes {
				if c.Spec.VolumeName == "" && pv.Spec.ClaimRef == nil && satisfies(c, pv) == nil {
					t.Errorf("claim %s waits although volume %s is free", name, pv.Name)
				}
			}
			continue
		}
		if other := taken[c.Spec.VolumeName]; other != "" {
			t.Errorf("claims %s and %s have volume %s", name, other, c.Spec.VolumeName)
		}
		taken[c.Spec.VolumeName] = name
		pv := w.volumes[c.Spec.VolumeName]
		if pv == nil || pv.Spec.ClaimRef == nil || pv.Spec.ClaimRef.UID != c.UID || pv.Status.Phase != corev1.VolumeBound {
			t.Errorf("claim %s is bound to %s, which does not agree: %+v", name, c.Spec.VolumeName, pv)
		}
		if err := satisfies(c, pv); err != nil {
			t.Errorf("claim %s is bound to %s: %v", name, pv.Name, err)
		}
	}
	for name, pv := range w.volumes {
		if ref := pv.Spec.ClaimRef; pv.Status.Phase == corev1.VolumeBound && (w.claims[ref.Name] == nil || w.claims[ref.Name].Spec.VolumeName != name) {
			t.Errorf("volume %s is bound to %s, which does not agree", name, ref.Name)
		}
	}
}
