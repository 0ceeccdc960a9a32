package scheduler

import (
	"context"
	"errors"
	"fmt"
	"slices"

	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

// errDevicesNotReady ends a wait for devices that their drivers did not get ready in time.
var errDevicesNotReady = errors.New("device binding timeout")

// deviceWait is a pod that has a node and waits for the drivers of its devices to get them ready. done gets the outcome, once.
type deviceWait struct {
	claims []*resourcev1.ResourceClaim
	done   chan error
}

// awaited are the claims with devices that are to be waited for.
func awaited(claims []*resourcev1.ResourceClaim) []*resourcev1.ResourceClaim {
	var out []*resourcev1.ResourceClaim
	for _, c := range claims {
		if slices.ContainsFunc(c.Status.Allocation.Devices.Results, func(r resourcev1.DeviceRequestAllocationResult) bool { return len(r.BindingConditions) > 0 }) {
			out = append(out, c)
		}
	}
	return out
}

// wait returns when the devices of claims, which have been written, can be used. It runs off the scheduling path.
func (b *deviceBinder) wait(ctx context.Context, w *deviceWait) error {
	b.inbox.send(func(s *Scheduler) { s.cluster.devices.startWait(w) })
	timer := b.clock.NewTimer(b.timeout)
	defer timer.Stop()
	select {
	case err := <-w.done:
		return err
	case <-timer.C():
		return errDevicesNotReady
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (v *deviceState) startWait(w *deviceWait) {
	for _, c := range w.claims {
		key := claimKey(c)
		v.waits[key] = append(v.waits[key], w)
	}
	v.lookAt(w)
}

func (v *deviceState) stopWait(w *deviceWait) {
	for _, c := range w.claims {
		key := claimKey(c)
		if v.waits[key] = slices.DeleteFunc(v.waits[key], func(o *deviceWait) bool { return o == w }); len(v.waits[key]) == 0 {
			delete(v.waits, key)
		}
	}
}

// look tells the waits for a claim what has become of it.
func (v *deviceState) look(claim types.NamespacedName) {
	for _, w := range slices.Clone(v.waits[claim]) {
		v.lookAt(w)
	}
}

func (v *deviceState) lookAt(w *deviceWait) {
	for _, c := range w.claims {
		ready, err := readiness(v.claims[claimKey(c)], c)
		if err == nil && ready {
			continue
		}
		if err == nil {
			return
		}
		v.stopWait(w)
		w.done <- err
		return
	}
	v.stopWait(w)
	w.done <- nil
}

// readiness reports whether all devices of a claim can be used, or what is wrong so that they never will. was is the claim as it
// was when it got them.
func readiness(c, was *resourcev1.ResourceClaim) (bool, error) {
	if c == nil || !isOf(c, was) || c.Status.Allocation == nil {
		return false, fmt.Errorf("claim %s lost its devices while they were made ready", was.Name)
	}
	ready := true
	for i := range c.Status.Allocation.Devices.Results {
		r := &c.Status.Allocation.Devices.Results[i]
		if len(r.BindingConditions) == 0 {
			continue
		}
		at := slices.IndexFunc(c.Status.Devices, func(d resourcev1.AllocatedDeviceStatus) bool {
			return d.Driver == r.Driver && d.Pool == r.Pool && d.Device == r.Device && ptr.Deref(d.ShareID, "") == string(ptr.Deref(r.ShareID, ""))
		})
		if at < 0 {
			ready = false
			continue
		}
		said := c.Status.Devices[at].Conditions
		for _, bad := range r.BindingFailureConditions {
			if meta.IsStatusConditionTrue(said, bad) {
				return false, fmt.Errorf("claim %s binding failed: device %s/%s/%s is %s", c.Name, r.Driver, r.Pool, r.Device, bad)
			}
		}
		for _, good := range r.BindingConditions {
			ready = ready && meta.IsStatusConditionTrue(said, good)
		}
	}
	return ready, nil
}
