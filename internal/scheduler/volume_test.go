package scheduler

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	volumehelper "k8s.io/component-helpers/storage/volume"
	"k8s.io/utils/ptr"
)

func testClass(name string, change func(*storagev1.StorageClass)) *storagev1.StorageClass {
	c := &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Provisioner: "x.io/p", VolumeBindingMode: ptr.To(storagev1.VolumeBindingWaitForFirstConsumer)}
	if change != nil {
		change(c)
	}
	return c
}

func testClaim(name string, changes ...func(*corev1.PersistentVolumeClaim)) *corev1.PersistentVolumeClaim {
	c := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "ns", UID: types.UID(name)}}
	c.Spec.StorageClassName = ptr.To("late")
	c.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	c.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
	for _, change := range changes {
		change(c)
	}
	return c
}

func boundTo(volume string) func(*corev1.PersistentVolumeClaim) {
	return func(c *corev1.PersistentVolumeClaim) {
		c.Spec.VolumeName = volume
		c.Annotations = map[string]string{volumehelper.AnnBindCompleted: "yes"}
	}
}

func testVolume(name, node string, changes ...func(*corev1.PersistentVolume)) *corev1.PersistentVolume {
	pv := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name)}}
	pv.Spec.StorageClassName = "late"
	pv.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	pv.Spec.Capacity = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("2Gi")}
	pv.Spec.PersistentVolumeSource.Local = &corev1.LocalVolumeSource{Path: "/" + name}
	pv.Status.Phase = corev1.VolumeAvailable
	if node != "" {
		pv.Spec.NodeAffinity = &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
			MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{node}}},
		}}}}
	}
	for _, change := range changes {
		change(pv)
	}
	return pv
}

func mounts(claims ...string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		for _, c := range claims {
			p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: c, VolumeSource: corev1.VolumeSource{
				PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: c},
			}})
		}
	}
}

// storageOn makes a cluster of nodes a and b in zones of the same name, with class "late", and what else there is.
func storageOn(t *testing.T, objects ...any) *cluster {
	t.Helper()
	c := newCluster()
	for _, name := range []string{"a", "b"} {
		c.setNode(testNode(name, func(n *corev1.Node) {
			n.Labels = map[string]string{corev1.LabelHostname: name, corev1.LabelTopologyZone: name}
		}))
	}
	c.storage.classes["late"] = testClass("late", nil)
	for _, o := range objects {
		switch o := o.(type) {
		case *corev1.PersistentVolumeClaim:
			c.storage.setClaim(o)
		case *corev1.PersistentVolume:
			c.storage.setVolume(o)
		case *storagev1.StorageClass:
			c.storage.classes[o.Name] = o
		case *storagev1.CSIDriver:
			c.storage.drivers[o.Name] = o
		case *storagev1.CSINode:
			c.storage.nodes[o.Name] = o
		case *storagev1.CSIStorageCapacity:
			c.storage.capacities[types.NamespacedName{Name: o.Name}] = o
		case *corev1.Pod:
			c.place(newPodInfo(o), "a", false)
		default:
			t.Fatalf("what is a %T?", o)
		}
	}
	return c
}

