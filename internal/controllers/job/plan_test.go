package job

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

var epoch = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func TestIndexes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"": "", "1,3-5,7": "1,3-5,7", "1-2": "1,2", "0,1,2": "0-2", "5-3,x,-1,9-99": "9"} {
		if got := parseIndexes(text, 10).String(); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestMetRule(t *testing.T) {
	t.Parallel()
	policy := &batchv1.SuccessPolicy{Rules: []batchv1.SuccessPolicyRule{
		{SucceededIndexes: ptr.To("1-4"), SucceededCount: ptr.To(int32(3))}, {SucceededIndexes: ptr.To("0,9")}, {SucceededCount: ptr.To(int32(6))},
	}}
	for done, want := range map[string]int{"1,3,5": -1, "1,3,4": 0, "0,9": 1, "0,2,5-8": 2, "": -1} {
		if got := metRule(policy, parseIndexes(done, 10), 10); got != want {
			t.Errorf("%q: rule %d, want %d", done, got, want)
		}
	}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	exit := func(op batchv1.PodFailurePolicyOnExitCodesOperator, values ...int32) *batchv1.PodFailurePolicyOnExitCodesRequirement {
		return &batchv1.PodFailurePolicyOnExitCodesRequirement{ContainerName: ptr.To("main"), Operator: op, Values: values}
	}
	spec := &batchv1.JobSpec{PodFailurePolicy: &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{
		{Action: batchv1.PodFailurePolicyActionIgnore, OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue}}},
		{Action: batchv1.PodFailurePolicyActionFailJob, OnExitCodes: exit(batchv1.PodFailurePolicyOnExitCodesOpIn, 42)},
		{Action: batchv1.PodFailurePolicyActionFailIndex, OnExitCodes: exit(batchv1.PodFailurePolicyOnExitCodesOpNotIn, 1, 2)},
	}}}
	for _, tc := range []struct {
		container string
		code      int32
		disrupted bool
		perIndex  bool
		want      batchv1.PodFailurePolicyAction
	}{
		{"main", 42, true, false, batchv1.PodFailurePolicyActionIgnore},
		{"main", 42, false, false, batchv1.PodFailurePolicyActionFailJob},
		{"side", 42, false, true, batchv1.PodFailurePolicyActionCount},
		{"main", 3, false, true, batchv1.PodFailurePolicyActionFailIndex},
		{"main", 3, false, false, batchv1.PodFailurePolicyActionCount},
		{"main", 2, false, true, batchv1.PodFailurePolicyActionCount},
		{"main", 0, false, true, batchv1.PodFailurePolicyActionCount},
	} {
		s := spec.DeepCopy()
		if tc.perIndex {
			s.BackoffLimitPerIndex = new(int32)
		}
		p := &corev1.Pod{Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{
			Name: tc.container, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: tc.code}},
		}}}}
		if tc.disrupted {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue}}
		}
		if got := judge(s, p); got.action != tc.want {
			t.Errorf("%+v: %+v", tc, got)
		}
	}
}

func TestPause(t *testing.T) {
	t.Parallel()
	for failures, want := range map[int]time.Duration{1: 10 * time.Second, 2: 20 * time.Second, 4: 80 * time.Second, 7: 10 * time.Minute, 1000: 10 * time.Minute} {
		if got := pauseAfter(failures); got != want {
			t.Errorf("%d failures: %s, want %s", failures, got, want)
		}
	}
}

// world is a Job and its pods, with a ledger of what really happened to each pod.
type world struct {
	t    *testing.T
	r    *rand.Rand
	job  *batchv1.Job
	pods []*corev1.Pod
	now  time.Time
	made int
	// ok and bad count the pods that ended while the Job wanted them; dropped ones it deleted as surplus.
	ok, bad int
}

func (w *world) find(uid types.UID) int {
	return slices.IndexFunc(w.pods, func(p *corev1.Pod) bool { return p.UID == uid })
}

