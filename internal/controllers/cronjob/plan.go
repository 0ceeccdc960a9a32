package cronjob

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"canopus/internal/schedule"
)

const (
	manyMissed = 100                    // missed starts that are worth a warning
	margin     = 100 * time.Millisecond // clocks and timers differ a little: look just after a start is due
)

type event struct{ kind, reason, message string }

// actions is what a CronJob needs now, in this order: the Jobs in the way of the next go, the next is made, the status tells
// of it and of what ended, and only then old Jobs go: who comes after us learns nothing from Jobs that are gone.
type actions struct {
	replace []*batchv1.Job
	create  *batchv1.Job
	status  batchv1.CronJobStatus
	expired []*batchv1.Job // beyond the history limits
	events  []event
	after   time.Duration // look again by then; 0: when something changes
}

func (a *actions) tell(kind, reason, format string, args ...any) {
	a.events = append(a.events, event{kind, reason, fmt.Sprintf(format, args...)})
}

// plan decides what a CronJob whose Jobs these are needs now. It changes nothing.
func plan(c *batchv1.CronJob, jobs []*batchv1.Job, now time.Time) actions {
	a := actions{status: *c.Status.DeepCopy()}
	a.expired = append(expired(jobs, batchv1.JobComplete, c.Spec.SuccessfulJobsHistoryLimit),
		expired(jobs, batchv1.JobFailed, c.Spec.FailedJobsHistoryLimit)...)
	a.follow(jobs)
	if c.DeletionTimestamp != nil || c.Spec.Suspend != nil && *c.Spec.Suspend {
		return a
	}
	s, zone, ok := a.read(c)
	if !ok {
		return a
	}
	now = now.In(zone)
	if next := s.Next(now); !next.IsZero() {
		a.after = next.Sub(now) + margin
	}
	due, missed := lastDue(s, earliest(c, now).In(zone), now)
	if missed > manyMissed {
		a.tell(corev1.EventTypeWarning, "TooManyMissedTimes", "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew")
	}
	if !due.IsZero() {
		a.start(c, jobs, due, now)
	}
	return a
}

// read parses schedule and time zone. What does not parse waits for a change of the spec.
func (a *actions) read(c *batchv1.CronJob) (schedule.Schedule, *time.Location, bool) {
	zone := time.UTC
	if c.Spec.TimeZone != nil {
		var err error
		if zone, err = schedule.Zone(*c.Spec.TimeZone); err != nil {
			a.tell(corev1.EventTypeWarning, "UnknownTimeZone", "invalid timeZone: %q: %s", *c.Spec.TimeZone, err)
			return nil, nil, false
		}
	}
	s, err := schedule.Parse(c.Spec.Schedule)
	if err != nil {
		a.tell(corev1.EventTypeWarning, "UnparseableSchedule", "unparseable schedule: %q : %s", c.Spec.Schedule, err)
		return nil, nil, false
	}
	return s, zone, true
}

// earliest is the time after which a start counts as due: the last start, or what the deadline still allows.
func earliest(c *batchv1.CronJob, now time.Time) time.Time {
	from := c.CreationTimestamp.Time
	if c.Status.LastScheduleTime != nil {
		from = c.Status.LastScheduleTime.Time
	}
	if d := c.Spec.StartingDeadlineSeconds; d != nil {
		if limit := now.Add(-time.Duration(*d) * time.Second); limit.After(from) {
			from = limit
		}
	}
	return from
}

// lastDue is the last point of s after from that is not after now, and how many there are up to one more than matters.
// If there are more it looks back from now in growing steps, so as not to walk through a year of minutes.
func lastDue(s schedule.Schedule, from, now time.Time) (time.Time, int) {
	missed := 0
	var last time.Time
	for t := s.Next(from); !t.IsZero() && !t.After(now) && missed <= manyMissed; t = s.Next(t) {
		last = t
		missed++
	}
	if missed <= manyMissed {
		return last, missed
	}
	for back := time.Minute; ; back *= 2 {
		start := now.Add(-back)
		if start.Before(from) {
			start = from
		}
		var last time.Time
		for t := s.Next(start); !t.IsZero() && !t.After(now); t = s.Next(t) {
			last = t
		}
		if !last.IsZero() || !start.After(from) {
			return last, missed
		}
	}
}