// TestVolumeRules asks where a pod may go, or what is said of the nodes.
func TestVolumeRules(t *testing.T) {
	t.Parallel()
	now := func(c *storagev1.StorageClass) { c.VolumeBindingMode = ptr.To(storagev1.VolumeBindingImmediate) }
	class := func(name string) func(*corev1.PersistentVolumeClaim) {
		return func(c *corev1.PersistentVolumeClaim) { c.Spec.StorageClassName = &name }
	}
	selected := func(node string) func(*corev1.PersistentVolumeClaim) {
		return func(c *corev1.PersistentVolumeClaim) {
			c.Annotations = map[string]string{volumehelper.AnnSelectedNode: node}
		}
	}
	onlyA := func(c *storagev1.StorageClass) {
		c.AllowedTopologies = []corev1.TopologySelectorTerm{{MatchLabelExpressions: []corev1.TopologySelectorLabelRequirement{{Key: corev1.LabelTopologyZone, Values: []string{"a"}}}}}
	}
	capacity := func(zone, size string) *storagev1.CSIStorageCapacity {
		return &storagev1.CSIStorageCapacity{ObjectMeta: metav1.ObjectMeta{Name: zone}, StorageClassName: "late", Capacity: ptr.To(resource.MustParse(size)),
			NodeTopology: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelTopologyZone: zone}}}
	}
	driver := &storagev1.CSIDriver{ObjectMeta: metav1.ObjectMeta{Name: "x.io/p"}, Spec: storagev1.CSIDriverSpec{StorageCapacity: ptr.To(true)}}
	csi := func(handle string) func(*corev1.PersistentVolume) {
		return func(pv *corev1.PersistentVolume) {
			pv.Spec.PersistentVolumeSource = corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: "x.io/p", VolumeHandle: handle}}
		}
	}
	limit := func(node string, n int32) *storagev1.CSINode {
		return &storagev1.CSINode{ObjectMeta: metav1.ObjectMeta{Name: node}, Spec: storagev1.CSINodeSpec{Drivers: []storagev1.CSINodeDriver{{
			Name: "x.io/p", NodeID: node, Allocatable: &storagev1.VolumeNodeResources{Count: &n}}}}}
	}
	sole := func(c *corev1.PersistentVolumeClaim) {
		c.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOncePod}
	}
	user := func(name string, claims ...string) *corev1.Pod { return testPod(name, mounts(claims...)) }
	labelled := func(zone string) func(*corev1.PersistentVolume) {
		return func(pv *corev1.PersistentVolume) { pv.Labels = map[string]string{corev1.LabelTopologyZone: zone} }
	}
	disk := func(name string, readOnly bool) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: "d", VolumeSource: corev1.VolumeSource{
				GCEPersistentDisk: &corev1.GCEPersistentDiskVolumeSource{PDName: name, ReadOnly: readOnly}}})
		}
	}
	const none = " preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
	for name, tt := range map[string]struct {
		have []any
		pod  func(*corev1.Pod)
		want string // node, "a or b", or message
	}{
		"no such claim":              {nil, mounts("x"), `0/2 nodes are available: persistentvolumeclaim "x" not found.` + none},
		"claim of another binds now": {[]any{testClass("now", now), testClaim("x", class("now"))}, mounts("x"), "0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims." + none},
		"class is gone":              {[]any{testClaim("x", class("gone"))}, mounts("x"), "0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims." + none},
		"prebound claim":             {[]any{testClaim("x", func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeName = "v" })}, mounts("x"), "0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims." + none},
		"claim is going":             {[]any{testClaim("x", func(c *corev1.PersistentVolumeClaim) { c.DeletionTimestamp = &metav1.Time{} })}, mounts("x"), `0/2 nodes are available: persistentvolumeclaim "x" is being deleted.` + none},
		"claim is lost": {[]any{testClaim("x", boundTo("v"), func(c *corev1.PersistentVolumeClaim) { c.Status.Phase = corev1.ClaimLost })}, mounts("x"),
			`0/2 nodes are available: persistentvolumeclaim "x" bound to non-existent persistentvolume "v".` + none},
		"bound here":              {[]any{testVolume("v", "b"), testClaim("x", boundTo("v"))}, mounts("x"), "b"},
		"bound elsewhere":         {[]any{testVolume("v", "c"), testClaim("x", boundTo("v"))}, mounts("x"), "0/2 nodes are available: 2 node(s) didn't match PersistentVolume's node affinity." + none},
		"bound to nothing":        {[]any{testClaim("x", boundTo("v"))}, mounts("x"), "0/2 nodes are available: 2 node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)." + none},
		"a volume that is there":  {[]any{testClass("late", func(c *storagev1.StorageClass) { c.Provisioner = noProvisioner }), testVolume("v", "b"), testClaim("x")}, mounts("x"), "b"},
		"one volume for two":      {[]any{testClass("late", func(c *storagev1.StorageClass) { c.Provisioner = noProvisioner }), testVolume("v", "b"), testClaim("x"), testClaim("y")}, mounts("x", "y"), "0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind." + none},
		"provisioned anywhere":    {[]any{testClaim("x")}, mounts("x"), "a or b"},
		"provisioned in a zone":   {[]any{testClass("late", onlyA), testClaim("x")}, mounts("x"), "a"},
		"provisioned as selected": {[]any{testClaim("x", selected("b"))}, mounts("x"), "b"},
		"selected node is gone":   {[]any{testClaim("x", selected("z"))}, mounts("x"), "0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind." + none},
		"room in one zone":        {[]any{driver, capacity("a", "1Mi"), capacity("b", "10Gi"), testClaim("x")}, mounts("x"), "b"},
		"no room":                 {[]any{driver, capacity("a", "1Mi"), testClaim("x")}, mounts("x"), "0/2 nodes are available: 2 node(s) did not have enough free storage." + none},
		"volume of a zone":        {[]any{testVolume("v", "", labelled("b__c")), testClaim("x", boundTo("v"))}, mounts("x"), "b"},
		"volume of another zone":  {[]any{testVolume("v", "", labelled("c")), testClaim("x", boundTo("v"))}, mounts("x"), "0/2 nodes are available: 2 node(s) had no available volume zone." + none},
		"sole user": {[]any{testVolume("v", ""), testClaim("x", boundTo("v"), sole), user("u", "x")}, mounts("x"),
			"0/2 nodes are available: 2 node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode." +
				" preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod."},
		"full of volumes": {[]any{limit("a", 1), testVolume("v", "", csi("1")), testVolume("w", "", csi("2")), testClaim("x", boundTo("v")), testClaim("y", boundTo("w")), user("u", "x")},
			mounts("y"), "b"},
		"the same volume again": {[]any{limit("a", 1), limit("b", 0), testVolume("v", "", csi("1")), testClaim("x", boundTo("v")), user("u", "x")}, mounts("x"), "a"},
		"limit for what is to be": {[]any{limit("a", 0), limit("b", 0), testClaim("x")}, mounts("x"),
			"0/2 nodes are available: 2 node(s) exceed max volume count. preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod."},
		"disk in use":     {[]any{testPod("u", disk("d", false))}, disk("d", true), "b"},
		"disk of readers": {[]any{testPod("u", disk("d", true)), testPod("v", func(p *corev1.Pod) { p.Spec.NodeName = "a" })}, disk("d", true), "a or b"},
	} {
		c := storageOn(t, tt.have...)
		d := decide(c, newPending(testPod("p", tt.pod)), testOptions())
		got := d.node
		if got == "" {
			got = d.message()
		} else if tt.want == "a or b" {
			got = tt.want
		}
		if got != tt.want {
			t.Errorf("%s: %s\nwant %s", name, got, tt.want)
		}
	}
}

