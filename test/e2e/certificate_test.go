package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"canopus/test/harness"
)

// certificate: somebody asks for a client certificate, a person approves it with kubectl, and the bearer is then who it says and
// may do what a role allows that user. A request for the masters' group is refused, a denied one gets nothing.
func certificate(t *testing.T, s *scenario) {
	t.Cleanup(func() {
		for _, name := range []string{"e2e-jane", "e2e-joe"} {
			_ = s.Client.CertificatesV1().CertificateSigningRequests().Delete(context.WithoutCancel(t.Context()), name, metav1.DeleteOptions{})
		}
	})
	key, request := askedFor(t, "jane", "dev")
	s.Input(t, signingRequest("e2e-jane", request), "create", "-f", "-")
	if got := strings.Fields(s.k(t, "get", "csr", "e2e-jane", "--no-headers")); len(got) != 6 || got[2] != "kubernetes.io/kube-apiserver-client" || got[4] != "24h" || got[5] != "Pending" {
		t.Errorf("before the approval: %q", got)
	}
	s.k(t, "certificate", "approve", "e2e-jane")
	var cert string
	harness.Until(t, patience, "the certificate", func() error {
		if cert = s.jsonpath(t, "csr/e2e-jane", "{.status.certificate}"); cert == "" {
			return fmt.Errorf("%s", s.k(t, "get", "csr", "e2e-jane"))
		}
		return nil
	})
	if got := s.k(t, "get", "csr", "e2e-jane", "--no-headers"); !strings.Contains(got, "Approved,Issued") {
		t.Errorf("after the approval: %s", got)
	}
	dir := t.TempDir()
	decoded, err := base64.StdEncoding.DecodeString(cert)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile := filepath.Join(dir, "jane.crt"), filepath.Join(dir, "jane.key")
	for file, data := range map[string][]byte{certFile: decoded, keyFile: key} {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.k(t, "create", "role", "looker", "--verb=list", "--resource=pods")
	s.k(t, "create", "rolebinding", "developers", "--role=looker", "--group=dev")
	as := func(args ...string) harness.Result {
		return s.Try(t, "", s.args(append([]string{"--client-certificate=" + certFile, "--client-key=" + keyFile}, args...))...)
	}
	if r := as("auth", "whoami", "-o", "jsonpath={.status.userInfo.username} {.status.userInfo.groups}"); r.Code != 0 || !strings.HasPrefix(r.Stdout, "jane ") || !strings.Contains(r.Stdout, "dev") {
		t.Errorf("who am I: %+v", r)
	}
	if r := as("get", "pods"); r.Code != 0 {
		t.Errorf("what the role allows: %+v", r)
	}
	if r := as("get", "secrets"); r.Code == 0 || !strings.Contains(r.Stderr, `User "jane" cannot list resource "secrets"`) {
		t.Errorf("what it does not: %+v", r)
	}

	_, request = askedFor(t, "mallory", "system:masters")
	if r := s.Try(t, signingRequest("e2e-mallory", request), "create", "-f", "-"); r.Code == 0 || !strings.Contains(r.Stderr, "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed") {
		t.Errorf("a request for the masters' group: %+v", r)
	}
	_, request = askedFor(t, "joe", "dev")
	s.Input(t, signingRequest("e2e-joe", request), "create", "-f", "-")
	s.k(t, "certificate", "deny", "e2e-joe")
	if got := s.k(t, "get", "csr", "e2e-joe", "--no-headers"); !strings.Contains(got, "Denied") || strings.Contains(got, "Issued") {
		t.Errorf("a denied request: %s", got)
	}
}

// askedFor makes a key and a request for a certificate of user in group, both PEM.
func askedFor(t *testing.T, user, group string) (key, request []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: user, Organization: []string{group}}}, k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: raw}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

func signingRequest(name string, request []byte) string {
	return fmt.Sprintf(`apiVersion: certificates.k8s.io/v1
kind: CertificateSigningRequest
metadata: {name: %s}
spec:
  signerName: kubernetes.io/kube-apiserver-client
  expirationSeconds: 86400
  usages: [digital signature, client auth]
  request: %s
`, name, base64.StdEncoding.EncodeToString(request))
}
