package conformance

import (
	"fmt"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

func jobs() []behaviour {
	return []behaviour{
		{"Jobs, orphan pods, re-adoption", jobAdopts},
		{"Jobs, active pods, graceful termination", jobDeleted},
		{"Jobs, completion after task failure", jobRestarts},
		{"Jobs, apply changes to status", jobStatus},
		{"Jobs, manage lifecycle", jobLifecycle},
		{"Verify Pod Failure policy allows to fail job early on exit code.", jobExitCode},
		{"Ensure pod failure policy allows to ignore failure matching on the DisruptionTarget condition", jobDisrupted},
	}
}

func job(name string, parallelism, completions int32, spec corev1.PodSpec) *batchv1.Job {
	if spec.RestartPolicy == "" {
		spec.RestartPolicy = corev1.RestartPolicyNever
	}
	return &batchv1.Job{
		ObjectMeta: meta(name),
		Spec: batchv1.JobSpec{
			Parallelism: &parallelism, Completions: &completions, BackoffLimit: ptr.To[int32](6), Template: template(app(name), spec),
		},
	}
}

func (s *space) createJob(t testing.TB, j *batchv1.Job) *batchv1.Job {
	t.Helper()
	return must(s.Client.BatchV1().Jobs(s.ns).Create(t.Context(), j, metav1.CreateOptions{}))(t)
}

func (s *space) job(t testing.TB, name string) *batchv1.Job {
	t.Helper()
	return must(s.Client.BatchV1().Jobs(s.ns).Get(t.Context(), name, metav1.GetOptions{}))(t)
}

// jobCondition is a condition of a Job that is true, or nil.
func jobCondition(j *batchv1.Job, kind batchv1.JobConditionType) *batchv1.JobCondition {
	for i, c := range j.Status.Conditions {
		if c.Type == kind && c.Status == corev1.ConditionTrue {
			return &j.Status.Conditions[i]
		}
	}
	return nil
}

// ends waits for the end of a Job, which must be of the given kind and, unless "", for the given reason.
func (s *space) ends(t testing.TB, name string, kind batchv1.JobConditionType, reason string) *batchv1.Job {
	t.Helper()
	var j *batchv1.Job
	until(t, "job "+name+" to end", func() error {
		j = s.job(t, name)
		if jobCondition(j, batchv1.JobComplete) == nil && jobCondition(j, batchv1.JobFailed) == nil {
			return fmt.Errorf("status %+v", j.Status)
		}
		return nil
	})
	c := jobCondition(j, kind)
	if c == nil || reason != "" && c.Reason != reason {
		t.Fatalf("job %s ended with %+v, want %s for the reason %s", name, j.Status.Conditions, kind, reason)
	}
	if n := j.Status.Active; n != 0 {
		t.Errorf("job %s has ended with %d active pods", name, n)
	}
	return j
}

// activePods waits until a Job has n active pods by its own account and by a list.
func (s *space) activePods(t testing.TB, name string, n int) []corev1.Pod {
	t.Helper()
	pods := s.ready(t, app(name), n)
	until(t, "the status to say so", func() error {
		if j := s.job(t, name); int(j.Status.Active) != n {
			return fmt.Errorf("%d active", j.Status.Active)
		}
		return nil
	})
	return pods
}

// jobAdopts: a pod that loses its owner gets it back, one that loses the labels is let go and replaced.
func jobAdopts(t *testing.T, s *space) {
	j := s.createJob(t, job("parent", 2, 2, sleeps()))
	orphan := s.activePods(t, "parent", 2)[0]
	must(s.Client.CoreV1().Pods(s.ns).Patch(t.Context(), orphan.Name, types.MergePatchType, []byte(`{"metadata":{"ownerReferences":null}}`), metav1.PatchOptions{}))(t)
	until(t, "the orphan to be adopted", func() error {
		if p := s.pod(t, orphan.Name); p.UID != orphan.UID || owner(p) != string(j.UID) {
			return fmt.Errorf("%s of %q", p.UID, owner(p))
		}
		return nil
	})
	change(t, s.Client.CoreV1().Pods(s.ns), orphan.Name, func(p *corev1.Pod) { p.Labels = app("stranger") })
	until(t, "the pod without labels to be released", func() error {
		if p := s.pod(t, orphan.Name); owner(p) != "" {
			return fmt.Errorf("it belongs to %s", owner(p))
		}
		return nil
	})
	for _, p := range s.activePods(t, "parent", 2) {
		if p.UID == orphan.UID || owner(&p) != string(j.UID) {
			t.Errorf("%s of %s", p.Name, owner(&p))
		}
	}
	if p := s.pod(t, orphan.Name); !isReady(p) {
		t.Errorf("the released pod does not go on: %s", describe([]corev1.Pod{*p}))
	}
}

// jobDeleted: a Job runs as many pods at once as its parallelism, and takes them along when it is deleted.
func jobDeleted(t *testing.T, s *space) {
	s.createJob(t, job("deleted", 2, 4, sleeps()))
	s.activePods(t, "deleted", 2)
	holds(t, "the number of pods", func() error {
		if pods := s.pods(t, app("deleted")); len(pods) != 2 {
			return fmt.Errorf("%s", describe(pods))
		}
		return nil
	})
	policy := metav1.DeletePropagationForeground
	check(t, s.Client.BatchV1().Jobs(s.ns).Delete(t.Context(), "deleted", metav1.DeleteOptions{PropagationPolicy: &policy}))
	gone(t, "the job", func() (*batchv1.Job, error) {
		return s.Client.BatchV1().Jobs(s.ns).Get(t.Context(), "deleted", metav1.GetOptions{})
	})
	if pods := s.pods(t, app("deleted")); len(pods) != 0 {
		t.Errorf("the job is gone before its pods: %s", describe(pods))
	}
}

// jobRestarts: containers that fail at first are started again in their pods, and the Job completes.
func jobRestarts(t *testing.T, s *space) {
	spec := script("if [ -e /state/failed ]; then exit 0; fi; touch /state/failed; exit 1")
	spec.RestartPolicy = corev1.RestartPolicyOnFailure
	spec.Volumes = []corev1.Volume{{Name: "state", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "state", MountPath: "/state"}}
	s.createJob(t, job("stubborn", 2, 4, spec))
	j := s.ends(t, "stubborn", batchv1.JobComplete, batchv1.JobReasonCompletionsReached)
	if j.Status.Succeeded != 4 || j.Status.Failed != 0 || j.Status.CompletionTime == nil {
		t.Errorf("status %+v", j.Status)
	}
	pods := s.pods(t, app("stubborn"))
	for _, p := range pods {
		if p.Status.Phase != corev1.PodSucceeded || p.Status.ContainerStatuses[0].RestartCount != 1 {
			t.Errorf("%s is %s after %d restarts", p.Name, p.Status.Phase, p.Status.ContainerStatuses[0].RestartCount)
		}
	}
	if len(pods) != 4 {
		t.Errorf("%d pods for 4 completions", len(pods))
	}
}

func jobStatus(t *testing.T, s *space) {
	s.createJob(t, job("status", 2, 4, sleeps()))
	s.activePods(t, "status", 2)
	s.resource(batchv1.SchemeGroupVersion, "jobs").status(t, "status")
	until(t, "the job's own numbers beside the strange conditions", func() error {
		if j := s.job(t, "status"); j.Status.Active != 2 || j.Status.StartTime == nil {
			return fmt.Errorf("status %+v", j.Status)
		}
		return nil
	})
}

// jobLifecycle: a suspended Job runs nothing; labels and annotations by patch and update; resuming; lists; deletion as a collection.
func jobLifecycle(t *testing.T, s *space) {
	suspended := job("life", 1, 1, once("exit 0"))
	suspended.Spec.Suspend = ptr.To(true)
	s.createJob(t, suspended)
	until(t, "the condition Suspended", func() error {
		if j := s.job(t, "life"); jobCondition(j, batchv1.JobSuspended) == nil {
			return fmt.Errorf("conditions %+v", j.Status.Conditions)
		}
		return nil
	})
	s.stays(t, app("life"))
	r := s.resource(batchv1.SchemeGroupVersion, "jobs")
	if u := r.merge(t, "life", map[string]any{"metadata": map[string]any{"labels": map[string]any{"stage": "patched"}}}); u.GetLabels()["stage"] != "patched" {
		t.Errorf("labels after a patch: %v", u.GetLabels())
	}
	change(t, s.Client.BatchV1().Jobs(s.ns), "life", func(j *batchv1.Job) {
		j.Annotations = map[string]string{"stage": "updated"}
		j.Spec.Suspend = ptr.To(false)
	})
	if j := s.ends(t, "life", batchv1.JobComplete, ""); j.Annotations["stage"] != "updated" || j.Labels["stage"] != "patched" {
		t.Errorf("labels %v, annotations %v", j.Labels, j.Annotations)
	}
	list := must(s.Client.BatchV1().Jobs("").List(t.Context(), metav1.ListOptions{LabelSelector: "app=life,stage=patched"}))(t)
	if len(list.Items) != 1 || list.Items[0].Namespace != s.ns {
		t.Errorf("the list of all namespaces: %d jobs", len(list.Items))
	}
	r.deleteAll(t, "stage=patched")
	r.expect(t, "stage=patched", 0)
	s.ready(t, app("life"), 0)
	r.collection(t, func(name string) runtime.Object { return job(name, 1, 1, sleeps()) })
}

// jobExitCode: one pod with the exit code that the policy names fails the whole Job, though others run and retries are left.
func jobExitCode(t *testing.T, s *space) {
	j := job("early", 2, 2, once(`if [ "$JOB_COMPLETION_INDEX" = 0 ]; then exit 42; fi; trap 'exit 0' TERM; while :; do sleep 1 & wait; done`))
	j.Spec.CompletionMode = ptr.To(batchv1.IndexedCompletion)
	j.Spec.PodFailurePolicy = &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{onExitCode(batchv1.PodFailurePolicyActionFailJob, 42)}}
	s.createJob(t, j)
	ended := s.ends(t, "early", batchv1.JobFailed, batchv1.JobReasonPodFailurePolicy)
	byIndex := map[string]int{}
	for _, p := range s.pods(t, app("early")) {
		byIndex[p.Annotations[batchv1.JobCompletionIndexAnnotation]]++
	}
	if byIndex["0"] != 1 || byIndex["1"] > 1 {
		t.Errorf("pods by index: %v, want no retry", byIndex)
	}
	if ended.Status.Succeeded != 0 || ended.Status.Failed < 1 {
		t.Errorf("status %+v", ended.Status)
	}
}

