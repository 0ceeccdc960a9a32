// Package quota charges writes to the resource quotas of their namespace. The new usage is stored in the same etcd transaction as the
// object, so that no race of writers exceeds a quota and a write that fails has used nothing. What deleted objects release is
// counted by the controller.
package quota

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"canopus/internal/admission"
	"canopus/internal/quota"
	"canopus/internal/store"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/clock"
)

// Charger charges writes. Safe for concurrent use.
type Charger struct {
	quotas func() *store.Resource
	clock  clock.PassiveClock

	mu    sync.Mutex
	turns map[string]*turn // by namespace, while somebody is in it
}

// turn lets one write at a time at the quotas of a namespace: the others would find their usage changed and begin again.
type turn struct {
	free  chan struct{} // holds one token
	users int           // guarded by Charger.mu
}

// New makes a Charger. quotas returns where resourcequotas are stored; it is asked at every charge, because the server registers it
// after this is made.
func New(quotas func() *store.Resource, clock clock.PassiveClock) (*Charger, error) {
	if quotas == nil || clock == nil {
		return nil, errors.New("quota charger: quotas and a clock are required")
	}
	return &Charger{quotas: quotas, clock: clock, turns: map[string]*turn{}}, nil
}

// Charge returns the changes of the quotas that the write r is charged to, to be committed with it, or refuses it. release must be called when
// the write is over, however it ended.
func (c *Charger) Charge(ctx context.Context, r *admission.Request) (changes []store.Change, release func(), err error) {
	release = func() {}
	quotas := c.quotas()
	if quotas == nil || quotas.Count() == 0 || !charged(r) {
		return nil, release, nil
	}
	if some, err := list(ctx, quotas, r.Namespace, 1); err != nil || len(some) == 0 {
		return nil, release, err
	}
	if release, err = c.enter(ctx, r.Namespace); err != nil {
		return nil, release, err
	}
	entries, err := list(ctx, quotas, r.Namespace, 0)
	if err == nil {
		changes, err = c.charges(r, entries, quotas)
	}
	if err != nil || len(changes) == 0 || r.DryRun {
		release()
		return nil, func() {}, err
	}
	return changes, release, nil
}

// charged says whether a write can use more than before.
func charged(r *admission.Request) bool {
	gr := r.Resource.GroupResource()
	if r.Namespace == "" || r.Object == nil || quota.Ignored(gr) || gr.Resource == "namespaces" && gr.Group == "" {
		return false
	}
	pods := gr == schema.GroupResource{Resource: "pods"}
	switch {
	case r.Operation == admission.Create:
		return r.Subresource == ""
	case r.Operation != admission.Update || quota.Plain(gr):
		return false
	case pods:
		return r.Subresource == "resize"
	}
	return r.Subresource == ""
}

func list(ctx context.Context, quotas *store.Resource, namespace string, limit int64) ([]*store.Entry, error) {
	l, err := quotas.List(ctx, store.ListOptions{Selector: store.Selector{Namespace: namespace}, Match: store.Any, Limit: limit})
	if err != nil {
		return nil, fmt.Errorf("list the resource quotas of namespace %s: %w", namespace, err)
	}
	return l.Entries, nil
}

// enter waits for the turn in a namespace.
func (c *Charger) enter(ctx context.Context, namespace string) (func(), error) {
	c.mu.Lock()
	t := c.turns[namespace]
	if t == nil {
		t = &turn{free: make(chan struct{}, 1)}
		t.free <- struct{}{}
		c.turns[namespace] = t
	}
	t.users++
	c.mu.Unlock()
	leave := func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if t.users--; t.users == 0 {
			delete(c.turns, namespace)
		}
	}
	select {
	case <-t.free:
		return sync.OnceFunc(func() { t.free <- struct{}{}; leave() }), nil
	case <-ctx.Done():
		leave()
		return func() {}, ctx.Err()
	}
}

func (c *Charger) charges(r *admission.Request, entries []*store.Entry, quotas *store.Resource) ([]store.Change, error) {
	w := c.weigh(r)
	var changes []store.Change
	for _, e := range entries {
		o, err := e.Object()
		if err != nil {
			return nil, err
		}
		q, ok := o.(*corev1.ResourceQuota)
		if !ok {
			return nil, fmt.Errorf("a stored resource quota is a %T", o)
		}
		used, err := w.charge(q)
		if err != nil {
			return nil, apierrors.NewForbidden(r.Resource.GroupResource(), r.Called(), err)
		}
		if used == nil {
			continue
		}
		next := q.DeepCopy()
		next.Status.Used = used
		changes = append(changes, store.Change{Resource: quotas, Namespace: e.Namespace, Name: e.Name, Was: e, Now: next})
	}
	return changes, nil
}

// weight is one write as quotas see it.
type weight struct {
	gr       schema.GroupResource
	obj, old runtime.Object // old is nil for a create
	now, was corev1.ResourceList
}

func (c *Charger) weigh(r *admission.Request) *weight {
	w := &weight{gr: r.Resource.GroupResource(), obj: r.Object}
	at := c.clock.Now()
	w.now = quota.Usage(w.gr, r.Object, at)
	if r.Operation == admission.Update && r.Old != nil {
		w.old, w.was = r.Old, quota.Usage(w.gr, r.Old, at)
	}
	return w
}

// charge returns what is used of q after the write, nil if that is no more than before, or why the write exceeds q.
func (w *weight) charge(q *corev1.ResourceQuota) (corev1.ResourceList, error) {
	names := quota.Names(w.gr, q.Status.Hard)
	if len(names) == 0 {
		return nil, nil
	}
	in, err := quota.InScope(w.gr, q, w.obj)
	if err != nil || !in {
		return nil, err
	}
	if err := quota.Must(w.gr, w.obj, names); err != nil {
		return nil, fmt.Errorf("failed quota: %s: %w", q.Name, err)
	}
	if missing := quota.Mask(q.Status.Used, names); len(missing) < len(names) {
		return nil, fmt.Errorf("status unknown for quota: %s, resources: %s", q.Name, join(names))
	}
	if below := negative(w.now); len(below) > 0 {
		return nil, fmt.Errorf("quota usage is negative for resource(s): %s", join(below))
	}
	was := w.was
	if w.old != nil {
		if had, err := quota.InScope(w.gr, q, w.old); err != nil || !had {
			was = nil // the write brings the object into the scope
		}
	}
	more := quota.Mask(quota.Increase(w.now, was), names)
	if len(more) == 0 {
		return nil, nil
	}
	used := q.Status.Used.DeepCopy()
	quota.Add(used, more)
	if above := exceeded(used, q.Status.Hard, more); len(above) > 0 {
		return nil, fmt.Errorf("exceeded quota: %s, requested: %s, used: %s, limited: %s", q.Name,
			quota.Text(quota.Mask(more, above)), quota.Text(quota.Mask(q.Status.Used, above)), quota.Text(quota.Mask(q.Status.Hard, above)))
	}
	return used, nil
}

// exceeded names what of more makes used exceed hard.
func exceeded(used, hard, more corev1.ResourceList) []corev1.ResourceName {
	var out []corev1.ResourceName
	for name := range more {
		have, limit := used[name], hard[name]
		if have.Cmp(limit) > 0 {
			out = append(out, name)
		}
	}
	return out
}

func negative(list corev1.ResourceList) []corev1.ResourceName {
	var out []corev1.ResourceName
	for name, q := range list {
		if q.Sign() < 0 {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

func join(names []corev1.ResourceName) string {
	out := make([]string, len(names))
	for i, name := range names {
		out[i] = string(name)
	}
	return strings.Join(out, ",")
}
