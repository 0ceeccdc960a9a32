package job

import (
	"errors"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"canopus/internal/controllers/podstate"
	"canopus/internal/controllers/reconcile"

	"github.com/prometheus/client_golang/prometheus"
)

// figures are what is counted of Jobs, under upstream's names.
type figures struct {
	syncs, pods, jobs *prometheus.CounterVec
	judged, tracked   *prometheus.CounterVec
	took              *prometheus.HistogramVec
}

func newFigures(d reconcile.Deps) (figures, error) {
	const subsystem = "job_controller"
	counter := func(name, help string, labels ...string) (*prometheus.CounterVec, error) {
		return reconcile.Show(d, prometheus.NewCounterVec(prometheus.CounterOpts{Subsystem: subsystem, Name: name, Help: help}, labels))
	}
	var f figures
	errs := make([]error, 6)
	f.syncs, errs[0] = counter("job_syncs_total", "Looks at Jobs that had not ended, by what was done about them.", "completion_mode", "result", "action")
	f.pods, errs[1] = counter("job_pods_finished_total", "Ended pods that a Job has counted.", "completion_mode", "result")
	f.jobs, errs[2] = counter("jobs_finished_total", "Jobs that have ended.", "completion_mode", "result", "reason")
	f.judged, errs[4] = counter("pod_failures_handled_by_failure_policy_total", "Failed pods that a rule of their Job's failure policy was about, by what the rule does.", "action")
	f.tracked, errs[5] = counter("terminated_pods_tracking_finalizer_total", "Ended pods that begin (add) or cease (delete) to wait for being accounted for.", "event")
	f.took, errs[3] = reconcile.Show(d, prometheus.NewHistogramVec(prometheus.HistogramOpts{Subsystem: subsystem, Name: "job_sync_duration_seconds",
		Help: "Time that a look at a Job takes, with what is done about it.", Buckets: prometheus.ExponentialBuckets(0.004, 2, 15),
	}, []string{"completion_mode", "result", "action"}))
	return f, errors.Join(errs...)
}

// What came of a pod or a Job, as labels.
const (
	resultSucceeded = "succeeded"
	resultFailed    = "failed"
)

func modeOf(j *batchv1.Job) string {
	if j.Spec.CompletionMode == nil {
		return string(batchv1.NonIndexedCompletion)
	}
	return string(*j.Spec.CompletionMode)
}

// synced notes a look at j.
func (f figures) synced(j *batchv1.Job, a actions, took time.Duration, err error) {
	result, action := "success", "tracking"
	if err != nil {
		result = "error"
	}
	switch {
	case len(a.kill) > 0:
		action = "reconciling"
	case len(a.shrink) > 0:
		action = "pods_deleted"
	case len(a.create) > 0:
		action = "pods_created"
	}
	f.syncs.WithLabelValues(modeOf(j), result, action).Inc()
	f.took.WithLabelValues(modeOf(j), result, action).Observe(took.Seconds())
}

// handled notes that a rule with this action was about a failed pod.
func (f figures) handled(action batchv1.PodFailurePolicyAction) {
	f.judged.WithLabelValues(string(action)).Inc()
}

// waits notes that an ended pod begins or ceases to wait for being accounted for. Either may be nil: not there.
func (f figures) waits(old, pod *corev1.Pod) {
	waiting := func(p *corev1.Pod) bool { return p != nil && podstate.Finished(p) && hasFinalizer(p) }
	switch was, is := waiting(old), waiting(pod); {
	case is && !was:
		f.tracked.WithLabelValues("add").Inc()
	case was && !is:
		f.tracked.WithLabelValues("delete").Inc()
	}
}

// counted notes what j's new status tells for the first time.
func (f figures) counted(j *batchv1.Job, now *batchv1.JobStatus) {
	mode := modeOf(j)
	if n := now.Succeeded - j.Status.Succeeded; n > 0 {
		f.pods.WithLabelValues(mode, resultSucceeded).Add(float64(n))
	}
	if n := now.Failed - j.Status.Failed; n > 0 {
		f.pods.WithLabelValues(mode, resultFailed).Add(float64(n))
	}
	if c := condition(now, batchv1.JobComplete); c != nil {
		f.jobs.WithLabelValues(mode, resultSucceeded, c.Reason).Inc()
	} else if c := condition(now, batchv1.JobFailed); c != nil {
		f.jobs.WithLabelValues(mode, resultFailed, c.Reason).Inc()
	}
}
