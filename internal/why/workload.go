package why

import (
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// refused explains that the API server refuses what a controller wants to make.
func (f *Facts) refused(object, message string) Finding {
	for _, frame := range []string{"(combined from similar events): ", "Error creating: "} {
		message = strings.TrimPrefix(message, frame) // what the event adds to the API server's words
	}
	out := Finding{Link: LinkAdmission, Severity: Error, Reason: "FailedCreate", Object: object, Message: message, key: "refused " + message}
	_, name, quota := strings.Cut(message, "exceeded quota: ")
	switch {
	case quota:
		name, _, _ = strings.Cut(name, ",")
		out.Link = LinkQuota
		out.Do = fmt.Sprintf("raise the quota (`%s`), or free what counts against it (`%s`)", f.inNamespace("edit resourcequota %s", name), f.inNamespace("describe resourcequota %s", name))
	case strings.Contains(message, "failed quota: "):
		out.Link = LinkQuota
		out.Do = "the quota wants requests or limits in each container: add them to the template, or a LimitRange with defaults to the namespace"
	case strings.Contains(message, "maximum ") || strings.Contains(message, "minimum ") || strings.Contains(message, "usage per "):
		out.Do = "keep to the LimitRange (`" + f.inNamespace("describe limitrange") + "`), or change it"
	case strings.Contains(message, "PriorityClass"):
		out.Do = "make the PriorityClass that the message names, or correct priorityClassName"
	case strings.Contains(message, "RuntimeClass"):
		out.Do = "make the RuntimeClass that the message names, or correct runtimeClassName"
	case strings.Contains(message, "serviceaccount"):
		out.Do = "make the ServiceAccount that the message names, or correct serviceAccountName"
	default:
		out.Do = "change the template as the message says; the controller tries again by itself"
	}
	return out
}

// refusedByEvents finds the last refusal in an object's events, unless something was made since.
func (f *Facts) refusedByEvents(uid types.UID, object string) []Finding {
	e := f.lastEvent(uid, "FailedCreate", "SuccessfulCreate")
	if e == nil || e.Reason != "FailedCreate" {
		return nil
	}
	return []Finding{f.refused(object, e.Message)}
}

// unseenByController explains an object whose controller has not looked at it since it changed.
func (f *Facts) unseenByController(o metav1.Object, observed int64) []Finding {
	if observed >= o.GetGeneration() || o.GetDeletionTimestamp() != nil {
		return nil
	}
	out := Finding{Link: LinkController, Severity: Waiting, Reason: "NotObserved", Object: f.Target.String()}
	out.Message = fmt.Sprintf("its controller has not seen generation %d yet, only %d", o.GetGeneration(), observed)
	changed := o.GetCreationTimestamp().Time
	for _, m := range o.GetManagedFields() {
		if m.Time != nil && m.Time.After(changed) && m.Subresource == "" {
			changed = m.Time.Time
		}
	}
	if f.Now.Sub(changed) > slowToLook {
		out.Severity, out.Do = Error, "see whether the controllers run: `canopus status`"
	}
	return []Finding{out}
}

func deploymentCondition(d *appsv1.Deployment, kind appsv1.DeploymentConditionType) *appsv1.DeploymentCondition {
	for i := range d.Status.Conditions {
		if d.Status.Conditions[i].Type == kind {
			return &d.Status.Conditions[i]
		}
	}
	return nil
}

func (f *Facts) explainDeployment(d *appsv1.Deployment) (string, []Finding) {
	want := deref(d.Spec.Replicas, 1)
	summary := fmt.Sprintf("%d of %d pods available, %d of the present template, revision %s",
		d.Status.AvailableReplicas, want, d.Status.UpdatedReplicas, orElse(d.Annotations["deployment.kubernetes.io/revision"], "none"))
	out := f.unseenByController(d, d.Status.ObservedGeneration)
	refusals := 0
	for _, rs := range f.ReplicaSets {
		found := f.replicaSetRefused(rs)
		refusals += len(found)
		out = append(out, found...)
	}
	if c := deploymentCondition(d, appsv1.DeploymentReplicaFailure); refusals == 0 && c != nil && c.Status == corev1.ConditionTrue {
		out = append(out, f.refused(f.Target.String(), c.Message))
	}
	out = append(out, f.explainPods(dropDone(f.Pods))...)
	return summary, append(out, f.rollout(d, out)...)
}

// rollout tells where the way from one template to the next has got to. known is what was found already.
func (f *Facts) rollout(d *appsv1.Deployment, known []Finding) []Finding {
	out := Finding{Link: LinkRollout, Object: f.Target.String()}
	want := deref(d.Spec.Replicas, 1)
	s := d.Status
	done := s.UpdatedReplicas >= want && s.AvailableReplicas >= want && s.Replicas <= s.UpdatedReplicas
	progress := fmt.Sprintf("%d of %d pods have the present template, %d are available", s.UpdatedReplicas, want, s.AvailableReplicas)
	c := deploymentCondition(d, appsv1.DeploymentProgressing)
	switch {
	case c != nil && c.Status == corev1.ConditionFalse && c.Reason == "ReplicaSetCreateError":
		x := f.refused(f.Target.String(), c.Message)
		x.Reason = c.Reason
		return []Finding{x}
	case d.Spec.Paused && done:
		out.Severity, out.Reason = Note, "DeploymentPaused"
		out.Message = "its rollout is paused: changes of the template will wait"
	case d.Spec.Paused:
		out.Severity, out.Reason = Waiting, "DeploymentPaused"
		out.Message = "its rollout is paused: " + progress
		out.Do = "`" + f.inNamespace("rollout resume deployment/%s", d.Name) + "`"
	case c != nil && c.Status == corev1.ConditionFalse && c.Reason == "ProgressDeadlineExceeded":
		out.Severity, out.Reason = Error, c.Reason
		out.Message = fmt.Sprintf("its rollout stalled: no progress for more than %s; %s. %s", time.Duration(deref(d.Spec.ProgressDeadlineSeconds, 600))*time.Second, progress, c.Message)
		out.Do = "mend what stops the new pods, and the rollout goes on; or go back: `" + f.inNamespace("rollout undo deployment/%s", d.Name) + "`"
	case done || s.ObservedGeneration < d.Generation:
		return nil
	case len(known) > 0 && s.UpdatedReplicas >= want && s.Replicas <= s.UpdatedReplicas:
		return nil // all pods are of the present template: it is up to them
	default:
		out.Severity, out.Reason = Waiting, "RollingOut"
		out.Message = "its rollout is under way: " + progress
		if s.Replicas > s.UpdatedReplicas {
			out.Message += fmt.Sprintf(", %d are of the template before", s.Replicas-s.UpdatedReplicas)
		}
	}
	return []Finding{out}
}

// replicaSetRefused explains that a ReplicaSet may not make its pods.
func (f *Facts) replicaSetRefused(rs *appsv1.ReplicaSet) []Finding {
	for _, c := range rs.Status.Conditions {
		if c.Type == appsv1.ReplicaSetReplicaFailure && c.Status == corev1.ConditionTrue {
			return []Finding{f.countMissing(f.refused("replicaset/"+rs.Name, c.Message), deref(rs.Spec.Replicas, 1), rs.Status.Replicas)}
		}
	}
	return nil
}

func (f *Facts) countMissing(x Finding, want, have int32) Finding {
	if have < want {
		x.Message = fmt.Sprintf("%d of %d pods cannot be made: %s", want-have, want, x.Message)
	}
	return x
}

func (f *Facts) explainReplicaSet(rs *appsv1.ReplicaSet) (string, []Finding) {
	summary := fmt.Sprintf("%d of %d pods available", rs.Status.AvailableReplicas, deref(rs.Spec.Replicas, 1))
	out := f.unseenByController(rs, rs.Status.ObservedGeneration)
	out = append(out, f.replicaSetRefused(rs)...)
	return summary, append(out, f.explainPods(dropDone(f.Pods))...)
}

func (f *Facts) explainController(rc *corev1.ReplicationController) (string, []Finding) {
	summary := fmt.Sprintf("%d of %d pods available", rc.Status.AvailableReplicas, deref(rc.Spec.Replicas, 1))
	out := f.unseenByController(rc, rc.Status.ObservedGeneration)
	for _, c := range rc.Status.Conditions {
		if c.Type == corev1.ReplicationControllerReplicaFailure && c.Status == corev1.ConditionTrue {
			out = append(out, f.countMissing(f.refused(f.Target.String(), c.Message), deref(rc.Spec.Replicas, 1), rc.Status.Replicas))
		}
	}
	return summary, append(out, f.explainPods(dropDone(f.Pods))...)
}

func (f *Facts) explainStatefulSet(set *appsv1.StatefulSet) (string, []Finding) {
	want, s := deref(set.Spec.Replicas, 1), set.Status
	summary := fmt.Sprintf("%d of %d pods ready, %d available, %d of the present template", s.ReadyReplicas, want, s.AvailableReplicas, s.UpdatedReplicas)
	out := f.unseenByController(set, s.ObservedGeneration)
	if s.Replicas < want {
		for _, x := range f.refusedByEvents(set.UID, f.Target.String()) {
			out = append(out, f.countMissing(x, want, s.Replicas))
		}
	}
	pods := f.explainPods(f.Pods)
	out = append(out, pods...)
	if s.ObservedGeneration < set.Generation {
		return summary, out
	}
	return summary, append(out, f.setRollout(set, len(out) > 0)...)
}

// setRollout tells what the order of a StatefulSet's pods makes wait, and where its update stands.
func (f *Facts) setRollout(set *appsv1.StatefulSet, troubled bool) []Finding {
	var out []Finding
	want, s := deref(set.Spec.Replicas, 1), set.Status
	ordered := set.Spec.PodManagementPolicy != appsv1.ParallelPodManagement
	note := func(severity Severity, reason, message, do string) {
		out = append(out, Finding{Link: LinkRollout, Severity: severity, Reason: reason, Object: f.Target.String(), Message: message, Do: do})
	}
	if s.Replicas < want && ordered {
		note(Waiting, "OrderedReady", fmt.Sprintf("%d of %d pods are made: each waits until those before it are Running and Ready", s.Replicas, want), "")
	}
	if s.UpdateRevision == "" || s.CurrentRevision == s.UpdateRevision {
		return out
	}
	progress := fmt.Sprintf("%d of %d pods have the present template", s.UpdatedReplicas, want)
	partition := int32(0)
	if r := set.Spec.UpdateStrategy.RollingUpdate; r != nil {
		partition = deref(r.Partition, 0)
	}
	switch {
	case set.Spec.UpdateStrategy.Type == appsv1.OnDeleteStatefulSetStrategyType:
		note(Note, "OnDelete", progress+"; others get it when they are deleted (updateStrategy OnDelete)", "")
	case partition > 0 && s.UpdatedReplicas >= want-partition:
		note(Note, "Partition", fmt.Sprintf("%s; those below ordinal %d keep the one before (partition %d)", progress, partition, partition), "")
	case troubled && ordered:
		note(Error, "RolloutBlocked", "its update waits for a pod that does not become Ready: "+progress, f.blockedAdvice(set))
	default:
		note(Waiting, "RollingOut", "its update is under way: "+progress, "")
	}
	return out
}

// blockedAdvice: with ordered pods a mended template does not reach a pod that never became Ready.
func (f *Facts) blockedAdvice(set *appsv1.StatefulSet) string {
	for _, p := range f.Pods {
		if !podReady(p) && p.Labels[appsv1.StatefulSetRevisionLabel] == set.Status.UpdateRevision {
			return fmt.Sprintf("mend the template, then `%s`: an ordered set does not replace a pod that never became Ready", f.inNamespace("delete pod %s", p.Name))
		}
	}
	return "mend what stops the pod, and the update goes on"
}

func (f *Facts) explainDaemonSet(ds *appsv1.DaemonSet) (string, []Finding) {
	s := ds.Status
	summary := fmt.Sprintf("available on %d of %s, of the present template on %d", s.NumberAvailable, plural(int(s.DesiredNumberScheduled), "node"), s.UpdatedNumberScheduled)
	out := f.unseenByController(ds, s.ObservedGeneration)
	if s.CurrentNumberScheduled < s.DesiredNumberScheduled {
		out = append(out, f.refusedByEvents(ds.UID, f.Target.String())...)
	}
	out = append(out, f.explainPods(f.Pods)...)
	note := func(severity Severity, reason, message, do string) {
		out = append(out, Finding{Link: LinkRollout, Severity: severity, Reason: reason, Object: f.Target.String(), Message: message, Do: do})
	}
	switch {
	case s.ObservedGeneration < ds.Generation:
	case s.DesiredNumberScheduled == 0:
		note(Warning, "NoNodes", "no node is to run it: none matches its nodeSelector, affinity and tolerations", "label or untaint a node, or correct the template; `kubectl get nodes --show-labels`")
	case s.UpdatedNumberScheduled < s.DesiredNumberScheduled && ds.Spec.UpdateStrategy.Type == appsv1.OnDeleteDaemonSetStrategyType:
		note(Note, "OnDelete", summary+"; the others get it when they are deleted (updateStrategy OnDelete)", "")
	case s.UpdatedNumberScheduled < s.DesiredNumberScheduled:
		note(Waiting, "RollingOut", fmt.Sprintf("its rollout is under way: %d of %d nodes have a pod of the present template", s.UpdatedNumberScheduled, s.DesiredNumberScheduled), "")
	case s.NumberAvailable < s.DesiredNumberScheduled && len(out) == 0:
		note(Waiting, "NotAvailable", fmt.Sprintf("%d of %d nodes have an available pod", s.NumberAvailable, s.DesiredNumberScheduled), "")
	}
	return summary, out
}

// shortfall adds a finding when fewer pods than wanted are there and nothing else says why.
func (f *Facts) shortfall(out []Finding, have, want int32) []Finding {
	if have >= want || slices.ContainsFunc(out, func(x Finding) bool { return x.Severity != Note }) {
		return out
	}
	return append(out, Finding{Link: LinkRollout, Severity: Waiting, Reason: "NotAvailable", Object: f.Target.String(),
		Message: fmt.Sprintf("%d of %d pods are available", have, want)})
}
