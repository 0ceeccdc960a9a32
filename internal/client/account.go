package client

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/oauth2"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	clienttransport "k8s.io/client-go/transport"
)

const (
	accountTokenLife = int64(3600) // seconds
	accountTokenLeft = 10 * time.Minute
)

// AsAccount returns access to the same API as a service account of namespace, by tokens that a asks for; a must be allowed to
// make service accounts there and tokens for them, as system:kube-controller-manager is. The account is made when it is
// missing. ctx bounds every token request. The informers are a's own.
func (a *Access) AsAccount(ctx context.Context, namespace, name string) (*Access, error) {
	config := rest.AnonymousClientConfig(a.Config)
	tune(config, a.Config.UserAgent)
	source := &accountTokens{ctx: ctx, client: a.Client, namespace: namespace, name: name}
	config.Wrap(clienttransport.TokenSourceWrapTransport(oauth2.ReuseTokenSourceWithExpiry(nil, source, accountTokenLeft)))
	clientset, meta, err := clients(config)
	if err != nil {
		return nil, err
	}
	return &Access{Config: config, Client: clientset, Metadata: meta, Informers: a.Informers}, nil
}

// accountTokens asks for a fresh token at every call; it is called when the last one is about to expire. The context is kept
// because oauth2.TokenSource has no place for one.
type accountTokens struct {
	ctx             context.Context
	client          kubernetes.Interface
	namespace, name string
}

// Token implements oauth2.TokenSource.
func (s *accountTokens) Token() (*oauth2.Token, error) {
	accounts := s.client.CoreV1().ServiceAccounts(s.namespace)
	life := accountTokenLife
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &life}}
	answer, err := accounts.CreateToken(s.ctx, s.name, request, metav1.CreateOptions{})
	if apierrors.IsNotFound(err) {
		account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: s.name}}
		if _, err = accounts.Create(s.ctx, account, metav1.CreateOptions{}); err == nil || apierrors.IsAlreadyExists(err) {
			answer, err = accounts.CreateToken(s.ctx, s.name, request, metav1.CreateOptions{})
		}
	}
	if err != nil {
		return nil, fmt.Errorf("token of service account %s/%s: %w", s.namespace, s.name, err)
	}
	return &oauth2.Token{AccessToken: answer.Status.Token, TokenType: "Bearer", Expiry: answer.Status.ExpirationTimestamp.Time}, nil
}
