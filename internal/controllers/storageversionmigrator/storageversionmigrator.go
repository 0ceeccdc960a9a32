// Package storageversionmigrator carries out StorageVersionMigrations: it writes every object of a resource again, unchanged. The
// API server stores such a write only where the object was stored in an old way, for instance under an old encryption key.
//
// A migration is idempotent: one that was interrupted begins again and writes little.
package storageversionmigrator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	storagemigrationv1 "k8s.io/api/storagemigration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	listers "k8s.io/client-go/listers/storagemigration/v1"
	"k8s.io/client-go/metadata"

	"canopus/internal/controllers/reconcile"
)

// page is how many objects are listed at once.
const page = 500

// The reasons of conditions.
const (
	reasonRunning   = "StorageVersionMigrationInProgress"
	reasonSucceeded = "StorageVersionMigrationSucceeded"
	reasonFailed    = "StorageVersionMigrationFailed"
)

type migration = storagemigrationv1.StorageVersionMigration

// Config is what the controller works with.
type Config struct {
	reconcile.Deps
	Metadata metadata.Interface // lists and patches every resource
}

// Controller reconciles StorageVersionMigrations, one after the other: they are not urgent.
type Controller struct {
	Config
	migrations listers.StorageVersionMigrationLister
	loop       *reconcile.Loop[string]
}

// New makes a controller that does nothing before Run.
func New(config Config) (*Controller, error) {
	if err := config.Check(); err != nil {
		return nil, err
	}
	if config.Metadata == nil {
		return nil, errors.New("the storage version migrator needs a metadata client")
	}
	i := config.Informers.Storagemigration().V1().StorageVersionMigrations()
	c := &Controller{Config: config, migrations: i.Lister()}
	var err error
	c.loop, err = reconcile.New(reconcile.Config[string]{
		Name: "storage_version_migrator_controller", Workers: 1, Reconcile: c.reconcile, Clock: config.Clock, Log: config.Log, Queues: config.Queues,
		Sources: []reconcile.Source[string]{reconcile.On(i.Informer(), func(_, m *migration) []string {
			if m == nil || ended(m) {
				return nil
			}
			return []string{m.Name}
		})},
	})
	return c, err
}

// Run works until ctx ends.
func (c *Controller) Run(ctx context.Context) error { return c.loop.Run(ctx) }

func ended(m *migration) bool {
	return meta.IsStatusConditionTrue(m.Status.Conditions, string(storagemigrationv1.MigrationSucceeded)) ||
		meta.IsStatusConditionTrue(m.Status.Conditions, string(storagemigrationv1.MigrationFailed))
}

// begun is m when its work starts: what is stored after revision needs no migration.
func begun(m *migration, revision string, now time.Time) *migration {
	next := m.DeepCopy()
	next.Status.ResourceVersion = revision
	set(next, storagemigrationv1.MigrationRunning, metav1.ConditionTrue, reasonRunning, "", now)
	return next
}

// finished is m when its work is over, well or for the reason why not.
func finished(m *migration, failure string, now time.Time) *migration {
	next := m.DeepCopy()
	how, reason := storagemigrationv1.MigrationSucceeded, reasonSucceeded
	if failure != "" {
		how, reason = storagemigrationv1.MigrationFailed, reasonFailed
	}
	if meta.FindStatusCondition(next.Status.Conditions, string(storagemigrationv1.MigrationRunning)) != nil {
		set(next, storagemigrationv1.MigrationRunning, metav1.ConditionFalse, reason, "", now)
	}
	set(next, how, metav1.ConditionTrue, reason, failure, now)
	return next
}

func set(m *migration, t storagemigrationv1.MigrationConditionType, status metav1.ConditionStatus, reason, message string, now time.Time) {
	meta.SetStatusCondition(&m.Status.Conditions, metav1.Condition{
		Type: string(t), Status: status, Reason: reason, Message: message, LastTransitionTime: metav1.NewTime(now),
	})
}

func (c *Controller) reconcile(ctx context.Context, name string) (time.Duration, error) {
	m, err := c.migrations.Get(name)
	if apierrors.IsNotFound(err) || err == nil && (ended(m) || m.DeletionTimestamp != nil) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	gvr, failure, err := c.find(m.Spec.Resource)
	if err != nil {
		return 0, err
	}
	if failure == "" {
		if m, err = c.begin(ctx, m, gvr); err != nil {
			return 0, ignoreGone(err)
		}
		if err := c.rewrite(ctx, gvr); err != nil {
			return 0, fmt.Errorf("migrate %s: %w", gvr.GroupResource(), err)
		}
	}
	_, err = c.Client.StoragemigrationV1().StorageVersionMigrations().UpdateStatus(ctx, finished(m, failure, c.Clock.Now()), metav1.UpdateOptions{})
	return 0, ignoreGone(err)
}

func ignoreGone(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// begin says that m runs, unless it says so already.
func (c *Controller) begin(ctx context.Context, m *migration, gvr schema.GroupVersionResource) (*migration, error) {
	if m.Status.ResourceVersion != "" {
		return m, nil
	}
	list, err := c.Metadata.Resource(gvr).List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", gvr.GroupResource(), err)
	}
	return c.Client.StoragemigrationV1().StorageVersionMigrations().UpdateStatus(ctx, begun(m, list.ResourceVersion, c.Clock.Now()), metav1.UpdateOptions{})
}

// find returns the version in which a resource is served, or why it cannot be migrated.
func (c *Controller) find(gr metav1.GroupResource) (gvr schema.GroupVersionResource, failure string, err error) {
	lists, err := discovery.ServerPreferredResources(c.Client.Discovery())
	for _, list := range lists {
		gv, bad := schema.ParseGroupVersion(list.GroupVersion)
		if bad != nil || gv.Group != gr.Group {
			continue
		}
		for _, r := range list.APIResources {
			if r.Name != gr.Resource {
				continue
			}
			if !slices.Contains(r.Verbs, "list") || !slices.Contains(r.Verbs, "patch") {
				return gvr, fmt.Sprintf("resource %s cannot be listed and patched", gr.String()), nil
			}
			return gv.WithResource(r.Name), "", nil
		}
	}
	if err != nil { // the resource may be of a group that did not answer
		return gvr, "", fmt.Errorf("ask which resources are served: %w", err)
	}
	return gvr, fmt.Sprintf("resource %s is not served", gr.String()), nil
}

// rewrite patches every object with nothing but what identifies it.
func (c *Controller) rewrite(ctx context.Context, gvr schema.GroupVersionResource) error {
	options := metav1.ListOptions{Limit: page}
	for {
		list, err := c.Metadata.Resource(gvr).List(ctx, options)
		if err != nil {
			return err
		}
		failed := reconcile.Parallel(ctx, len(list.Items), func(ctx context.Context, i int) error {
			return c.touch(ctx, gvr, &list.Items[i])
		})
		if err := errors.Join(failed...); err != nil {
			return err
		}
		if options.Continue = list.Continue; options.Continue == "" {
			return nil
		}
	}
}

// touch rewrites one object. One that is gone or was written meanwhile needs nothing.
func (c *Controller) touch(ctx context.Context, gvr schema.GroupVersionResource, o *metav1.PartialObjectMetadata) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": o.UID, "resourceVersion": o.ResourceVersion}})
	if err != nil {
		return err
	}
	_, err = c.Metadata.Resource(gvr).Namespace(o.Namespace).Patch(ctx, o.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return fmt.Errorf("write %s %s/%s again: %w", gvr.Resource, o.Namespace, o.Name, err)
}
