package scheduler

import (
	"context"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/retry"
	volumehelper "k8s.io/component-helpers/storage/volume"
	"k8s.io/utils/ptr"

	"canopus/internal/scheduler/config"
)

func (r *rig) class(change func(*storagev1.StorageClass)) {
	r.t.Helper()
	if _, err := r.StorageV1().StorageClasses().Create(r.t.Context(), testClass("late", change), metav1.CreateOptions{}); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) claim(name string) {
	r.t.Helper()
	c := testClaim(name)
	c.UID = ""
	if _, err := r.CoreV1().PersistentVolumeClaims("ns").Create(r.t.Context(), c, metav1.CreateOptions{}); err != nil {
		r.t.Fatal(err)
	}
}

// volume makes an available volume.
func (r *rig) volume(name, node string) {
	r.t.Helper()
	pv := testVolume(name, node)
	pv.UID = ""
	made, err := r.CoreV1().PersistentVolumes().Create(r.t.Context(), pv, metav1.CreateOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	made = made.DeepCopy()
	made.Status.Phase = corev1.VolumeAvailable
	if _, err := r.CoreV1().PersistentVolumes().UpdateStatus(r.t.Context(), made, metav1.UpdateOptions{}); err != nil {
		r.t.Fatal(err)
	}
}

// bindClaim does the part of the volume binder: the claim has the volume for good.
func (r *rig) bindClaim(claim, volume string) {
	r.t.Helper()
	r.changeClaim(claim, boundTo(volume))
}

func (r *rig) changeClaim(name string, change func(*corev1.PersistentVolumeClaim)) {
	r.t.Helper()
	claims := r.CoreV1().PersistentVolumeClaims("ns")
	if err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		c, err := claims.Get(r.t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		change(c)
		_, err = claims.Update(r.t.Context(), c, metav1.UpdateOptions{})
		return err
	}); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) selected(claim, node string) {
	r.t.Helper()
	r.eventually("claim "+claim+" is to be provisioned on "+node, func(ctx context.Context) (string, error) {
		c, err := r.CoreV1().PersistentVolumeClaims("ns").Get(ctx, claim, metav1.GetOptions{})
		if err != nil || c.Annotations[volumehelper.AnnSelectedNode] == node {
			return "", err
		}
		return fmt.Sprint(c.Annotations), nil
	})
}

func TestBindsProvisionedVolume(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	r.node("a", nil)
	r.pod("p", mounts("x"))
	r.refused("p", `0/1 nodes are available: persistentvolumeclaim "x" not found. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.`)
	r.class(nil)
	r.claim("x")
	r.selected("x", "a")

	// Its provisioner cannot, and asks for another node: the pod is scheduled anew.
	r.changeClaim("x", func(c *corev1.PersistentVolumeClaim) { delete(c.Annotations, volumehelper.AnnSelectedNode) })
	r.selected("x", "a")
	r.bound("p", "")
	r.volume("v", "a")
	r.bindClaim("x", "v")
	r.bound("p", "a")
}

func TestBindsStaticVolume(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	r.class(func(c *storagev1.StorageClass) { c.Provisioner = noProvisioner })
	r.node("a", nil)
	r.node("b", nil)
	r.volume("v", "b")
	r.claim("x")
	r.pod("p", mounts("x"))
	r.eventually("the volume is claimed", func(ctx context.Context) (string, error) {
		pv, err := r.CoreV1().PersistentVolumes().Get(ctx, "v", metav1.GetOptions{})
		if err != nil || pv.Spec.ClaimRef != nil && pv.Spec.ClaimRef.Name == "x" && pv.Annotations[volumehelper.AnnBoundByController] != "" {
			return "", err
		}
		return fmt.Sprintf("%+v", pv.Spec.ClaimRef), nil
	})
	r.bindClaim("x", "v")
	r.bound("p", "b")
}

// TestVolumesThatAreNotBoundInTime gives the node up, says why, and goes on trying.
func TestVolumesThatAreNotBoundInTime(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *Config, _ *rest.Config) {
		c.Configuration = config.Default()
		c.Configuration.Profiles[0].Args.VolumeBinding.BindTimeoutSeconds = ptr.To(int64(1))
	})
	r.node("a", nil)
	r.class(nil)
	r.claim("x")
	r.pod("p", mounts("x"))
	r.event("p", corev1.EventTypeWarning, "FailedScheduling", `running PreBind plugin "VolumeBinding": binding volumes: context deadline exceeded`)
	r.volume("v", "a")
	r.bindClaim("x", "v")
	r.bound("p", "a")
}
