package controllers

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"canopus/internal/auth"
	"canopus/internal/auth/token"
)

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// withAuthority lets the controllers sign.
func withAuthority(t *testing.T) (*x509.Certificate, func(*Config, *rest.Config)) {
	t.Helper()
	k := newKey(t)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kubernetes"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := token.NewKeys(newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	return cert, func(c *Config, _ *rest.Config) {
		c.Authority, c.AccountKeys = &Authority{Certificate: cert, Key: k, Life: time.Hour}, keys
	}
}

// ask creates a request as the client's user.
func ask(t testing.TB, client kubernetes.Interface, name, signer string, subject pkix.Name, usages ...certificatesv1.KeyUsage) {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: subject}, newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.CertificatesV1().CertificateSigningRequests().Create(t.Context(), &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			Request: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), SignerName: signer, Usages: usages,
			Username: "somebody else",
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

// issued waits for the certificate that name asks for.
func (c *cluster) issued(name string) *x509.Certificate {
	c.t.Helper()
	var cert *x509.Certificate
	c.eventually("certificate of "+name, func(ctx context.Context) (string, error) {
		r, err := c.CertificatesV1().CertificateSigningRequests().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err.Error(), err
		}
		b, _ := pem.Decode(r.Status.Certificate)
		if b == nil {
			return "none yet", nil
		}
		cert, err = x509.ParseCertificate(b.Bytes)
		return "", err
	})
	return cert
}