// step lets the controller act once, and stop before any of its writes.
func (w *world) step() {
	for i, p := range w.pods {
		w.pods[i] = p.DeepCopy()
	}
	a := plan(observed{job: w.job.DeepCopy(), pods: slices.Clone(w.pods)}, w.now)
	stop := w.r.IntN(12)
	crash := func() bool { stop--; return stop < 0 && w.r.IntN(3) > 0 }
	if crash() {
		return
	}
	w.job.Status = *a.status.DeepCopy()
	for _, p := range a.free {
		if crash() {
			return
		}
		w.free(p.UID)
	}
	for _, p := range a.kill {
		if crash() {
			return
		}
		w.delete(p.UID)
	}
	for _, p := range a.shrink {
		if crash() {
			return
		}
		w.free(p.UID)
		w.delete(p.UID)
	}
	for _, n := range a.create {
		if crash() {
			return
		}
		pod := podOf(w.job, n)
		w.made++
		pod.UID, pod.Name = types.UID(fmt.Sprint("pod-", w.made)), fmt.Sprint("pod-", w.made)
		pod.CreationTimestamp = metav1.NewTime(w.now)
		pod.Status.Phase = corev1.PodPending
		w.pods = append(w.pods, pod)
	}
}

func (w *world) free(uid types.UID) {
	if i := w.find(uid); i >= 0 {
		p := w.pods[i]
		if p.Status.Phase != corev1.PodFailed && slices.Contains(w.job.Status.UncountedTerminatedPods.Failed, uid) {
			w.bad++ // deleted with the job's end in sight: it counts before it has ended
		}
		p.Finalizers = nil
		if p.DeletionTimestamp != nil && p.Status.Phase != corev1.PodRunning {
			w.pods = slices.Delete(w.pods, i, i+1)
		}
	}
}

func (w *world) delete(uid types.UID) {
	i := w.find(uid)
	if i < 0 || w.pods[i].DeletionTimestamp != nil {
		return
	}
	w.pods[i].DeletionTimestamp = &metav1.Time{Time: w.now}
	if len(w.pods[i].Finalizers) == 0 && w.pods[i].Status.Phase != corev1.PodRunning {
		w.pods = slices.Delete(w.pods, i, i+1)
	}
}

// live lets one pod start or end.
func (w *world) live(failing float64) {
	if len(w.pods) == 0 {
		return
	}
	p := w.pods[w.r.IntN(len(w.pods))]
	switch p.Status.Phase {
	case corev1.PodPending:
		p.Status.Phase = corev1.PodRunning
	case corev1.PodRunning:
		tracked := len(p.Finalizers) > 0
		p.Status.Phase = corev1.PodSucceeded
		if p.DeletionTimestamp != nil || w.r.Float64() < failing {
			p.Status.Phase = corev1.PodFailed
		}
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "main", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{FinishedAt: metav1.NewTime(w.now)}}}}
		switch {
		case !tracked:
		case p.Status.Phase == corev1.PodSucceeded:
			w.ok++
		default:
			w.bad++
		}
		if !tracked && p.DeletionTimestamp != nil {
			w.pods = slices.Delete(w.pods, w.find(p.UID), w.find(p.UID)+1)
		}
	}
}

// TestEveryPodIsCountedOnce plays random histories with crashes between any two writes. Whatever happens, the number of
// running pods stays within parallelism, and in the end the counts are those of the ledger.
func TestEveryPodIsCountedOnce(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 7))
		spec := batchv1.JobSpec{
			Completions: ptr.To(int32(1 + r.IntN(12))), Parallelism: ptr.To(int32(1 + r.IntN(5))), BackoffLimit: ptr.To(int32(r.IntN(8))),
			CompletionMode: ptr.To(batchv1.NonIndexedCompletion), PodReplacementPolicy: ptr.To(batchv1.Failed),
		}
		if seed%3 != 0 {
			spec.CompletionMode = ptr.To(batchv1.IndexedCompletion)
		}
		if seed%3 == 2 {
			spec.BackoffLimitPerIndex, spec.BackoffLimit = ptr.To(int32(r.IntN(3))), ptr.To(int32(1<<30))
		}
		w := &world{t: t, r: r, now: epoch, job: &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "j", UID: "j"}, Spec: spec}}
		w.play(seed, []float64{0, 0.2, 0.7}[seed%5%3])
	}
}

