// Package reclaim removes the directories of this node's local volumes when their PersistentVolumes are to be deleted, and
// then lets these go by taking the finalizer off. decide is pure; Run watches the volumes that carry the node's label.
package reclaim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"

	"canopus/internal/localvolume"
	"canopus/internal/node/volume"
)

// The pauses between attempts at a volume that cannot be removed yet.
const (
	firstRetry = 250 * time.Millisecond
	lastRetry  = 30 * time.Second
)

// protection is the finalizer of volumes that are bound to a claim.
const protection = "kubernetes.io/pv-protection"

// Config is what a Reclaimer needs; all of it is required.
type Config struct {
	Client   kubernetes.Interface
	NodeName string
	Volumes  string // directory below which the node's local volumes are
	Root     string // the agent's root directory, where pods' mounts are
	Recorder record.EventRecorder
	Clock    clock.WithTicker
	Log      *slog.Logger
}

// Reclaimer is a component of the node agent.
type Reclaimer struct {
	cfg Config
}

// New checks the configuration.
func New(cfg Config) (*Reclaimer, error) {
	if cfg.Client == nil || cfg.NodeName == "" || cfg.Volumes == "" || cfg.Root == "" || cfg.Recorder == nil || cfg.Clock == nil || cfg.Log == nil {
		return nil, errors.New("reclaim: every field of the configuration is required")
	}
	return &Reclaimer{cfg: cfg}, nil
}

// action is what a volume needs of its node.
type action int

const (
	leave   action = iota
	letGo          // take the finalizer off; the directory stays
	removal        // remove the directory, then take the finalizer off
)

// decide says what to do about a volume of the node. The directory goes only when the API has decided that the volume does,
// nothing is bound to it any more, the policy says so, and it is the one directory that this node keeps for the volume.
func decide(pv *corev1.PersistentVolume, node, volumes string) action {
	switch {
	case pv.DeletionTimestamp == nil || !slices.Contains(pv.Finalizers, localvolume.Finalizer) || pv.Labels[localvolume.NodeLabel] != node:
		return leave
	case pv.Status.Phase == corev1.VolumeBound || slices.Contains(pv.Finalizers, protection):
		return leave
	case pv.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimDelete && localvolume.BelongsTo(pv, node, volumes):
		return removal
	}
	return letGo
}

// Run works until ctx ends.
func (r *Reclaimer) Run(ctx context.Context) error {
	queue := workqueue.NewTypedRateLimitingQueueWithConfig(
		workqueue.NewTypedItemExponentialFailureRateLimiter[string](firstRetry, lastRetry),
		workqueue.TypedRateLimitingQueueConfig[string]{Name: "local_volumes_reclaim", Clock: r.cfg.Clock})
	informer := coreinformers.NewFilteredPersistentVolumeInformer(r.cfg.Client, 0, cache.Indexers{}, func(o *metav1.ListOptions) {
		o.LabelSelector = labels.Set{localvolume.NodeLabel: r.cfg.NodeName}.String()
	})
	add := func(o any) {
		if pv, ok := o.(*corev1.PersistentVolume); ok && decide(pv, r.cfg.NodeName, r.cfg.Volumes) != leave {
			queue.Add(pv.Name)
		}
	}
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: add, UpdateFunc: func(_, o any) { add(o) }})
	if err != nil {
		return fmt.Errorf("watch local volumes: %w", err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer queue.ShutDown()
	wg.Go(func() { informer.RunWithContext(ctx) })
	wg.Go(func() {
		for r.next(ctx, queue, informer.GetStore()) {
		}
	})
	<-ctx.Done()
	return nil
}

func (r *Reclaimer) next(ctx context.Context, queue workqueue.TypedRateLimitingInterface[string], store cache.Store) bool {
	name, down := queue.Get()
	if down {
		return false
	}
	defer queue.Done(name)
	if ctx.Err() != nil {
		return false
	}
	obj, found, err := store.GetByKey(name)
	if pv, ok := obj.(*corev1.PersistentVolume); ok && found && err == nil {
		err = r.reclaim(ctx, pv)
	}
	if err == nil || ctx.Err() != nil {
		queue.Forget(name)
		return true
	}
	r.cfg.Log.Warn("removing a local volume, trying again", "volume", name, "error", err)
	queue.AddRateLimited(name)
	return true
}

func (r *Reclaimer) reclaim(ctx context.Context, pv *corev1.PersistentVolume) error {
	switch decide(pv, r.cfg.NodeName, r.cfg.Volumes) {
	case leave:
		return nil
	case removal:
		if err := r.remove(ctx, pv); err != nil {
			return err
		}
	case letGo:
		r.cfg.Log.Info("a local volume is deleted, its directory stays", "volume", pv.Name, "policy", pv.Spec.PersistentVolumeReclaimPolicy)
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": pv.UID, "$deleteFromPrimitiveList/finalizers": []string{localvolume.Finalizer}}})
	if err != nil {
		return err
	}
	_, err = r.cfg.Client.CoreV1().PersistentVolumes().Patch(ctx, pv.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("take the finalizer off persistent volume %s: %w", pv.Name, err)
	}
	return nil
}

// remove removes the directory unless a pod still has it, such as one deleted by force whose containers are being stopped.
func (r *Reclaimer) remove(ctx context.Context, pv *corev1.PersistentVolume) error {
	pod, used, err := volume.LocalInUse(r.cfg.Root, pv.Name)
	if err != nil {
		return err
	}
	if used {
		return fmt.Errorf("pod %s still has it mounted", pod)
	}
	if err := volume.RemoveTree(ctx, localvolume.Dir(r.cfg.Volumes, pv.Name)); err != nil {
		if ctx.Err() == nil {
			r.cfg.Recorder.Eventf(pv, corev1.EventTypeWarning, "VolumeFailedDelete", "%v", err)
		}
		return err
	}
	r.cfg.Log.Info("removed a local volume", "volume", pv.Name)
	return nil
}
