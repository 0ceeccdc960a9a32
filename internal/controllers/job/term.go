package job

import (
	"context"
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"canopus/internal/controllers/reconcile"
)

// takeover is what the server had of a Job's pods when we began to care for it.
type takeover struct {
	version string // the server's at that time
	pods    map[types.UID]*corev1.Pod
}

// takeOver reads a Job and its pods from the server before the first decision about it in this term of office. Whoever had
// the office before may have made, counted, freed and deleted pods, and our caches may show none of that yet: they would have
// us count a pod again, or make one again for an index that is done. From then on nobody but us does any of it.
func (c *Controller) takeOver(ctx context.Context, j *batchv1.Job, selector labels.Selector) error {
	c.mu.Lock()
	_, taken := c.taken[j.UID]
	c.mu.Unlock()
	if taken || untouched(j) || finished(j) {
		return nil
	}
	now, err := c.Client.BatchV1().Jobs(j.Namespace).Get(ctx, j.Name, metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("read it as it is now: %w", err)
	}
	if err != nil || now.UID != j.UID {
		return nil // the cache will say that it is gone
	}
	list, err := c.Client.CoreV1().Pods(j.Namespace).List(ctx, metav1.ListOptions{LabelSelector: selector.String()})
	if err != nil {
		return fmt.Errorf("read the pods as they are now: %w", err)
	}
	t := &takeover{version: list.ResourceVersion, pods: make(map[types.UID]*corev1.Pod, len(list.Items))}
	for i := range list.Items {
		if p := &list.Items[i]; metav1.IsControlledBy(p, j) {
			t.pods[p.UID] = p
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.taken[j.UID], c.latest[j.UID] = t, now.ResourceVersion
	return nil
}

// outdated says that j is from before its status was last written, as far as we know. The cache will show it later and wake us:
// until then pods that the status accounts for would look as if nobody had counted them.
func (c *Controller) outdated(j *batchv1.Job) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	latest := c.latest[j.UID]
	return latest != "" && !reconcile.Reached(j.ResourceVersion, latest)
}

// untouched says that nobody has begun with j, so far as we know. If that is outdated the write of j's status fails, which is the
// first of all writes; if it succeeds, there is nothing to take over.
func untouched(j *batchv1.Job) bool {
	return equality.Semantic.DeepEqual(j.Status, batchv1.JobStatus{})
}

// wrote notes that we wrote the status of j, which is now at version. If nobody had before us there is nothing to take over.
func (c *Controller) wrote(j *batchv1.Job, version string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.latest[j.UID] = version
	if untouched(j) {
		c.taken[j.UID] = nil
	}
}

// forgetJob drops what was noted of a Job that is gone.
func (c *Controller) forgetJob(job types.UID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.taken, job)
	delete(c.latest, job)
}

// caughtUp is cached, the pods of a Job in a cache that had reached the version seen, as they were when we took the Job over or
// later.
func (c *Controller) caughtUp(job types.UID, cached []*corev1.Pod, seen string) []*corev1.Pod {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.taken[job]
	if t == nil {
		return cached
	}
	if reconcile.Reached(seen, t.version) {
		c.taken[job] = nil
		return cached
	}
	return t.merge(cached)
}

// merge takes the later of what the cache shows of each pod and what the server had.
func (t *takeover) merge(cached []*corev1.Pod) []*corev1.Pod {
	out := make([]*corev1.Pod, 0, max(len(cached), len(t.pods)))
	later := make(map[types.UID]bool, len(cached))
	for _, p := range cached {
		was := t.pods[p.UID]
		switch {
		case was == nil && reconcile.Reached(t.version, p.ResourceVersion): // it was gone by then
		case was == nil, reconcile.Reached(p.ResourceVersion, was.ResourceVersion):
			out, later[p.UID] = append(out, p), true
		}
	}
	for uid, p := range t.pods {
		if !later[uid] {
			out = append(out, p)
		}
	}
	return out
}
