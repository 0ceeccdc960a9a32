package job

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"canopus/internal/controllers/podstate"
)

const (
	burst        = 500 // pods that one look creates or deletes
	maxUncounted = 500 // pods that one look begins to account for
)

// observed is what a decision about one Job rests on. All of it is shared and read only.
type observed struct {
	job  *batchv1.Job
	pods []*corev1.Pod // that it controls, with our own writes
}

// newPod is a pod to create: its index, or -1, and what it inherits from the failed pod that it replaces.
type newPod struct {
	index            int
	failures, spared int32 // earlier failures of this index that counted, and that a rule let pass
}

// actions is what a Job needs now. The status is written first: a finalizer may go only from a pod that the status knows.
type actions struct {
	status batchv1.JobStatus
	events []event
	free   []*corev1.Pod // accounted for: take the finalizer away
	kill   []*corev1.Pod // of a Job that ends: delete, and account for them when they have ended
	shrink []*corev1.Pod // wanted no longer: delete, and never account for them
	create []newPod
	after  time.Duration // look again by then; 0: when something changes
	// judged are the failed pods that this look accounts for, or lets pass, by what a rule of the failure policy says of them.
	judged map[types.UID]batchv1.PodFailurePolicyAction
}

type event struct{ kind, reason, message string }

// planner is one decision in the making.
type planner struct {
	observed
	s        batchv1.JobStatus
	now      time.Time
	a        actions
	indexed  bool
	perIndex bool
	limit    int // completions of an indexed Job

	active, terminating     []*corev1.Pod
	done, failed            indexSet
	uncountedOK, uncountedF map[types.UID]bool
	ignored                 map[types.UID]bool                           // failures that a rule lets pass
	rules                   map[types.UID]batchv1.PodFailurePolicyAction // those of the failure policy that match a pod
	held                    map[types.UID]bool                           // last failures of an index, accounted for once they are replaced
	fatal                   string                                       // what the rule said that fails the Job
	pending                 bool                                         // pods are still to be accounted for
}

// plan decides what a Job needs now. It reads and changes nothing outside its arguments.
func plan(o observed, now time.Time) actions {
	p := &planner{observed: o, s: *o.job.Status.DeepCopy(), now: now}
	if finished(o.job) {
		return actions{status: o.job.Status, free: p.tracked()}
	}
	p.indexed = is(o.job.Spec.CompletionMode, batchv1.IndexedCompletion)
	p.perIndex = p.indexed && o.job.Spec.BackoffLimitPerIndex != nil
	p.limit = int(orZero(o.job.Spec.Completions))
	p.begin()
	p.sort()
	p.count()
	p.end()
	p.pause()
	if o.job.DeletionTimestamp == nil && !p.ending() {
		p.run()
	}
	p.summarize()
	p.finish()
	p.a.status = p.s
	return p.a
}

func is[T comparable](p *T, v T) bool { return p != nil && *p == v }

func orZero[T any](p *T) T {
	var zero T
	if p == nil {
		return zero
	}
	return *p
}

func condition(s *batchv1.JobStatus, t batchv1.JobConditionType) *batchv1.JobCondition {
	for i := range s.Conditions {
		if s.Conditions[i].Type == t && s.Conditions[i].Status == corev1.ConditionTrue {
			return &s.Conditions[i]
		}
	}
	return nil
}

func finished(j *batchv1.Job) bool {
	return condition(&j.Status, batchv1.JobComplete) != nil || condition(&j.Status, batchv1.JobFailed) != nil
}

func hasFinalizer(p *corev1.Pod) bool {
	return slices.Contains(p.Finalizers, batchv1.JobTrackingFinalizer)
}

// tracked are the pods that still wait to be accounted for.
func (p *planner) tracked() []*corev1.Pod {
	return slices.DeleteFunc(slices.Clone(p.pods), func(x *corev1.Pod) bool { return !hasFinalizer(x) })
}

func (p *planner) suspended() bool { return orZero(p.job.Spec.Suspend) }

// onlyFailed: a pod that is being deleted is replaced, and counted, when it has ended.
func (p *planner) onlyFailed() bool {
	return p.job.Spec.PodFailurePolicy != nil || is(p.job.Spec.PodReplacementPolicy, batchv1.Failed)
}

