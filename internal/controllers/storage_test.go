package controllers

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
)

func storage(size string) corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)}
}

func (c *cluster) newVolume(name, size, class string, edit ...func(*corev1.PersistentVolume)) {
	c.t.Helper()
	pv := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PersistentVolumeSpec{
			Capacity: storage(size), AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, StorageClassName: class,
			PersistentVolumeSource: corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/srv/" + name}},
		},
	}
	for _, f := range edit {
		f(pv)
	}
	if _, err := c.CoreV1().PersistentVolumes().Create(c.t.Context(), pv, metav1.CreateOptions{}); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) newClaim(name, size string, class *string, edit ...func(*corev1.PersistentVolumeClaim)) {
	c.t.Helper()
	claim := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, StorageClassName: class,
			Resources: corev1.VolumeResourceRequirements{Requests: storage(size)},
		},
	}
	for _, f := range edit {
		f(claim)
	}
	if _, err := c.CoreV1().PersistentVolumeClaims("default").Create(c.t.Context(), claim, metav1.CreateOptions{}); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) newClass(name, provisioner string, mode storagev1.VolumeBindingMode, isDefault bool) {
	c.t.Helper()
	class := &storagev1.StorageClass{
		ObjectMeta:  metav1.ObjectMeta{Name: name, Annotations: map[string]string{"storageclass.kubernetes.io/is-default-class": fmt.Sprint(isDefault)}},
		Provisioner: provisioner, VolumeBindingMode: &mode,
	}
	if _, err := c.StorageV1().StorageClasses().Create(c.t.Context(), class, metav1.CreateOptions{}); err != nil {
		c.t.Fatal(err)
	}
}

// claimIs waits until the claim shows phase and volume.
func (c *cluster) claimIs(name string, phase corev1.PersistentVolumeClaimPhase, volume string) {
	c.t.Helper()
	c.eventually(fmt.Sprintf("claim %s is %s with volume %q", name, phase, volume), func(ctx context.Context) (string, error) {
		got, err := c.CoreV1().PersistentVolumeClaims("default").Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err.Error(), err
		}
		if got.Status.Phase != phase || got.Spec.VolumeName != volume {
			return fmt.Sprintf("%s, volume %q", got.Status.Phase, got.Spec.VolumeName), nil
		}
		return "", nil
	})
}

func (c *cluster) volumeIs(name string, phase corev1.PersistentVolumePhase) *corev1.PersistentVolume {
	c.t.Helper()
	var got *corev1.PersistentVolume
	c.eventually(fmt.Sprintf("volume %s is %s", name, phase), func(ctx context.Context) (string, error) {
		var err error
		if got, err = c.CoreV1().PersistentVolumes().Get(ctx, name, metav1.GetOptions{}); err != nil {
			return err.Error(), err
		}
		if got.Status.Phase != phase {
			return string(got.Status.Phase), nil
		}
		return "", nil
	})
	return got
}

// hasEvent waits for an event about the object of that name.
func (c *cluster) hasEvent(namespace, name, reason, part string) {
	c.t.Helper()
	c.eventually("event "+reason+" about "+name, func(ctx context.Context) (string, error) {
		list, err := c.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err.Error(), err
		}
		var seen []string
		for _, e := range list.Items {
			if e.InvolvedObject.Name == name && e.Reason == reason && strings.Contains(e.Message, part) {
				return "", nil
			}
			seen = append(seen, e.InvolvedObject.Name+" "+e.Reason+" "+e.Message)
		}
		return strings.Join(seen, "; "), nil
	})
}