// TestSoleUserIsEvicted: of two nodes only the one where the claim's user runs can be freed for a more important pod.
func TestSoleUserIsEvicted(t *testing.T) {
	t.Parallel()
	c := storageOn(t, testVolume("v", ""), testClaim("x", boundTo("v"), func(c *corev1.PersistentVolumeClaim) {
		c.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOncePod}
	}), testPod("user", mounts("x")))
	c.place(newPodInfo(testPod("bystander", nil)), "b", false)
	d := decide(c, newPending(testPod("p", func(p *corev1.Pod) { mounts("x")(p); p.Spec.Priority = ptr.To(int32(10)) })), testOptions())
	if d.plan.node == nil || d.plan.node.name != "a" || len(d.plan.victims) != 1 || d.plan.victims[0].key.Name != "user" {
		t.Errorf("plan %+v", d.plan)
	}
}

// TestReservedVolumes: what one pod is given, the next cannot have, until it is given back.
func TestReservedVolumes(t *testing.T) {
	t.Parallel()
	c := storageOn(t, testClass("late", func(c *storagev1.StorageClass) { c.Provisioner = noProvisioner }),
		testVolume("v", "a"), testVolume("w", "b"), testClaim("x"), testClaim("y"), testClaim("z"))
	b := &volumeBinder{inbox: newInbox()}
	where := func(claim string) string {
		return decide(c, newPending(testPod("p-"+claim, mounts(claim))), testOptions()).node
	}
	reserve := func(claim, node string) reservation {
		r, why := b.reserve(c, newPending(testPod("p-"+claim, mounts(claim))), c.nodes[node])
		if why.refuses() {
			t.Fatal(why.text)
		}
		return r
	}
	first := reserve("x", "a")
	if got := where("y"); got != "b" {
		t.Errorf("y may go to %q, want b: the volume on a is promised", got)
	}
	if got := where("x"); got != "a" {
		t.Errorf("another user of x may go to %q, want a: its volume is there", got)
	}
	reserve("y", "b")
	if got := where("z"); got != "" {
		t.Errorf("z may go to %q, want nowhere", got)
	}
	first.undo(c)
	if got := where("z"); got != "a" {
		t.Errorf("z may go to %q, want a: the volume was given back", got)
	}
}

