package hollow

import (
	"testing"
	"time"
)

func TestStep(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	c := &Config{StartAfter: 2 * time.Second, RunFor: 10 * time.Second}
	for _, tc := range []struct {
		name string
		pod  pod
		want stage
		wait time.Duration
	}{
		{"new", pod{since: now}, assigned, 2 * time.Second},
		{"due", pod{since: now.Add(-2 * time.Second)}, running, 0},
		{"endless", pod{stage: running, endless: true, since: now.Add(-time.Hour)}, running, 0},
		{"batch", pod{stage: running, since: now.Add(-4 * time.Second)}, running, 6 * time.Second},
		{"batch, done", pod{stage: running, since: now.Add(-10 * time.Second)}, succeeded, 0},
		{"done", pod{stage: succeeded}, succeeded, 0},
		{"deleted, in its grace", pod{stage: running, endless: true, deleted: now.Add(time.Second)}, running, time.Second},
		{"deleted", pod{stage: running, endless: true, deleted: now}, succeeded, 0},
		{"deleted, ended", pod{stage: succeeded, deleted: now}, gone, 0},
		{"deleted before it ran", pod{deleted: now}, gone, 0},
		{"gone", pod{stage: gone, deleted: now}, gone, 0},
	} {
		if got, wait := c.step(&tc.pod, now); got != tc.want || wait != tc.wait {
			t.Errorf("%s: stage %d after %s, want %d after %s", tc.name, got, wait, tc.want, tc.wait)
		}
	}
}

func TestAddressesAreTheNodesOwn(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for node := range 1 << 14 {
		for _, a := range []string{address(node), podIP(node, 0), podIP(node, 253)} {
			if seen[a] {
				t.Fatalf("%s twice", a)
			}
			seen[a] = true
		}
	}
}
