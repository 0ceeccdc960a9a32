// Package bootstraptoken keeps what bootstrap tokens need: the signer signs the ConfigMap cluster-info with each of them, so
// that a new machine that knows a token can believe what it reads there; the cleaner deletes tokens that have expired.
package bootstraptoken

import (
	"context"
	"errors"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"canopus/internal/controllers/reconcile"
)

// Config is what both controllers work with.
type Config struct {
	reconcile.Deps
	// Reader may list and watch Secrets and ConfigMaps. Of all there are only the tokens and cluster-info are kept.
	Reader kubernetes.Interface
}

func (c *Config) check() error {
	if err := c.Check(); err != nil {
		return err
	}
	if c.Reader == nil {
		return errors.New("the controllers of bootstrap tokens need a client that may read Secrets and ConfigMaps")
	}
	return nil
}

// tokens watches the Secrets that are bootstrap tokens.
func (c *Config) tokens() cache.SharedIndexInformer {
	return coreinformers.NewFilteredSecretInformer(c.Reader, metav1.NamespaceSystem, 0, cache.Indexers{}, func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector("type", string(corev1.SecretTypeBootstrapToken)).String()
	})
}

// expiry is when a token ends; false when it never does. One that cannot be read has ended.
func expiry(s *corev1.Secret) (time.Time, bool) {
	text := string(s.Data["expiration"])
	if text == "" {
		return time.Time{}, false
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, true
	}
	return at, true
}

// run runs a loop with the informers it reads.
func run(ctx context.Context, loop func(context.Context) error, informers ...cache.SharedIndexInformer) error {
	var reading sync.WaitGroup
	defer reading.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	for _, i := range informers {
		reading.Go(func() { i.RunWithContext(ctx) })
	}
	return loop(ctx)
}
