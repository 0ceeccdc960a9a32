package scheduler

import (
	"context"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// preempt reserves the plan's node for p and marks its victims. Less important pods that had reserved the node look anew:
// their reckoning did not include p.
func (s *Scheduler) preempt(p *podInfo, to plan) {
	if s.cluster.nominated(p.pod.UID) != to.node.name {
		s.release(p.pod.UID)
	}
	s.cluster.nominate(p, to.node.name)
	for uid, nominee := range s.cluster.nominees[to.node.name] {
		if nominee.info.priority >= p.priority {
			continue
		}
		s.release(uid)
		pod := nominee.info.pod
		s.outbox.send(func(ctx context.Context) {
			s.dropNomination(ctx, pod)
		})
		s.queue.rethink(uid, s.Clock.Now())
	}
	for _, v := range to.victims {
		s.cluster.placed[v.pod.UID].evicting = true
		if k := s.cluster.wholeOf(v.pod); k != nil {
			s.tellDisrupted(k.whole, p.pod)
		}
	}
}

// dropNomination has a pod's status say that no node is reserved for it. That it failed is logged: what it says is for people.
func (s *Scheduler) dropNomination(ctx context.Context, pod *corev1.Pod) {
	patch := podPatch(pod, map[string]any{"nominatedNodeName": nil})
	_, err := s.Client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	if err != nil && !lost(err) && ctx.Err() == nil {
		s.Log.Warn("writing that a node is not reserved for a pod any more failed", "pod", pod.Namespace+"/"+pod.Name, "error", err)
	}
}

// tellDisrupted writes that all pods of a group are about to go for the sake of pod.
func (s *Scheduler) tellDisrupted(g *schedulingv1beta1.PodGroup, pod *corev1.Pod) {
	if latest := s.gangs.groups[types.NamespacedName{Namespace: g.Namespace, Name: g.Name}]; latest != nil {
		s.writeGroup(latest, metav1.Condition{
			Type: schedulingv1beta1.DisruptionTarget, Status: metav1.ConditionTrue,
			Reason: schedulingv1beta1.PodGroupReasonPreemptionByScheduler, Message: preempting(pod),
		})
	}
}

func preempting(pod *corev1.Pod) string {
	return pod.Spec.SchedulerName + ": preempting to accommodate a higher priority pod"
}

// evict has the victims deleted that pod needs gone, all at once and behind whatever else is to be written. If one stays, the
// reservation is given up and pod tries again.
func (s *Scheduler) evict(pod *corev1.Pod, to plan) {
	var once sync.Once
	for _, v := range to.victims {
		s.outbox.send(func(ctx context.Context) {
			err := s.evictOne(ctx, pod, v.pod, to.node.name)
			if err == nil || ctx.Err() != nil {
				return
			}
			s.Log.Warn("evicting a pod for a more important one failed, will try again", "pod", v.key, "for", pod.Namespace+"/"+pod.Name, "error", err)
			once.Do(func() { s.inbox.send(func(s *Scheduler) { s.abandon(pod.UID, to) }) })
		})
	}
}

// abandon takes back a plan that was not carried out to the end.
func (s *Scheduler) abandon(uid types.UID, to plan) {
	for _, v := range to.victims {
		if at := s.cluster.placed[v.pod.UID]; at != nil {
			at.evicting = false
		}
	}
	s.release(uid)
	s.queue.rethink(uid, s.Clock.Now())
}

func (s *Scheduler) evictOne(ctx context.Context, pod, victim *corev1.Pod, node string) error {
	if victim.DeletionTimestamp != nil {
		return nil
	}
	condition, said := withTransition(victim, corev1.PodCondition{
		Type:               corev1.DisruptionTarget,
		Status:             corev1.ConditionTrue,
		ObservedGeneration: victim.Generation,
		LastTransitionTime: metav1.NewTime(s.Clock.Now()),
		Reason:             corev1.PodReasonPreemptionByScheduler,
		Message:            preempting(pod),
	})
	pods := s.Client.CoreV1().Pods(victim.Namespace)
	if !said {
		patch := podPatch(victim, map[string]any{"conditions": []corev1.PodCondition{condition}})
		if _, err := pods.Patch(ctx, victim.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status"); err != nil {
			if lost(err) {
				return nil
			}
			return fmt.Errorf("mark %s as to be disrupted: %w", victim.Name, err)
		}
	}
	if err := pods.Delete(ctx, victim.Name, *metav1.NewPreconditionDeleteOptions(string(victim.UID))); err != nil {
		if lost(err) {
			return nil
		}
		return fmt.Errorf("delete %s: %w", victim.Name, err)
	}
	s.announcer.evicted(victim, pod, node)
	return nil
}

// lost reports whether a request failed because the pod is no longer the one that was meant.
func lost(err error) bool { return apierrors.IsNotFound(err) || apierrors.IsConflict(err) }
