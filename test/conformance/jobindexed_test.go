package conformance

import (
	"fmt"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

func indexedJobs() []behaviour {
	return []behaviour{
		{"Ensure Pods of an Indexed Job get a unique index.", indexedUnique},
		{"Ensure that all indexes are executed for an indexed job with backoffLimitPerIndex despite some failing", indexedAll},
		{"Mark indexes as failed when the FailIndex action is matched in podFailurePolicy", indexedFailIndex},
		{"Terminate job execution when the maxFailedIndexes is exceeded", indexedMaxFailed},
		{"Ensure that job with successPolicy succeeded when all indexes succeeded", successAll},
		{"Ensure that job with successPolicy succeededCount rule succeeded even when some indexes remain pending", successCount},
		{"Ensure that job with successPolicy succeededIndexes rule succeeded even when some indexes remain pending", successIndexes},
	}
}

func indexed(name string, parallelism, completions int32, text string) *batchv1.Job {
	j := job(name, parallelism, completions, once(text))
	j.Spec.CompletionMode = ptr.To(batchv1.IndexedCompletion)
	return j
}

// byIndex are a Job's pods by their completion index.
func (s *space) byIndex(t testing.TB, name string) map[string][]corev1.Pod {
	t.Helper()
	out := map[string][]corev1.Pod{}
	for _, p := range s.pods(t, app(name)) {
		i := p.Annotations[batchv1.JobCompletionIndexAnnotation]
		out[i] = append(out[i], p)
	}
	return out
}

// indexedUnique: each pod has an index of its own, as annotation, label, in its environment and in its host name.
func indexedUnique(t *testing.T, s *space) {
	dir := sharedDir(t)
	j := indexed("unique", 2, 4, "hostname > /marks/$JOB_COMPLETION_INDEX")
	j.Spec.Template.Spec = withMarks(j.Spec.Template.Spec, dir)
	s.createJob(t, j)
	ended := s.ends(t, "unique", batchv1.JobComplete, batchv1.JobReasonCompletionsReached)
	if ended.Status.CompletedIndexes != "0-3" || ended.Status.Succeeded != 4 {
		t.Errorf("status %+v", ended.Status)
	}
	pods := s.byIndex(t, "unique")
	for i := range 4 {
		index := fmt.Sprint(i)
		if n := len(pods[index]); n != 1 {
			t.Errorf("index %s has %d pods", index, n)
			continue
		}
		if label := pods[index][0].Labels[batchv1.JobCompletionIndexAnnotation]; label != index {
			t.Errorf("the pod of index %s is labelled %q", index, label)
		}
		if got := readMark(t, dir, index); got != "unique-"+index {
			t.Errorf("index %s ran on host %q", index, got)
		}
	}
}

const oddFails = `if [ $((JOB_COMPLETION_INDEX % 2)) = 1 ]; then exit 1; fi`

// indexedAll: every index runs to its end, the odd ones twice and in vain.
func indexedAll(t *testing.T, s *space) {
	j := indexed("all", 2, 4, oddFails)
	j.Spec.BackoffLimitPerIndex = ptr.To[int32](1)
	j.Spec.BackoffLimit = nil
	s.createJob(t, j)
	ended := s.ends(t, "all", batchv1.JobFailed, batchv1.JobReasonFailedIndexes)
	st := ended.Status
	if st.CompletedIndexes != "0,2" || st.FailedIndexes == nil || *st.FailedIndexes != "1,3" || st.Succeeded != 2 || st.Failed != 4 {
		t.Errorf("status %+v", st)
	}
}

// indexedFailIndex: an index whose pod ends with the code that the policy names fails without a retry.
func indexedFailIndex(t *testing.T, s *space) {
	j := indexed("hopeless", 2, 2, `if [ "$JOB_COMPLETION_INDEX" = 0 ]; then exit 42; fi`)
	j.Spec.BackoffLimitPerIndex = ptr.To[int32](3)
	j.Spec.BackoffLimit = nil
	j.Spec.PodFailurePolicy = &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{onExitCode(batchv1.PodFailurePolicyActionFailIndex, 42)}}
	s.createJob(t, j)
	st := s.ends(t, "hopeless", batchv1.JobFailed, batchv1.JobReasonFailedIndexes).Status
	if st.CompletedIndexes != "1" || st.FailedIndexes == nil || *st.FailedIndexes != "0" || st.Succeeded != 1 || st.Failed != 1 {
		t.Errorf("status %+v", st)
	}
	if n := len(s.byIndex(t, "hopeless")["0"]); n != 1 {
		t.Errorf("%d pods of the failed index", n)
	}
}

