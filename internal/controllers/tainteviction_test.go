package controllers

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// tolerantPod makes a pod on node that tolerates every taint for so long.
func (c *cluster) tolerantPod(name, node string, seconds int64) {
	c.t.Helper()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{
		NodeName: node, Containers: []corev1.Container{{Name: "c", Image: "any"}},
		Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &seconds}},
	}}
	if _, err := c.CoreV1().Pods("default").Create(c.t.Context(), pod, metav1.CreateOptions{}); err != nil {
		c.t.Fatal(err)
	}
}

// TestTaintsByHand: those that kubectl sets do not say since when they are there.
func TestTaintsByHand(t *testing.T) {
	t.Parallel()
	c := start(t, nil)
	c.node("n1")
	taints := func(body string) {
		t.Helper()
		if _, err := c.CoreV1().Nodes().Patch(t.Context(), "n1", types.MergePatchType, []byte(`{"spec":{"taints":`+body+`}}`), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	c.tolerantPod("patient", "n1", 3600)
	c.tolerantPod("hasty", "n1", 1)
	taints(`[{"key":"x","effect":"NoExecute"}]`)
	c.hasEvent("default", "hasty", "TaintManagerEviction", "Marking for deletion Pod default/hasty")
	c.eventually("the eviction after a second", func(ctx context.Context) (string, error) {
		p, err := c.CoreV1().Pods("default").Get(ctx, "hasty", metav1.GetOptions{})
		if apierrors.IsNotFound(err) || err == nil && p.DeletionTimestamp != nil {
			return "", nil
		}
		return "it stays", err
	})
	taints("null")
	c.hasEvent("default", "patient", "TaintManagerEviction", "Cancelling deletion of Pod default/patient")
	if p, err := c.CoreV1().Pods("default").Get(t.Context(), "patient", metav1.GetOptions{}); err != nil || p.DeletionTimestamp != nil {
		t.Errorf("it tolerates the taint: %v, %v", p, err)
	}
	if err := c.CoreV1().Nodes().Delete(t.Context(), "n1", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.hasEvent("default", "n1", "RemovingNode", "Node n1 event: Removing Node n1 from Controller")
}
