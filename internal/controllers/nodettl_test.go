package controllers

import (
	"context"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestNodeTTL: nodes are told how long objects may be kept, all of them anew when the cluster outgrows its size.
func TestNodeTTL(t *testing.T) {
	t.Parallel()
	c := start(t, nil)
	name := func(i int) string { return fmt.Sprintf("node-%d", i) }
	all := func(want string, nodes int) {
		t.Helper()
		c.eventually(fmt.Sprintf("%s s on %d nodes", want, nodes), func(ctx context.Context) (string, error) {
			list, err := c.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
			if err != nil {
				return "", err
			}
			right := 0
			for i := range list.Items {
				if got, ok := list.Items[i].Annotations[corev1.ObjectTTLAnnotationKey]; ok && got == want {
					right++
				}
			}
			if len(list.Items) == nodes && right == nodes {
				return "", nil
			}
			return fmt.Sprintf("%d of %d", right, len(list.Items)), nil
		})
	}
	add := func(from, to int) {
		t.Helper()
		for i := from; i < to; i++ {
			if _, err := c.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name(i)}}, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	add(0, 2)
	all("0", 2)
	wrong := []byte(`{"metadata":{"annotations":{"` + corev1.ObjectTTLAnnotationKey + `":"9"}}}`)
	if _, err := c.CoreV1().Nodes().Patch(t.Context(), name(0), types.MergePatchType, wrong, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	all("0", 2)
	add(2, 101)
	all("15", 101)
	for i := 89; i < 101; i++ {
		if err := c.CoreV1().Nodes().Delete(t.Context(), name(i), metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	all("0", 89)
}
