package job

import (
	"context"
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// takeOver reads the pods of a Job from the server before the first decision about it in this term of office. Whoever had
// the office before may have counted pods and taken their finalizers away while our cache still shows them with one: those
// are noted as freed, as if we had freed them. From then on nobody but us frees any.
func (c *Controller) takeOver(ctx context.Context, j *batchv1.Job, selector labels.Selector, cached []*corev1.Pod) error {
	c.mu.Lock()
	taken := c.taken[j.UID]
	c.mu.Unlock()
	if taken {
		return nil
	}
	tracked := make([]*corev1.Pod, 0, len(cached))
	for _, p := range cached {
		if hasFinalizer(p) {
			tracked = append(tracked, p)
		}
	}
	freed := map[types.UID]*corev1.Pod{}
	if j.Status.StartTime != nil && len(tracked) > 0 { // else nothing has been counted yet
		list, err := c.Client.CoreV1().Pods(j.Namespace).List(ctx, metav1.ListOptions{LabelSelector: selector.String()})
		if err != nil {
			return fmt.Errorf("read the pods as they are now: %w", err)
		}
		freed = freedBefore(tracked, list.Items)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for uid, p := range freed {
		c.freed[uid] = p
	}
	c.taken[j.UID] = true
	return nil
}

// freedBefore returns the pods of tracked that by now are without the finalizer, or gone.
func freedBefore(tracked []*corev1.Pod, now []corev1.Pod) map[types.UID]*corev1.Pod {
	present := make(map[types.UID]*corev1.Pod, len(now))
	for i := range now {
		present[now[i].UID] = &now[i]
	}
	out := map[types.UID]*corev1.Pod{}
	for _, p := range tracked {
		switch at := present[p.UID]; {
		case at == nil:
			without := p.DeepCopy()
			without.Finalizers = nil
			out[p.UID] = without
		case !hasFinalizer(at):
			out[p.UID] = at
		}
	}
	return out
}
