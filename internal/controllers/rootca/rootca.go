// Package rootca publishes the cluster's root certificates as ConfigMap kube-root-ca.crt in every namespace, where the
// projected volumes of pods take them from.
package rootca

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"canopus/internal/controllers/reconcile"
)

const (
	name            = "kube-root-ca.crt"
	dataKey         = "ca.crt"
	descriptionKey  = "kubernetes.io/description"
	descriptionText = "CA certificates that verify the API server on the addresses pods use: the kubernetes Service's IP and kubernetes.default.svc."
)

// Config is what the controller works with.
type Config struct {
	reconcile.Deps
	RootCA []byte // PEM
	// Reader may list and watch ConfigMaps. Of all there are in a cluster only ours are read through it and kept.
	Reader kubernetes.Interface
}

// Controller reconciles namespaces.
type Controller struct {
	Config
	namespaces v1.NamespaceLister
	configMaps v1.ConfigMapLister
	informer   cache.SharedIndexInformer // of our ConfigMaps; runs with the controller
	loop       *reconcile.Loop[string]
}

// New makes a controller that does nothing before Run.
func New(config Config) (*Controller, error) {
	if err := config.Check(); err != nil {
		return nil, err
	}
	if len(config.RootCA) == 0 || config.Reader == nil {
		return nil, errors.New("the root CA publisher needs the cluster's CA certificate and a client that may read ConfigMaps")
	}
	core := config.Informers.Core().V1()
	informer := coreinformers.NewFilteredConfigMapInformer(config.Reader, metav1.NamespaceAll, 0,
		cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc},
		func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector("metadata.name", name).String()
		})
	c := &Controller{Config: config, namespaces: core.Namespaces().Lister(), configMaps: v1.NewConfigMapLister(informer.GetIndexer()), informer: informer}
	var err error
	c.loop, err = reconcile.New(reconcile.Config[string]{
		Name: "root_ca_cert_publisher", Workers: 2, Reconcile: c.reconcile, Clock: config.Clock, Log: config.Log, Queues: config.Queues,
		Sources: []reconcile.Source[string]{
			reconcile.On(core.Namespaces().Informer(), namespaceChanged),
			reconcile.On(informer, configMapChanged),
		},
	})
	return c, err
}

// Run works until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	var reading sync.WaitGroup
	defer reading.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	reading.Go(func() { c.informer.RunWithContext(ctx) })
	return c.loop.Run(ctx)
}

func namespaceChanged(_, ns *corev1.Namespace) []string {
	if ns == nil {
		return nil
	}
	return []string{ns.Name}
}

func configMapChanged(old, cm *corev1.ConfigMap) []string {
	if cm == nil {
		cm = old
	}
	return []string{cm.Namespace}
}

func (c *Controller) reconcile(ctx context.Context, namespace string) (time.Duration, error) {
	ns, err := c.namespaces.Get(namespace)
	if apierrors.IsNotFound(err) || (err == nil && ns.Status.Phase != corev1.NamespaceActive) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	there, err := c.configMaps.ConfigMaps(namespace).Get(name)
	if err != nil && !apierrors.IsNotFound(err) {
		return 0, err
	}
	if apierrors.IsNotFound(err) {
		there = nil
	}
	want := wanted(namespace, there, string(c.RootCA))
	switch {
	case want == nil:
		return 0, nil
	case there == nil:
		_, err = c.Client.CoreV1().ConfigMaps(namespace).Create(ctx, want, metav1.CreateOptions{})
	default:
		_, err = c.Client.CoreV1().ConfigMaps(namespace).Update(ctx, want, metav1.UpdateOptions{})
	}
	if err == nil || apierrors.IsAlreadyExists(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return 0, nil
	}
	return 0, fmt.Errorf("publish the root CA in namespace %s: %w", namespace, err)
}

// wanted returns the ConfigMap to write, nil when the one that is there is right.
func wanted(namespace string, there *corev1.ConfigMap, ca string) *corev1.ConfigMap {
	data := map[string]string{dataKey: ca}
	if there == nil {
		return &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace, Annotations: map[string]string{descriptionKey: descriptionText}},
			Data:       data,
		}
	}
	if maps.Equal(there.Data, data) && there.Annotations[descriptionKey] != "" {
		return nil
	}
	want := there.DeepCopy()
	want.Data = data
	if want.Annotations == nil {
		want.Annotations = map[string]string{}
	}
	want.Annotations[descriptionKey] = descriptionText
	return want
}