func TestCertificateRequests(t *testing.T) {
	t.Parallel()
	ca, tune := withAuthority(t)
	c := start(t, tune)
	const digital, forAuth = certificatesv1.UsageDigitalSignature, certificatesv1.UsageClientAuth

	ask(t, c.Clientset, "jane", certificatesv1.KubeAPIServerClientSignerName, pkix.Name{CommonName: "jane"}, digital, forAuth)
	r, err := c.CertificatesV1().CertificateSigningRequests().Get(t.Context(), "jane", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if r.Spec.Username != "admin" || len(r.Status.Conditions) > 0 {
		t.Errorf("asked by %s, %+v", r.Spec.Username, r.Status)
	}
	r.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{{Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue, Reason: "Test"}}
	if r, err = c.CertificatesV1().CertificateSigningRequests().UpdateApproval(t.Context(), "jane", r, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if r.Status.Conditions[0].LastUpdateTime.IsZero() || r.Status.Conditions[0].LastTransitionTime.IsZero() {
		t.Errorf("the approval has no date: %+v", r.Status.Conditions)
	}
	cert := c.issued("jane")
	if err := cert.CheckSignatureFrom(ca); err != nil || cert.Subject.CommonName != "jane" || time.Until(cert.NotAfter) > time.Hour {
		t.Errorf("%v, %+v", err, cert)
	}

	// A node that may renews without a person.
	user := &auth.User{Name: "system:node:n1", Groups: []string{auth.NodesGroup, auth.MastersGroup, auth.AuthenticatedGroup}}
	asNode, err := kubernetes.NewForConfig(c.server.As(user))
	if err != nil {
		t.Fatal(err)
	}
	ask(t, asNode, "n1", certificatesv1.KubeAPIServerClientKubeletSignerName, pkix.Name{CommonName: "system:node:n1", Organization: []string{"system:nodes"}}, digital, forAuth)
	if cert := c.issued("n1"); cert.Subject.CommonName != "system:node:n1" {
		t.Errorf("got %+v", cert.Subject)
	}

	// What is approved against the signer's rules fails with the reason.
	ask(t, c.Clientset, "odd", certificatesv1.KubeAPIServerClientKubeletSignerName, pkix.Name{CommonName: "jane"}, digital, forAuth)
	if r, err = c.CertificatesV1().CertificateSigningRequests().Get(t.Context(), "odd", metav1.GetOptions{}); err != nil {
		t.Fatal(err)
	}
	r.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{{Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue}}
	if _, err = c.CertificatesV1().CertificateSigningRequests().UpdateApproval(t.Context(), "odd", r, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventually("failure", func(ctx context.Context) (string, error) {
		r, err := c.CertificatesV1().CertificateSigningRequests().Get(ctx, "odd", metav1.GetOptions{})
		if err != nil {
			return err.Error(), err
		}
		for _, have := range r.Status.Conditions {
			if have.Type == certificatesv1.CertificateFailed && have.Message == "subject organization is not system:nodes" {
				return "", nil
			}
		}
		return "it has not failed", nil
	})

	selected, err := c.CertificatesV1().CertificateSigningRequests().List(t.Context(), metav1.ListOptions{FieldSelector: "spec.signerName=" + certificatesv1.KubeAPIServerClientSignerName})
	if err != nil || len(selected.Items) != 1 || selected.Items[0].Name != "jane" {
		t.Errorf("selected by signer: %v, %v", selected.Items, err)
	}
}

func TestTokensInSecrets(t *testing.T) {
	t.Parallel()
	_, tune := withAuthority(t)
	c := start(t, tune)
	core := c.CoreV1()
	web, err := core.ServiceAccounts("default").Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "web"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "web-token", Annotations: map[string]string{corev1.ServiceAccountNameKey: "web"}}, Type: corev1.SecretTypeServiceAccountToken,
	}
	if _, err := core.Secrets("default").Create(t.Context(), secret, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventually("a token", func(ctx context.Context) (string, error) {
		s, err := core.Secrets("default").Get(ctx, "web-token", metav1.GetOptions{})
		if err != nil {
			return err.Error(), err
		}
		if strings.Count(string(s.Data["token"]), ".") != 2 || string(s.Data["namespace"]) != "default" || len(s.Data["ca.crt"]) == 0 || s.Annotations[corev1.ServiceAccountUIDKey] != string(web.UID) {
			return "the secret is not filled", nil
		}
		return "", nil
	})
	orphan := secret.DeepCopy()
	orphan.Name, orphan.Annotations = "orphan", map[string]string{corev1.ServiceAccountNameKey: "nobody"}
	if _, err := core.Secrets("default").Create(t.Context(), orphan, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.gone("orphan", "the secret of no account goes")
	if err := core.ServiceAccounts("default").Delete(t.Context(), "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.gone("web-token", "the token goes with its account")
}

// gone waits until the Secret does not exist.
func (c *cluster) gone(name, what string) {
	c.t.Helper()
	c.secretGone("default", name, what)
}

func (c *cluster) secretGone(namespace, name, what string) {
	c.t.Helper()
	c.eventually(what, func(ctx context.Context) (string, error) {
		_, err := c.CoreV1().Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return "", nil
		}
		return "it is there", nil
	})
}

func TestBootstrapTokens(t *testing.T) {
	t.Parallel()
	c := start(t, nil)
	core := c.CoreV1()
	if _, err := core.Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "kube-public"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := core.ConfigMaps("kube-public").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "cluster-info"}, Data: map[string]string{"kubeconfig": "text"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	make := func(id, expiration string) {
		t.Helper()
		_, err := core.Secrets("kube-system").Create(t.Context(), &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: "bootstrap-token-" + id}, Type: corev1.SecretTypeBootstrapToken,
			StringData: map[string]string{"token-id": id, "token-secret": "0123456789abcdef", "usage-bootstrap-signing": "true", "expiration": expiration},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
	make("aaaaaa", "")
	signatures := func(want int) func(context.Context) (string, error) {
		return func(ctx context.Context) (string, error) {
			m, err := core.ConfigMaps("kube-public").Get(ctx, "cluster-info", metav1.GetOptions{})
			if err != nil {
				return err.Error(), err
			}
			if len(m.Data) != 1+want || want == 1 && m.Data["jws-kubeconfig-aaaaaa"] == "" {
				return "signatures are not right", nil
			}
			return "", nil
		}
	}
	c.eventually("a signature", signatures(1))
	make("bbbbbb", time.Now().Add(2*time.Second).UTC().Format(time.RFC3339))
	c.secretGone("kube-system", "bootstrap-token-bbbbbb", "the expired token goes")
	c.eventually("only the other's signature", signatures(1))
	if err := core.Secrets("kube-system").Delete(t.Context(), "bootstrap-token-aaaaaa", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventually("no signature", signatures(0))
}
