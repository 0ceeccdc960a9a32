package why

import (
	"maps"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Explain makes the report from the facts.
func Explain(f *Facts) *Report {
	r := &Report{Kind: f.Target.Kind, Namespace: f.Target.Namespace, Name: f.Target.Name, Unseen: f.Unseen}
	if f.Next != nil {
		r.Unseen = slices.Concat(r.Unseen, f.Next.Unseen)
	}
	switch o := f.Object.(type) {
	case *corev1.Pod:
		r.Summary, r.Findings, r.Verdict = f.podSummary(o), f.explainPod(o), f.Verdicts[o.UID]
	case *appsv1.Deployment:
		r.Summary, r.Findings = f.explainDeployment(o)
		r.Findings = f.shortfall(r.Findings, o.Status.AvailableReplicas, deref(o.Spec.Replicas, 1))
	case *appsv1.ReplicaSet:
		r.Summary, r.Findings = f.explainReplicaSet(o)
		r.Findings = f.shortfall(r.Findings, o.Status.AvailableReplicas, deref(o.Spec.Replicas, 1))
	case *corev1.ReplicationController:
		r.Summary, r.Findings = f.explainController(o)
		r.Findings = f.shortfall(r.Findings, o.Status.AvailableReplicas, deref(o.Spec.Replicas, 1))
	case *appsv1.StatefulSet:
		r.Summary, r.Findings = f.explainStatefulSet(o)
		r.Findings = f.shortfall(r.Findings, o.Status.AvailableReplicas, deref(o.Spec.Replicas, 1))
	case *appsv1.DaemonSet:
		r.Summary, r.Findings = f.explainDaemonSet(o)
	case *batchv1.Job:
		r.Summary, r.Findings = f.explainJob(o, f.Pods)
	case *batchv1.CronJob:
		r.Summary, r.Findings = f.explainCronJob(o)
	case *corev1.PersistentVolumeClaim:
		r.Summary, r.Findings = claimSummary(o), f.explainClaim(o)
	case *corev1.Service:
		r.Summary, r.Findings = f.explainService(o)
	case *corev1.Node:
		r.Summary, r.Findings = f.nodeSummary(o), f.explainNode(o)
	case *autoscalingv2.HorizontalPodAutoscaler:
		r.Summary, r.Findings = f.explainAutoscaler(o)
	case *policyv1.PodDisruptionBudget:
		r.Summary, r.Findings = f.explainBudget(o)
	case *resourcev1.ResourceClaim:
		r.Summary, r.Findings = f.explainDeviceClaim(o)
	default:
		r.Summary, r.Findings = f.explainOther(o)
	}
	r.Findings = append(f.deleted(f.Object), r.Findings...)
	if r.Findings == nil {
		r.Findings = []Finding{} // [] in JSON
	}
	r.judge()
	return r
}

// deleted explains an object that was deleted and is still there; pods and claims have their own words for it.
func (f *Facts) deleted(o metav1.Object) []Finding {
	switch o.(type) {
	case *corev1.Pod, *corev1.PersistentVolumeClaim:
		return nil
	}
	if o.GetDeletionTimestamp() == nil {
		return nil
	}
	out := Finding{Link: LinkDeletion, Severity: Waiting, Reason: "Terminating", Object: f.Target.String()}
	out.Message = "it was deleted " + f.since(o.GetDeletionTimestamp().Time) + " ago"
	if names := o.GetFinalizers(); len(names) > 0 {
		out.Message += "; finalizers hold it: " + strings.Join(names, ", ")
		out.Do = "nothing yet: whoever set a finalizer takes it off when its work is done"
		if f.Now.Sub(o.GetDeletionTimestamp().Time) > slowSetUp {
			out.Severity, out.Do = Error, "find out why the owners of these finalizers do not take them off"
		}
	}
	return []Finding{out}
}

func labelText(labels map[string]string) string {
	var out []string
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		out = append(out, key+"="+labels[key])
	}
	return strings.Join(out, ",")
}
