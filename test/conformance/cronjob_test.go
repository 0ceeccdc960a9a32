package conformance

import (
	"fmt"
	"testing"
	"time"

	"canopus/test/harness"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"
)

func cronJobs() []behaviour {
	return []behaviour{
		{"CronJob AllowConcurrent", cronAllow},
		{"CronJob ForbidConcurrent", cronForbid},
		{"CronJob ReplaceConcurrent", cronReplace},
		{"CronJob Suspend", cronSuspend},
		{"CronJob API Operations", cronOperations},
	}
}

// everyMinute is a CronJob whose Jobs run on until they are deleted.
func everyMinute(name string, policy batchv1.ConcurrencyPolicy) *batchv1.CronJob {
	return &batchv1.CronJob{
		ObjectMeta: meta(name),
		Spec: batchv1.CronJobSpec{
			Schedule: "*/1 * * * *", ConcurrencyPolicy: policy,
			JobTemplate: batchv1.JobTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: app(name)}, Spec: job(name, 1, 1, sleeps()).Spec},
		},
	}
}

func (s *space) createCron(t testing.TB, c *batchv1.CronJob) {
	t.Helper()
	must(s.Client.BatchV1().CronJobs(s.ns).Create(t.Context(), c, metav1.CreateOptions{}))(t)
}

// jobsOf are the Jobs of a CronJob, oldest first by name, that are not being deleted.
func (s *space) jobsOf(t testing.TB, cron string) []batchv1.Job {
	t.Helper()
	list := must(s.Client.BatchV1().Jobs(s.ns).List(t.Context(), metav1.ListOptions{LabelSelector: "app=" + cron}))(t)
	var out []batchv1.Job
	for _, j := range list.Items {
		if j.DeletionTimestamp == nil {
			out = append(out, j)
		}
	}
	return out
}

// minutes waits for what takes as many ticks of the clock.
func minutes(t testing.TB, n int, what string, check func() error) {
	t.Helper()
	harness.Until(t, time.Duration(n)*time.Minute+patience, what, check)
}

func (s *space) twoJobs(t testing.TB, cron string) {
	t.Helper()
	minutes(t, 2, "two jobs of "+cron+" at once", func() error {
		c := must(s.Client.BatchV1().CronJobs(s.ns).Get(t.Context(), cron, metav1.GetOptions{}))(t)
		if jobs := s.jobsOf(t, cron); len(jobs) < 2 || len(c.Status.Active) < 2 {
			return fmt.Errorf("%d jobs, %d active", len(jobs), len(c.Status.Active))
		}
		return nil
	})
}

func cronAllow(t *testing.T, s *space) {
	s.createCron(t, everyMinute("allow", batchv1.AllowConcurrent))
	s.twoJobs(t, "allow")
	s.ready(t, app("allow"), len(s.jobsOf(t, "allow")))
}

// cronForbid: while one Job runs there is no second, though its time has come: it came for another CronJob.
func cronForbid(t *testing.T, s *space) {
	s.createCron(t, everyMinute("forbid", batchv1.ForbidConcurrent))
	s.createCron(t, everyMinute("beside", batchv1.AllowConcurrent))
	minutes(t, 1, "a job", func() error {
		if len(s.jobsOf(t, "forbid")) != 1 {
			return fmt.Errorf("there is none")
		}
		return nil
	})
	first := s.jobsOf(t, "forbid")[0]
	s.twoJobs(t, "beside")
	holds(t, "the one job", func() error {
		if jobs := s.jobsOf(t, "forbid"); len(jobs) != 1 || jobs[0].UID != first.UID {
			return fmt.Errorf("there are %d", len(jobs))
		}
		return nil
	})
}

