package scheduler

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/retry"
	"k8s.io/dynamic-resource-allocation/resourceclaim"
	"k8s.io/utils/clock"

	"canopus/internal/scheduler/devices"
)

// deviceBinder writes allocations and reservations into claims.
type deviceBinder struct {
	client  kubernetes.Interface
	clock   clock.Clock
	inbox   *inbox
	outbox  *outbox
	timeout time.Duration // for devices to become ready
}

// reserve sets aside the devices that p's claims get on n.
func (b *deviceBinder) reserve(c *cluster, p *podInfo, n *node) (reservation, reason) {
	v := c.devices
	if !v.wanted(p) && p.pod.Status.ExtendedResourceClaimStatus == nil {
		return reservation{}, reason{}
	}
	w, why := v.claimsOf(p)
	if why.refuses() {
		return reservation{}, why
	}
	assumed, why := v.plan(p, w, n)
	if why.refuses() || len(w.given)+len(assumed) == 0 && p.pod.Status.ExtendedResourceClaimStatus == nil {
		return reservation{}, why
	}
	for _, claim := range assumed {
		devices.Share(claim.Status.Allocation)
	}
	v.assume(assumed)
	all := append(slices.Clone(w.given), assumed...)
	wait := &deviceWait{claims: awaited(all), done: make(chan error, 1)}
	unready := false // what prebind says of the devices; undo comes after it
	return reservation{
		undo: func(c *cluster) {
			c.devices.stopWait(wait)
			c.devices.release(assumed)
			b.retract(c, p.pod, all, unready)
		},
		prebind: func(ctx context.Context) error {
			err := b.prebind(ctx, all, p.pod)
			if err == nil && len(wait.claims) > 0 {
				err = b.wait(ctx, wait)
				unready = err != nil
			}
			if err != nil {
				return fmt.Errorf("running PreBind plugin %q: %w", dynamicResources, err)
			}
			return nil
		},
	}, reason{}
}

func (b *deviceBinder) prebind(ctx context.Context, claims []*resourcev1.ResourceClaim, pod *corev1.Pod) error {
	var special *resourcev1.ResourceClaim
	for _, claim := range claims {
		if isSpecial(claim) && resourceclaim.IsForPod(pod, claim, false) == nil {
			special = claim
		}
		if claim.UID == "" { // it was made here, and is nowhere else yet
			if err := b.ensure(ctx, claim, pod); err != nil {
				return err
			}
		}
		if err := b.write(ctx, claim, pod); err != nil {
			return err
		}
	}
	return b.tellPod(ctx, pod, special)
}

// write makes claim pod's in the API: protected from deletion, allocated as want says unless it is already, and reserved. What
// is written shows in the cluster at once.
func (b *deviceBinder) write(ctx context.Context, want *resourcev1.ResourceClaim, pod *corev1.Pod) error {
	claims := b.client.ResourceV1().ResourceClaims(want.Namespace)
	return retry.RetryOnConflict(retry.DefaultRetry, func() error {
		latest, err := claims.Get(ctx, want.Name, metav1.GetOptions{})
		switch {
		case err != nil:
			return fmt.Errorf("get claim %s: %w", want.Name, err)
		case !isOf(latest, want) || latest.DeletionTimestamp != nil:
			return fmt.Errorf("claim %s got deleted in the meantime", want.Name)
		}
		if !slices.Contains(latest.Finalizers, resourcev1.Finalizer) {
			latest.Finalizers = append(latest.Finalizers, resourcev1.Finalizer)
			if latest, err = claims.Update(ctx, latest, metav1.UpdateOptions{}); err != nil {
				return err // a conflict is told by its type
			}
		}
		if latest.Status.Allocation == nil {
			latest.Status.Allocation = want.Status.Allocation.DeepCopy()
			latest.Status.Allocation.AllocationTimestamp = &metav1.Time{Time: b.clock.Now()}
		} else if !sameDevices(latest.Status.Allocation, want.Status.Allocation) {
			return fmt.Errorf("claim %s got allocated elsewhere in the meantime", want.Name)
		}
		if !resourceclaim.IsReservedForPod(pod, latest, false) {
			latest.Status.ReservedFor = append(latest.Status.ReservedFor, resourcev1.ResourceClaimConsumerReference{Resource: "pods", Name: pod.Name, UID: pod.UID})
		}
		written, err := claims.UpdateStatus(ctx, latest, metav1.UpdateOptions{})
		if err != nil {
			return err
		}
		b.inbox.send(func(s *Scheduler) { s.observeDeviceClaim(written) })
		return nil
	})
}

