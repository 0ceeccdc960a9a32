package rotation

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"net"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"
)

// patience is how long a request may wait for its approval before another is made, with another key.
const patience = time.Hour

// renew asks for a certificate, waits for it and puts it in place.
func (r *Rotator) renew(ctx context.Context, p purpose) (*x509.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	want, err := r.request(p, key)
	if err != nil {
		return nil, err
	}
	asked, err := r.c.Client.CertificatesV1().CertificateSigningRequests().Create(ctx, want, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("ask for a certificate: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	issued, err := r.wait(ctx, asked.Name)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode a key: %w", err)
	}
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
	cert, _, err := parsePair("certificate request "+asked.Name, issued, keyPEM)
	if err != nil {
		return nil, err
	}
	return cert, writePair(p.file, issued, keyPEM)
}

// request is what is asked of the signer.
func (r *Rotator) request(p purpose, key *ecdsa.PrivateKey) (*certificatesv1.CertificateSigningRequest, error) {
	t := &x509.CertificateRequest{Subject: pkix.Name{CommonName: "system:node:" + r.c.Node, Organization: []string{"system:nodes"}}}
	if p.names {
		t.DNSNames = []string{r.c.Node}
		for _, a := range r.c.Addresses {
			t.IPAddresses = append(t.IPAddresses, net.IP(a.Unmap().AsSlice()))
		}
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, t, key)
	if err != nil {
		return nil, fmt.Errorf("make a certificate request: %w", err)
	}
	return &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "csr-"},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			Request: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), SignerName: p.signer,
			Usages: []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, p.usage},
		},
	}, nil
}

// wait returns the certificate once it is issued.
func (r *Rotator) wait(ctx context.Context, name string) ([]byte, error) {
	api := r.c.Client.CertificatesV1().CertificateSigningRequests()
	only := fields.OneTermEqualSelector("metadata.name", name).String()
	source := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = only
			return api.List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = only
			return api.Watch(ctx, o)
		},
	}
	var issued []byte
	_, err := watchtools.UntilWithSync(ctx, source, &certificatesv1.CertificateSigningRequest{}, nil, func(e watch.Event) (bool, error) {
		var err error
		issued, err = outcome(e)
		return issued != nil, err
	})
	if err != nil {
		return nil, fmt.Errorf("certificate request %s (`kubectl certificate approve %s` lets it pass): %w", name, name, err)
	}
	return issued, nil
}

// outcome returns the certificate, nil while there is none, or why there will be none.
func outcome(e watch.Event) ([]byte, error) {
	req, ok := e.Object.(*certificatesv1.CertificateSigningRequest)
	switch {
	case !ok:
		return nil, nil
	case e.Type == watch.Deleted:
		return nil, fmt.Errorf("it was deleted")
	}
	for _, c := range req.Status.Conditions {
		if c.Type == certificatesv1.CertificateDenied || c.Type == certificatesv1.CertificateFailed {
			return nil, fmt.Errorf("%s: %s %s", c.Type, c.Reason, c.Message)
		}
	}
	if len(req.Status.Certificate) == 0 {
		return nil, nil
	}
	return req.Status.Certificate, nil
}