// ending: the outcome is known, what still runs has to go.
func (p *planner) ending() bool {
	return condition(&p.s, batchv1.JobFailureTarget) != nil || condition(&p.s, batchv1.JobSuccessCriteriaMet) != nil
}

func (p *planner) isFailed(x *corev1.Pod) bool {
	if x.Status.Phase == corev1.PodFailed {
		return true
	}
	return x.DeletionTimestamp != nil && x.Status.Phase != corev1.PodSucceeded &&
		(!p.onlyFailed() || p.ending() || p.job.DeletionTimestamp != nil)
}

// pause makes a suspended Job say so, unless its pods have decided it before.
func (p *planner) pause() {
	if !p.suspended() || p.ending() {
		return
	}
	if p.set(batchv1.JobSuspended, corev1.ConditionTrue, "JobSuspended", "Job suspended") {
		p.a.events = append(p.a.events, event{corev1.EventTypeNormal, "Suspended", "Job suspended"})
	}
	p.s.StartTime = nil
}

// begin sets the start time, and takes the Suspended condition back.
func (p *planner) begin() {
	if p.suspended() {
		return
	}
	resumed := false
	for _, c := range p.s.Conditions {
		if c.Type == batchv1.JobSuspended && c.Status == corev1.ConditionTrue {
			resumed = true
		}
	}
	if resumed {
		p.set(batchv1.JobSuspended, corev1.ConditionFalse, "JobResumed", "Job resumed")
		p.a.events = append(p.a.events, event{corev1.EventTypeNormal, "Resumed", "Job resumed"})
		p.s.StartTime = nil
	}
	if p.s.StartTime == nil {
		p.s.StartTime = &metav1.Time{Time: p.now}
	}
}

// set writes a condition and reports whether its status changed.
func (p *planner) set(t batchv1.JobConditionType, status corev1.ConditionStatus, reason, message string) bool {
	at := metav1.NewTime(p.now)
	next := batchv1.JobCondition{Type: t, Status: status, Reason: reason, Message: message, LastProbeTime: at, LastTransitionTime: at}
	for i, c := range p.s.Conditions {
		if c.Type == t {
			if c.Status == status {
				return false
			}
			p.s.Conditions[i] = next
			return true
		}
	}
	p.s.Conditions = append(p.s.Conditions, next)
	return true
}

// sort divides the pods into those that run, that are going, and that have ended.
func (p *planner) sort() {
	for _, x := range p.pods {
		switch {
		case podstate.Active(x):
			p.active = append(p.active, x)
		case podstate.Terminating(x):
			p.terminating = append(p.terminating, x)
		}
	}
	p.done, p.failed = indexSet{}, indexSet{}
	if p.indexed {
		p.done = parseIndexes(p.s.CompletedIndexes, p.limit)
	}
	if p.perIndex && p.s.FailedIndexes != nil {
		p.failed = parseIndexes(*p.s.FailedIndexes, p.limit)
	}
}

// end finds out whether the outcome is known by now. A suspended Job can end too, by what its pods came to before.
func (p *planner) end() {
	if p.ending() {
		return
	}
	spec := &p.job.Spec
	fail := func(reason, message string) {
		p.set(batchv1.JobFailureTarget, corev1.ConditionTrue, reason, message)
	}
	limit, deadline := orZero(spec.BackoffLimit), spec.ActiveDeadlineSeconds
	if p.suspended() {
		deadline = nil
	}
	switch succeeded := p.succeeded(); {
	case p.fatal != "":
		fail(batchv1.JobReasonPodFailurePolicy, p.fatal)
	case p.failures() > int(limit) || p.restartedTooOften(limit):
		fail(batchv1.JobReasonBackoffLimitExceeded, "Job has reached the specified backoff limit")
	case deadline != nil && p.now.Sub(p.s.StartTime.Time) >= time.Duration(*deadline)*time.Second:
		fail(batchv1.JobReasonDeadlineExceeded, "Job was active longer than specified deadline")
	case p.perIndex && spec.MaxFailedIndexes != nil && len(p.failed) > int(*spec.MaxFailedIndexes):
		fail(batchv1.JobReasonMaxFailedIndexesExceeded, "Job has exceeded the specified maximal number of failed indexes")
	case p.perIndex && len(p.failed) > 0 && len(p.failed)+len(p.done) >= p.limit:
		fail(batchv1.JobReasonFailedIndexes, "Job has failed indexes")
	case p.indexed && metRule(spec.SuccessPolicy, p.done, p.limit) >= 0:
		p.set(batchv1.JobSuccessCriteriaMet, corev1.ConditionTrue, batchv1.JobReasonSuccessPolicy,
			fmt.Sprintf("Matched rules at index %d", metRule(spec.SuccessPolicy, p.done, p.limit)))
	case len(p.active) == 0 && (spec.Completions == nil && succeeded > 0 && len(p.terminating) == 0 || spec.Completions != nil && succeeded >= p.limit):
		p.set(batchv1.JobSuccessCriteriaMet, corev1.ConditionTrue, batchv1.JobReasonCompletionsReached, "Reached expected number of succeeded pods")
	case deadline != nil:
		p.soon(time.Duration(*deadline)*time.Second - p.now.Sub(p.s.StartTime.Time))
	}
	if p.ending() {
		p.count() // pods that are being deleted count as failed from now on
	}
}