// TestWaitForVolumes plays what can become of claims while a pod waits for them.
func TestWaitForVolumes(t *testing.T) {
	t.Parallel()
	rev := func(n int) func(*corev1.PersistentVolumeClaim) {
		return func(c *corev1.PersistentVolumeClaim) { c.ResourceVersion = fmt.Sprint(n) }
	}
	selected := func(c *corev1.PersistentVolumeClaim) {
		c.Annotations = map[string]string{volumehelper.AnnSelectedNode: "a"}
	}
	for name, tt := range map[string]struct {
		then func(c *cluster)
		want string // "": bound; "waits"
	}{
		"nothing happens":  {func(*cluster) {}, "waits"},
		"annotation shows": {func(c *cluster) { c.storage.setClaim(testClaim("x", selected, rev(2))) }, "waits"},
		"an older state shows": {func(c *cluster) {
			c.storage.setClaim(testClaim("x", selected, rev(2)))
			c.storage.setClaim(testClaim("x", rev(1)))
		}, "waits"},
		"bound": {func(c *cluster) {
			c.storage.setVolume(testVolume("v", "a"))
			c.storage.setClaim(testClaim("x", boundTo("v"), rev(3)))
		}, ""},
		"bound, volume not seen": {func(c *cluster) { c.storage.setClaim(testClaim("x", boundTo("v"), rev(3))) }, "waits"},
		"bound elsewhere": {func(c *cluster) {
			c.storage.setVolume(testVolume("v", "b"))
			c.storage.setClaim(testClaim("x", boundTo("v"), rev(3)))
		}, `persistentvolume "v" cannot be reached from node "a": no matching NodeSelectorTerms`},
		"provisioner gives up": {func(c *cluster) {
			c.storage.setClaim(testClaim("x", selected, rev(2)))
			c.storage.setClaim(testClaim("x", rev(3)))
		}, `selectedNode annotation reset for PVC "x"`},
		"claim is deleted": {func(c *cluster) { c.storage.removeClaim(testClaim("x")) }, `persistentvolumeclaim "x" was deleted`},
	} {
		c := storageOn(t, testClaim("x", rev(1)))
		w, _ := c.storage.claimsOf(newPending(testPod("p", mounts("x"))))
		plan, _ := c.storage.plan(w, c.nodes["a"])
		c.storage.reserve(plan, "a")
		wait := &volumeWait{plan: plan, node: c.nodes["a"].object, done: make(chan error, 1)}
		c.storage.startWait(wait)
		tt.then(c)
		c.storage.look(keyOf(testClaim("x")))
		got := "waits"
		select {
		case err := <-wait.done:
			got = ""
			if err != nil {
				got = err.Error()
			}
			if len(c.storage.waits) > 0 {
				t.Errorf("%s: the wait goes on", name)
			}
		default:
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}
