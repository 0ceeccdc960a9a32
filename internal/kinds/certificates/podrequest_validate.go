package certificates

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds/check"
)

const (
	hour          = 60 * 60
	maxPodSeconds = 91 * 24 * hour
	maxUID        = 128
	maxStub       = 10 << 10
	// refreshMargin is how far from either end of a certificate's life its refresh must begin.
	refreshMargin = 10 * time.Minute
	// kubernetesSigners begin the names of signers whose certificates live for a day at most.
	kubernetesSigners = "kubernetes.io/"
)

func validatePodRequest(r *certificatesv1.PodCertificateRequest) field.ErrorList {
	at := field.NewPath("spec")
	errs := validateSignerName(r.Spec.SignerName, at.Child("signerName"))
	for _, f := range []struct {
		name, value string
	}{{"podName", r.Spec.PodName}, {"serviceAccountName", r.Spec.ServiceAccountName}, {"nodeName", string(r.Spec.NodeName)}} {
		errs = append(errs, check.RequiredSubdomain(f.value, at.Child(f.name))...)
	}
	for _, f := range []struct {
		name, value string
	}{{"podUID", string(r.Spec.PodUID)}, {"serviceAccountUID", string(r.Spec.ServiceAccountUID)}, {"nodeUID", string(r.Spec.NodeUID)}} {
		if errs = append(errs, check.Required(f.value, at.Child(f.name))...); len(f.value) > maxUID {
			errs = append(errs, field.TooLong(at.Child(f.name), f.value, maxUID))
		}
	}
	errs = append(errs, validatePodRequestLife(r, at.Child("maxExpirationSeconds"))...)
	errs = append(errs, validateUserAnnotations(r.Spec.UnverifiedUserAnnotations, at.Child("unverifiedUserAnnotations"))...)
	return append(errs, validateStub(r.Spec.StubPKCS10Request, at.Child("stubPKCS10Request"))...)
}

func validatePodRequestLife(r *certificatesv1.PodCertificateRequest, at *field.Path) field.ErrorList {
	most := int32(maxPodSeconds)
	if strings.HasPrefix(r.Spec.SignerName, kubernetesSigners) {
		most = dayOfLife
	}
	switch s := r.Spec.MaxExpirationSeconds; {
	case s == nil:
		return field.ErrorList{field.Required(at, "must be set")}
	case *s < hour || *s > most:
		return field.ErrorList{field.Invalid(at, *s, fmt.Sprintf("must be in the range [%d, %d]", hour, most))}
	}
	return nil
}

// validateUserAnnotations wants what annotations must be, and that each key names its domain.
func validateUserAnnotations(annotations map[string]string, at *field.Path) field.ErrorList {
	errs := apivalidation.ValidateAnnotations(annotations, at)
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		if !strings.Contains(key, "/") {
			errs = append(errs, field.Invalid(at.Key(key), key, "must be a domain-prefixed key (such as \"acme.io/foo\")"))
		}
	}
	return errs
}

// validateStub wants a DER request, signed by the key that it carries, of a kind that certificates are issued for.
func validateStub(der []byte, at *field.Path) field.ErrorList {
	switch {
	case len(der) == 0:
		return field.ErrorList{field.Required(at, "")}
	case len(der) > maxStub:
		return field.ErrorList{field.TooLong(at, "", maxStub)}
	}
	bad := func(err error) field.ErrorList {
		return field.ErrorList{field.Invalid(at, "<value omitted>", err.Error())}
	}
	request, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return bad(fmt.Errorf("must be a valid PKCS#10 request in DER: %w", err))
	}
	if err := checkKey(request.PublicKey); err != nil {
		return bad(err)
	}
	if err := request.CheckSignature(); err != nil {
		return bad(fmt.Errorf("must be signed by the key that it carries: %w", err))
	}
	return nil
}

func checkKey(key crypto.PublicKey) error {
	switch k := key.(type) {
	case ed25519.PublicKey:
		return nil
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() || k.Curve == elliptic.P384() || k.Curve == elliptic.P521() {
			return nil
		}
		return errors.New("elliptic public keys must use curve P256, P384 or P521")
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits == 3072 || bits == 4096 {
			return nil
		}
		return errors.New("RSA keys must have modulus size 3072 or 4096")
	}
	return errors.New("unknown public key type; supported types are Ed25519, ECDSA, and RSA")
}

// validatePodRequestStatus wants one verdict at most, which stays, and a certificate exactly with the verdict that it is issued.
func validatePodRequestStatus(r, old *certificatesv1.PodCertificateRequest) field.ErrorList {
	at := field.NewPath("status")
	errs := validateVerdicts(r, old, at.Child("conditions"))
	was, now := podRequestState(old), podRequestState(r)
	if was == certificatesv1.PodCertificateRequestConditionTypeIssued {
		a, b := r.Status, old.Status
		errs = append(errs, apivalidation.ValidateImmutableField(a.CertificateChain, b.CertificateChain, at.Child("certificateChain"))...)
		errs = append(errs, apivalidation.ValidateImmutableField(a.NotBefore, b.NotBefore, at.Child("notBefore"))...)
		errs = append(errs, apivalidation.ValidateImmutableField(a.BeginRefreshAt, b.BeginRefreshAt, at.Child("beginRefreshAt"))...)
		return append(errs, apivalidation.ValidateImmutableField(a.NotAfter, b.NotAfter, at.Child("notAfter"))...)
	}
	if now == certificatesv1.PodCertificateRequestConditionTypeIssued {
		return append(errs, validateIssued(r, at)...)
	}
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"certificateChain", r.Status.CertificateChain != ""}, {"notBefore", r.Status.NotBefore != nil},
		{"beginRefreshAt", r.Status.BeginRefreshAt != nil}, {"notAfter", r.Status.NotAfter != nil},
	} {
		if f.set {
			errs = append(errs, field.Forbidden(at.Child(f.name), `must be empty unless there is a condition of type "Issued"`))
		}
	}
	return errs
}

