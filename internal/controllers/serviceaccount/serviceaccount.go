// Package serviceaccount keeps a ServiceAccount named default in every namespace that is not being deleted.
package serviceaccount

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/listers/core/v1"

	"canopus/internal/controllers/reconcile"
)

const name = "default"

// Controller reconciles namespaces.
type Controller struct {
	reconcile.Deps
	namespaces v1.NamespaceLister
	accounts   v1.ServiceAccountLister
	loop       *reconcile.Loop[string]
}

// New makes a controller that does nothing before Run.
func New(d reconcile.Deps) (*Controller, error) {
	if err := d.Check(); err != nil {
		return nil, err
	}
	core := d.Informers.Core().V1()
	c := &Controller{Deps: d, namespaces: core.Namespaces().Lister(), accounts: core.ServiceAccounts().Lister()}
	var err error
	c.loop, err = reconcile.New(reconcile.Config[string]{
		Name: "serviceaccount", Workers: 2, Reconcile: c.reconcile, Clock: d.Clock, Log: d.Log, Queues: d.Queues,
		Sources: []reconcile.Source[string]{
			reconcile.On(core.Namespaces().Informer(), namespaceChanged),
			reconcile.On(core.ServiceAccounts().Informer(), accountChanged),
		},
	})
	return c, err
}

// Run works until ctx ends.
func (c *Controller) Run(ctx context.Context) error { return c.loop.Run(ctx) }

func namespaceChanged(_, ns *corev1.Namespace) []string {
	if ns == nil {
		return nil
	}
	return []string{ns.Name}
}

func accountChanged(old, account *corev1.ServiceAccount) []string {
	if account != nil || old.Name != name {
		return nil
	}
	return []string{old.Namespace}
}

func (c *Controller) reconcile(ctx context.Context, namespace string) (time.Duration, error) {
	ns, err := c.namespaces.Get(namespace)
	if apierrors.IsNotFound(err) || (err == nil && ns.Status.Phase != corev1.NamespaceActive) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if _, err := c.accounts.ServiceAccounts(namespace).Get(name); !apierrors.IsNotFound(err) {
		return 0, err
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace}}
	_, err = c.Client.CoreV1().ServiceAccounts(namespace).Create(ctx, account, metav1.CreateOptions{})
	if err == nil || apierrors.IsAlreadyExists(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return 0, nil
	}
	return 0, fmt.Errorf("create the default service account of namespace %s: %w", namespace, err)
}
