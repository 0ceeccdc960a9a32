package main

import (
	"context"
	"fmt"

	"canopus/internal/componentstatus"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// statuses answers for the parts of the control plane under the names that clients know. Scheduler and controllers that do not
// run here are known by their Leases, wherever they are.
func (c *controlPlane) statuses() (*componentstatus.Statuses, error) {
	scheduler, controllers := componentstatus.Here, componentstatus.Here
	if c.cfg.noWorkers {
		scheduler = componentstatus.Elsewhere(c.own.Client, c.clock, schedulerLease)
		controllers = componentstatus.Elsewhere(c.own.Client, c.clock, controllerLease)
	}
	return componentstatus.New(
		componentstatus.Part{Name: "scheduler", Probe: scheduler},
		componentstatus.Part{Name: "controller-manager", Probe: controllers},
		componentstatus.Part{Name: "etcd-0", Probe: probeEtcd(c.etcd.Client())},
	)
}

// probeEtcd asks etcd for a key that is not there, consistently.
func probeEtcd(c *clientv3.Client) func(context.Context) error {
	return func(ctx context.Context) error {
		if _, err := c.Get(ctx, "health"); err != nil {
			return fmt.Errorf("etcd does not answer: %w", err)
		}
		return nil
	}
}
