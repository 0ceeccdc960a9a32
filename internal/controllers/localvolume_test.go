package controllers

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
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

// annotate sets annotations, or removes those that are nil, of a node or a claim in namespace default.
func (c *cluster) annotate(resource, name string, annotations map[string]any) {
	c.t.Helper()
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": annotations, "labels": map[string]string{corev1.LabelHostname: name}}})
	if err != nil {
		c.t.Fatal(err)
	}
	if resource == "nodes" {
		_, err = c.CoreV1().Nodes().Patch(c.t.Context(), name, types.MergePatchType, patch, metav1.PatchOptions{})
	} else {
		_, err = c.CoreV1().PersistentVolumeClaims("default").Patch(c.t.Context(), name, types.MergePatchType, patch, metav1.PatchOptions{})
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// volumeOf waits until the claim is bound and returns its volume.
func (c *cluster) volumeOf(claim string) *corev1.PersistentVolume {
	c.t.Helper()
	var pv *corev1.PersistentVolume
	c.eventually("claim "+claim+" is bound", func(ctx context.Context) (string, error) {
		pvc, err := c.CoreV1().PersistentVolumeClaims("default").Get(ctx, claim, metav1.GetOptions{})
		if err != nil || pvc.Status.Phase != corev1.ClaimBound {
			return "not yet", err
		}
		pv, err = c.CoreV1().PersistentVolumes().Get(ctx, pvc.Spec.VolumeName, metav1.GetOptions{})
		return "", err
	})
	return pv
}

// TestLocalVolumes goes through the life of a volume with the binder: chosen, moved, bound, released, deleted, let go; and
// again losing the n-th write, for every n that it is made of.
func TestLocalVolumes(t *testing.T) {
	t.Parallel()
	for n := range 10 {
		t.Run(fmt.Sprintf("losing write %d", n), func(t *testing.T) {
			var mu sync.Mutex
			left := n
			localVolume(start(t, func(_ *Config, writer *rest.Config) {
				writer.Wrap(func(next http.RoundTripper) http.RoundTripper { return storageFaults{faults{next, &mu, &left}} })
			}))
		})
	}
}

func localVolume(c *cluster) {
	t := c.t
	t.Helper()
	c.node("n1")
	c.node("n2")
	c.annotate("nodes", "n1", nil) // offers none
	c.annotate("nodes", "n2", map[string]any{"canopus.io/volume-root": "/data/volumes"})
	class := &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "local"}, Provisioner: "canopus.io/local", VolumeBindingMode: ptr.To(storagev1.VolumeBindingWaitForFirstConsumer)}
	if _, err := c.StorageV1().StorageClasses().Create(t.Context(), class, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	claim := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: "data"},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, StorageClassName: ptr.To("local"),
			Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Mi")}},
		},
	}
	if _, err := c.CoreV1().PersistentVolumeClaims("default").Create(t.Context(), claim, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	const chosen = "volume.kubernetes.io/selected-node"
	c.annotate("claims", "data", map[string]any{chosen: "n1"}) // as the scheduler does
	c.eventually("the scheduler is asked for another node", func(ctx context.Context) (string, error) {
		pvc, err := c.CoreV1().PersistentVolumeClaims("default").Get(ctx, "data", metav1.GetOptions{})
		if err != nil || pvc.Annotations[chosen] != "" {
			return "still " + pvc.Annotations[chosen], err
		}
		return "", nil
	})
	c.annotate("claims", "data", map[string]any{chosen: "n2"})
	pv := c.volumeOf("data")
	if pv.Labels["canopus.io/node"] != "n2" || pv.Spec.Local == nil || pv.Spec.Local.Path != "/data/volumes/"+pv.Name {
		t.Errorf("%+v", pv)
	}

	t.Log("the claim goes, and the volume waits for its node")
	if err := c.CoreV1().PersistentVolumeClaims("default").Delete(t.Context(), "data", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventually("the volume is to be deleted", func(ctx context.Context) (string, error) {
		got, err := c.CoreV1().PersistentVolumes().Get(ctx, pv.Name, metav1.GetOptions{})
		if err != nil || got.DeletionTimestamp == nil || !slices.Equal(got.Finalizers, []string{"canopus.io/local-volume"}) {
			return fmt.Sprintf("%s %v", got.Status.Phase, got.Finalizers), err
		}
		return "", nil
	})
	if err := c.CoreV1().Nodes().Delete(t.Context(), "n2", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventually("the volume of a node that is gone is let go", func(ctx context.Context) (string, error) {
		_, err := c.CoreV1().PersistentVolumes().Get(ctx, pv.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return "", nil
		}
		return "still there", err
	})
}
