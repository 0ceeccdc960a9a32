package reconcile

import (
	"fmt"
	"log/slog"

	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"
)

// Deps is what every controller works with. All fields but Queues are required.
type Deps struct {
	Client    kubernetes.Interface            // writes as the controller's own identity
	Informers informers.SharedInformerFactory // shared by all controllers of the process; started by whoever runs them
	Events    record.EventRecorder            // names the controller as the event's source
	Clock     clock.WithTicker
	Log       *slog.Logger
	Queues    *Queues // measures the controller's queues; nil: nobody does
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