// sameDevices reports whether two allocations give the same devices.
func sameDevices(a, b *resourcev1.AllocationResult) bool {
	return slices.EqualFunc(a.Devices.Results, b.Devices.Results, func(x, y resourcev1.DeviceRequestAllocationResult) bool {
		return x.Request == y.Request && x.Driver == y.Driver && x.Pool == y.Pool && x.Device == y.Device
	})
}

// retract takes pod's reservations of claims back as far as they were written, and with them, if nobody else has one, the
// allocations. Until that is done nobody decides about the claims. What fails here, the claims' controller finds.
func (b *deviceBinder) retract(c *cluster, pod *corev1.Pod, claims []*resourcev1.ResourceClaim, allocations bool) {
	for _, claim := range claims {
		c.devices.retracted[claimKey(claim)] = true
	}
	b.outbox.send(func(ctx context.Context) {
		for _, claim := range claims {
			written := b.writeRetracted(ctx, pod, claim, allocations)
			b.inbox.send(func(s *Scheduler) {
				delete(s.cluster.devices.retracted, claimKey(claim))
				if written != nil {
					s.observeDeviceClaim(written)
				}
				s.changed(&event{what: deviceClaimChanged | devicesFreed, claim: claimKey(claim)})
			})
		}
	})
}

// writeRetracted returns the claim's new state, or nil when nothing was written.
func (b *deviceBinder) writeRetracted(ctx context.Context, pod *corev1.Pod, claim *resourcev1.ResourceClaim, allocation bool) *resourcev1.ResourceClaim {
	client := b.client.ResourceV1().ResourceClaims(claim.Namespace)
	latest, err := client.Get(ctx, claim.Name, metav1.GetOptions{})
	if err != nil || !isOf(latest, claim) || !allocation && !resourceclaim.IsReservedForPod(pod, latest, false) {
		return nil
	}
	latest.Status.ReservedFor = slices.DeleteFunc(latest.Status.ReservedFor, func(r resourcev1.ResourceClaimConsumerReference) bool { return r.UID == pod.UID })
	if allocation && len(latest.Status.ReservedFor) == 0 {
		latest.Status.Allocation, latest.Status.Devices = nil, nil
	}
	written, err := client.UpdateStatus(ctx, latest, metav1.UpdateOptions{})
	if err != nil {
		return nil
	}
	return written
}

// idleClaim is a claim of p's with devices on nodes that p cannot have now, and that nobody else uses: others may do. nil: none.
func idleClaim(c *cluster, p *podInfo, d *decision) *resourcev1.ResourceClaim {
	if !c.devices.wanted(p) || !slices.ContainsFunc(d.tally.rows, func(t tallied) bool { return t.why.text == devicesElsewhere }) {
		return nil
	}
	w, why := c.devices.claimsOf(p)
	if why.refuses() {
		return nil
	}
	for _, claim := range w.given {
		users := claim.Status.ReservedFor
		alone := len(users) == 0 || len(users) == 1 && resourceclaim.IsReservedForPod(p.pod, claim, false)
		if alone && claim.Status.Allocation.NodeSelector != nil {
			return claim
		}
	}
	return nil
}

// freeClaim takes the devices back from a claim that keeps p from having a node: one at a time, it may be enough.
func (s *Scheduler) freeClaim(p *podInfo, d *decision) {
	if claim := idleClaim(s.cluster, p, d); claim != nil {
		s.deviceBinder(0).retract(s.cluster, p.pod, []*resourcev1.ResourceClaim{claim}, true)
	}
}

func (s *Scheduler) deviceBinder(timeout time.Duration) *deviceBinder {
	return &deviceBinder{client: s.Client, clock: s.Clock, inbox: s.inbox, outbox: s.outbox, timeout: timeout}
}
