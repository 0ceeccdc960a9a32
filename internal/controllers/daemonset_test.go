package controllers

import (
	"context"
	"fmt"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func TestDaemonSet(t *testing.T) {
	t.Parallel()
	c := start(t, nil)
	c.hollow("node-1")
	l := map[string]string{"app": "agent"}
	ds := &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Name: "agent", Namespace: "default"},
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: l},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: l},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "v1"}}},
			},
		},
	}
	if _, err := c.AppsV1().DaemonSets("default").Create(t.Context(), ds, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	runs := func(image string, revisions int) {
		t.Helper()
		c.eventually("a pod of "+image, func(ctx context.Context) (string, error) {
			d, err := c.AppsV1().DaemonSets("default").Get(ctx, "agent", metav1.GetOptions{})
			if err != nil {
				return err.Error(), err
			}
			history, err := c.AppsV1().ControllerRevisions("default").List(ctx, metav1.ListOptions{})
			if err != nil {
				return err.Error(), err
			}
			pods := c.pods(ctx)
			s := d.Status
			if s.ObservedGeneration != d.Generation || s.DesiredNumberScheduled != 1 || s.NumberAvailable != 1 || s.UpdatedNumberScheduled != 1 ||
				len(pods) != 1 || pods[0].Spec.Containers[0].Image != image || len(history.Items) != revisions {
				return fmt.Sprintf("%+v, %d pods, %d revisions", s, len(pods), len(history.Items)), nil
			}
			return "", nil
		})
	}
	runs("v1", 1)
	patch := func(body string) {
		t.Helper()
		if _, err := c.AppsV1().DaemonSets("default").Patch(t.Context(), "agent", types.StrategicMergePatchType, []byte(body), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	patch(`{"spec":{"template":{"spec":{"containers":[{"name":"main","image":"v2"}]}}}}`)
	runs("v2", 2)
	history, err := c.AppsV1().ControllerRevisions("default").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range history.Items {
		if r.Revision == 1 {
			patch(string(r.Data.Raw)) // what kubectl rollout undo does
		}
	}
	runs("v1", 2)
	patch(`{"spec":{"template":{"spec":{"nodeSelector":{"no":"such"}}}}}`)
	c.eventually("no node that suits", func(ctx context.Context) (string, error) {
		if n := len(c.pods(ctx)); n > 0 {
			return fmt.Sprint(n, " pods"), nil
		}
		return "", nil
	})
}
