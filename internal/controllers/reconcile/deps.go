package reconcile

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"
)

// Deps is what every controller works with. All fields but Queues and Metrics are required.
type Deps struct {
	Client    kubernetes.Interface            // writes as the controller's own identity
	Informers informers.SharedInformerFactory // shared by all controllers of the process; started by whoever runs them
	Events    record.EventRecorder            // names the controller as the event's source
	Clock     clock.WithTicker
	Log       *slog.Logger
	Queues    *Queues               // measures the controller's queues; nil: nobody does
	Metrics   prometheus.Registerer // shows what controllers count; nil: nobody asks
}

// Show makes c visible to whoever reads the process's metrics and returns the collector to count with: the one that an
// earlier term of office has shown, if there was one.
func Show[C prometheus.Collector](d Deps, c C) (C, error) {
	if d.Metrics == nil {
		return c, nil
	}
	err := d.Metrics.Register(c)
	var there prometheus.AlreadyRegisteredError
	if errors.As(err, &there) {
		if same, ok := there.ExistingCollector.(C); ok {
			return same, nil
		}
	}
	if err != nil {
		return c, fmt.Errorf("show the figures of a controller: %w", err)
	}
	return c, nil
}

// Check names the first field that is missing.
func (d Deps) Check() error {
	missing := ""
	switch {
	case d.Client == nil:
		missing = "client"
	case d.Informers == nil:
		missing = "informers"
	case d.Events == nil:
		missing = "event recorder"
	case d.Clock == nil:
		missing = "clock"
	case d.Log == nil:
		missing = "log"
	default:
		return nil
	}
	return fmt.Errorf("a controller needs a %s: set it in reconcile.Deps", missing)
}
