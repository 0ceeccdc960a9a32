package controllers

import (
	"context"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/retry"
	"k8s.io/utils/ptr"
)

// TestReplicationController: the number of pods follows replicas, orphans that match are adopted, released ones replaced.
func TestReplicationController(t *testing.T) {
	t.Parallel()
	c := start(t, nil)
	c.hollow("n1")
	labels := map[string]string{"app": "web"}
	orphan := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "orphan", Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "ok"}}}}
	if _, err := c.CoreV1().Pods("default").Create(t.Context(), orphan, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	rcs := c.CoreV1().ReplicationControllers("default")
	if _, err := rcs.Create(t.Context(), &corev1.ReplicationController{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: corev1.ReplicationControllerSpec{Replicas: ptr.To(int32(3)), Template: &corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: orphan.Spec,
		}},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	ready := func(n int32) func(ctx context.Context) (string, error) {
		return func(ctx context.Context) (string, error) {
			rc, err := rcs.Get(ctx, "web", metav1.GetOptions{})
			if err != nil {
				return "", err
			}
			pods, err := c.CoreV1().Pods("default").List(ctx, metav1.ListOptions{})
			if err != nil {
				return "", err
			}
			owned := int32(0)
			for i := range pods.Items {
				if owner := metav1.GetControllerOf(&pods.Items[i]); owner != nil && owner.UID == rc.UID && owner.Kind == "ReplicationController" && owner.APIVersion == "v1" {
					owned++
				}
			}
			if s := rc.Status; s.Replicas != n || s.ReadyReplicas != n || s.AvailableReplicas != n || s.FullyLabeledReplicas != n || s.ObservedGeneration != rc.Generation || owned != n {
				return fmt.Sprintf("status %+v of generation %d, %d pods owned", s, rc.Generation, owned), nil
			}
			return "", nil
		}
	}
	c.eventually("three ready, the orphan among them", ready(3))
	if p, err := c.CoreV1().Pods("default").Get(t.Context(), "orphan", metav1.GetOptions{}); err != nil || metav1.GetControllerOf(p) == nil {
		t.Errorf("the orphan was not adopted: %v", err)
	}
	release := []byte(`{"metadata":{"labels":{"app":"other"}}}`)
	if _, err := c.CoreV1().Pods("default").Patch(t.Context(), "orphan", types.MergePatchType, release, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventually("a released pod is replaced", ready(3))
	scale, err := rcs.GetScale(t.Context(), "web", metav1.GetOptions{})
	if err != nil || scale.Status.Selector != "app=web" {
		t.Fatalf("scale %+v: %v", scale, err)
	}
	if err := retry.RetryOnConflict(retry.DefaultRetry, func() error { // with the controller, which writes the status
		if scale, err = rcs.GetScale(t.Context(), "web", metav1.GetOptions{}); err != nil {
			return err
		}
		scale.Spec.Replicas = 1
		_, err = rcs.UpdateScale(t.Context(), "web", scale, metav1.UpdateOptions{})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	c.eventually("one left", ready(1))
}
