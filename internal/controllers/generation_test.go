package controllers

import (
	"context"
	"fmt"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestDeploymentGeneration: the controller's own revision annotation is no change of what the user wants; one of the
// user's is, and is observed.
func TestDeploymentGeneration(t *testing.T) {
	t.Parallel()
	c := start(t, nil)
	c.hollow("node-1")
	if _, err := c.AppsV1().Deployments("default").Create(t.Context(), web(1), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	observed := func(generation int64) {
		t.Helper()
		c.eventually(fmt.Sprintf("generation %d observed", generation), func(ctx context.Context) (string, error) {
			d, err := c.AppsV1().Deployments("default").Get(ctx, "web", metav1.GetOptions{})
			if err != nil {
				return err.Error(), err
			}
			return unlessDone(d, generation), nil
		})
	}
	observed(1)
	patch := []byte(`{"metadata":{"annotations":{"example.com/note":"x"}}}`)
	if _, err := c.AppsV1().Deployments("default").Patch(t.Context(), "web", types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	observed(2)
}

// unlessDone says what d lacks of a finished rollout of this very generation.
func unlessDone(d *appsv1.Deployment, generation int64) string {
	if d.Generation != generation || d.Status.ObservedGeneration != generation || d.Status.AvailableReplicas != 1 ||
		d.Annotations["deployment.kubernetes.io/revision"] != "1" {
		return fmt.Sprintf("generation %d, annotations %v, status %+v", d.Generation, d.Annotations, d.Status)
	}
	return ""
}
