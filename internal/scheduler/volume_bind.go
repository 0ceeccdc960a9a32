package scheduler

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	volumehelper "k8s.io/component-helpers/storage/volume"
	"k8s.io/utils/clock"
)

// volumeBinder carries out volume plans: it writes which volume a claim gets or where one is to be made, and waits until the
// controllers have done their part.
type volumeBinder struct {
	client  kubernetes.Interface
	clock   clock.WithTicker
	inbox   *inbox
	timeout time.Duration
}

// reserve sets aside what p's claims need on n.
func (b *volumeBinder) reserve(c *cluster, p *podInfo, n *node) (reservation, reason) {
	if len(p.claims) == 0 {
		return reservation{}, reason{}
	}
	w, why := c.storage.claimsOf(p)
	if why.refuses() {
		return reservation{}, why
	}
	plan, why := c.storage.plan(w, n)
	if why.refuses() || len(plan.await) == 0 {
		return reservation{}, why
	}
	c.storage.reserve(plan, n.name)
	wait := &volumeWait{plan: plan, node: n.object, done: make(chan error, 1)}
	return reservation{
		undo: func(c *cluster) {
			c.storage.release(plan)
			c.storage.stopWait(wait)
		},
		prebind: func(ctx context.Context) error {
			if err := b.prebind(ctx, wait); err != nil {
				return fmt.Errorf("running PreBind plugin %q: binding volumes: %w", "VolumeBinding", err)
			}
			return nil
		},
	}, reason{}
}

// prebind writes and waits. It runs off the scheduling path, and holds nothing that others wait for.
func (b *volumeBinder) prebind(ctx context.Context, w *volumeWait) error {
	if err := b.write(ctx, w.plan, w.node.Name); err != nil {
		return err
	}
	b.inbox.send(func(s *Scheduler) { s.cluster.storage.startWait(w) })
	timer := b.clock.NewTimer(b.timeout)
	defer timer.Stop()
	select {
	case err := <-w.done:
		return err
	case <-timer.C():
		return context.DeadlineExceeded
	case <-ctx.Done():
		return ctx.Err()
	}
}

// write tells volumes whose they are, and claims where they are to be provisioned. What is written shows in the cluster at
// once, so that no decision is made on the state before.
func (b *volumeBinder) write(ctx context.Context, plan volumePlan, node string) error {
	for _, m := range plan.matches {
		pv, changed, err := volumehelper.GetBindVolumeToClaim(m.volume, m.claim)
		if err != nil {
			return err
		}
		if !changed {
			continue
		}
		written, err := b.client.CoreV1().PersistentVolumes().Update(ctx, pv, metav1.UpdateOptions{})
		if err != nil {
			return err
		}
		b.inbox.send(func(s *Scheduler) { s.observeVolume(written) })
	}
	for _, claim := range plan.provision {
		claim := claim.DeepCopy()
		metav1.SetMetaDataAnnotation(&claim.ObjectMeta, volumehelper.AnnSelectedNode, node)
		written, err := b.client.CoreV1().PersistentVolumeClaims(claim.Namespace).Update(ctx, claim, metav1.UpdateOptions{})
		if err != nil {
			return err
		}
		b.inbox.send(func(s *Scheduler) { s.observeClaim(written) })
	}
	return nil
}

// volumeWait is a pod that has a node and waits for its claims to be bound. done gets the outcome, once.
type volumeWait struct {
	plan volumePlan
	node *corev1.Node
	done chan error
}

func (v *storage) startWait(w *volumeWait) {
	for _, claim := range w.plan.await {
		key := keyOf(claim)
		if v.waits[key] == nil {
			v.waits[key] = map[*volumeWait]bool{}
		}
		v.waits[key][w] = true
	}
	v.lookAt(w)
}

func (v *storage) stopWait(w *volumeWait) {
	for _, claim := range w.plan.await {
		key := keyOf(claim)
		delete(v.waits[key], w)
		if len(v.waits[key]) == 0 {
			delete(v.waits, key)
		}
	}
}

// look tells the waits for a claim what has become of it.
func (v *storage) look(claim types.NamespacedName) {
	for w := range v.waits[claim] {
		v.lookAt(w)
	}
}

func (v *storage) lookAt(w *volumeWait) {
	pending, err := v.progress(w)
	if pending && err == nil {
		return
	}
	v.stopWait(w)
	w.done <- err
}

// progress reports whether some claim is still to be bound, or what has gone wrong so that none can be waited for.
func (v *storage) progress(w *volumeWait) (pending bool, err error) {
	static := map[types.NamespacedName]string{}
	for _, m := range append(w.plan.started, w.plan.matches...) {
		static[keyOf(m.claim)] = m.volume.Name
	}
	for _, was := range w.plan.await {
		key := keyOf(was)
		claim := v.claims[key]
		switch {
		case claim == nil || claim.UID != was.UID:
			return false, fmt.Errorf("persistentvolumeclaim %q was deleted", was.Name)
		case bound(claim):
			pv := v.volumes[claim.Spec.VolumeName]
			if pv == nil {
				pending = true // not seen yet
			} else if err := volumehelper.CheckNodeAffinity(pv, w.node.Labels); err != nil {
				return false, fmt.Errorf("persistentvolume %q cannot be reached from node %q: %w", pv.Name, w.node.Name, err)
			}
			continue
		}
		pending = true
		if name, ok := static[key]; ok {
			if err := v.given(name, claim); err != nil {
				return false, err
			}
		} else if v.intended[key] != w.node.Name && claim.Annotations[volumehelper.AnnSelectedNode] != w.node.Name {
			return false, fmt.Errorf("selectedNode annotation reset for PVC %q", claim.Name) // by its provisioner, which could not
		}
	}
	return pending, nil
}

// given checks that a volume is still claim's, or about to be.
func (v *storage) given(volume string, claim *corev1.PersistentVolumeClaim) error {
	if v.promised[volume] == keyOf(claim) {
		return nil
	}
	pv := v.volumes[volume]
	if pv == nil {
		return fmt.Errorf("persistentvolume %q was deleted", volume)
	}
	if !volumehelper.IsVolumeBoundToClaim(pv, claim) {
		return errors.New("ClaimRef got reset for pv " + pv.Name)
	}
	return nil
}
