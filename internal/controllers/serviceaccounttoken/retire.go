package serviceaccounttoken

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"canopus/internal/auth/token"
	"canopus/internal/controllers/reconcile"
)

// trackingName is the ConfigMap of kube-system that says since when the API server notes the use of tokens.
const trackingName = "kube-apiserver-legacy-service-account-token-tracking"

// retirement is how often the cleaner looks: it counts in days.
const retirement = 24 * time.Hour

// verdict is what happens to a token that was made by upstream for an account, before accounts stopped having such tokens.
type verdict int

const (
	keep       verdict = iota
	invalidate         // mark it: it is refused from now on, and can still be brought back
	discard
)

// usage is what there is to know of a token.
type usage struct {
	secret  *corev1.Secret
	account *corev1.ServiceAccount // nil: gone, and the Secret is somebody else's to delete
	mounted bool
	since   time.Time // uses are noted from this day on
}

// judge retires a token that was not used for a period, and discards it when it was not missed for another. Tokens that people
// made (no account lists them) are left alone.
func judge(u usage, period time.Duration, now time.Time) verdict {
	edge := now.Add(-period)
	if u.account == nil || u.mounted || u.secret.DeletionTimestamp != nil || !refers(u.account, u.secret.Name) ||
		!u.since.Before(edge) || !u.secret.CreationTimestamp.Time.Before(edge) {
		return keep
	}
	if text, ok := u.secret.Labels[token.LastUsedLabel]; ok {
		if last, err := time.Parse(token.Day, text); err != nil || !last.Before(edge) {
			return keep
		}
	}
	text, marked := u.secret.Labels[token.InvalidSinceLabel]
	if !marked {
		return invalidate
	}
	if since, err := time.Parse(token.Day, text); err == nil && since.Before(edge) {
		return discard
	}
	return keep
}

// CleanerConfig is what the cleaner works with.
type CleanerConfig struct {
	reconcile.Deps
	Reader kubernetes.Interface // may list and watch Secrets
	Period time.Duration        // without use before a token is refused, and again before it is deleted
}

// Cleaner is the controller that retires unused tokens.
type Cleaner struct {
	CleanerConfig
	accounts v1.ServiceAccountLister
	pods     v1.PodLister
	synced   []cache.InformerSynced
	secrets  cache.SharedIndexInformer
}

// NewCleaner makes a controller that does nothing before Run.
func NewCleaner(config CleanerConfig) (*Cleaner, error) {
	if err := config.Check(); err != nil {
		return nil, err
	}
	if config.Reader == nil || config.Period <= 0 {
		return nil, errors.New("the cleaner of unused tokens needs a client that may read secrets, and a period")
	}
	core, secrets := config.Informers.Core().V1(), tokenSecrets(config.Reader)
	return &Cleaner{
		CleanerConfig: config, accounts: core.ServiceAccounts().Lister(), pods: core.Pods().Lister(), secrets: secrets,
		synced: []cache.InformerSynced{secrets.HasSynced, core.ServiceAccounts().Informer().HasSynced, core.Pods().Informer().HasSynced},
	}, nil
}

// Run works until ctx ends.
func (c *Cleaner) Run(ctx context.Context) error {
	var reading sync.WaitGroup
	defer reading.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	reading.Go(func() { c.secrets.RunWithContext(ctx) })
	if !cache.WaitForCacheSync(ctx.Done(), c.synced...) {
		return nil
	}
	reconcile.Every(ctx, c.Clock, retirement, func(ctx context.Context) {
		if err := c.look(ctx); err != nil && ctx.Err() == nil {
			c.Log.Warn("unused tokens of service accounts could not be looked after", "error", err)
		}
	})
	return nil
}

// look judges every token once.
func (c *Cleaner) look(ctx context.Context) error {
	since, err := c.since(ctx)
	if err != nil {
		return err
	}
	now, errs := c.Clock.Now(), []error(nil)
	for _, obj := range c.secrets.GetIndexer().List() {
		s, ok := obj.(*corev1.Secret)
		if !ok {
			continue
		}
		u := usage{secret: s, since: since}
		if u.account, err = c.accounts.ServiceAccounts(s.Namespace).Get(s.Annotations[corev1.ServiceAccountNameKey]); err != nil {
			u.account = nil
		}
		if u.mounted, err = c.mounted(s); err != nil {
			return err
		}
		errs = append(errs, c.carryOut(ctx, s, judge(u, c.Period, now), now))
	}
	return errors.Join(errs...)
}

// since reads when the API server began to note uses.
func (c *Cleaner) since(ctx context.Context) (time.Time, error) {
	m, err := c.Client.CoreV1().ConfigMaps(metav1.NamespaceSystem).Get(ctx, trackingName, metav1.GetOptions{})
	if err != nil {
		return time.Time{}, fmt.Errorf("read since when the use of tokens is noted: %w", err)
	}
	since, err := time.Parse(token.Day, m.Data["since"])
	if err != nil {
		return time.Time{}, fmt.Errorf("configmap %s: since: %w", trackingName, err)
	}
	return since, nil
}

// mounted says whether a pod has s as a volume.
func (c *Cleaner) mounted(s *corev1.Secret) (bool, error) {
	pods, err := c.pods.Pods(s.Namespace).List(labels.Everything())
	if err != nil {
		return false, err
	}
	for _, p := range pods {
		for i := range p.Spec.Volumes {
			if v := p.Spec.Volumes[i].Secret; v != nil && v.SecretName == s.Name {
				return true, nil
			}
		}
	}
	return false, nil
}

func (c *Cleaner) carryOut(ctx context.Context, s *corev1.Secret, v verdict, now time.Time) error {
	var err error
	api := c.Client.CoreV1().Secrets(s.Namespace)
	switch v {
	case invalidate:
		var patch []byte
		patch, err = json.Marshal(map[string]any{"metadata": map[string]any{
			"uid": s.UID, "resourceVersion": s.ResourceVersion, "labels": map[string]string{token.InvalidSinceLabel: now.UTC().Format(token.Day)},
		}})
		if err == nil {
			_, err = api.Patch(ctx, s.Name, types.MergePatchType, patch, metav1.PatchOptions{})
		}
	case discard:
		err = api.Delete(ctx, s.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &s.UID, ResourceVersion: &s.ResourceVersion}})
	}
	if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return fmt.Errorf("retire the token in secret %s/%s: %w", s.Namespace, s.Name, err)
}
