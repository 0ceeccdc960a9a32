package auth

import (
	"context"
	"errors"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"
)

// ruled allows everything once it has read its rules.
type ruled struct{ read chan struct{} }

func (r ruled) Authorize(context.Context, *Attributes) (Decision, string, error) {
	select {
	case <-r.read:
		return Allow, "", nil
	default:
		return NoOpinion, "no rule", nil
	}
}

func TestGate(t *testing.T) {
	t.Parallel()
	read, clk := make(chan struct{}), clocktesting.NewFakeClock(time.Unix(0, 0))
	union := Union{Masters{}, Gate{Open: read, Authorizer: ruled{read}, Patience: time.Minute, Clock: clk}}
	if d, _, err := union.Authorize(t.Context(), &Attributes{User: &User{Name: "root", Groups: []string{MastersGroup}}}); d != Allow {
		t.Errorf("before the gate opens masters get %v, %v", d, err)
	}
	someone := &Attributes{User: &User{Name: "someone"}}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if d, _, err := union.Authorize(gone, someone); d != NoOpinion || err == nil {
		t.Errorf("a request that ends before the gate opens gets %v, %v", d, err)
	}
	result := make(chan Decision)
	go func() {
		d, _, _ := union.Authorize(t.Context(), someone)
		result <- d
	}()
	select {
	case d := <-result:
		t.Fatalf("decided %v before the rules were read", d)
	default:
	}
	close(read)
	if d := <-result; d != Allow {
		t.Errorf("a request that waited gets %v", d)
	}
}

func TestGateLosesPatience(t *testing.T) {
	t.Parallel()
	clk := clocktesting.NewFakeClock(time.Unix(0, 0))
	union := Union{Masters{}, Gate{Open: make(chan struct{}), Authorizer: Masters{}, Patience: time.Minute, Clock: clk}}
	result := make(chan error)
	go func() {
		_, _, err := union.Authorize(t.Context(), &Attributes{User: &User{Name: "someone"}})
		result <- err
	}()
	for !clk.HasWaiters() {
		select {
		case err := <-result:
			t.Fatalf("decided before its time: %v", err)
		default:
		}
	}
	clk.Step(time.Minute)
	if err := <-result; !errors.Is(err, ErrNotReady) {
		t.Errorf("got %v", err)
	}
}