// TestVolumesAndClaims follows static volumes from free to released, and orders one from a provisioner.
func TestVolumesAndClaims(t *testing.T) {
	t.Parallel()
	c := start(t, nil)
	c.newVolume("small", "1Gi", "")
	c.newVolume("large", "9Gi", "")
	c.newVolume("reserved", "9Gi", "", func(pv *corev1.PersistentVolume) {
		pv.Spec.ClaimRef = &corev1.ObjectReference{Namespace: "default", Name: "vip"}
	})
	if pv := c.volumeIs("large", corev1.VolumeAvailable); pv.Status.LastPhaseTransitionTime == nil {
		t.Error("the time of the phase's change is missing")
	}
	none := ptr.To("")
	c.newClaim("data", "2Gi", none)
	c.newClaim("vip", "1Gi", none)
	c.newClaim("more", "2Gi", none)
	c.claimIs("data", corev1.ClaimBound, "large")
	c.claimIs("vip", corev1.ClaimBound, "reserved")
	c.volumeIs("large", corev1.VolumeBound)
	c.claimIs("more", corev1.ClaimPending, "")
	c.hasEvent("default", "more", "FailedBinding", "no persistent volumes available for this claim")
	got, err := c.CoreV1().PersistentVolumeClaims("default").Get(t.Context(), "data", metav1.GetOptions{})
	if err != nil || got.Status.Capacity.Storage().String() != "9Gi" || got.Annotations["pv.kubernetes.io/bind-completed"] != "yes" || got.Annotations["pv.kubernetes.io/bound-by-controller"] != "yes" {
		t.Errorf("bound claim: %v %v %v", err, got.Status.Capacity, got.Annotations)
	}
	// A volume that comes later is found by who waits, without polling.
	c.newVolume("late", "3Gi", "")
	c.claimIs("more", corev1.ClaimBound, "late")

	if err := c.CoreV1().PersistentVolumeClaims("default").Delete(t.Context(), "data", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	pv := c.volumeIs("large", corev1.VolumeReleased)
	c.newClaim("next", "2Gi", none)
	c.hasEvent("default", "next", "FailedBinding", "no persistent volumes available")
	pv.Spec.ClaimRef, pv.ResourceVersion = nil, "" // whatever the binder writes meanwhile
	if _, err := c.CoreV1().PersistentVolumes().Update(t.Context(), pv, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.claimIs("next", corev1.ClaimBound, "large")
	if err := c.CoreV1().PersistentVolumes().Delete(t.Context(), "late", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.loseVolume("late")
	c.claimIs("more", corev1.ClaimLost, "late")
	c.hasEvent("default", "more", "ClaimLost", "Data on the volume is lost!")
}

// loseVolume takes a volume away although its finalizers protect it.
func (c *cluster) loseVolume(name string) {
	c.t.Helper()
	_, err := c.CoreV1().PersistentVolumes().Patch(c.t.Context(), name, types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
	if err != nil && !strings.Contains(err.Error(), "not found") {
		c.t.Fatal(err)
	}
}

// TestProvisioning plays the external provisioner and, for the class that waits, the scheduler.
func TestProvisioning(t *testing.T) {
	t.Parallel()
	c := start(t, nil)
	c.newClaim("early", "1Gi", nil)
	c.hasEvent("default", "early", "FailedBinding", "no storage class is set")
	c.newClaim("lost", "1Gi", ptr.To("nowhere"))
	c.hasEvent("default", "lost", "ProvisioningFailed", `storageclass.storage.k8s.io "nowhere" not found`)
	c.newClass("late", "example.com/late", storagev1.VolumeBindingWaitForFirstConsumer, false)
	c.newClaim("waits", "1Gi", ptr.To("late"))
	c.hasEvent("default", "waits", "WaitForFirstConsumer", "waiting for first consumer to be created before binding")
	c.newClass("standard", "example.com/disk", storagev1.VolumeBindingImmediate, true)
	c.asked("early", "example.com/disk") // given the default class after the fact
	c.hasEvent("default", "early", "ExternalProvisioning", "example.com/disk")

	c.provision("early", "pvc-early")
	c.claimIs("early", corev1.ClaimBound, "pvc-early")
	if _, err := c.CoreV1().PersistentVolumeClaims("default").Patch(t.Context(), "waits", types.MergePatchType,
		[]byte(`{"metadata":{"annotations":{"volume.kubernetes.io/selected-node":"node-1"}}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	c.asked("waits", "example.com/late")
	c.provision("waits", "pvc-waits")
	c.claimIs("waits", corev1.ClaimBound, "pvc-waits")

	if err := c.CoreV1().PersistentVolumeClaims("default").Delete(t.Context(), "early", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.volumeIs("pvc-early", corev1.VolumeReleased) // and its provisioner deletes it
}

func (c *cluster) asked(claim, provisioner string) {
	c.t.Helper()
	c.eventually(provisioner+" is asked for "+claim, func(ctx context.Context) (string, error) {
		got, err := c.CoreV1().PersistentVolumeClaims("default").Get(ctx, claim, metav1.GetOptions{})
		if err != nil {
			return err.Error(), err
		}
		for _, key := range []string{"volume.kubernetes.io/storage-provisioner", "volume.beta.kubernetes.io/storage-provisioner"} {
			if got.Annotations[key] != provisioner {
				return fmt.Sprint(got.Annotations), nil
			}
		}
		return "", nil
	})
}

// provision does what an external provisioner does.
func (c *cluster) provision(claim, volume string) {
	c.t.Helper()
	got, err := c.CoreV1().PersistentVolumeClaims("default").Get(c.t.Context(), claim, metav1.GetOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	c.newVolume(volume, "1Gi", *got.Spec.StorageClassName, func(pv *corev1.PersistentVolume) {
		pv.Annotations = map[string]string{"pv.kubernetes.io/provisioned-by": "example.com/disk"}
		pv.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimDelete
		pv.Spec.ClaimRef = &corev1.ObjectReference{APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: "default", Name: claim, UID: got.UID}
	})
}

// TestStorageInUse deletes what is in use, and then what uses it.
func TestStorageInUse(t *testing.T) {
	t.Parallel()
	c := start(t, nil)
	c.hollow("node-1")
	c.newVolume("disk", "1Gi", "")
	class := &storagev1.VolumeAttributesClass{ObjectMeta: metav1.ObjectMeta{Name: "gold"}, DriverName: "example.com", Parameters: map[string]string{"iops": "9"}}
	if _, err := c.StorageV1().VolumeAttributesClasses().Create(t.Context(), class, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.newClaim("data", "1Gi", ptr.To(""))
	c.newClaim("other", "1Gi", ptr.To(""), func(claim *corev1.PersistentVolumeClaim) { claim.Spec.VolumeAttributesClassName = ptr.To("gold") })
	c.claimIs("data", corev1.ClaimBound, "disk")
	c.eventually("all are protected", func(ctx context.Context) (string, error) {
		claim, err := c.CoreV1().PersistentVolumeClaims("default").Get(ctx, "data", metav1.GetOptions{})
		if err != nil {
			return err.Error(), err
		}
		pv, err := c.CoreV1().PersistentVolumes().Get(ctx, "disk", metav1.GetOptions{})
		if err != nil {
			return err.Error(), err
		}
		vac, err := c.StorageV1().VolumeAttributesClasses().Get(ctx, "gold", metav1.GetOptions{})
		if err != nil {
			return err.Error(), err
		}
		if len(claim.Finalizers) != 1 || len(pv.Finalizers) != 1 || len(vac.Finalizers) != 1 {
			return fmt.Sprint(claim.Finalizers, pv.Finalizers, vac.Finalizers), nil
		}
		return "", nil
	})
	user := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "user"}, Spec: corev1.PodSpec{
		Containers: []corev1.Container{{Name: "c", Image: "any", VolumeMounts: []corev1.VolumeMount{{Name: "v", MountPath: "/v"}}}},
		Volumes: []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"},
		}}},
	}}
	if _, err := c.CoreV1().Pods("default").Create(t.Context(), user, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventually("the pod runs", func(ctx context.Context) (string, error) {
		p, err := c.CoreV1().Pods("default").Get(ctx, "user", metav1.GetOptions{})
		if err != nil {
			return err.Error(), err
		}
		if p.Status.Phase != corev1.PodRunning {
			return string(p.Status.Phase), nil
		}
		return "", nil
	})
	gone := func(what string, get func(ctx context.Context) (metav1.Object, error)) {
		t.Helper()
		c.eventually(what+" is gone", func(ctx context.Context) (string, error) {
			obj, err := get(ctx)
			if apierrors.IsNotFound(err) {
				return "", nil
			}
			if err != nil {
				return err.Error(), err
			}
			return fmt.Sprint("still there with ", obj.GetFinalizers()), nil
		})
	}
	claims, volumes, classes := c.CoreV1().PersistentVolumeClaims("default"), c.CoreV1().PersistentVolumes(), c.StorageV1().VolumeAttributesClasses()
	for what, remove := range map[string]func() error{
		"volume": func() error { return volumes.Delete(t.Context(), "disk", metav1.DeleteOptions{}) },
		"claim":  func() error { return claims.Delete(t.Context(), "data", metav1.DeleteOptions{}) },
		"class":  func() error { return classes.Delete(t.Context(), "gold", metav1.DeleteOptions{}) },
	} {
		if err := remove(); err != nil {
			t.Fatal(what, err)
		}
	}
	// Another claim comes and goes meanwhile: were those three not held, they would be gone when it is.
	c.newClaim("brief", "1Gi", ptr.To(""))
	if err := claims.Delete(t.Context(), "brief", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	gone("the unused claim", func(ctx context.Context) (metav1.Object, error) { return claims.Get(ctx, "brief", metav1.GetOptions{}) })
	if _, err := claims.Get(t.Context(), "data", metav1.GetOptions{}); err != nil {
		t.Error("a used claim: ", err)
	}
	if _, err := volumes.Get(t.Context(), "disk", metav1.GetOptions{}); err != nil {
		t.Error("a bound volume: ", err)
	}
	if _, err := classes.Get(t.Context(), "gold", metav1.GetOptions{}); err != nil {
		t.Error("a named class: ", err)
	}
	if err := c.CoreV1().Pods("default").Delete(t.Context(), "user", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	gone("the claim", func(ctx context.Context) (metav1.Object, error) { return claims.Get(ctx, "data", metav1.GetOptions{}) })
	gone("the volume", func(ctx context.Context) (metav1.Object, error) { return volumes.Get(ctx, "disk", metav1.GetOptions{}) })
	if err := claims.Delete(t.Context(), "other", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	gone("the class", func(ctx context.Context) (metav1.Object, error) { return classes.Get(ctx, "gold", metav1.GetOptions{}) })
}

// TestEphemeralVolume: a pod's own claim comes and goes with it, and grows with a word to whom it concerns.
func TestEphemeralVolume(t *testing.T) {
	t.Parallel()
	c := start(t, nil)
	c.hollow("node-1")
	c.newVolume("disk", "1Gi", "")
	c.newClaim("second-scratch", "1Gi", ptr.To("nobody")) // stands in the way of the second pod
	template := &corev1.PersistentVolumeClaimTemplate{Spec: corev1.PersistentVolumeClaimSpec{
		AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, StorageClassName: ptr.To(""),
		Resources: corev1.VolumeResourceRequirements{Requests: storage("1Gi")},
	}}
	for _, name := range []string{"first", "second"} {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{
			Containers: []corev1.Container{{Name: "c", Image: "any"}},
			Volumes:    []corev1.Volume{{Name: "scratch", VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{VolumeClaimTemplate: template}}}},
		}}
		if _, err := c.CoreV1().Pods("default").Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	c.claimIs("first-scratch", corev1.ClaimBound, "disk")
	c.hasEvent("default", "second", "FailedBinding", "was not created for pod default/second (pod is not owner)")

	grow := []byte(`{"spec":{"resources":{"requests":{"storage":"2Gi"}}}}`)
	if _, err := c.CoreV1().PersistentVolumeClaims("default").Patch(t.Context(), "first-scratch", types.MergePatchType, grow, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	c.hasEvent("default", "first-scratch", "ExternalExpanding", "waiting for an external controller to expand this PVC")
	if err := c.CoreV1().Pods("default").Delete(t.Context(), "first", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.volumeIs("disk", corev1.VolumeReleased)
}

// TestAttachDetach plays the driver's attacher and the nodes: a volume goes to the node of its pod, stays while it is mounted,
// and then to the node of the next.
func TestAttachDetach(t *testing.T) {
	t.Parallel()
	c := start(t, nil)
	c.hollow("node-1")
	c.node("node-2")
	driver := &storagev1.CSIDriver{ObjectMeta: metav1.ObjectMeta{Name: "mounts.example.com"}, Spec: storagev1.CSIDriverSpec{AttachRequired: ptr.To(false)}}
	if _, err := c.StorageV1().CSIDrivers().Create(t.Context(), driver, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	byDriver := func(name string) func(*corev1.PersistentVolume) {
		return func(pv *corev1.PersistentVolume) {
			pv.Spec.PersistentVolumeSource = corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: name, VolumeHandle: "h"}}
		}
	}
	c.newVolume("disk", "1Gi", "", byDriver("disk.example.com"))
	c.newVolume("share", "9Gi", "", byDriver("mounts.example.com"))
	c.newClaim("data", "1Gi", ptr.To(""))
	c.newClaim("files", "5Gi", ptr.To(""))
	c.claimIs("data", corev1.ClaimBound, "disk")
	c.claimIs("files", corev1.ClaimBound, "share")
	c.attachPod("first", "node-1", "data", "files")

	first := c.attachment("node-1")
	first.Status.Attached = true
	if _, err := c.StorageV1().VolumeAttachments().UpdateStatus(t.Context(), first, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	const unique = "kubernetes.io/csi/disk.example.com^h"
	c.attached("node-1", unique)
	c.hasEvent("default", "first", "SuccessfulAttachVolume", `volume "disk"`)
	c.nodeUses("node-1", `["`+unique+`"]`)

	c.attachPod("second", "node-2", "data")
	c.hasEvent("default", "second", "FailedAttachVolume", `Multi-Attach error for volume "disk" Volume is already used by pod(s) first`)
	if err := c.CoreV1().Pods("default").Delete(t.Context(), "first", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventually("the first pod is gone", func(ctx context.Context) (string, error) {
		if _, err := c.CoreV1().Pods("default").Get(ctx, "first", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			return "still there", nil
		}
		return "", nil
	})
	c.attached("node-1", unique) // it is mounted still
	c.nodeUses("node-1", `null`)
	c.attached("node-1", "")
	if c.attachment("node-2").Name == first.Name {
		t.Error("two nodes share an attachment")
	}
	all, err := c.StorageV1().VolumeAttachments().List(t.Context(), metav1.ListOptions{})
	if err != nil || len(all.Items) != 1 {
		t.Errorf("%d attachments, want one: %v", len(all.Items), err)
	}
}

func (c *cluster) attachPod(name, node string, claims ...string) {
	c.t.Helper()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "c", Image: "any"}}}}
	for _, claim := range claims {
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: claim, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim},
		}})
	}
	if _, err := c.CoreV1().Pods("default").Create(c.t.Context(), pod, metav1.CreateOptions{}); err != nil {
		c.t.Fatal(err)
	}
}

// attachment waits for a node's only attachment.
func (c *cluster) attachment(node string) *storagev1.VolumeAttachment {
	c.t.Helper()
	var found *storagev1.VolumeAttachment
	c.eventually("a volume is attached to "+node, func(ctx context.Context) (string, error) {
		all, err := c.StorageV1().VolumeAttachments().List(ctx, metav1.ListOptions{})
		if err != nil {
			return err.Error(), err
		}
		for i := range all.Items {
			if all.Items[i].Spec.NodeName == node {
				found = &all.Items[i]
				return "", nil
			}
		}
		return fmt.Sprint(len(all.Items), " elsewhere"), nil
	})
	return found
}

func (c *cluster) attached(node, want string) {
	c.t.Helper()
	c.eventually("node "+node+" knows what is attached", func(ctx context.Context) (string, error) {
		n, err := c.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
		if err != nil {
			return err.Error(), err
		}
		got := ""
		for _, v := range n.Status.VolumesAttached {
			got += string(v.Name)
		}
		if got != want {
			return fmt.Sprintf("%q", got), nil
		}
		return "", nil
	})
}

func (c *cluster) nodeUses(node, volumes string) {
	c.t.Helper()
	patch := []byte(`{"status":{"volumesInUse":` + volumes + `}}`)
	if _, err := c.CoreV1().Nodes().Patch(c.t.Context(), node, types.MergePatchType, patch, metav1.PatchOptions{}, "status"); err != nil {
		c.t.Fatal(err)
	}
}

// TestBindingSurvivesAnyWrite loses the n-th write, for every n that a binding, a release and an attachment are made of.
func TestBindingSurvivesAnyWrite(t *testing.T) {
	t.Parallel()
	for n := 1; n <= 16; n += 3 {
		t.Run(fmt.Sprintf("write %d", n), func(t *testing.T) {
			var mu sync.Mutex
			left := n
			c := start(t, func(_ *Config, writer *rest.Config) {
				writer.Wrap(func(next http.RoundTripper) http.RoundTripper { return storageFaults{faults{next, &mu, &left}} })
			})
			c.node("node-1")
			c.newVolume("disk", "1Gi", "", func(pv *corev1.PersistentVolume) {
				pv.Spec.PersistentVolumeSource = corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: "disk.example.com", VolumeHandle: "h"}}
			})
			c.newClaim("data", "1Gi", ptr.To(""))
			c.newClaim("rival", "1Gi", ptr.To(""))
			c.volumeIs("disk", corev1.VolumeBound)
			winner, loser := "data", "rival"
			c.eventually("one claim has it", func(ctx context.Context) (string, error) {
				pv, err := c.CoreV1().PersistentVolumes().Get(ctx, "disk", metav1.GetOptions{})
				if err != nil {
					return err.Error(), err
				}
				if pv.Spec.ClaimRef != nil && pv.Spec.ClaimRef.Name == "rival" {
					winner, loser = "rival", "data"
				}
				return "", nil
			})
			c.claimIs(winner, corev1.ClaimBound, "disk")
			c.claimIs(loser, corev1.ClaimPending, "")
			c.attachPod("user", "node-1", winner)
			c.attachment("node-1")
			if err := c.CoreV1().Pods("default").Delete(t.Context(), "user", *metav1.NewDeleteOptions(0)); err != nil {
				t.Fatal(err)
			}
			if err := c.CoreV1().PersistentVolumeClaims("default").Delete(t.Context(), winner, metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			pv := c.volumeIs("disk", corev1.VolumeReleased)
			pv.Spec.ClaimRef = nil
			if _, err := c.CoreV1().PersistentVolumes().Update(t.Context(), pv, metav1.UpdateOptions{}); err != nil {
				t.Fatal(err)
			}
			c.claimIs(loser, corev1.ClaimBound, "disk")
			c.eventually("nothing is attached", func(ctx context.Context) (string, error) {
				all, err := c.StorageV1().VolumeAttachments().List(ctx, metav1.ListOptions{})
				if err != nil || len(all.Items) > 0 {
					return fmt.Sprint(len(all.Items), " attachments"), err
				}
				return "", nil
			})
		})
	}
}

// storageFaults lets pass what is not about storage: only writes of the controllers under test count.
type storageFaults struct{ faults }

func (f storageFaults) RoundTrip(r *http.Request) (*http.Response, error) {
	for _, part := range []string{"/persistentvolume", "/volumeattachments", "/nodes/"} {
		if strings.Contains(r.URL.Path, part) {
			return f.faults.RoundTrip(r)
		}
	}
	return f.next.RoundTrip(r)
}
