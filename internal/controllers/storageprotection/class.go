package storageprotection

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	storagelisters "k8s.io/client-go/listers/storage/v1"
	"k8s.io/client-go/tools/cache"

	"canopus/internal/controllers/reconcile"
)

// byAttributes is the index of claims and volumes by the attributes classes that they name.
const byAttributes = "canopus/volume-attributes"

// Classes protects attributes classes that claims and volumes name.
type Classes struct {
	reconcile.Deps
	classes storagelisters.VolumeAttributesClassLister
	users   []cache.SharedIndexInformer
	loop    *reconcile.Loop[string]
}

// NewClasses makes a controller that does nothing before Run.
func NewClasses(d reconcile.Deps) (*Classes, error) {
	if err := d.Check(); err != nil {
		return nil, err
	}
	core, classes := d.Informers.Core().V1(), d.Informers.Storage().V1().VolumeAttributesClasses()
	c := &Classes{Deps: d, classes: classes.Lister(), users: []cache.SharedIndexInformer{
		core.PersistentVolumeClaims().Informer(), core.PersistentVolumes().Informer(),
	}}
	sources := []reconcile.Source[string]{reconcile.On(classes.Informer(), func(_, class *storagev1.VolumeAttributesClass) []string {
		if class == nil {
			return nil
		}
		return []string{class.Name}
	})}
	var err error
	for _, informer := range c.users {
		err = errors.Join(err, reconcile.Index(informer, byAttributes, func(obj any) ([]string, error) { return attributesOf(obj), nil }))
		sources = append(sources, reconcile.Source[string]{Informer: informer, Keys: letGo})
	}
	if err != nil {
		return nil, err
	}
	c.loop, err = reconcile.New(reconcile.Config[string]{
		Name: "volumeattributesclass_protection", Workers: 1, Sources: sources, Reconcile: c.reconcile, Clock: d.Clock, Log: d.Log, Queues: d.Queues,
	})
	return c, err
}

// Run works until ctx ends.
func (c *Classes) Run(ctx context.Context) error { return c.loop.Run(ctx) }

// attributesOf returns the classes that a claim or a volume names, each once.
func attributesOf(obj any) []string {
	var out []string
	note := func(name *string) {
		if name != nil && *name != "" && !slices.Contains(out, *name) {
			out = append(out, *name)
		}
	}
	switch o := obj.(type) {
	case *corev1.PersistentVolumeClaim:
		note(o.Spec.VolumeAttributesClassName)
		note(o.Status.CurrentVolumeAttributesClassName)
		if m := o.Status.ModifyVolumeStatus; m != nil {
			note(&m.TargetVolumeAttributesClassName)
		}
	case *corev1.PersistentVolume:
		note(o.Spec.VolumeAttributesClassName)
	}
	return out
}

// letGo names the classes that old used and obj does not.
func letGo(old, obj any) []string {
	still := attributesOf(obj)
	return slices.DeleteFunc(attributesOf(old), func(name string) bool { return slices.Contains(still, name) })
}

func (c *Classes) reconcile(ctx context.Context, name string) (time.Duration, error) {
	class, err := c.classes.Get(name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	used := false
	for _, informer := range c.users {
		found, err := informer.GetIndexer().ByIndex(byAttributes, name)
		if err != nil {
			return 0, fmt.Errorf("look up who uses class %s: %w", name, err)
		}
		used = used || len(found) > 0
	}
	next, ok := applied(class.DeepCopy(), classFinalizer, decide(class, classFinalizer, used))
	if !ok {
		return 0, nil
	}
	_, err = c.Client.StorageV1().VolumeAttributesClasses().Update(ctx, next, metav1.UpdateOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return 0, fmt.Errorf("protect volume attributes class %s: %w", name, err)
	}
	return 0, nil
}
