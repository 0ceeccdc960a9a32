package apiserver

import (
	"testing"
	"time"

	"canopus/internal/kinds"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestPlanDelete(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	earlier := metav1.NewTime(now.Add(-time.Minute))
	plain := &kinds.Kind{}
	graceful := &kinds.Kind{Grace: func(_ kinds.Object, asked *int64) int64 {
		if asked != nil {
			return *asked
		}
		return 30
	}}
	zero, thirty := int64(0), int64(30)
	policy := func(p metav1.DeletionPropagation) *metav1.DeleteOptions {
		return &metav1.DeleteOptions{PropagationPolicy: &p}
	}
	none := &metav1.DeleteOptions{}
	for _, c := range []struct {
		name string
		kind *kinds.Kind
		old  kinds.Object
		o    *metav1.DeleteOptions
		gone bool
		next func(kinds.Object) bool // nil: nothing is stored
	}{
		{"nothing holds it", plain, &corev1.ConfigMap{}, none, true, nil},
		{"finalizer", plain, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Finalizers: []string{"a/b"}, Generation: 3}}, none, false,
			func(o kinds.Object) bool {
				return o.GetDeletionTimestamp().Time.Equal(now) && *o.GetDeletionGracePeriodSeconds() == 0 && o.GetGeneration() == 4
			}},
		{"finalizer, again", plain, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Finalizers: []string{"a/b"}, DeletionTimestamp: &earlier, DeletionGracePeriodSeconds: &zero}}, none, false, nil},
		{"orphan", plain, &corev1.ConfigMap{}, policy(metav1.DeletePropagationOrphan), false,
			func(o kinds.Object) bool { return len(o.GetFinalizers()) == 1 && o.GetFinalizers()[0] == "orphan" }},
		{"foreground", plain, &corev1.ConfigMap{}, policy(metav1.DeletePropagationForeground), false,
			func(o kinds.Object) bool {
				return len(o.GetFinalizers()) == 1 && o.GetFinalizers()[0] == "foregroundDeletion"
			}},
		{"background after foreground", plain, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Finalizers: []string{"foregroundDeletion"}, DeletionTimestamp: &earlier}},
			policy(metav1.DeletePropagationBackground), true, nil},
		{"grace", graceful, &corev1.Pod{}, none, false,
			func(o kinds.Object) bool {
				return o.GetDeletionTimestamp().Time.Equal(now.Add(30*time.Second)) && *o.GetDeletionGracePeriodSeconds() == 30
			}},
		{"no grace", graceful, &corev1.Pod{}, &metav1.DeleteOptions{GracePeriodSeconds: &zero}, true, nil},
		{"no grace, finalizer", graceful, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Finalizers: []string{"a/b"}}}, &metav1.DeleteOptions{GracePeriodSeconds: &zero}, false,
			func(o kinds.Object) bool {
				return o.GetDeletionTimestamp().Time.Equal(now) && *o.GetDeletionGracePeriodSeconds() == 0
			}},
		{"grace under way", graceful, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: &earlier, DeletionGracePeriodSeconds: &thirty}}, none, false, nil},
		{"namespace with content", plain, &corev1.Namespace{Spec: corev1.NamespaceSpec{Finalizers: []corev1.FinalizerName{"kubernetes"}}}, none, false,
			func(o kinds.Object) bool {
				return o.(*corev1.Namespace).Status.Phase == corev1.NamespaceTerminating && o.GetDeletionTimestamp() != nil
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := c.old.DeepCopyObject()
			next, gone := planDelete(c.kind, c.old, c.o, now)
			if gone != c.gone || (next != nil) != (c.next != nil) || c.next != nil && !c.next(next) {
				t.Errorf("gone %v, next %+v", gone, next)
			}
			if a, b := before.(kinds.Object).GetDeletionTimestamp(), c.old.GetDeletionTimestamp(); (a == nil) != (b == nil) {
				t.Error("the stored object was changed")
			}
		})
	}
}
