package job

import (
	"context"
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"canopus/internal/controllers/reconcile"
)

// trackedPod names the pod if it has the finalizer: its Job may be gone.
func trackedPod(_, pod *corev1.Pod) []types.NamespacedName {
	if pod == nil || !hasFinalizer(pod) {
		return nil
	}
	return []types.NamespacedName{reconcile.Key(pod)}
}

// podsOfGone names the pods of a Job that has gone.
func (c *Controller) podsOfGone(old, j *batchv1.Job) []types.NamespacedName {
	if old == nil || j != nil && j.UID == old.UID {
		return nil
	}
	pods, err := reconcile.Indexed[*corev1.Pod](c.pods, reconcile.ByController, string(old.UID))
	if err != nil {
		return nil
	}
	var keys []types.NamespacedName
	for _, p := range pods {
		keys = append(keys, trackedPod(nil, p)...)
	}
	return keys
}

// reconcileOrphan takes the finalizer from a pod that no Job will ever account for.
func (c *Controller) reconcileOrphan(ctx context.Context, key types.NamespacedName) (time.Duration, error) {
	obj, exists, err := c.pods.GetStore().GetByKey(key.String())
	pod, ok := obj.(*corev1.Pod)
	if err != nil || !exists || !ok || !hasFinalizer(pod) {
		return 0, err
	}
	awaited, err := c.awaited(ctx, pod)
	if err != nil || awaited {
		return 0, err
	}
	return 0, c.free(ctx, pod)
}

// awaited reports whether some Job accounts for the pod, or may adopt it.
func (c *Controller) awaited(ctx context.Context, pod *corev1.Pod) (bool, error) {
	ref := metav1.GetControllerOfNoCopy(pod)
	if ref == nil {
		return pod.DeletionTimestamp == nil && len(c.selecting(pod)) > 0, nil
	}
	if ref.Kind != kind {
		return false, nil
	}
	j, err := c.jobs.Jobs(pod.Namespace).Get(ref.Name)
	if apierrors.IsNotFound(err) || err == nil && j.UID != ref.UID { // the cache may lag behind the pods'
		j, err = c.Client.BatchV1().Jobs(pod.Namespace).Get(ctx, ref.Name, metav1.GetOptions{})
	}
	switch {
	case apierrors.IsNotFound(err):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("read the job of pod %s: %w", pod.Name, err)
	}
	return j.UID == ref.UID, nil
}
