// Package bootstraptoken authenticates the tokens with which new machines introduce themselves: Secrets of a type of their
// own in kube-system, as kubeadm makes them. What a bearer may do is RBAC's to say; nobody is bound by default.
package bootstraptoken

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"canopus/internal/auth"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/clock"
)

const (
	namePrefix = "bootstrap-token-"
	userPrefix = "system:bootstrap:"
	group      = "system:bootstrappers"
)

// Authenticator knows the cluster's bootstrap tokens. It reads the one Secret that a token names at every use, so that a
// deleted token ends at once, and keeps none in memory.
type Authenticator struct {
	client kubernetes.Interface
	clock  clock.PassiveClock
	token  *regexp.Regexp
	extra  *regexp.Regexp
}

// New makes an Authenticator that reads Secrets of kube-system with client.
func New(client kubernetes.Interface, clk clock.PassiveClock) (*Authenticator, error) {
	if client == nil || clk == nil {
		return nil, errors.New("bootstrap tokens: client and clock are required")
	}
	return &Authenticator{
		client: client, clock: clk,
		token: regexp.MustCompile(`^([a-z0-9]{6})\.([a-z0-9]{16})$`),
		extra: regexp.MustCompile(`^system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]$`),
	}, nil
}

// AuthenticateToken implements authn.TokenAuthenticator. A token that is not of this sort, or names no Secret, gives nil and no error.
func (a *Authenticator) AuthenticateToken(ctx context.Context, token string, want []string) (*auth.User, []string, error) {
	parts := a.token.FindStringSubmatch(token)
	if parts == nil {
		return nil, nil, nil
	}
	s, err := a.client.CoreV1().Secrets(metav1.NamespaceSystem).Get(ctx, namePrefix+parts[1], metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read the bootstrap token: %w", err)
	}
	user, err := a.check(s, parts[1], parts[2])
	if err != nil {
		return nil, nil, err
	}
	return user, want, nil
}

// check returns who the bearer of id and secret is by s.
func (a *Authenticator) check(s *corev1.Secret, id, secret string) (*auth.User, error) {
	switch {
	case s.Type != corev1.SecretTypeBootstrapToken || string(s.Data["token-id"]) != id:
		return nil, fmt.Errorf("secret %s is not bootstrap token %s", s.Name, id)
	case subtle.ConstantTimeCompare(s.Data["token-secret"], []byte(secret)) != 1:
		return nil, errors.New("wrong bootstrap token")
	case s.DeletionTimestamp != nil:
		return nil, fmt.Errorf("bootstrap token %s is deleted", id)
	case string(s.Data["usage-bootstrap-authentication"]) != "true":
		return nil, fmt.Errorf("bootstrap token %s is not for authentication: usage-bootstrap-authentication is not \"true\"", id)
	}
	if text := string(s.Data["expiration"]); text != "" {
		at, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return nil, fmt.Errorf("bootstrap token %s: expiration: %w", id, err)
		}
		if !a.clock.Now().Before(at) {
			return nil, fmt.Errorf("bootstrap token %s has expired", id)
		}
	}
	groups, err := a.groups(string(s.Data["auth-extra-groups"]))
	if err != nil {
		return nil, fmt.Errorf("bootstrap token %s: %w", id, err)
	}
	return &auth.User{Name: userPrefix + id, Groups: groups}, nil
}

// groups are those of every bootstrap token and those it names, of which none may be anybody else's.
func (a *Authenticator) groups(extra string) ([]string, error) {
	groups := []string{group}
	if extra == "" {
		return groups, nil
	}
	for g := range strings.SplitSeq(extra, ",") {
		if !a.extra.MatchString(g) {
			return nil, fmt.Errorf("auth-extra-groups: %q does not match %s", g, a.extra)
		}
		groups = append(groups, g)
	}
	return groups, nil
}
