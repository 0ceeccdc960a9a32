package cronjob

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

	"canopus/internal/schedule"
)

var epoch = time.Date(2026, 1, 1, 12, 0, 30, 0, time.UTC)

func cronOf(text string, edit func(*batchv1.CronJobSpec)) *batchv1.CronJob {
	c := &batchv1.CronJob{
		ObjectMeta: metav1.ObjectMeta{Name: "tick", Namespace: "default", UID: "c", CreationTimestamp: metav1.NewTime(epoch)},
		Spec: batchv1.CronJobSpec{
			Schedule: text, ConcurrencyPolicy: batchv1.AllowConcurrent,
			SuccessfulJobsHistoryLimit: ptr.To(int32(3)), FailedJobsHistoryLimit: ptr.To(int32(1)),
		},
	}
	if edit != nil {
		edit(&c.Spec)
	}
	return c
}

func TestWhenItStarts(t *testing.T) {
	t.Parallel()
	scheduled := map[string]string{batchv1.CronJobScheduledTimestampAnnotation: "2026-01-01T11:05:00Z"}
	busy := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "tick-0", UID: "j", Annotations: scheduled}}
	byHand := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "try", UID: "k", Annotations: map[string]string{"cronjob.kubernetes.io/instantiate": "manual"}}}
	for name, tc := range map[string]struct {
		c       *batchv1.CronJob
		jobs    []*batchv1.Job
		passed  time.Duration
		created string
		event   string
		after   time.Duration
	}{
		"not yet":   {c: cronOf("5 * * * *", nil), passed: time.Minute, after: 3*time.Minute + 30*time.Second + margin},
		"due":       {c: cronOf("5 * * * *", nil), passed: 5 * time.Minute, created: "2026-01-01T12:05:00Z", after: time.Hour - 30*time.Second + margin},
		"last only": {c: cronOf("* * * * *", nil), passed: time.Hour, created: "2026-01-01T13:00:00Z", after: 30*time.Second + margin},
		"a year": {c: cronOf("* * * * *", nil), passed: 365 * 24 * time.Hour, created: "2027-01-01T12:00:00Z", event: "TooManyMissedTimes",
			after: 30*time.Second + margin},
		"zone": {c: cronOf("0 14 * * *", func(s *batchv1.CronJobSpec) { s.TimeZone = ptr.To("Europe/Berlin") }), passed: time.Hour,
			created: "2026-01-01T14:00:00+01:00", after: 24*time.Hour - 30*time.Second + margin},
		"too late": {c: cronOf("5 * * * *", func(s *batchv1.CronJobSpec) { s.StartingDeadlineSeconds = ptr.To(int64(60)) }), passed: 10 * time.Minute,
			after: 54*time.Minute + 30*time.Second + margin},
		"suspended": {c: cronOf("5 * * * *", func(s *batchv1.CronJobSpec) { s.Suspend = ptr.To(true) }), passed: time.Hour},
		"forbidden": {c: cronOf("5 * * * *", func(s *batchv1.CronJobSpec) { s.ConcurrencyPolicy = batchv1.ForbidConcurrent }), jobs: []*batchv1.Job{busy},
			passed: 5 * time.Minute, event: "JobAlreadyActive", after: time.Hour - 30*time.Second + margin},
		"busy by hand": {c: cronOf("5 * * * *", func(s *batchv1.CronJobSpec) { s.ConcurrencyPolicy = batchv1.ForbidConcurrent }), jobs: []*batchv1.Job{byHand},
			passed: 5 * time.Minute, created: "2026-01-01T12:05:00Z", event: "UnexpectedJob", after: time.Hour - 30*time.Second + margin},
		"malformed": {c: cronOf("every day", nil), passed: time.Hour, event: "UnparseableSchedule"},
		"no zone":   {c: cronOf("5 * * * *", func(s *batchv1.CronJobSpec) { s.TimeZone = ptr.To("Mars") }), passed: time.Hour, event: "UnknownTimeZone"},
	} {
		a := plan(tc.c, tc.jobs, epoch.Add(tc.passed))
		created, said := "", ""
		if a.create != nil {
			created = a.create.Annotations[batchv1.CronJobScheduledTimestampAnnotation]
		}
		if len(a.events) > 0 {
			said = a.events[0].reason
		}
		if created != tc.created || said != tc.event || a.after != tc.after {
			t.Errorf("%s: created %q, event %q, after %s; want %q, %q, %s", name, created, said, a.after, tc.created, tc.event, tc.after)
		}
	}
}