func validateVerdicts(r, old *certificatesv1.PodCertificateRequest, at *field.Path) field.ErrorList {
	errs := metavalidation.ValidateConditions(r.Status.Conditions, at)
	verdicts := 0
	for i, c := range r.Status.Conditions {
		if !verdict(c.Type) {
			continue
		}
		if verdicts++; c.Status != metav1.ConditionTrue {
			errs = append(errs, field.NotSupported(at.Index(i).Child("status"), c.Status, []metav1.ConditionStatus{metav1.ConditionTrue}))
		}
	}
	if verdicts > 1 {
		errs = append(errs, field.Invalid(at, r.Status.Conditions, `there may be at most one condition with type "Issued", "Denied", or "Failed"`))
	}
	if was := podRequestState(old); verdict(was) && podRequestState(r) != was {
		errs = append(errs, field.Forbidden(at, fmt.Sprintf("updates may not remove a condition of type %q", was)))
	}
	return errs
}

// validateIssued compares what the status says of the certificate with the certificate, and that with the request.
func validateIssued(r *certificatesv1.PodCertificateRequest, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, f := range []struct {
		name string
		time *metav1.Time
	}{{"notBefore", r.Status.NotBefore}, {"beginRefreshAt", r.Status.BeginRefreshAt}, {"notAfter", r.Status.NotAfter}} {
		if f.time == nil {
			errs = append(errs, field.Required(at.Child(f.name), `must be present and consistent with the issued certificate when there is a condition of type "Issued"`))
		}
	}
	chain := at.Child("certificateChain")
	if err := checkCertificate([]byte(r.Status.CertificateChain)); err != nil {
		return append(errs, field.Invalid(chain, "<value omitted>", err.Error()))
	}
	leaf, err := leafOf(r.Status.CertificateChain)
	if err != nil {
		return append(errs, field.Invalid(chain, "<value omitted>", err.Error()))
	}
	if !issuedTo(leaf, r.Spec.StubPKCS10Request) {
		errs = append(errs, field.Invalid(chain, "<value omitted>", "leaf certificate was not issued to the requested public key"))
	}
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	if life < time.Hour {
		errs = append(errs, field.Invalid(chain, "<value omitted>", fmt.Sprintf("leaf certificate lifetime must be >= 1 hour (got %s)", life)))
	}
	if most := r.Spec.MaxExpirationSeconds; most != nil && life > time.Duration(*most)*time.Second {
		errs = append(errs, field.Invalid(chain, "<value omitted>", fmt.Sprintf("leaf certificate lifetime must be <= spec.maxExpirationSeconds (%d)", *most)))
	}
	if len(errs) > 0 {
		return errs
	}
	return validateDates(&r.Status, leaf, at)
}

func validateDates(s *certificatesv1.PodCertificateRequestStatus, leaf *x509.Certificate, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if !s.NotBefore.Time.Equal(leaf.NotBefore) {
		errs = append(errs, field.Invalid(at.Child("notBefore"), s.NotBefore, "must be set to the NotBefore time encoded in the leaf certificate"))
	}
	if !s.NotAfter.Time.Equal(leaf.NotAfter) {
		errs = append(errs, field.Invalid(at.Child("notAfter"), s.NotAfter, "must be set to the NotAfter time encoded in the leaf certificate"))
	}
	refresh := at.Child("beginRefreshAt")
	if s.BeginRefreshAt.Time.Before(s.NotBefore.Add(refreshMargin)) {
		errs = append(errs, field.Invalid(refresh, s.BeginRefreshAt, "must be at least 10 minutes after status.notBefore"))
	}
	if s.BeginRefreshAt.Time.After(s.NotAfter.Add(-refreshMargin)) {
		errs = append(errs, field.Invalid(refresh, s.BeginRefreshAt, "must be at least 10 minutes before status.notAfter"))
	}
	return errs
}

// leafOf returns the first certificate of a chain that checkCertificate accepts.
func leafOf(chain string) (*x509.Certificate, error) {
	b, _ := pem.Decode([]byte(chain))
	if b == nil {
		return nil, errors.New("must contain at least one CERTIFICATE PEM block")
	}
	return x509.ParseCertificate(b.Bytes)
}

func issuedTo(leaf *x509.Certificate, stub []byte) bool {
	request, err := x509.ParseCertificateRequest(stub)
	if err != nil {
		return false
	}
	key, ok := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	return ok && key.Equal(request.PublicKey)
}
