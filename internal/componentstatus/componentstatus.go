// Package componentstatus answers for v1 componentstatuses: how the parts of the control plane are, asked anew for every
// request. Nothing of it is stored. A part of this process is asked directly; one that runs elsewhere is known by the Lease it
// renews while it works.
package componentstatus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/clock"

	"canopus/internal/kinds"
)

// patience is how long one part may take to answer.
const patience = 5 * time.Second

// Part is one part of the control plane. Probe returns nil when it is well.
type Part struct {
	Name  string
	Probe func(ctx context.Context) error
}

// Statuses answers reads of componentstatuses.
type Statuses struct{ parts []Part }

// New answers for parts, in this order.
func New(parts ...Part) (*Statuses, error) {
	for _, p := range parts {
		if p.Name == "" || p.Probe == nil {
			return nil, errors.New("componentstatus: a part needs a name and a probe")
		}
	}
	return &Statuses{parts: parts}, nil
}

// Get returns the status of one part.
func (s *Statuses) Get(ctx context.Context, _, name string) (kinds.Object, error) {
	for _, p := range s.parts {
		if p.Name == name {
			return p.status(ctx), nil
		}
	}
	return nil, apierrors.NewNotFound(corev1.Resource("componentstatuses"), name)
}

// List returns the status of every part; they are asked at the same time. A status has no labels to select by.
func (s *Statuses) List(ctx context.Context, _ string, selector labels.Selector) ([]kinds.Object, error) {
	if !selector.Matches(labels.Set{}) {
		return nil, nil
	}
	out := make([]kinds.Object, len(s.parts))
	var asked sync.WaitGroup
	for i, p := range s.parts {
		asked.Go(func() { out[i] = p.status(ctx) })
	}
	asked.Wait()
	return out, nil
}

// status asks a part how it is.
func (p *Part) status(ctx context.Context) *corev1.ComponentStatus {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	condition := corev1.ComponentCondition{Type: corev1.ComponentHealthy, Status: corev1.ConditionTrue, Message: "ok"}
	if err := p.Probe(ctx); err != nil {
		condition.Status, condition.Message, condition.Error = corev1.ConditionFalse, "", err.Error()
	}
	return &corev1.ComponentStatus{ObjectMeta: metav1.ObjectMeta{Name: p.Name}, Conditions: []corev1.ComponentCondition{condition}}
}

// Here is the probe of a part of this process: one that ends ends the process with it.
func Here(context.Context) error { return nil }

// Elsewhere is the probe of a part that other processes are elected for with a Lease in kube-system.
func Elsewhere(c kubernetes.Interface, clock clock.PassiveClock, lease string) func(context.Context) error {
	return func(ctx context.Context) error {
		l, err := c.CoordinationV1().Leases(metav1.NamespaceSystem).Get(ctx, lease, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return fmt.Errorf("no process has been elected: there is no lease %s/%s", metav1.NamespaceSystem, lease)
		}
		if err != nil {
			return err
		}
		s := &l.Spec
		if s.HolderIdentity == nil || *s.HolderIdentity == "" || s.RenewTime == nil || s.LeaseDurationSeconds == nil {
			return fmt.Errorf("no process holds the lease %s/%s", metav1.NamespaceSystem, lease)
		}
		if late := clock.Since(s.RenewTime.Time); late > time.Duration(*s.LeaseDurationSeconds)*time.Second {
			return fmt.Errorf("%s has not renewed the lease %s/%s for %s", *s.HolderIdentity, metav1.NamespaceSystem, lease, late.Round(time.Second))
		}
		return nil
	}
}