// start makes the Job that was due at a time, if policy and deadline allow. If it is there, only the status does not tell of
// it yet: it must neither forbid itself nor be replaced by itself.
func (a *actions) start(c *batchv1.CronJob, jobs []*batchv1.Job, due, now time.Time) {
	made := jobOf(c, due)
	if slices.ContainsFunc(jobs, func(j *batchv1.Job) bool { return j.Name == made.Name }) {
		a.status.LastScheduleTime = &metav1.Time{Time: due}
		return
	}
	if d := c.Spec.StartingDeadlineSeconds; d != nil && due.Add(time.Duration(*d)*time.Second).Before(now) {
		a.tell(corev1.EventTypeWarning, "MissSchedule", "Missed scheduled time to start a job: %s", due.UTC().Format(time.RFC1123Z))
		return
	}
	if len(a.status.Active) > 0 {
		switch c.Spec.ConcurrencyPolicy {
		case batchv1.ForbidConcurrent:
			a.tell(corev1.EventTypeNormal, "JobAlreadyActive", "Not starting job because prior execution is running and concurrency policy is Forbid")
			return
		case batchv1.ReplaceConcurrent:
			for _, j := range jobs {
				if slices.ContainsFunc(a.status.Active, func(r corev1.ObjectReference) bool { return r.UID == j.UID }) {
					a.replace = append(a.replace, j)
				}
			}
			a.status.Active = nil
		case batchv1.AllowConcurrent:
		}
	}
	a.create = made
	a.status.LastScheduleTime = &metav1.Time{Time: due}
}

// jobOf is the Job that is due at a time. Its name tells the minute, so that no start is ever made twice.
func jobOf(c *batchv1.CronJob, due time.Time) *batchv1.Job {
	t := c.Spec.JobTemplate.DeepCopy()
	annotations := maps.Clone(t.Annotations)
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[batchv1.CronJobScheduledTimestampAnnotation] = due.Format(time.RFC3339)
	return &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{
			Name: c.Name + "-" + strconv.FormatInt(due.Unix()/60, 10), Namespace: c.Namespace, Labels: t.Labels, Annotations: annotations,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(c, batchv1.SchemeGroupVersion.WithKind(kind))},
		},
		Spec: t.Spec,
	}
}

func outcome(j *batchv1.Job) batchv1.JobConditionType {
	for _, c := range j.Status.Conditions {
		if (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue {
			return c.Type
		}
	}
	return ""
}

// expired returns the Jobs of one outcome beyond limit, those that started first.
func expired(jobs []*batchv1.Job, how batchv1.JobConditionType, limit *int32) []*batchv1.Job {
	if limit == nil {
		return nil
	}
	var ended []*batchv1.Job
	for _, j := range jobs {
		if outcome(j) == how && j.DeletionTimestamp == nil {
			ended = append(ended, j)
		}
	}
	slices.SortFunc(ended, func(a, b *batchv1.Job) int {
		return cmp.Or(began(a).Compare(began(b)), cmp.Compare(a.Name, b.Name))
	})
	return ended[:max(0, len(ended)-int(*limit))]
}

func began(j *batchv1.Job) time.Time {
	if j.Status.StartTime != nil {
		return j.Status.StartTime.Time
	}
	return j.CreationTimestamp.Time
}

// follow brings the list of active Jobs and the time of the last success up to date.
func (a *actions) follow(jobs []*batchv1.Job) {
	there := map[string]bool{}
	for _, j := range jobs {
		there[string(j.UID)] = true
		listed := slices.IndexFunc(a.status.Active, func(r corev1.ObjectReference) bool { return r.UID == j.UID })
		how := outcome(j)
		switch {
		case how != "" && listed >= 0:
			a.status.Active = slices.Delete(a.status.Active, listed, listed+1)
			a.tell(corev1.EventTypeNormal, "SawCompletedJob", "Saw completed job: %s, condition: %v", j.Name, how)
		case how != "" || listed >= 0 || j.DeletionTimestamp != nil:
		case j.Annotations[batchv1.CronJobScheduledTimestampAnnotation] != "": // made, and the status was not written any more
			a.status.Active = append(a.status.Active, reference(j))
		default: // made by hand, with `kubectl create job --from` say: no run that the policy is about
			a.tell(corev1.EventTypeWarning, "UnexpectedJob", "Saw a job that the controller did not create or forgot: %s", j.Name)
		}
		if done := j.Status.CompletionTime; how == batchv1.JobComplete && done != nil &&
			(a.status.LastSuccessfulTime == nil || a.status.LastSuccessfulTime.Before(done)) {
			a.status.LastSuccessfulTime = done
		}
	}
	a.status.Active = slices.DeleteFunc(a.status.Active, func(r corev1.ObjectReference) bool {
		if there[string(r.UID)] {
			return false
		}
		a.tell(corev1.EventTypeNormal, "MissingJob", "Active job went missing: %v", r.Name)
		return true
	})
}

func reference(j *batchv1.Job) corev1.ObjectReference {
	return corev1.ObjectReference{
		Kind: "Job", APIVersion: batchv1.SchemeGroupVersion.String(), Namespace: j.Namespace, Name: j.Name, UID: j.UID, ResourceVersion: j.ResourceVersion,
	}
}
