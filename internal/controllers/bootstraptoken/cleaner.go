package bootstraptoken

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"

	"canopus/internal/controllers/reconcile"
)

// Cleaner is the controller that deletes tokens when they expire.
type Cleaner struct {
	Config
	secrets cache.SharedIndexInformer
	loop    *reconcile.Loop[string]
}

// NewCleaner makes a controller that does nothing before Run.
func NewCleaner(config Config) (*Cleaner, error) {
	if err := config.check(); err != nil {
		return nil, err
	}
	c := &Cleaner{Config: config, secrets: config.tokens()}
	var err error
	c.loop, err = reconcile.New(reconcile.Config[string]{
		Name: "token_cleaner", Workers: 1, Reconcile: c.reconcile, Clock: config.Clock, Log: config.Log, Queues: config.Queues,
		Sources: []reconcile.Source[string]{reconcile.On(c.secrets, func(_, s *corev1.Secret) []string {
			if s == nil {
				return nil
			}
			return []string{s.Name}
		})},
	})
	return c, err
}

// Run works until ctx ends.
func (c *Cleaner) Run(ctx context.Context) error { return run(ctx, c.loop.Run, c.secrets) }

func (c *Cleaner) reconcile(ctx context.Context, name string) (time.Duration, error) {
	obj, exists, err := c.secrets.GetIndexer().GetByKey(metav1.NamespaceSystem + "/" + name)
	if err != nil || !exists {
		return 0, err
	}
	s, ok := obj.(*corev1.Secret)
	if !ok {
		return 0, nil
	}
	at, ends := expiry(s)
	if !ends {
		return 0, nil
	}
	if left := at.Sub(c.Clock.Now()); left > 0 {
		return left, nil
	}
	err = c.Client.CoreV1().Secrets(s.Namespace).Delete(ctx, s.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &s.UID}})
	if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return 0, nil
	}
	return 0, fmt.Errorf("delete the expired bootstrap token %s: %w", s.Name, err)
}
