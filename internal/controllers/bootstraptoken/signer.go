package bootstraptoken

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/tools/cache"

	"canopus/internal/controllers/reconcile"
)

const (
	infoName        = "cluster-info"
	infoKey         = "kubeconfig"
	signaturePrefix = "jws-kubeconfig-"
)

// Signer is the controller that signs cluster-info.
type Signer struct {
	Config
	secrets cache.SharedIndexInformer
	info    cache.SharedIndexInformer
	loop    *reconcile.Loop[string]
}

// NewSigner makes a controller that does nothing before Run.
func NewSigner(config Config) (*Signer, error) {
	if err := config.check(); err != nil {
		return nil, err
	}
	s := &Signer{Config: config, secrets: config.tokens()}
	s.info = coreinformers.NewFilteredConfigMapInformer(config.Reader, metav1.NamespacePublic, 0, cache.Indexers{}, func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector("metadata.name", infoName).String()
	})
	var err error
	s.loop, err = reconcile.New(reconcile.Config[string]{
		Name: "bootstrap_signer_queue", Workers: 1, Reconcile: s.reconcile, Clock: config.Clock, Log: config.Log, Queues: config.Queues,
		Sources: []reconcile.Source[string]{
			reconcile.On(s.secrets, func(_, _ *corev1.Secret) []string { return []string{infoName} }),
			reconcile.On(s.info, func(_, _ *corev1.ConfigMap) []string { return []string{infoName} }),
		},
	})
	return s, err
}

// Run works until ctx ends.
func (s *Signer) Run(ctx context.Context) error { return run(ctx, s.loop.Run, s.secrets, s.info) }

func (s *Signer) reconcile(ctx context.Context, _ string) (time.Duration, error) {
	obj, exists, err := s.info.GetIndexer().GetByKey(metav1.NamespacePublic + "/" + infoName)
	if err != nil || !exists {
		return 0, err
	}
	info, ok := obj.(*corev1.ConfigMap)
	if !ok {
		return 0, nil
	}
	var tokens []*corev1.Secret
	for _, o := range s.secrets.GetIndexer().List() {
		if secret, ok := o.(*corev1.Secret); ok {
			tokens = append(tokens, secret)
		}
	}
	now := s.Clock.Now()
	data, err := signed(info.Data, tokens, now)
	if err != nil {
		return 0, reconcile.Terminal(err)
	}
	if maps.Equal(data, info.Data) {
		return untilNext(tokens, now), nil
	}
	next := info.DeepCopy()
	next.Data = data
	_, err = s.Client.CoreV1().ConfigMaps(next.Namespace).Update(ctx, next, metav1.UpdateOptions{})
	if err == nil || apierrors.IsNotFound(err) {
		return untilNext(tokens, now), nil
	}
	return 0, fmt.Errorf("sign %s: %w", infoName, err)
}

// untilNext is how long the present signatures are right; 0: until something changes.
func untilNext(tokens []*corev1.Secret, now time.Time) time.Duration {
	var wait time.Duration
	for _, t := range tokens {
		if at, ends := expiry(t); ends && at.After(now) && (wait == 0 || at.Sub(now) < wait) {
			wait = at.Sub(now)
		}
	}
	return wait
}

// signed returns data with the signature of every token that is for signing, and without others.
func signed(data map[string]string, tokens []*corev1.Secret, now time.Time) (map[string]string, error) {
	out := maps.Clone(data)
	maps.DeleteFunc(out, func(key, _ string) bool { return strings.HasPrefix(key, signaturePrefix) })
	content, ok := data[infoKey]
	if !ok {
		return out, nil
	}
	for _, t := range tokens {
		id, secret := string(t.Data["token-id"]), t.Data["token-secret"]
		at, ends := expiry(t)
		if string(t.Data["usage-bootstrap-signing"]) != "true" || t.DeletionTimestamp != nil || ends && !at.After(now) ||
			t.Name != "bootstrap-token-"+id || len(secret) == 0 {
			continue
		}
		signature, err := sign(content, id, string(secret))
		if err != nil {
			return nil, fmt.Errorf("sign %s with token %s: %w", infoName, id, err)
		}
		out[signaturePrefix+id] = signature
	}
	return out, nil
}

// sign returns a detached JWS of content: HMAC-SHA256 with the token's secret, its id as the key's. By hand, because libraries
// rightly refuse keys as short as the secrets of bootstrap tokens; joining machines compute the same.
func sign(content, id, secret string) (string, error) {
	header, err := json.Marshal(struct {
		Algorithm string `json:"alg"`
		KeyID     string `json:"kid"`
	}{"HS256", id})
	if err != nil {
		return "", err
	}
	encode := base64.RawURLEncoding.EncodeToString
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(encode(header) + "." + encode([]byte(content))))
	return encode(header) + ".." + encode(mac.Sum(nil)), nil
}