func onExitCode(action batchv1.PodFailurePolicyAction, code int32) batchv1.PodFailurePolicyRule {
	return batchv1.PodFailurePolicyRule{Action: action, OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{
		Operator: batchv1.PodFailurePolicyOnExitCodesOpIn, Values: []int32{code},
	}}
}

// jobDisrupted: each pod is evicted once, which the policy lets pass, so that the Job completes without any retry allowed.
// The same Job without the rule fails, which shows that it is the rule.
func jobDisrupted(t *testing.T, s *space) {
	for _, c := range []struct {
		name  string
		rules []batchv1.PodFailurePolicyRule
		end   batchv1.JobConditionType
	}{
		{"spared", []batchv1.PodFailurePolicyRule{{
			Action:          batchv1.PodFailurePolicyActionIgnore,
			OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue}},
		}}, batchv1.JobComplete},
		{"counted", nil, batchv1.JobFailed},
	} {
		dir := sharedDir(t)
		mark := `mark=/marks/$JOB_COMPLETION_INDEX; if [ -e $mark ]; then exit 0; fi; touch $mark; trap 'exit 1' TERM; while :; do sleep 1 & wait; done`
		j := job(c.name, 2, 2, withMarks(once(mark), dir))
		j.Spec.CompletionMode, j.Spec.BackoffLimit = ptr.To(batchv1.IndexedCompletion), ptr.To[int32](0)
		if c.rules != nil {
			j.Spec.PodFailurePolicy = &batchv1.PodFailurePolicy{Rules: c.rules}
		}
		s.createJob(t, j)
		pods := s.activePods(t, c.name, 2)
		awaitMarks(t, dir, "0", "1")
		for _, p := range pods {
			check(t, s.Client.CoreV1().Pods(s.ns).EvictV1(t.Context(), &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: p.Name, Namespace: s.ns}}))
			if c.rules == nil {
				break
			}
		}
		if ended := s.ends(t, c.name, c.end, ""); c.end == batchv1.JobComplete && (ended.Status.Succeeded != 2 || ended.Status.Failed != 0) {
			t.Errorf("status %+v", ended.Status)
		}
	}
}