func TestReplace(t *testing.T) {
	t.Parallel()
	c := cronOf("* * * * *", func(s *batchv1.CronJobSpec) { s.ConcurrencyPolicy = batchv1.ReplaceConcurrent })
	scheduled := map[string]string{batchv1.CronJobScheduledTimestampAnnotation: "2026-01-01T12:00:00Z"}
	a := plan(c, []*batchv1.Job{
		{ObjectMeta: metav1.ObjectMeta{Name: "x", UID: "x", Annotations: scheduled}},
		{ObjectMeta: metav1.ObjectMeta{Name: "by-hand", UID: "y"}},
	}, epoch.Add(time.Minute))
	if len(a.replace) != 1 || a.replace[0].Name != "x" || a.create == nil || len(a.status.Active) != 0 {
		t.Errorf("%+v", a)
	}
}

// TestMadeButNotNoted: who made the Job ended before the status told of it. It is neither made again nor replaced nor in its
// own way, and the status tells of it once.
func TestMadeButNotNoted(t *testing.T) {
	t.Parallel()
	for _, policy := range []batchv1.ConcurrencyPolicy{batchv1.AllowConcurrent, batchv1.ForbidConcurrent, batchv1.ReplaceConcurrent} {
		c := cronOf("* * * * *", func(s *batchv1.CronJobSpec) { s.ConcurrencyPolicy = policy })
		now := epoch.Add(time.Minute)
		made := plan(c, nil, now).create
		made.UID = "made"
		a := plan(c, []*batchv1.Job{made}, now)
		if a.create != nil || len(a.replace) > 0 || len(a.events) > 0 || len(a.status.Active) != 1 || a.status.LastScheduleTime == nil {
			t.Errorf("%s: %+v", policy, a)
		}
	}
}

// TestLastDueEqualsSlowTwin compares the search from the end with a walk from the start.
func TestLastDueEqualsSlowTwin(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 1))
	for _, text := range []string{"* * * * *", "*/7 3 * * *", "0 0 1 * *", "30 4 * * 1-5"} {
		s, err := schedule.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		for range 40 {
			from := epoch.Add(time.Duration(r.IntN(1e6)) * time.Second)
			now := from.Add(time.Duration(r.IntN(1e6)) * time.Second)
			var want time.Time
			for t := s.Next(from); !t.After(now); t = s.Next(t) {
				want = t
			}
			if got, _ := lastDue(s, from, now); !got.Equal(want) {
				t.Fatalf("%s from %s to %s: %s, want %s", text, from, now, got, want)
			}
		}
	}
}

// TestHistory plays an hour and more of minutes in which Jobs end well or badly: every minute has its Job once, and never are
// more ended ones kept than the limits say.
func TestHistory(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(2, 2))
	c := cronOf("* * * * *", nil)
	var jobs []*batchv1.Job
	made := map[string]bool{}
	for now := epoch; now.Before(epoch.Add(90 * time.Minute)); now = now.Add(20 * time.Second) {
		a := plan(c, jobs, now)
		jobs = slices.DeleteFunc(jobs, func(j *batchv1.Job) bool { return slices.Contains(a.expired, j) })
		if a.create != nil {
			if made[a.create.Name] {
				t.Fatalf("%s is made twice", a.create.Name)
			}
			made[a.create.Name] = true
			a.create.UID = types.UID(a.create.Name)
			jobs = append(jobs, a.create)
			a.status.Active = append(a.status.Active, reference(a.create))
		}
		c.Status = a.status
		for _, j := range jobs {
			if outcome(j) == "" && r.IntN(3) == 0 {
				how := []batchv1.JobConditionType{batchv1.JobComplete, batchv1.JobFailed}[r.IntN(2)]
				j.Status.StartTime = &metav1.Time{Time: now}
				j.Status.Conditions = []batchv1.JobCondition{{Type: how, Status: corev1.ConditionTrue}}
			}
		}
	}
	a := plan(c, jobs, epoch.Add(90*time.Minute))
	jobs = slices.DeleteFunc(jobs, func(j *batchv1.Job) bool { return slices.Contains(a.expired, j) })
	count := map[batchv1.JobConditionType]int{}
	for _, j := range jobs {
		count[outcome(j)]++
	}
	if len(made) < 89 || count[batchv1.JobComplete] != 3 || count[batchv1.JobFailed] != 1 || len(a.status.Active) != count[""] {
		t.Errorf("%d made, %s kept, %d active", len(made), fmt.Sprint(count), len(a.status.Active))
	}
}
