package certificates

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

func key(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// request is a stored request for the subject of tmpl, by the user of the same name.
func request(t *testing.T, signer string, tmpl *x509.CertificateRequest, usages ...certificatesv1.KeyUsage) *csr {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, tmpl, key(t))
	if err != nil {
		t.Fatal(err)
	}
	return &csr{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: certificatesv1.CertificateSigningRequestSpec{
		Request: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), SignerName: signer, Usages: usages, Username: tmpl.Subject.CommonName,
	}}
}

func node(change func(*x509.CertificateRequest)) *x509.CertificateRequest {
	r := &x509.CertificateRequest{Subject: pkix.Name{CommonName: "system:node:n1", Organization: []string{"system:nodes"}}}
	if change != nil {
		change(r)
	}
	return r
}

const (
	client  = certificatesv1.KubeAPIServerClientSignerName
	kubelet = certificatesv1.KubeAPIServerClientKubeletSignerName
	serving = certificatesv1.KubeletServingSignerName

	digital  = certificatesv1.UsageDigitalSignature
	encipher = certificatesv1.UsageKeyEncipherment
	forAuth  = certificatesv1.UsageClientAuth
	toServe  = certificatesv1.UsageServerAuth
)

func TestRulesOfSigners(t *testing.T) {
	t.Parallel()
	person := &x509.CertificateRequest{Subject: pkix.Name{CommonName: "jane"}}
	withDNS := func(r *x509.CertificateRequest) { r.DNSNames = []string{"n1"} }
	for name, c := range map[string]struct {
		r    *csr
		want string // part of the reason; "" if issued
	}{
		"a person":                {request(t, client, person, digital, forAuth), ""},
		"a person, RSA":           {request(t, client, person, digital, encipher, forAuth), ""},
		"a person who serves":     {request(t, client, person, forAuth, toServe), "usages did not match"},
		"a person, no client":     {request(t, client, person, digital), "usages did not match"},
		"a node":                  {request(t, kubelet, node(nil), digital, forAuth), ""},
		"a node, RSA":             {request(t, kubelet, node(nil), forAuth, encipher, digital), ""},
		"a node, too little":      {request(t, kubelet, node(nil), forAuth), "usages did not match"},
		"a node, too much":        {request(t, kubelet, node(nil), digital, forAuth, toServe), "usages did not match"},
		"a node with a name":      {request(t, kubelet, node(withDNS), digital, forAuth), "DNS subjectAltNames are not allowed"},
		"a node with an address":  {request(t, kubelet, node(func(r *x509.CertificateRequest) { r.IPAddresses = []net.IP{{10, 0, 0, 1}} }), digital, forAuth), "IP subjectAltNames are not allowed"},
		"a node of no group":      {request(t, kubelet, node(func(r *x509.CertificateRequest) { r.Subject.Organization = nil }), digital, forAuth), "subject organization is not system:nodes"},
		"a node of two groups":    {request(t, kubelet, node(func(r *x509.CertificateRequest) { r.Subject.Organization = []string{"system:nodes", "system:masters"} }), digital, forAuth), "subject organization is not system:nodes"},
		"a person as a node":      {request(t, kubelet, node(func(r *x509.CertificateRequest) { r.Subject.CommonName = "jane" }), digital, forAuth), "subject common name does not begin with system:node:"},
		"a node that serves":      {request(t, serving, node(withDNS), digital, toServe), ""},
		"a nameless node serves":  {request(t, serving, node(nil), digital, toServe), "DNS or IP subjectAltName is required"},
		"a node with a URI":       {request(t, serving, node(func(r *x509.CertificateRequest) { withDNS(r); r.URIs = []*url.URL{{Host: "x"}} }), digital, toServe), "URI subjectAltNames are not allowed"},
		"a node with mail":        {request(t, serving, node(func(r *x509.CertificateRequest) { withDNS(r); r.EmailAddresses = []string{"a@b"} }), digital, toServe), "Email subjectAltNames are not allowed"},
		"serving for client auth": {request(t, serving, node(withDNS), digital, forAuth), "usages did not match"},
		"legacy":                  {request(t, legacyUnknown, person, certificatesv1.UsageCodeSigning), ""},
	} {
		req, err := parse(c.r)
		if err != nil {
			t.Fatal(err)
		}
		err = checkRules(c.r.Spec.SignerName, req, c.r.Spec.Usages)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func authority(t *testing.T, until time.Time) *Authority {
	t.Helper()
	k := key(t)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kubernetes"}, NotAfter: until, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &Authority{Certificate: cert, Key: k, Life: 365 * 24 * time.Hour}
}

func approved(r *csr) *csr {
	mark(r, certificatesv1.CertificateSigningRequestCondition{Type: certificatesv1.CertificateApproved}, time.Unix(1, 0))
	return r
}

func TestSign(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	a := authority(t, now.Add(2*365*24*time.Hour))
	good := approved(request(t, kubelet, node(nil), digital, encipher, forAuth))
	out, err := a.sign(good, now)
	if err != nil || out == nil {
		t.Fatal(out, err)
	}
	if len(good.Status.Certificate) > 0 {
		t.Error("the cached request was changed")
	}
	b, _ := pem.Decode(out.Status.Certificate)
	cert, err := x509.ParseCertificate(b.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if err := cert.CheckSignatureFrom(a.Certificate); err != nil {
		t.Error(err)
	}
	if cert.Subject.CommonName != "system:node:n1" || cert.IsCA || cert.KeyUsage != x509.KeyUsageDigitalSignature|x509.KeyUsageKeyEncipherment ||
		len(cert.ExtKeyUsage) != 1 || cert.ExtKeyUsage[0] != x509.ExtKeyUsageClientAuth {
		t.Errorf("got %+v", cert)
	}

	bad := approved(request(t, kubelet, node(nil), forAuth))
	if out, err = a.sign(bad, now); err != nil || len(out.Status.Certificate) > 0 || condition(out, certificatesv1.CertificateFailed).Reason != "SignerValidationFailed" {
		t.Errorf("against the rules: %+v, %v", out, err)
	}
	if out, err = a.sign(out, now); out != nil || err != nil {
		t.Errorf("failed once: %+v, %v", out, err)
	}
	other := approved(request(t, "example.com/a", node(nil), digital))
	denied := approved(request(t, kubelet, node(nil), digital, forAuth))
	denied.Status.Conditions[0].Type = certificatesv1.CertificateDenied
	for name, r := range map[string]*csr{"pending": request(t, kubelet, node(nil), digital, forAuth), "of another signer": other, "denied": denied} {
		if out, err := a.sign(r, now); out != nil || err != nil {
			t.Errorf("%s: %+v, %v", name, out, err)
		}
	}
}

func TestValidity(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	year := 365 * 24 * time.Hour
	for name, c := range map[string]struct {
		asked *int32
		ca    time.Duration
		want  time.Duration
	}{
		"nothing asked":   {nil, 10 * year, year - backdate},
		"an hour":         {ptr.To(int32(3600)), 10 * year, time.Hour},
		"too little":      {ptr.To(int32(1)), 10 * year, 10 * time.Minute},
		"less than 0":     {ptr.To(int32(-5)), 10 * year, 10 * time.Minute},
		"a day":           {ptr.To(int32(86400)), 10 * year, 24*time.Hour - backdate},
		"ten years":       {ptr.To(int32(10 * 365 * 86400)), 10 * year, year - backdate},
		"beyond the CA's": {nil, time.Hour, time.Hour},
	} {
		from, until := authority(t, now.Add(c.ca)).validity(c.asked, now)
		if !from.Equal(now.Add(-backdate)) || until.Sub(now) != c.want {
			t.Errorf("%s: %s to %s, want %s", name, from.Sub(now), until.Sub(now), c.want)
		}
	}
}

func TestRecognize(t *testing.T) {
	t.Parallel()
	serves := func(r *x509.CertificateRequest) { r.DNSNames = []string{"n1"} }
	bootstrapped := request(t, kubelet, node(nil), digital, forAuth)
	bootstrapped.Spec.Username = "system:bootstrap:abcdef"
	stranger := request(t, serving, node(serves), digital, toServe)
	stranger.Spec.Username = "system:node:n2"
	for name, c := range map[string]struct {
		r    *csr
		want string
	}{
		"a node renews":          {request(t, kubelet, node(nil), digital, forAuth), "selfnodeclient"},
		"a new node":             {bootstrapped, "nodeclient"},
		"a node serves":          {request(t, serving, node(serves), digital, toServe), "selfnodeserver"},
		"a node for another":     {stranger, ""},
		"a person":               {request(t, client, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "jane"}}, digital, forAuth), ""},
		"a node against rules":   {request(t, kubelet, node(serves), digital, forAuth), ""},
		"a node, another signer": {request(t, "example.com/a", node(nil), digital, forAuth), ""},
	} {
		req, err := parse(c.r)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := recognize(c.r, req)
		if ok != (c.want != "") || got.subresource != c.want {
			t.Errorf("%s: %+v, want %q", name, got, c.want)
		}
	}
}

func TestNodesServeOnlyAsThemselves(t *testing.T) {
	t.Parallel()
	at := func(name string, addresses ...string) *corev1.Node {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
		for _, a := range addresses {
			n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a})
		}
		return n
	}
	w := world{
		nodes:    []*corev1.Node{at("n1", "10.0.0.1", "10.0.0.9", "10.96.0.1", "127.0.0.1", "192.168.0.1", "n1", "kubernetes"), at("n2", "10.0.0.2", "10.0.0.9")},
		services: []*networkingv1.ServiceCIDR{{Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{"10.96.0.0/12"}}}},
		servers:  []*discoveryv1.EndpointSlice{{Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"192.168.0.1"}}}}},
	}
	for name, c := range map[string]struct {
		dns, ip string
		want    string
	}{
		"its name and address":   {"n1", "10.0.0.1", ""},
		"another's name":         {"n2", "10.0.0.1", "is not the name of node n1"},
		"a name it wrote itself": {"kubernetes", "10.0.0.1", "is not the name of node n1"},
		"another's address":      {"n1", "10.0.0.2", "an address of node n2"},
		"one they both claim":    {"n1", "10.0.0.9", "is an address of node n2 too"},
		"nobody's address":       {"n1", "10.0.0.3", "is not among the addresses of node n1"},
		"a Service's address":    {"n1", "10.96.0.1", "is an address of Services"},
		"loopback":               {"n1", "127.0.0.1", "not an address that others could reach"},
		"an API server's":        {"n1", "192.168.0.1", "is the address of an API server"},
	} {
		req := node(func(r *x509.CertificateRequest) {
			r.DNSNames, r.IPAddresses = []string{c.dns}, []net.IP{net.ParseIP(c.ip)}
		})
		got := refuseServing(req, w)
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestExpires(t *testing.T) {
	t.Parallel()
	born := time.Unix(1_800_000_000, 0)
	decided := born.Add(10 * time.Minute)
	make := func(cert []byte, types ...certificatesv1.RequestConditionType) *csr {
		r := &csr{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(born)}}
		for _, c := range types {
			mark(r, certificatesv1.CertificateSigningRequestCondition{Type: c}, decided)
		}
		r.Status.Certificate = cert
		return r
	}
	soon := born.Add(20 * time.Minute)
	short := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority(t, soon).Certificate.Raw})
	long := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority(t, born.Add(1000*time.Hour)).Certificate.Raw})
	for name, c := range map[string]struct {
		r    *csr
		want time.Time
	}{
		"pending":              {make(nil), born.Add(24 * time.Hour)},
		"approved, not issued": {make(nil, certificatesv1.CertificateApproved), decided.Add(24 * time.Hour)},
		"issued":               {make(long, certificatesv1.CertificateApproved), decided.Add(time.Hour)},
		"denied":               {make(nil, certificatesv1.CertificateDenied), decided.Add(time.Hour)},
		"failed":               {make(nil, certificatesv1.CertificateApproved, certificatesv1.CertificateFailed), decided.Add(time.Hour)},
		"ended":                {make(short, certificatesv1.CertificateApproved), soon},
	} {
		if got := expires(c.r); !got.Equal(c.want) {
			t.Errorf("%s: after %s, want %s", name, got.Sub(born), c.want.Sub(born))
		}
	}
}
