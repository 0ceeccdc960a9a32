package harness

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// pollEvery is the time between two looks at a condition.
const pollEvery = 25 * time.Millisecond

// Until calls check until it returns nil. After patience the test fails with check's last error.
func Until(t testing.TB, patience time.Duration, what string, check func() error) {
	t.Helper()
	if err := Within(t.Context(), patience, check); err != nil {
		t.Fatalf("waited %v in vain for %s: %v", patience, what, err)
	}
}

// Within calls check until it returns nil, and returns its last error when patience or ctx ends first.
func Within(ctx context.Context, patience time.Duration, check func() error) error {
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-deadline.C:
			return err
		case <-ctx.Done():
			return fmt.Errorf("%w; last: %w", ctx.Err(), err)
		case <-tick.C:
		}
	}
}

// Pause waits where time itself is what a test needs: between two numbered requests, or for a state that must not change.
func Pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// nodeReady says why the node of that name is not ready.
func (c *Cluster) nodeReady(ctx context.Context, name string) error {
	node, err := c.Client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, condition := range node.Status.Conditions {
		if condition.Type != corev1.NodeReady {
			continue
		}
		if condition.Status == corev1.ConditionTrue {
			return nil
		}
		return fmt.Errorf("node is not ready: %s: %s", condition.Reason, condition.Message)
	}
	return fmt.Errorf("node says nothing about being ready: %+v", node.Status.Conditions)
}
