package certificates

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func stub(t *testing.T, k crypto.Signer) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, k)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func podRequest(t *testing.T, k crypto.Signer) *certificatesv1.PodCertificateRequest {
	t.Helper()
	r := &certificatesv1.PodCertificateRequest{
		ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "default", ResourceVersion: "1"},
		Spec: certificatesv1.PodCertificateRequestSpec{
			SignerName: "example.com/signer", PodName: "web", PodUID: "1", ServiceAccountName: "default", ServiceAccountUID: "2",
			NodeName: "n1", NodeUID: "3", StubPKCS10Request: stub(t, k),
		},
	}
	PodCertificateRequest().Default(r)
	return r
}

func TestPodRequestIsValidated(t *testing.T) {
	t.Parallel()
	weak, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	old, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	type spec = certificatesv1.PodCertificateRequestSpec
	seconds := func(n int32) func(*spec) { return func(s *spec) { s.MaxExpirationSeconds = &n } }
	for name, c := range map[string]struct {
		change func(*spec)
		want   []string
	}{
		"good":               {change: func(*spec) {}},
		"edwards":            {change: func(s *spec) { s.StubPKCS10Request = stub(t, edwards) }},
		"weak key":           {func(s *spec) { s.StubPKCS10Request = stub(t, weak) }, []string{"spec.stubPKCS10Request: FieldValueInvalid"}},
		"short curve":        {func(s *spec) { s.StubPKCS10Request = stub(t, old) }, []string{"spec.stubPKCS10Request: FieldValueInvalid"}},
		"no key":             {func(s *spec) { s.StubPKCS10Request = nil }, []string{"spec.stubPKCS10Request: FieldValueRequired"}},
		"PEM":                {func(s *spec) { s.StubPKCS10Request = pkcs10(t) }, []string{"spec.stubPKCS10Request: FieldValueInvalid"}},
		"tampered":           {func(s *spec) { s.StubPKCS10Request[len(s.StubPKCS10Request)-1] ^= 1 }, []string{"spec.stubPKCS10Request: FieldValueInvalid"}},
		"no signer":          {func(s *spec) { s.SignerName = "" }, []string{"spec.signerName: FieldValueRequired"}},
		"no names":           {func(s *spec) { s.PodName, s.ServiceAccountName, s.NodeName = "", "", "" }, []string{"spec.podName: FieldValueRequired", "spec.serviceAccountName: FieldValueRequired", "spec.nodeName: FieldValueRequired"}},
		"no UIDs":            {func(s *spec) { s.PodUID, s.ServiceAccountUID, s.NodeUID = "", "", "" }, []string{"spec.podUID: FieldValueRequired", "spec.serviceAccountUID: FieldValueRequired", "spec.nodeUID: FieldValueRequired"}},
		"too short":          {seconds(3599), []string{"spec.maxExpirationSeconds: FieldValueInvalid"}},
		"just long enough":   {change: seconds(3600)},
		"longest":            {change: seconds(91 * 24 * 3600)},
		"too long":           {seconds(91*24*3600 + 1), []string{"spec.maxExpirationSeconds: FieldValueInvalid"}},
		"too long for ours":  {func(s *spec) { s.SignerName = "kubernetes.io/x"; seconds(86401)(s) }, []string{"spec.maxExpirationSeconds: FieldValueInvalid"}},
		"annotated":          {change: func(s *spec) { s.UnverifiedUserAnnotations = map[string]string{"example.com/a": "b"} }},
		"annotation at home": {func(s *spec) { s.UnverifiedUserAnnotations = map[string]string{"a": "b"} }, []string{"spec.unverifiedUserAnnotations[a]: FieldValueInvalid"}},
	} {
		r := podRequest(t, key(t))
		c.change(&r.Spec)
		expect(t, name, PodCertificateRequest().Validate(r), c.want...)
		if len(c.want) > 0 {
			continue
		}
		other := r.DeepCopy()
		other.Spec.PodName = "other"
		expect(t, name+", changed", PodCertificateRequest().ValidateUpdate(other, r), "spec: FieldValueInvalid")
	}
}

// issue gives r a certificate for k that lives for life, with the dates that go with it.
func issue(t *testing.T, r *certificatesv1.PodCertificateRequest, k crypto.Signer, life time.Duration) {
	t.Helper()
	from := time.Unix(1_800_000_000, 0)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: from, NotAfter: from.Add(life)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	at := func(d time.Duration) *metav1.Time { m := metav1.NewTime(from.Add(d)); return &m }
	r.Status = certificatesv1.PodCertificateRequestStatus{
		CertificateChain: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		NotBefore:        at(0), BeginRefreshAt: at(life / 2), NotAfter: at(life), Conditions: conditionsOf("Issued"),
	}
}

