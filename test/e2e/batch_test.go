package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the machine may have no time zones

	"canopus/test/harness"
)

// batch: Jobs that count their pages, fail for good, wait for leave and clean up after themselves, and a CronJob that goes by the
// clock of another place.
func batch(t *testing.T, s *scenario) {
	tokyo, err := time.LoadLocation("Asia/Tokyo")
	if err != nil {
		t.Fatal(err)
	}
	soon := time.Now().In(tokyo).Add(90 * time.Second) // at least half a minute ahead, whatever the second is
	s.apply(t, "cronjob.yaml", "MM", fmt.Sprint(soon.Minute()), "HH", fmt.Sprint(soon.Hour()))
	s.apply(t, "batch.yaml")

	s.k(t, "wait", "job/pages", "--for=condition=Complete", "--timeout=60s")
	if got := s.jsonpath(t, "job/pages", "{.status.succeeded} {.status.completedIndexes}"); got != "4 0-3" {
		t.Errorf("pages: %q", got)
	}
	for i := range 4 {
		pod := s.pods(t, fmt.Sprintf("job-name=pages,batch.kubernetes.io/job-completion-index=%d", i))[0]
		if out, want := s.k(t, "logs", pod.Name), fmt.Sprintf("page %d of pages-%d\n", i, i); out != want {
			t.Errorf("%s printed %q, want %q", pod.Name, out, want)
		}
	}

	s.k(t, "wait", "job/hopeless", "--for=condition=Failed", "--timeout=90s")
	if got := s.jsonpath(t, "job/hopeless", `{.status.failed} {.status.conditions[?(@.type=="Failed")].reason}`); got != "2 BackoffLimitExceeded" {
		t.Errorf("hopeless: %q", got)
	}

	if got := s.jsonpath(t, "job/waiting", `{.status.conditions[?(@.type=="Suspended")].status}`); got != "True" || len(s.pods(t, "job-name=waiting")) != 0 {
		t.Errorf("the Job that waits: suspended %q, %d pods", got, len(s.pods(t, "job-name=waiting")))
	}
	s.k(t, "patch", "job/waiting", "-p", `{"spec":{"suspend":false}}`)
	s.k(t, "wait", "job/waiting", "--for=condition=Complete", "--timeout=60s")

	s.k(t, "wait", "job/brief", "--for=delete", "--timeout=60s")
	harness.Until(t, patience, "the pods of the Job that is gone to go too", func() error {
		if n := len(s.pods(t, "job-name=brief")); n != 0 {
			return fmt.Errorf("%d pods", n)
		}
		return nil
	})
	s.onTime(t)
}

// onTime waits for the CronJob to have run once, and to have cleaned up.
func (s *scenario) onTime(t *testing.T) {
	t.Helper()
	harness.Until(t, 2*time.Minute+patience, "the CronJob to run by Tokyo's clock and to clean up", func() error {
		if got := s.jsonpath(t, "cronjob/report", "{.status.lastScheduleTime} {.status.lastSuccessfulTime} {.status.active}"); strings.Count(got, "Z") != 2 || strings.Contains(got, "[") {
			return fmt.Errorf("status %q", got)
		}
		if left := s.k(t, "get", "jobs", "-o", "name"); strings.Contains(left, "report-") {
			return fmt.Errorf("its Job is still there: %s", left)
		}
		return nil
	})
	if events := s.k(t, "events", "--for=cronjob/report"); strings.Count(events, "SuccessfulCreate") != 1 || !strings.Contains(events, "SawCompletedJob") {
		t.Errorf("events:\n%s", events)
	}
}