// soon brings the next look forward.
func (p *planner) soon(d time.Duration) {
	if d > 0 && (p.a.after == 0 || d < p.a.after) {
		p.a.after = d
	}
}

// restartedTooOften: containers that are restarted in their pods count by restart.
func (p *planner) restartedTooOften(limit int32) bool {
	if p.job.Spec.Template.Spec.RestartPolicy != corev1.RestartPolicyOnFailure || p.perIndex {
		return false
	}
	var restarts int32
	for _, x := range p.active {
		for _, c := range slices.Concat(x.Status.InitContainerStatuses, x.Status.ContainerStatuses) {
			restarts += c.RestartCount
		}
	}
	if limit == 0 {
		return restarts > 0
	}
	return restarts >= limit
}

// summarize writes the numbers that describe the moment.
func (p *planner) summarize() {
	going := map[types.UID]bool{}
	for _, x := range slices.Concat(p.a.kill, p.a.shrink) {
		going[x.UID] = true
	}
	var active, ready int32
	for _, x := range p.active {
		if going[x.UID] {
			continue
		}
		active++
		if podstate.Ready(x) {
			ready++
		}
	}
	terminating := int32(len(p.terminating))
	p.s.Active, p.s.Ready, p.s.Terminating = active, &ready, &terminating
	if p.indexed {
		p.s.CompletedIndexes, p.s.Succeeded = p.done.String(), int32(len(p.done))
	}
	if p.perIndex {
		text := p.failed.String()
		p.s.FailedIndexes = &text
	}
}

// finish ends the Job once its outcome is known, nothing runs any more and every pod is accounted for.
func (p *planner) finish() {
	if !p.ending() {
		return
	}
	p.a.create = nil
	p.a.kill = append(p.a.kill, p.active...)
	if len(p.active)+len(p.terminating)+len(p.uncountedOK)+len(p.uncountedF) > 0 || p.pending {
		return
	}
	if p.s.StartTime == nil { // it ends suspended
		p.s.StartTime = &metav1.Time{Time: p.now}
	}
	if c := condition(&p.s, batchv1.JobFailureTarget); c != nil {
		reason, message := c.Reason, c.Message
		p.set(batchv1.JobFailed, corev1.ConditionTrue, reason, message)
		p.a.events = append(p.a.events, event{corev1.EventTypeWarning, reason, message})
		return
	}
	c := condition(&p.s, batchv1.JobSuccessCriteriaMet)
	reason, message := c.Reason, c.Message
	p.set(batchv1.JobComplete, corev1.ConditionTrue, reason, message)
	p.s.CompletionTime = &metav1.Time{Time: p.now}
	if p.job.Spec.Completions != nil && int(p.s.Succeeded) > p.limit {
		p.a.events = append(p.a.events, event{corev1.EventTypeWarning, "TooManySucceededPods", "Too many succeeded pods running after completion count reached"})
	}
	p.a.events = append(p.a.events, event{corev1.EventTypeNormal, "Completed", "Job completed"})
}

// leastUseful orders active pods: those whose loss costs least come first.
func leastUseful(a, b *corev1.Pod) int {
	rank := func(p *corev1.Pod) int {
		switch {
		case p.Spec.NodeName == "":
			return 0
		case p.Status.Phase == corev1.PodPending:
			return 1
		case !podstate.Ready(p):
			return 2
		}
		return 3
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), b.CreationTimestamp.Compare(a.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
}