func conditionsOf(types ...string) []metav1.Condition {
	var out []metav1.Condition
	for _, c := range types {
		out = append(out, metav1.Condition{Type: c, Status: metav1.ConditionTrue, Reason: "Because", LastTransitionTime: metav1.NewTime(time.Unix(1_800_000_000, 0))})
	}
	return out
}

func TestPodRequestStatus(t *testing.T) {
	t.Parallel()
	_, k, err := ed25519.GenerateKey(rand.Reader) // whose signatures are the same each time, and so the certificates
	if err != nil {
		t.Fatal(err)
	}
	type request = certificatesv1.PodCertificateRequest
	issued := func(r *request) { issue(t, r, k, time.Hour) }
	pending := func(*request) {}
	verdicts := func(types ...string) func(*request) {
		return func(r *request) { r.Status.Conditions = conditionsOf(types...) }
	}
	but := func(change func(*certificatesv1.PodCertificateRequestStatus)) func(*request) {
		return func(r *request) { issued(r); change(&r.Status) }
	}
	type status = certificatesv1.PodCertificateRequestStatus
	const chain, conditions = "status.certificateChain: ", "status.conditions: "
	for name, c := range map[string]struct {
		old, now func(*request)
		want     []string
	}{
		"issue":              {pending, issued, nil},
		"deny":               {pending, verdicts("Denied"), nil},
		"something else too": {pending, verdicts("Denied", "Audited"), nil},
		"two verdicts":       {pending, verdicts("Denied", "Failed"), []string{conditions + "FieldValueInvalid"}},
		"perhaps": {pending, func(r *request) { verdicts("Denied")(r); r.Status.Conditions[0].Status = metav1.ConditionUnknown },
			[]string{"status.conditions[0].status: FieldValueNotSupported"}},
		"think again":       {verdicts("Denied"), verdicts("Failed"), []string{conditions + "FieldValueForbidden"}},
		"forget":            {verdicts("Denied"), pending, []string{conditions + "FieldValueForbidden"}},
		"silent issue":      {pending, but(func(s *status) { s.Conditions = nil }), []string{chain + "FieldValueForbidden", "status.notBefore: FieldValueForbidden", "status.beginRefreshAt: FieldValueForbidden", "status.notAfter: FieldValueForbidden"}},
		"no certificate":    {pending, but(func(s *status) { s.CertificateChain = "" }), []string{chain + "FieldValueInvalid"}},
		"no dates":          {pending, but(func(s *status) { s.NotBefore, s.NotAfter, s.BeginRefreshAt = nil, nil, nil }), []string{"status.notBefore: FieldValueRequired", "status.beginRefreshAt: FieldValueRequired", "status.notAfter: FieldValueRequired"}},
		"wrong dates":       {pending, but(func(s *status) { s.NotBefore, s.NotAfter = s.BeginRefreshAt, s.BeginRefreshAt }), []string{"status.notBefore: FieldValueInvalid", "status.notAfter: FieldValueInvalid", "status.beginRefreshAt: FieldValueInvalid", "status.beginRefreshAt: FieldValueInvalid"}},
		"refresh too soon":  {pending, but(func(s *status) { s.BeginRefreshAt = s.NotBefore }), []string{"status.beginRefreshAt: FieldValueInvalid"}},
		"refresh too late":  {pending, but(func(s *status) { s.BeginRefreshAt = s.NotAfter }), []string{"status.beginRefreshAt: FieldValueInvalid"}},
		"for another key":   {pending, func(r *request) { issue(t, r, key(t), time.Hour) }, []string{chain + "FieldValueInvalid"}},
		"too short":         {pending, func(r *request) { issue(t, r, k, 59*time.Minute) }, []string{chain + "FieldValueInvalid"}},
		"too long":          {pending, func(r *request) { issue(t, r, k, 25*time.Hour) }, []string{chain + "FieldValueInvalid"}},
		"issued, untouched": {issued, issued, nil},
		"exchanged":         {issued, but(func(s *status) { s.CertificateChain = strings.TrimSpace(s.CertificateChain) }), []string{chain + "FieldValueInvalid"}},
		"refresh postponed": {issued, but(func(s *status) { s.BeginRefreshAt = s.NotAfter }), []string{"status.beginRefreshAt: FieldValueInvalid"}},
	} {
		old := podRequest(t, k)
		c.old(old)
		now := old.DeepCopy()
		now.Status = certificatesv1.PodCertificateRequestStatus{}
		c.now(now)
		expect(t, name, PodCertificateRequest().Subresource("status").ValidateUpdate(now, old), c.want...)
	}
}
