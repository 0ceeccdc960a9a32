package main

import (
	"context"
	"fmt"
	"log/slog"

	"canopus/internal/client"
	"canopus/internal/scheduler"
	schedconfig "canopus/internal/scheduler/config"

	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/clock"
)

// schedulerKind is the kind of a scheduler's own configuration file, by which --config of `canopus scheduler` knows it.
const schedulerKind = "KubeSchedulerConfiguration"

// scheduling reads the scheduler's configuration.
func (c *config) scheduling(log *slog.Logger) (*schedconfig.Configuration, error) {
	if c.schedulerConfig == "" {
		return schedconfig.Default(), nil
	}
	conf, err := schedconfig.Load(c.schedulerConfig)
	if err != nil {
		return nil, err
	}
	for _, note := range conf.Notes {
		log.Warn("a setting has no effect here", "file", c.schedulerConfig, "setting", note)
	}
	return conf, nil
}

// elector is what an election of schedulers needs to know.
type elector struct {
	cfg    *config
	conf   *schedconfig.Configuration
	access *client.Access
	log    *slog.Logger
}

// electedScheduler is elected with what the scheduler's configuration says about elections.
func electedScheduler(ctx context.Context, by elector, work func(context.Context) error) error {
	said := by.conf.LeaderElection
	stands := by.cfg.leaderElect
	if said.Enabled != nil {
		stands = *said.Enabled
	}
	if !stands {
		return work(ctx)
	}
	lease := schedulerLease
	if said.Name != "" {
		lease = said.Name
	}
	e, err := newElection(by.access.Client, lease, by.log)
	if err != nil {
		return err
	}
	e.Duration, e.Renew, e.Retry = said.Duration, said.Renew, said.Retry
	return lead(ctx, e, by.log, work)
}

// newScheduler completes c, which says what only the caller knows.
func newScheduler(access *client.Access, c scheduler.Config) (*scheduler.Scheduler, error) {
	c.Client, c.Informers, c.Clock = access.Client, access.Informers, clock.RealClock{}
	return scheduler.New(c)
}

// podGroups is what the scheduler reads when it is served.
func podGroups() schema.GroupVersionResource {
	return schedulingv1beta1.SchemeGroupVersion.WithResource("podgroups")
}

// servesPodGroups asks the API server.
func servesPodGroups(c kubernetes.Interface) (bool, error) {
	groups := podGroups()
	list, err := c.Discovery().ServerResourcesForGroupVersion(groups.GroupVersion().String())
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("ask the API server for %s: %w", groups.GroupVersion(), err)
	}
	for _, r := range list.APIResources {
		if r.Name == groups.Resource {
			return true, nil
		}
	}
	return false, nil
}