func (w *world) play(seed uint64, failing float64) {
	w.t.Helper()
	suspended := 0
	for range 6000 {
		w.now = w.now.Add(time.Duration(w.r.IntN(20)) * time.Second)
		switch n := w.r.IntN(100); {
		case n < 45:
			w.step()
		case n < 98:
			w.live(failing)
		case n < 99 && suspended < 4:
			suspended++
			w.job.Spec.Suspend = ptr.To(suspended%2 == 1)
		case suspended%2 == 1:
			suspended++
			w.job.Spec.Suspend = nil
		}
		running := 0
		for _, p := range w.pods {
			if p.DeletionTimestamp == nil && (p.Status.Phase == corev1.PodRunning || p.Status.Phase == corev1.PodPending) {
				running++
			}
		}
		if most := int(*w.job.Spec.Parallelism); running > most {
			w.t.Fatalf("seed %d: %d pods run, at most %d may", seed, running, most)
		}
		if finished(w.job) {
			break
		}
	}
	s := w.job.Status
	if !finished(w.job) {
		w.t.Fatalf("seed %d: the job does not end: %+v\nspec %+v", seed, s, w.job.Spec)
	}
	if s.Active != 0 || len(s.UncountedTerminatedPods.Succeeded)+len(s.UncountedTerminatedPods.Failed) > 0 {
		w.t.Fatalf("seed %d: an ended job has open ends: %+v", seed, s)
	}
	if w.job.Spec.BackoffLimitPerIndex == nil && int(s.Succeeded) != w.ok || int(s.Succeeded) > w.ok {
		w.t.Fatalf("seed %d: counted %d successes of %d", seed, s.Succeeded, w.ok)
	}
	if missed := w.bad - int(s.Failed); missed != 0 {
		w.t.Fatalf("seed %d: counted %d failures of %d", seed, s.Failed, w.bad)
	}
}

// TestSuspendedJobEnds is about Jobs that are suspended when their pods have decided them already.
func TestSuspendedJobEnds(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		phase corev1.PodPhase
		want  batchv1.JobConditionType
	}{
		"complete": {corev1.PodSucceeded, batchv1.JobComplete}, "failed": {corev1.PodFailed, batchv1.JobFailed}, "undecided": {corev1.PodRunning, ""},
	} {
		j := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "j", UID: "j"}, Spec: batchv1.JobSpec{
			Completions: ptr.To(int32(1)), Parallelism: ptr.To(int32(1)), BackoffLimit: new(int32), Suspend: ptr.To(true), ActiveDeadlineSeconds: ptr.To(int64(1)),
		}}
		j.Status.StartTime = &metav1.Time{Time: epoch.Add(-time.Hour)}
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", UID: "p", Finalizers: []string{batchv1.JobTrackingFinalizer}}, Status: corev1.PodStatus{Phase: tc.phase}}
		var last actions
		for range 4 {
			last = plan(observed{job: j, pods: []*corev1.Pod{pod}}, epoch)
			j.Status = last.status
			if len(last.free) > 0 {
				pod.Finalizers = nil
			}
		}
		s := &j.Status
		if tc.want == "" {
			if finished(j) || condition(s, batchv1.JobSuspended) == nil || s.StartTime != nil || len(last.shrink) != 1 {
				t.Errorf("%s: %+v, %d pods go", name, s, len(last.shrink))
			}
			continue
		}
		if condition(s, tc.want) == nil || condition(s, batchv1.JobSuspended) != nil || s.StartTime == nil {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

// TestTooMany is about a Job that wants fewer completions than it has when it ends.
func TestTooMany(t *testing.T) {
	t.Parallel()
	for succeeded, want := range map[int32][]string{1: {"Completed"}, 2: {"TooManySucceededPods", "Completed"}} {
		j := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "j", UID: "j"}, Spec: batchv1.JobSpec{Completions: ptr.To(int32(1)), BackoffLimit: new(int32)}}
		j.Status.StartTime, j.Status.Succeeded = &metav1.Time{Time: epoch}, succeeded
		var told []string
		for _, e := range plan(observed{job: j}, epoch).events {
			told = append(told, e.reason)
		}
		if !slices.Equal(told, want) {
			t.Errorf("%d of 1 completions: told %v, want %v", succeeded, told, want)
		}
	}
}

// TestPodNames is about Jobs with names so long that those of their pods are cut: the index stays.
func TestPodNames(t *testing.T) {
	t.Parallel()
	long := "a23456789012345678901234567890123456789012345678901234567890"
	for name, want := range map[string]string{"j": "j-12-", long: long[:54] + "-12-"} {
		p := podOf(&batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: name}}, newPod{index: 12})
		if p.GenerateName != want || p.Spec.Hostname != name+"-12" || len(p.GenerateName) > 58 {
			t.Errorf("pods of %s: %s, host %s", name, p.GenerateName, p.Spec.Hostname)
		}
	}
}
