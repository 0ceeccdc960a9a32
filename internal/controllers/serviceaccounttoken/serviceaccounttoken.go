// Package serviceaccounttoken keeps the tokens that live in Secrets: the controller fills Secrets of type
// kubernetes.io/service-account-token and deletes them with their account; the cleaner retires those that nobody uses.
//
// fill.go and retire.go are the decisions.
package serviceaccounttoken

import (
	"context"
	"errors"
	"fmt"
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

	"canopus/internal/auth/token"
	"canopus/internal/controllers/reconcile"
)

// byAccount indexes Secrets by the account they name, as namespace/name.
const byAccount = "serviceAccount"

// Config is what the controller works with.
type Config struct {
	reconcile.Deps
	// Reader may list and watch Secrets, and read and write Secrets and ServiceAccounts, as system:kube-controller-manager may:
	// this controller has no account of its own, since it is what gives accounts their tokens.
	Reader kubernetes.Interface
	Keys   *token.Keys
	RootCA []byte // PEM
}

// key is a Secret and the account it names.
type key struct{ namespace, secret, account string }

// Controller reconciles Secrets of service accounts.
type Controller struct {
	Config
	accounts v1.ServiceAccountLister
	secrets  cache.SharedIndexInformer
	loop     *reconcile.Loop[key]
}

// New makes a controller that does nothing before Run.
func New(config Config) (*Controller, error) {
	if err := config.Check(); err != nil {
		return nil, err
	}
	if config.Reader == nil || config.Keys == nil || len(config.RootCA) == 0 {
		return nil, errors.New("the controller of tokens in secrets needs a client, the key of service accounts and the cluster's CA certificate")
	}
	accounts := config.Informers.Core().V1().ServiceAccounts()
	c := &Controller{Config: config, accounts: accounts.Lister(), secrets: tokenSecrets(config.Reader)}
	var err error
	c.loop, err = reconcile.New(reconcile.Config[key]{
		Name: "serviceaccount_tokens_secret", Workers: 2, Reconcile: c.reconcile, Clock: config.Clock, Log: config.Log, Queues: config.Queues,
		Sources: []reconcile.Source[key]{
			reconcile.On(c.secrets, secretChanged),
			reconcile.On(accounts.Informer(), c.accountChanged),
		},
	})
	return c, err
}

// tokenSecrets watches the Secrets that hold tokens, of all there are.
func tokenSecrets(reader kubernetes.Interface) cache.SharedIndexInformer {
	indexers := cache.Indexers{byAccount: func(obj any) ([]string, error) {
		s, ok := obj.(*corev1.Secret)
		if !ok {
			return nil, nil
		}
		return []string{s.Namespace + "/" + s.Annotations[corev1.ServiceAccountNameKey]}, nil
	}}
	return coreinformers.NewFilteredSecretInformer(reader, metav1.NamespaceAll, 0, indexers, func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector("type", string(corev1.SecretTypeServiceAccountToken)).String()
	})
}

// Run works until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	var reading sync.WaitGroup
	defer reading.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	reading.Go(func() { c.secrets.RunWithContext(ctx) })
	return c.loop.Run(ctx)
}

func secretChanged(old, s *corev1.Secret) []key {
	if s == nil {
		s = old
	}
	return []key{{s.Namespace, s.Name, s.Annotations[corev1.ServiceAccountNameKey]}}
}

func (c *Controller) accountChanged(old, account *corev1.ServiceAccount) []key {
	if account == nil {
		account = old
	}
	objects, err := c.secrets.GetIndexer().ByIndex(byAccount, account.Namespace+"/"+account.Name)
	if err != nil {
		return nil
	}
	var keys []key
	for _, o := range objects {
		if s, ok := o.(*corev1.Secret); ok {
			keys = append(keys, key{s.Namespace, s.Name, account.Name})
		}
	}
	return keys
}

func (c *Controller) reconcile(ctx context.Context, k key) (time.Duration, error) {
	obj, exists, err := c.secrets.GetIndexer().GetByKey(k.namespace + "/" + k.secret)
	if err != nil {
		return 0, err
	}
	account, err := c.accounts.ServiceAccounts(k.namespace).Get(k.account)
	if err != nil && !apierrors.IsNotFound(err) {
		return 0, err
	}
	s, ok := obj.(*corev1.Secret)
	if !exists || !ok {
		return 0, c.unlink(ctx, account, k.secret)
	}
	if s.DeletionTimestamp != nil || s.Annotations[corev1.ServiceAccountNameKey] != k.account {
		return 0, nil
	}
	if account == nil || !belongs(s, account) {
		// The cache may be behind: ask before a Secret is deleted for good.
		if account, err = c.Reader.CoreV1().ServiceAccounts(k.namespace).Get(ctx, k.account, metav1.GetOptions{}); apierrors.IsNotFound(err) || err == nil && !belongs(s, account) {
			return 0, c.remove(ctx, s)
		}
		if err != nil {
			return 0, fmt.Errorf("read service account %s/%s: %w", k.namespace, k.account, err)
		}
	}
	return 0, c.fill(ctx, s, account)
}

func (c *Controller) remove(ctx context.Context, s *corev1.Secret) error {
	err := c.Reader.CoreV1().Secrets(s.Namespace).Delete(ctx, s.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &s.UID}})
	if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return fmt.Errorf("delete the token secret %s/%s, whose service account is gone: %w", s.Namespace, s.Name, err)
}

func (c *Controller) fill(ctx context.Context, s *corev1.Secret, account *corev1.ServiceAccount) error {
	next, err := filled(s, account, c.RootCA, c.Keys)
	if err != nil || next == nil {
		return err
	}
	_, err = c.Reader.CoreV1().Secrets(s.Namespace).Update(ctx, next, metav1.UpdateOptions{})
	if err == nil || apierrors.IsNotFound(err) {
		return nil
	}
	return fmt.Errorf("fill the token secret %s/%s: %w", s.Namespace, s.Name, err)
}

// unlink removes a Secret that is gone from its account's list.
func (c *Controller) unlink(ctx context.Context, account *corev1.ServiceAccount, secret string) error {
	if account == nil || !refers(account, secret) {
		return nil
	}
	_, err := c.Reader.CoreV1().Secrets(account.Namespace).Get(ctx, secret, metav1.GetOptions{})
	if !apierrors.IsNotFound(err) {
		return err // it is there after all, perhaps made anew
	}
	next := account.DeepCopy()
	next.Secrets = without(next.Secrets, secret)
	_, err = c.Reader.CoreV1().ServiceAccounts(account.Namespace).Update(ctx, next, metav1.UpdateOptions{})
	if err == nil || apierrors.IsNotFound(err) {
		return nil
	}
	return fmt.Errorf("remove secret %s from service account %s/%s: %w", secret, account.Namespace, account.Name, err)
}
