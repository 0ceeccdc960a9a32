package plugins

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"testing"

	"canopus/internal/admission"
	"canopus/internal/auth"
	"canopus/internal/auth/rbac"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// granted is an authorizer with one rule for everybody.
type granted rbacv1.PolicyRule

func (g granted) Authorize(_ context.Context, a *auth.Attributes) (auth.Decision, string, error) {
	if rbac.Allows([]rbacv1.PolicyRule{rbacv1.PolicyRule(g)}, a) {
		return auth.Allow, "", nil
	}
	return auth.NoOpinion, "", nil
}

func onSigners(verb string, names ...string) signerRights {
	return signerRights{granted{Verbs: []string{verb}, APIGroups: []string{"certificates.k8s.io"}, Resources: []string{"signers"}, ResourceNames: names}}
}

func csr(signer string, orgs ...string) *certificatesv1.CertificateSigningRequest {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "jane", Organization: orgs}}, key)
	if err != nil {
		panic(err)
	}
	r := &certificatesv1.CertificateSigningRequest{ObjectMeta: meta("", "jane")}
	r.Spec.SignerName = signer
	r.Spec.Request = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	return r
}

// validate runs the plugin's validation of a write in group certificates.k8s.io if it handles it.
func validate(t *testing.T, p admission.Plugin, op admission.Operation, resource, sub string, o, old runtime.Object) error {
	t.Helper()
	r := req(op, "", resource, o, old)
	r.Namespace, r.Resource, r.Subresource = "", certificatesv1.SchemeGroupVersion.WithResource(resource), sub
	if !p.Handles(r) {
		t.Fatalf("%s does not look at %s/%s", p.Name(), resource, sub)
	}
	return p.(admission.Validator).Validate(t.Context(), r)
}

func TestSignerRights(t *testing.T) {
	t.Parallel()
	const kind = "certificatesigningrequests"
	before, after := csr("example.com/a"), csr("example.com/a")
	after.Status.Certificate = []byte("x")
	for name, c := range map[string]struct {
		rights signerRights
		ok     bool
	}{
		"the signer":           {onSigners("approve", "example.com/a"), true},
		"all of the domain":    {onSigners("approve", "example.com/*"), true},
		"all":                  {onSigners("approve"), true},
		"another signer":       {onSigners("approve", "example.com/b"), false},
		"all of the other":     {onSigners("approve", "example.org/*"), false},
		"another verb":         {onSigners("attest"), false},
		"a wildcard elsewhere": {onSigners("approve", "*"), false},
	} {
		want := `user not permitted to approve requests with signerName "example.com/a"`
		if c.ok {
			want = ""
		}
		expect(t, name, validate(t, CertificateApproval{c.rights}, admission.Update, kind, "approval", before, before), want)
	}
	expect(t, "sign", validate(t, CertificateSigning{onSigners("sign", "example.com/a")}, admission.Update, kind, "status", after, before), "")
	expect(t, "sign as an approver", validate(t, CertificateSigning{onSigners("approve")}, admission.Update, kind, "status", after, before), "not permitted to sign")
	expect(t, "write nothing", validate(t, CertificateSigning{onSigners("approve")}, admission.Update, kind, "status", before, before), "")
	failed := csr("example.com/a")
	failed.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{{Type: certificatesv1.CertificateFailed, Status: corev1.ConditionTrue}}
	expect(t, "fail as nobody", validate(t, CertificateSigning{onSigners("approve")}, admission.Update, kind, "status", failed, before), "not permitted to sign")

	asked := &certificatesv1.PodCertificateRequest{ObjectMeta: meta("", "a"), Spec: certificatesv1.PodCertificateRequestSpec{SignerName: "example.com/a"}}
	signed := asked.DeepCopy()
	signed.Status.CertificateChain = "x"
	const pods = "podcertificaterequests"
	expect(t, "sign for a pod", validate(t, CertificateSigning{onSigners("sign", "example.com/a")}, admission.Update, pods, "status", signed, asked), "")
	expect(t, "sign for a pod as nobody", validate(t, CertificateSigning{onSigners("approve")}, admission.Update, pods, "status", signed, asked), "not permitted to sign")
	expect(t, "sign for a pod as another", validate(t, CertificateSigning{onSigners("sign", "example.com/b")}, admission.Update, pods, "status", signed, asked), "not permitted to sign")
	expect(t, "write nothing of a pod", validate(t, CertificateSigning{onSigners("approve")}, admission.Update, pods, "status", asked, asked), "")

	bundle := &certificatesv1.ClusterTrustBundle{ObjectMeta: meta("", "example.com:a:1"), Spec: certificatesv1.ClusterTrustBundleSpec{SignerName: "example.com/a"}}
	renewed := bundle.DeepCopy()
	renewed.Spec.TrustBundle = "x"
	const bundles = "clustertrustbundles"
	expect(t, "attest", validate(t, ClusterTrustBundleAttest{onSigners("attest", "example.com/a")}, admission.Create, bundles, "", bundle, nil), "")
	expect(t, "attest as nobody", validate(t, ClusterTrustBundleAttest{onSigners("sign")}, admission.Create, bundles, "", bundle, nil), "not permitted to attest")
	expect(t, "renew as nobody", validate(t, ClusterTrustBundleAttest{onSigners("sign")}, admission.Update, bundles, "", renewed, bundle), "not permitted to attest")
	expect(t, "relabel", validate(t, ClusterTrustBundleAttest{onSigners("sign")}, admission.Update, bundles, "", bundle, bundle), "")
	expect(t, "of nobody", validate(t, ClusterTrustBundleAttest{onSigners("sign")}, admission.Create, bundles, "", &certificatesv1.ClusterTrustBundle{ObjectMeta: meta("", "a")}, nil), "")
}

func TestCertificateSubjectRestriction(t *testing.T) {
	t.Parallel()
	p := CertificateSubjectRestriction{}
	for name, c := range map[string]struct {
		r    *certificatesv1.CertificateSigningRequest
		want string
	}{
		"a user":            {csr("kubernetes.io/kube-apiserver-client", "dev"), ""},
		"a master":          {csr("kubernetes.io/kube-apiserver-client", "dev", "system:masters"), "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed"},
		"of another signer": {csr("example.com/a", "system:masters"), ""},
	} {
		expect(t, name, validate(t, p, admission.Create, "certificatesigningrequests", "", c.r, nil), c.want)
	}
}
