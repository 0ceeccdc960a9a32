package e2e

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"canopus/test/harness"
)

// load sends requests to a Service one after the other, each on a connection of its own, and notes what failed.
type load struct {
	mu       sync.Mutex
	answers  map[string]int // by the message in them
	total    int
	failures []string
	gap      time.Duration // the longest time between two answers
	stop     context.CancelFunc
	done     chan struct{}
}

// request starts a load on a Service from the node.
func (s *scenario) request(t *testing.T, service string) *load {
	t.Helper()
	address := s.jsonpath(t, "service/"+service, "{.spec.clusterIP}") + ":80"
	ctx, cancel := context.WithCancel(t.Context())
	l := &load{answers: map[string]int{}, stop: cancel, done: make(chan struct{})}
	harness.Until(t, patience, "a first answer of "+service, func() error { _, err := s.Get(s.Node, address); return err })
	go func() {
		defer close(l.done)
		last := time.Now()
		for ctx.Err() == nil {
			body, err := s.Get(s.Node, address)
			l.mu.Lock()
			l.total++
			if err != nil {
				l.failures = append(l.failures, fmt.Sprintf("%s: %v", time.Now().Format("15:04:05.000"), err))
			} else {
				message, _, _ := strings.Cut(body, ":")
				l.answers[message]++
				l.gap, last = max(l.gap, time.Since(last)), time.Now()
			}
			l.mu.Unlock()
			harness.Pause(ctx, 5*time.Millisecond)
		}
	}()
	t.Cleanup(func() { cancel(); <-l.done })
	return l
}

// so far returns how many answers had message in them.
func (l *load) soFar(message string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.answers[message]
}

// end stops the load and fails the test for every request that failed.
func (l *load) end(t *testing.T) {
	t.Helper()
	l.stop()
	<-l.done
	if l.total < 100 {
		t.Errorf("only %d requests were made", l.total)
	}
	for i, f := range l.failures {
		if i == 10 {
			t.Errorf("… and %d more", len(l.failures)-i)
			break
		}
		t.Error("request failed at ", f)
	}
	t.Logf("%d requests, %d failed, answers %v, longest gap %v", l.total, len(l.failures), l.answers, l.gap.Round(time.Millisecond))
}

// rollout: an update and its undoing, with requests all the time and none failing.
func rollout(t *testing.T, s *scenario) {
	s.apply(t, "rollout.yaml")
	s.k(t, "rollout", "status", "deployment/app", "--timeout=60s")
	l := s.request(t, "app")
	s.k(t, "set", "env", "deployment/app", "MESSAGE=second")
	s.k(t, "rollout", "status", "deployment/app", "--timeout=80s")
	harness.Until(t, patience, "answers of the second version", func() error {
		if l.soFar("second") < 20 {
			return fmt.Errorf("%d so far", l.soFar("second"))
		}
		return nil
	})
	history := s.k(t, "rollout", "history", "deployment/app")
	if !strings.Contains(history, "1 ") || !strings.Contains(history, "2 ") {
		t.Errorf("history: %s", history)
	}
	s.k(t, "rollout", "undo", "deployment/app")
	s.k(t, "rollout", "status", "deployment/app", "--timeout=80s")
	first := l.soFar("first")
	harness.Until(t, patience, "answers of the first version again", func() error {
		if l.soFar("first") < first+20 {
			return fmt.Errorf("%d so far", l.soFar("first")-first)
		}
		return nil
	})
	l.end(t)
	if got := s.jsonpath(t, "deployment/app", `{.metadata.annotations.deployment\.kubernetes\.io/revision}`); got != "3" {
		t.Errorf("revision after undo: %s, want 3", got)
	}
}

// badImage: an image that nobody has stalls a rollout; the old pods go on serving, and undo ends it.
func badImage(t *testing.T, s *scenario) {
	s.apply(t, "rollout.yaml")
	s.k(t, "rollout", "status", "deployment/app", "--timeout=60s")
	before := s.pods(t, "app=app")
	l := s.request(t, "app")
	deadline := func(seconds string) {
		s.k(t, "patch", "deployment/app", "-p", `{"spec":{"progressDeadlineSeconds":`+seconds+`}}`)
	}
	deadline("5")
	s.k(t, "set", "image", "deployment/app", "app=127.0.0.1:5/no-such-image:1")
	r := s.Try(t, "", s.args([]string{"rollout", "status", "deployment/app", "--timeout=40s"})...)
	if r.Code == 0 || !strings.Contains(r.Stderr+r.Stdout, "exceeded its progress deadline") {
		t.Errorf("a rollout that cannot proceed: %v", r)
	}
	harness.Until(t, patience, "the pull to be reported as failing", func() error {
		out := s.k(t, "get", "pods", "-l", "app=app")
		if !strings.Contains(out, "ImagePullBackOff") && !strings.Contains(out, "ErrImagePull") {
			return fmt.Errorf("pods:\n%s", out)
		}
		return nil
	})
	for _, p := range before {
		if now := s.pod(t, p.Name); now.UID != p.UID || !ready(now) {
			t.Errorf("%s of the old version does not serve any more: %+v", p.Name, now.Status)
		}
	}
	deadline("300")
	s.k(t, "rollout", "undo", "deployment/app")
	s.k(t, "rollout", "status", "deployment/app", "--timeout=60s")
	l.end(t)
}

// scale: 3, 10, 2.
func scale(t *testing.T, s *scenario) {
	s.apply(t, "sleepers.yaml")
	s.k(t, "rollout", "status", "deployment/sleepers", "--timeout=60s")
	for _, n := range []int{10, 2} {
		s.k(t, "scale", "deployment/sleepers", fmt.Sprintf("--replicas=%d", n))
		s.k(t, "rollout", "status", "deployment/sleepers", "--timeout=80s")
		harness.Until(t, patience, fmt.Sprintf("%d pods", n), func() error {
			pods := s.pods(t, "app=sleepers")
			running := 0
			for i := range pods {
				if ready(&pods[i]) {
					running++
				}
			}
			if len(pods) != n || running != n {
				return fmt.Errorf("%d pods, %d of them ready", len(pods), running)
			}
			return nil
		})
		if got := s.jsonpath(t, "deployment/sleepers", "{.status.readyReplicas}/{.spec.replicas}"); got != fmt.Sprintf("%d/%[1]d", n) {
			t.Errorf("status after scaling to %d: %s", n, got)
		}
	}
}

// replace: a pod that is deleted is replaced by another.
func replace(t *testing.T, s *scenario) {
	s.apply(t, "sleepers.yaml", "replicas: 3", "replicas: 1")
	s.k(t, "rollout", "status", "deployment/sleepers", "--timeout=60s")
	old := s.pods(t, "app=sleepers")[0]
	s.k(t, "delete", "pod", old.Name)
	harness.Until(t, patience, "another pod", func() error {
		pods := s.pods(t, "app=sleepers")
		if len(pods) != 1 || pods[0].UID == old.UID || !ready(&pods[0]) {
			return fmt.Errorf("%d pods", len(pods))
		}
		return nil
	})
}
