package why

import (
	"fmt"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

func jobCondition(j *batchv1.Job, kind batchv1.JobConditionType) *batchv1.JobCondition {
	for i := range j.Status.Conditions {
		if c := &j.Status.Conditions[i]; c.Type == kind && c.Status == corev1.ConditionTrue {
			return c
		}
	}
	return nil
}

// jobSummary is the state of a Job in a line.
func jobSummary(j *batchv1.Job) string {
	done := fmt.Sprintf("%d succeeded", j.Status.Succeeded)
	if j.Spec.Completions != nil {
		done = fmt.Sprintf("%d of %d completions", j.Status.Succeeded, *j.Spec.Completions)
	}
	return fmt.Sprintf("%s, %d active, %d failed", done, j.Status.Active, j.Status.Failed)
}

func (f *Facts) explainJob(j *batchv1.Job, pods []*corev1.Pod) (string, []Finding) {
	object := "job/" + j.Name
	summary := jobSummary(j)
	if jobCondition(j, batchv1.JobComplete) != nil {
		return "complete: " + summary, nil
	}
	var out []Finding
	failed := jobCondition(j, batchv1.JobFailed)
	if failed == nil {
		failed = jobCondition(j, batchv1.JobFailureTarget)
	}
	if failed == nil && deref(j.Spec.Suspend, false) {
		return summary, []Finding{{Link: LinkRollout, Severity: Waiting, Reason: "JobSuspended", Object: object, Message: "it is suspended: no pods are made",
			Do: "`" + f.inNamespace(`patch job %s -p '{"spec":{"suspend":false}}'`, j.Name) + "`"}}
	}
	if by := deref(j.Spec.ManagedBy, batchv1.JobControllerName); by != batchv1.JobControllerName {
		out = append(out, Finding{Link: LinkController, Severity: Note, Reason: "ManagedBy", Object: object, Message: "it is run by " + by + ", not by the Job controller"})
	}
	if failed == nil && j.Status.Active < deref(j.Spec.Parallelism, 1) {
		out = append(out, f.refusedByEvents(j.UID, object)...)
	}
	out = append(out, madeAgain(f.explainPods(pods), pods)...)
	if failed != nil {
		return "failed: " + summary, append(out, Finding{Link: LinkExit, Severity: Error, Reason: failed.Reason, Object: object, Message: orElse(failed.Message, "it failed"), Do: jobAdvice(failed.Reason)})
	}
	if !slices.ContainsFunc(out, func(x Finding) bool { return x.Severity != Note }) {
		out = append(out, Finding{Link: LinkRollout, Severity: Waiting, Reason: "Running", Object: object, Message: "it is at work: " + summary})
	}
	return summary, out
}

// madeAgain turns what is wrong with failed pods into warnings: the Job makes others in their place, or ends and says so.
func madeAgain(found []Finding, pods []*corev1.Pod) []Finding {
	for i := range found {
		runs := func(name string) bool {
			return slices.ContainsFunc(pods, func(p *corev1.Pod) bool { return p.Name == name && p.Status.Phase != corev1.PodFailed })
		}
		if found[i].Severity == Error && !slices.ContainsFunc(found[i].Objects, runs) {
			found[i].Severity = Warning
		}
	}
	return found
}

func jobAdvice(reason string) string {
	switch reason {
	case "DeadlineExceeded":
		return "raise activeDeadlineSeconds, or find out what takes so long; then make the Job again"
	case "BackoffLimitExceeded", "MaxFailedIndexesExceeded", "FailedIndexes":
		return "mend what ends its pods, then make the Job again: a failed Job does not go on"
	}
	return "mend what the message says, then make the Job again: a failed Job does not go on"
}

func (f *Facts) explainCronJob(c *batchv1.CronJob) (string, []Finding) {
	summary := "schedule " + c.Spec.Schedule
	if c.Spec.TimeZone != nil {
		summary += " " + *c.Spec.TimeZone
	}
	if t := c.Status.LastScheduleTime; t != nil {
		summary += fmt.Sprintf(", last run %s ago", f.since(t.Time))
	} else {
		summary += ", never run"
	}
	summary += fmt.Sprintf(", %d active", len(c.Status.Active))
	var out []Finding
	object := f.Target.String()
	if deref(c.Spec.Suspend, false) {
		out = append(out, Finding{Link: LinkRollout, Severity: Note, Reason: "Suspended", Object: object, Message: "it is suspended: no Jobs are made until spec.suspend is false",
			Do: "to go on: `" + f.inNamespace(`patch cronjob %s -p '{"spec":{"suspend":false}}'`, c.Name) + "`"})
	}
	if e := f.lastEvent(c.UID, "FailedCreate", "UnknownTimeZone", "UnparseableSchedule", "InvalidSchedule", "TooManyMissedTimes", "MissSchedule", "JobAlreadyActive", "SuccessfulCreate"); e != nil && e.Reason != "SuccessfulCreate" {
		out = append(out, f.cronTrouble(e))
	}
	if len(f.Jobs) == 0 {
		return summary, out
	}
	last := f.Jobs[0]
	text, found := f.explainJob(last, f.Pods)
	summary += "; job " + last.Name + " " + text
	for _, x := range found {
		if x.Severity != Waiting {
			out = append(out, x)
		}
	}
	return summary, out
}

// cronTrouble explains why a CronJob made no Job when it was time.
func (f *Facts) cronTrouble(e *corev1.Event) Finding {
	object := f.Target.String()
	switch e.Reason {
	case "FailedCreate":
		return f.refused(object, e.Message)
	case "JobAlreadyActive":
		return Finding{Link: LinkRollout, Severity: Warning, Reason: e.Reason, Object: object, Message: e.Message,
			Do: "find out why the Job before is not done; or set concurrencyPolicy: Replace or Allow"}
	case "MissSchedule", "TooManyMissedTimes":
		return Finding{Link: LinkController, Severity: Warning, Reason: e.Reason, Object: object, Message: e.Message,
			Do: "raise startingDeadlineSeconds if late runs are better than none, and see whether the controllers stood still: `canopus status`"}
	}
	return Finding{Link: LinkController, Severity: Error, Reason: e.Reason, Object: object, Message: e.Message, Do: "correct the schedule and time zone of the CronJob"}
}
