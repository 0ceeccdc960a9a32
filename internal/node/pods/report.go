package pods

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"

	"canopus/internal/node/images"
)

// report writes the status if it differs from the API's, and deletes a pod that has ended and was to be deleted. It
// returns when to call again.
func (w *worker) report(ctx context.Context, f *Facts) time.Time {
	if w.gone {
		return time.Time{}
	}
	want := Status(*f)
	if apiequality.Semantic.DeepEqual(want, w.pod.Status) {
		w.dirty = time.Time{}
		if w.tornDown && w.pod.DeletionTimestamp != nil && w.idle("status") && w.mayTry("delete", f.Now) {
			w.do(ctx, "delete", w.deleteFromAPI)
		}
		return time.Time{}
	}
	if w.dirty.IsZero() {
		w.dirty = f.Now
	}
	due := w.dirty.Add(statusDelay)
	if !urgent(&want, &w.pod.Status) && f.Now.Before(due) {
		return due
	}
	if !w.mayTry("status", f.Now) {
		return time.Time{}
	}
	base := w.pod
	w.backoffEvents(&want)
	w.do(ctx, "status", func(ctx context.Context) func() {
		got, err := w.m.patchStatus(ctx, base, want)
		return func() {
			if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
				// The pod, or this pod of that name, is gone: the informer will say so.
				w.outcome("status", err)
				return
			}
			w.outcome("status", err)
			if err != nil {
				w.m.cfg.Log.Warn("writing the status of a pod", "pod", w.String(), "error", err)
				return
			}
			w.patched = got
		}
	})
	return time.Time{}
}

// backoffEvents tells of containers that begin to wait for their next try.
func (w *worker) backoffEvents(want *corev1.PodStatus) {
	have := append(append([]corev1.ContainerStatus{}, w.pod.Status.InitContainerStatuses...), w.pod.Status.ContainerStatuses...)
	for _, c := range append(append([]corev1.ContainerStatus{}, want.InitContainerStatuses...), want.ContainerStatuses...) {
		if c.State.Waiting == nil {
			continue
		}
		old := findStatus(have, c.Name)
		if old != nil && old.State.Waiting != nil && old.State.Waiting.Reason == c.State.Waiting.Reason {
			continue
		}
		switch c.State.Waiting.Reason {
		case images.ReasonImagePullBackOff:
			w.m.event(w.pod, c.Name, corev1.EventTypeNormal, "BackOff", fmt.Sprintf("Back-off pulling image %q", c.Image))
			w.m.event(w.pod, c.Name, corev1.EventTypeWarning, "Failed", "Error: "+images.ReasonImagePullBackOff)
		case reasonCrashLoop:
			w.m.event(w.pod, c.Name, corev1.EventTypeWarning, "BackOff",
				fmt.Sprintf("Back-off restarting failed container %s in pod %s_%s(%s)", c.Name, w.pod.Name, w.pod.Namespace, w.pod.UID))
		}
	}
}

// urgent says whether somebody waits for the change: readiness and the end of a pod.
func urgent(want, have *corev1.PodStatus) bool {
	if want.Phase != have.Phase && (terminal(want.Phase) || want.Phase == corev1.PodRunning) {
		return true
	}
	a, b := findCondition(want.Conditions, corev1.PodReady), findCondition(have.Conditions, corev1.PodReady)
	return b != nil && a.Status != b.Status || b == nil && a.Status == corev1.ConditionTrue
}

// patchStatus sends the difference between the pod's known status and the wanted one.
func (m *Manager) patchStatus(ctx context.Context, base *corev1.Pod, want corev1.PodStatus) (*corev1.Pod, error) {
	body, err := statusPatch(base, want)
	if err != nil {
		return nil, err
	}
	got, err := m.cfg.Client.CoreV1().Pods(base.Namespace).Patch(ctx, base.Name, types.StrategicMergePatchType, body, metav1.PatchOptions{}, "status")
	if err != nil {
		return nil, fmt.Errorf("patch pod status: %w", err)
	}
	return got, nil
}

// statusPatch returns a strategic merge patch from the status of base to want that applies to this very pod only.
func statusPatch(base *corev1.Pod, want corev1.PodStatus) ([]byte, error) {
	from, err := json.Marshal(corev1.Pod{Status: base.Status})
	if err != nil {
		return nil, fmt.Errorf("encode pod status: %w", err)
	}
	to, err := json.Marshal(corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: base.UID}, Status: want})
	if err != nil {
		return nil, fmt.Errorf("encode pod status: %w", err)
	}
	patch, err := strategicpatch.CreateTwoWayMergePatch(from, to, corev1.Pod{})
	if err != nil {
		return nil, fmt.Errorf("difference of pod statuses: %w", err)
	}
	return patch, nil
}

// deleteFromAPI removes a pod whose containers have ended and whose resources are released.
func (w *worker) deleteFromAPI(ctx context.Context) func() {
	zero, uid := int64(0), w.uid
	err := w.m.cfg.Client.CoreV1().Pods(w.current().Namespace).Delete(ctx, w.current().Name, metav1.DeleteOptions{
		GracePeriodSeconds: &zero, Preconditions: &metav1.Preconditions{UID: &uid}})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		err = nil // it is gone, or another pod has its name
	}
	return func() {
		if err != nil {
			w.m.cfg.Log.Warn("deleting a pod that has ended", "pod", w.String(), "error", err)
			w.outcome("delete", err)
			return
		}
		// The informer will report it; finalizers may keep the object for a while, so this is not repeated soon.
		w.retry["delete"] = &retry{delay: retryMax, until: w.m.cfg.Clock.Now().Add(retryMax)}
	}
}