// cronReplace: the next Job takes the place of the one that runs.
func cronReplace(t *testing.T, s *space) {
	s.createCron(t, everyMinute("replace", batchv1.ReplaceConcurrent))
	var first batchv1.Job
	minutes(t, 1, "a job", func() error {
		jobs := s.jobsOf(t, "replace")
		if len(jobs) != 1 || jobs[0].Status.Active != 1 {
			return fmt.Errorf("there are %d", len(jobs))
		}
		first = jobs[0]
		return nil
	})
	minutes(t, 1, "another job in its place", func() error {
		jobs := s.jobsOf(t, "replace")
		if len(jobs) > 1 {
			t.Fatalf("%d jobs at once", len(jobs))
		}
		if len(jobs) == 0 || jobs[0].UID == first.UID {
			return fmt.Errorf("%d jobs", len(jobs))
		}
		return nil
	})
	until(t, "the pod of the new job alone", func() error {
		pods := s.pods(t, app("replace"))
		if len(pods) != 1 || !isReady(&pods[0]) || pods[0].Labels[batchv1.JobNameLabel] == first.Name {
			return fmt.Errorf("%s", describe(pods))
		}
		return nil
	})
}

// cronSuspend: no Job while suspended, though its time has come: it came for another CronJob.
func cronSuspend(t *testing.T, s *space) {
	suspended := everyMinute("suspended", batchv1.AllowConcurrent)
	suspended.Spec.Suspend = ptr.To(true)
	s.createCron(t, suspended)
	s.createCron(t, everyMinute("beside", batchv1.AllowConcurrent))
	minutes(t, 1, "a job of the other", func() error {
		if len(s.jobsOf(t, "beside")) == 0 {
			return fmt.Errorf("there is none")
		}
		return nil
	})
	holds(t, "the suspended one", func() error {
		if n := len(s.jobsOf(t, "suspended")); n > 0 {
			return fmt.Errorf("it has %d jobs", n)
		}
		return nil
	})
	c := must(s.Client.BatchV1().CronJobs(s.ns).Get(t.Context(), "suspended", metav1.GetOptions{}))(t)
	if c.Status.LastScheduleTime != nil {
		t.Errorf("its last time is said to be %v", c.Status.LastScheduleTime)
	}
	change(t, s.Client.BatchV1().CronJobs(s.ns), "suspended", func(c *batchv1.CronJob) { c.Spec.Suspend = ptr.To(false) })
	minutes(t, 1, "a job of the resumed one", func() error {
		if len(s.jobsOf(t, "suspended")) == 0 {
			return fmt.Errorf("there is none")
		}
		return nil
	})
}

func cronOperations(t *testing.T, s *space) {
	never := func(name string) *batchv1.CronJob {
		c := everyMinute(name, batchv1.AllowConcurrent)
		c.Spec.Schedule = "0 0 29 2 *"
		return c
	}
	r := s.resource(batchv1.SchemeGroupVersion, "cronjobs")
	r.operations(t, never("all"))
	r.collection(t, func(name string) runtime.Object { return never(name) })
	s.createCron(t, never("status"))
	at := "2026-01-02T03:04:05Z"
	r.merge(t, "status", map[string]any{"status": map[string]any{"lastScheduleTime": at}}, "status")
	api := s.Client.BatchV1().CronJobs(s.ns)
	if c := must(api.Get(t.Context(), "status", metav1.GetOptions{}))(t); c.Status.LastScheduleTime == nil || c.Status.LastScheduleTime.UTC().Format(time.RFC3339) != at {
		t.Errorf("status after a patch: %+v", c.Status)
	}
	later := metav1.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)
	read := must(api.Get(t.Context(), "status", metav1.GetOptions{}))(t)
	read.Status.LastScheduleTime, read.Spec.Schedule = &later, "1 1 1 1 *"
	updated := must(api.UpdateStatus(t.Context(), read, metav1.UpdateOptions{}))(t)
	if got := r.get(t, "status", "status"); updated.Spec.Schedule == "1 1 1 1 *" || !updated.Status.LastScheduleTime.Equal(&later) || got.GetName() != "status" {
		t.Errorf("after an update of the status: %+v", updated)
	}
}