// indexedMaxFailed: one failed index more than allowed ends the Job, while others have not even begun.
func indexedMaxFailed(t *testing.T, s *space) {
	j := indexed("enough", 1, 6, "exit 1")
	j.Spec.BackoffLimitPerIndex, j.Spec.MaxFailedIndexes = ptr.To[int32](0), ptr.To[int32](1)
	j.Spec.BackoffLimit = nil
	s.createJob(t, j)
	st := s.ends(t, "enough", batchv1.JobFailed, batchv1.JobReasonMaxFailedIndexesExceeded).Status
	if st.FailedIndexes == nil || *st.FailedIndexes != "0,1" || st.CompletedIndexes != "" || st.Failed != 2 {
		t.Errorf("status %+v", st)
	}
	if pods := s.pods(t, app("enough")); len(pods) != 2 {
		t.Errorf("%s", describe(pods))
	}
}

// succeeds checks the conditions with which a success policy ends a Job.
func (s *space) succeeds(t testing.TB, name, completed string, succeeded int32) *batchv1.Job {
	t.Helper()
	j := s.ends(t, name, batchv1.JobComplete, batchv1.JobReasonSuccessPolicy)
	if c := jobCondition(j, batchv1.JobSuccessCriteriaMet); c == nil || c.Reason != batchv1.JobReasonSuccessPolicy {
		t.Errorf("conditions %+v", j.Status.Conditions)
	}
	if j.Status.CompletedIndexes != completed || j.Status.Succeeded != succeeded {
		t.Errorf("status %+v, want indexes %s", j.Status, completed)
	}
	return j
}

// successAll: a policy without more to it is met by all indexes, not by fewer.
func successAll(t *testing.T, s *space) {
	dir := sharedDir(t)
	j := indexed("whole", 2, 2, `if [ "$JOB_COMPLETION_INDEX" = 1 ]; then while [ ! -e /marks/go ]; do sleep 0.1; done; fi`)
	j.Spec.Template.Spec = withMarks(j.Spec.Template.Spec, dir)
	j.Spec.SuccessPolicy = &batchv1.SuccessPolicy{Rules: []batchv1.SuccessPolicyRule{{SucceededIndexes: ptr.To("0-1")}}}
	s.createJob(t, j)
	s.completed(t, "whole", "0")
	holds(t, "a job of which one index has succeeded", func() error {
		if j := s.job(t, "whole"); len(j.Status.Conditions) > 0 {
			return fmt.Errorf("conditions %+v", j.Status.Conditions)
		}
		return nil
	})
	mark(t, dir, "go")
	s.succeeds(t, "whole", "0,1", 2)
}

// completed waits until a Job has completed these indexes.
func (s *space) completed(t testing.TB, name, indexes string) {
	t.Helper()
	until(t, "completed indexes "+indexes, func() error {
		if j := s.job(t, name); j.Status.CompletedIndexes != indexes {
			return fmt.Errorf("status %+v", j.Status)
		}
		return nil
	})
}

const runsOn = `trap 'exit 1' TERM; while :; do sleep 1 & wait; done`

// successCount: as many successes as the rule wants end the Job; the pod that still runs goes.
func successCount(t *testing.T, s *space) {
	j := indexed("some", 3, 3, `if [ "$JOB_COMPLETION_INDEX" = 0 ]; then exit 0; fi; `+runsOn)
	j.Spec.SuccessPolicy = &batchv1.SuccessPolicy{Rules: []batchv1.SuccessPolicyRule{{SucceededCount: ptr.To[int32](1)}}}
	s.createJob(t, j)
	s.succeeds(t, "some", "0", 1)
	s.onlyEnded(t, "some")
}

// successIndexes: the named indexes decide, another one's success does not.
func successIndexes(t *testing.T, s *space) {
	dir := sharedDir(t)
	j := indexed("named", 3, 3, `case "$JOB_COMPLETION_INDEX" in
0) exit 0;;
1) while [ ! -e /marks/go ]; do sleep 0.1; done; exit 0;;
esac; `+runsOn)
	j.Spec.Template.Spec = withMarks(j.Spec.Template.Spec, dir)
	j.Spec.SuccessPolicy = &batchv1.SuccessPolicy{Rules: []batchv1.SuccessPolicyRule{{SucceededIndexes: ptr.To("1")}}}
	s.createJob(t, j)
	s.completed(t, "named", "0")
	holds(t, "a job whose named index has not succeeded", func() error {
		if j := s.job(t, "named"); len(j.Status.Conditions) > 0 || j.Status.Active != 2 {
			return fmt.Errorf("status %+v", j.Status)
		}
		return nil
	})
	mark(t, dir, "go")
	s.succeeds(t, "named", "0,1", 2)
	s.onlyEnded(t, "named")
}

// onlyEnded: no pod of the Job runs on.
func (s *space) onlyEnded(t testing.TB, name string) {
	t.Helper()
	pods := s.pods(t, app(name))
	for i := range pods {
		if !ended(&pods[i]) {
			t.Errorf("%s", describe(pods[i:i+1]))
		}
	}
}
