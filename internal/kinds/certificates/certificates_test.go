package certificates

import (
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

	authenticationv1 "k8s.io/api/authentication/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func key(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func pkcs10(t *testing.T) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "jane"}}, key(t))
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

func selfSigned(t *testing.T, ca bool) []byte {
	t.Helper()
	k := key(t)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Unix(2e9, 0), IsCA: ca, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// expect compares errors, as "path: type" joined, with what is wanted.
func expect(t *testing.T, name string, got field.ErrorList, want ...string) {
	t.Helper()
	var have []string
	for _, e := range got {
		have = append(have, e.Field+": "+string(e.Type))
	}
	if strings.Join(have, "\n") != strings.Join(want, "\n") {
		t.Errorf("%s: got %v, want %v", name, got, want)
	}
}

func TestRequestIsValidated(t *testing.T) {
	t.Parallel()
	kind := CertificateSigningRequest()
	for name, c := range map[string]struct {
		change func(*certificatesv1.CertificateSigningRequestSpec)
		want   []string
	}{
		"good":               {},
		"not PEM":            {func(s *certificatesv1.CertificateSigningRequestSpec) { s.Request = []byte("x") }, []string{"spec.request: FieldValueInvalid"}},
		"a certificate":      {func(s *certificatesv1.CertificateSigningRequestSpec) { s.Request = selfSigned(t, true) }, []string{"spec.request: FieldValueInvalid"}},
		"broken signature":   {func(s *certificatesv1.CertificateSigningRequestSpec) { s.Request = tampered(t) }, []string{"spec.request: FieldValueInvalid"}},
		"no usages":          {func(s *certificatesv1.CertificateSigningRequestSpec) { s.Usages = nil }, []string{"spec.usages: FieldValueRequired"}},
		"unknown usage":      {func(s *certificatesv1.CertificateSigningRequestSpec) { s.Usages[0] = "baking" }, []string{"spec.usages[0]: FieldValueNotSupported"}},
		"usage twice":        {func(s *certificatesv1.CertificateSigningRequestSpec) { s.Usages = append(s.Usages, s.Usages...) }, []string{"spec.usages[1]: FieldValueDuplicate"}},
		"no signer":          {func(s *certificatesv1.CertificateSigningRequestSpec) { s.SignerName = "" }, []string{"spec.signerName: FieldValueRequired"}},
		"legacy signer":      {func(s *certificatesv1.CertificateSigningRequestSpec) { s.SignerName = "kubernetes.io/legacy-unknown" }, []string{"spec.signerName: FieldValueInvalid"}},
		"signer of no path":  {func(s *certificatesv1.CertificateSigningRequestSpec) { s.SignerName = "example.com" }, []string{"spec.signerName: FieldValueInvalid"}},
		"signer of one name": {func(s *certificatesv1.CertificateSigningRequestSpec) { s.SignerName = "example/x" }, []string{"spec.signerName: FieldValueInvalid"}},
		"too short":          {func(s *certificatesv1.CertificateSigningRequestSpec) { n := int32(599); s.ExpirationSeconds = &n }, []string{"spec.expirationSeconds: FieldValueInvalid"}},
		"just long enough":   {change: func(s *certificatesv1.CertificateSigningRequestSpec) { n := int32(600); s.ExpirationSeconds = &n }},
	} {
		r := &certificatesv1.CertificateSigningRequest{ObjectMeta: metav1.ObjectMeta{Name: "a:b"}, Spec: certificatesv1.CertificateSigningRequestSpec{
			Request: pkcs10(t), SignerName: "example.com/signer", Usages: []certificatesv1.KeyUsage{certificatesv1.UsageClientAuth},
		}}
		if c.change != nil {
			c.change(&r.Spec)
		}
		expect(t, name, kind.Validate(r), c.want...)
	}
}

// tampered is a request of which a byte of the signature has been turned.
func tampered(t *testing.T) []byte {
	t.Helper()
	b, _ := pem.Decode(pkcs10(t))
	b.Bytes[len(b.Bytes)-1] ^= 1
	return pem.EncodeToMemory(b)
}

func TestServerSaysWhoAsks(t *testing.T) {
	t.Parallel()
	kind := CertificateSigningRequest()
	r := &certificatesv1.CertificateSigningRequest{Spec: certificatesv1.CertificateSigningRequestSpec{
		Username: "system:admin", UID: "1", Groups: []string{"system:masters"}, Extra: map[string]certificatesv1.ExtraValue{"a": {"b"}},
	}}
	kind.PrepareCreate(r)
	kind.Author(r, authenticationv1.UserInfo{Username: "jane", Extra: map[string]authenticationv1.ExtraValue{"c": {"d"}}})
	if r.Spec.Username != "jane" || r.Spec.UID != "" || r.Spec.Groups != nil || len(r.Spec.Extra) != 1 || r.Spec.Extra["c"][0] != "d" {
		t.Errorf("the client's words remain: %+v", r.Spec)
	}
}

func with(cert []byte, types ...certificatesv1.RequestConditionType) *certificatesv1.CertificateSigningRequest {
	r := &certificatesv1.CertificateSigningRequest{ObjectMeta: metav1.ObjectMeta{Name: "a", ResourceVersion: "1"}}
	r.Status.Certificate = cert
	for _, c := range types {
		r.Status.Conditions = append(r.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{Type: c, Status: corev1.ConditionTrue})
	}
	return r
}

func TestVerdictsAndCertificatesAreFinal(t *testing.T) {
	t.Parallel()
	const approved, denied, failed = certificatesv1.CertificateApproved, certificatesv1.CertificateDenied, certificatesv1.CertificateFailed
	issued, other := selfSigned(t, false), selfSigned(t, false)
	uncertain := with(nil, approved)
	uncertain.Status.Conditions[0].Status = corev1.ConditionFalse
	reasoned := with(nil, approved)
	reasoned.Status.Conditions[0].Reason = "other"
	const conditions, cert = "status.conditions: ", "status.certificate: "
	for name, c := range map[string]struct {
		sub      string
		now, old *certificatesv1.CertificateSigningRequest
		want     []string
	}{
		"approve":                 {"approval", with(nil, approved), with(nil), nil},
		"deny":                    {"approval", with(nil, denied), with(nil), nil},
		"both":                    {"approval", with(nil, approved, denied), with(nil), []string{conditions + "FieldValueInvalid"}},
		"unapprove":               {"approval", with(nil), with(nil, approved), []string{conditions + "FieldValueForbidden"}},
		"approve a little":        {"approval", uncertain, with(nil), []string{"status.conditions[0].status: FieldValueNotSupported"}},
		"approve twice":           {"approval", with(nil, approved, approved), with(nil), []string{"status.conditions[1].type: FieldValueDuplicate"}},
		"issue":                   {"status", with(issued, approved), with(nil, approved), nil},
		"issue nonsense":          {"status", with([]byte("x"), approved), with(nil, approved), []string{cert + "FieldValueInvalid"}},
		"exchange":                {"status", with(other, approved), with(issued, approved), []string{cert + "FieldValueForbidden"}},
		"withdraw":                {"status", with(nil, approved), with(issued, approved), []string{cert + "FieldValueForbidden"}},
		"fail":                    {"status", with(nil, approved, failed), with(nil, approved), nil},
		"approve as signer":       {"status", with(nil, approved), with(nil), []string{conditions + "FieldValueForbidden"}},
		"rewrite the verdict":     {"status", reasoned, with(nil, approved), []string{conditions + "FieldValueForbidden"}},
		"take back as signer":     {"status", with(nil), with(nil, denied), []string{conditions + "FieldValueForbidden"}},
		"forget that it failed":   {"approval", with(nil, approved), with(nil, approved, failed), []string{conditions + "FieldValueForbidden"}},
		"issued twice the same":   {"status", with(issued, approved), with(issued, approved), nil},
		"other conditions vanish": {"status", with(nil, approved), with(nil, approved, "Odd"), nil},
	} {
		expect(t, name, CertificateSigningRequest().Subresource(c.sub).ValidateUpdate(c.now, c.old), c.want...)
	}
}

func TestConditionsAreDated(t *testing.T) {
	t.Parallel()
	then, now := time.Unix(1_700_000_000, 0), time.Unix(1_800_000_000, 0)
	sub := CertificateSigningRequest().Subresource("approval")
	old := with(nil, "Odd")
	old.Status.Conditions[0].LastTransitionTime = metav1.NewTime(then)
	r := with(nil, "Odd", certificatesv1.CertificateApproved)
	sub.Stamp(r, old, now)
	odd, approved := r.Status.Conditions[0], r.Status.Conditions[1]
	if !odd.LastTransitionTime.Time.Equal(then) || !odd.LastUpdateTime.Time.Equal(now) {
		t.Errorf("an unchanged condition: %+v", odd)
	}
	if !approved.LastTransitionTime.Time.Equal(now) || !approved.LastUpdateTime.Time.Equal(now) {
		t.Errorf("a new condition: %+v", approved)
	}
}

func TestProgressColumn(t *testing.T) {
	t.Parallel()
	for want, r := range map[string]*certificatesv1.CertificateSigningRequest{
		"Pending":         with(nil),
		"Denied":          with(nil, certificatesv1.CertificateDenied),
		"Approved,Failed": with(nil, certificatesv1.CertificateApproved, certificatesv1.CertificateFailed),
		"Approved,Issued": with([]byte("x"), certificatesv1.CertificateApproved),
	} {
		if got := progress(r); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestTrustBundle(t *testing.T) {
	t.Parallel()
	ca := string(selfSigned(t, true))
	for name, c := range map[string]struct {
		name, signer, bundle string
		want                 []string
	}{
		"of nobody":        {"roots", "", ca, nil},
		"of a signer":      {"example.com:foo:v1", "example.com/foo", ca, nil},
		"two anchors":      {"roots", "", ca + string(selfSigned(t, true)), nil},
		"twice the same":   {"roots", "", ca + ca, []string{"spec.trustBundle: FieldValueInvalid"}},
		"empty":            {"roots", "", "", []string{"spec.trustBundle: FieldValueInvalid"}},
		"a leaf":           {"roots", "", string(selfSigned(t, false)), []string{"spec.trustBundle: FieldValueInvalid"}},
		"a request":        {"roots", "", string(pkcs10(t)), []string{"spec.trustBundle: FieldValueInvalid"}},
		"of another":       {"example.org:foo:v1", "example.com/foo", ca, []string{"metadata.name: FieldValueInvalid"}},
		"posing as signed": {"example.com:foo:v1", "", ca, []string{"metadata.name: FieldValueInvalid"}},
	} {
		b := &certificatesv1.ClusterTrustBundle{ObjectMeta: metav1.ObjectMeta{Name: c.name}, Spec: certificatesv1.ClusterTrustBundleSpec{SignerName: c.signer, TrustBundle: c.bundle}}
		expect(t, name, ClusterTrustBundle().Validate(b), c.want...)
	}
}
