package reconcile

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// TestShow is about a second term of office: it counts on where the first one stopped.
func TestShow(t *testing.T) {
	t.Parallel()
	fresh := func() prometheus.Counter { return prometheus.NewCounter(prometheus.CounterOpts{Name: "a", Help: "b"}) }
	d := Deps{Metrics: prometheus.NewRegistry()}
	first, err := Show(d, fresh())
	if err != nil {
		t.Fatal(err)
	}
	if again, err := Show(d, fresh()); err != nil || again != first {
		t.Errorf("the second term counts with %v, %v, want %v", again, err, first)
	}
	if _, err := Show(d, prometheus.NewGauge(prometheus.GaugeOpts{Name: "a", Help: "b"})); err == nil {
		t.Error("one name can be two figures")
	}
	if alone, err := Show(Deps{}, fresh()); err != nil || alone == first {
		t.Errorf("nobody asks: %v, %v", alone, err)
	}
}
