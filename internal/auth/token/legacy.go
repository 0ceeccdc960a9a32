package token

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"canopus/internal/auth"

	"github.com/go-jose/go-jose/v4/jwt"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/clock"
)

// LegacyIssuer is the issuer of tokens that live in Secrets.
const LegacyIssuer = "kubernetes/serviceaccount"

// Labels of the Secrets of such tokens. Their values are days: 2026-11-21.
const (
	LastUsedLabel     = "kubernetes.io/legacy-token-last-used"
	InvalidSinceLabel = "kubernetes.io/legacy-token-invalid-since"
)

// Day is how those labels write a time.
const Day = time.DateOnly

// legacyClaims is the whole body of a token in a Secret. It has no end: the Secret is its end.
type legacyClaims struct {
	Issuer     string           `json:"iss"`
	Namespace  string           `json:"kubernetes.io/serviceaccount/namespace"`
	Secret     string           `json:"kubernetes.io/serviceaccount/secret.name"`
	Account    string           `json:"kubernetes.io/serviceaccount/service-account.name"`
	AccountUID string           `json:"kubernetes.io/serviceaccount/service-account.uid"`
	Subject    string           `json:"sub"`
	NotBefore  *jwt.NumericDate `json:"nbf,omitempty"` // never set by us
	Expiry     *jwt.NumericDate `json:"exp,omitempty"` // never set by us
}

// IssueLegacy makes the token of account that secret is to hold.
func (k *Keys) IssueLegacy(account *corev1.ServiceAccount, secret string) (string, error) {
	s, err := jwt.Signed(k.signer).Claims(legacyClaims{
		Issuer: LegacyIssuer, Namespace: account.Namespace, Secret: secret, Account: account.Name, AccountUID: string(account.UID),
		Subject: Username(account.Namespace, account.Name),
	}).Serialize()
	if err != nil {
		return "", fmt.Errorf("sign the token of secret %s/%s: %w", account.Namespace, secret, err)
	}
	return s, nil
}

// LegacyConfig says what tokens in Secrets are checked against. All fields are required.
type LegacyConfig struct {
	Keys      *Keys
	Client    kubernetes.Interface // reads and labels Secrets
	Objects   Objects
	Audiences []string // the API server's own
	Clock     clock.PassiveClock
	Log       *slog.Logger
}

// Legacy authenticates tokens that live in Secrets. It reads the Secret at every use: a token ends with it.
type Legacy struct{ c LegacyConfig }

// NewLegacy checks c.
func NewLegacy(c LegacyConfig) (*Legacy, error) {
	if c.Keys == nil || c.Client == nil || c.Objects == nil || c.Clock == nil || c.Log == nil {
		return nil, errors.New("tokens in secrets: keys, client, objects, clock and log are required")
	}
	return &Legacy{c}, nil
}

// AuthenticateToken returns the account that token stands for. One that is not of this sort gives nil and no error.
func (l *Legacy) AuthenticateToken(ctx context.Context, token string, want []string) (*auth.User, []string, error) {
	if len(token) > maxToken || issuerOf(token) != LegacyIssuer {
		return nil, nil, nil
	}
	c, err := l.c.Keys.readLegacy(token)
	if err != nil {
		return nil, nil, err
	}
	s, err := l.c.Client.CoreV1().Secrets(c.Namespace).Get(ctx, c.Secret, metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return nil, nil, fmt.Errorf("read the service account token's secret: %w", err)
	}
	if err != nil {
		return nil, nil, errors.New("service account token has been invalidated: its secret is gone")
	}
	if err := checkSecret(s, token); err != nil {
		return nil, nil, err
	}
	account := ref{Name: c.Account, UID: c.AccountUID}
	err = exists("service account", account, l.c.Clock.Now(), false, func(fresh bool) (Object, error) {
		return l.c.Objects.ServiceAccount(ctx, c.Namespace, c.Account, fresh)
	})
	if err != nil {
		return nil, nil, err
	}
	l.used(ctx, s)
	if len(want) == 0 {
		want = l.c.Audiences
	}
	return &auth.User{
		Name: c.Subject, UID: c.AccountUID,
		Groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + c.Namespace, auth.AuthenticatedGroup},
	}, want, nil
}

// readLegacy verifies the signature and the claims' shape.
func (k *Keys) readLegacy(token string) (*legacyClaims, error) {
	parsed, err := jwt.ParseSigned(token, k.algorithms)
	if err != nil {
		return nil, fmt.Errorf("service account token: %w", err)
	}
	c := &legacyClaims{}
	if err := k.verify(parsed, c); err != nil {
		return nil, err
	}
	switch {
	case c.Namespace == "" || c.Secret == "" || c.Account == "" || c.AccountUID == "":
		return nil, errors.New("service account token lacks its namespace, secret or account")
	case c.Subject != Username(c.Namespace, c.Account):
		return nil, errors.New("subject and account of the service account token differ")
	case c.NotBefore != nil || c.Expiry != nil:
		return nil, errors.New("service account token of a secret claims a time, which none of ours does")
	}
	return c, nil
}

// checkSecret refuses a token that its Secret does not hold, or no longer stands for.
func checkSecret(s *corev1.Secret, token string) error {
	switch {
	case s.DeletionTimestamp != nil:
		return errors.New("service account token has been invalidated: its secret is deleted")
	case s.Type != corev1.SecretTypeServiceAccountToken || subtle.ConstantTimeCompare(s.Data[corev1.ServiceAccountTokenKey], []byte(token)) != 1:
		return errors.New("service account token has been invalidated: its secret holds another one")
	case s.Labels[InvalidSinceLabel] != "":
		return fmt.Errorf("service account token has been invalidated since %s because it was not used: ask for one by TokenRequest, or remove label %s from secret %s",
			s.Labels[InvalidSinceLabel], InvalidSinceLabel, s.Name)
	}
	return nil
}

// used writes down the day of the last use, once a day. That it could not be written does not stop the request.
func (l *Legacy) used(ctx context.Context, s *corev1.Secret) {
	today := l.c.Clock.Now().UTC().Format(Day)
	if s.Labels[LastUsedLabel] == today {
		return
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": s.UID, "labels": map[string]string{LastUsedLabel: today}}})
	if err == nil {
		_, err = l.c.Client.CoreV1().Secrets(s.Namespace).Patch(ctx, s.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	}
	if err != nil {
		l.c.Log.Warn("the use of a service account token could not be noted", "secret", s.Namespace+"/"+s.Name, "error", err)
	}
}
