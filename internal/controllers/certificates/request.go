package certificates

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
)

const (
	nodeUser   = "system:node:"
	nodesGroup = "system:nodes"
)

// parse reads the PKCS#10 request inside r.
func parse(r *csr) (*x509.CertificateRequest, error) {
	b, _ := pem.Decode(r.Spec.Request)
	if b == nil || b.Type != "CERTIFICATE REQUEST" {
		return nil, errors.New("PEM block type must be CERTIFICATE REQUEST")
	}
	req, err := x509.ParseCertificateRequest(b.Bytes)
	if err != nil {
		return nil, err
	}
	return req, req.CheckSignature()
}

// ours says whether one of the built-in signers is asked.
func ours(signer string) bool {
	switch signer {
	case certificatesv1.KubeAPIServerClientSignerName, certificatesv1.KubeAPIServerClientKubeletSignerName,
		certificatesv1.KubeletServingSignerName, legacyUnknown:
		return true
	}
	return false
}

// checkRules says why the signer does not issue what is asked; nil when it does.
func checkRules(signer string, req *x509.CertificateRequest, usages []certificatesv1.KeyUsage) error {
	switch signer {
	case certificatesv1.KubeAPIServerClientSignerName:
		return checkClient(usages)
	case certificatesv1.KubeAPIServerClientKubeletSignerName:
		return checkNodeClient(req, usages)
	case certificatesv1.KubeletServingSignerName:
		return checkServing(req, usages)
	case legacyUnknown:
		return nil
	}
	return fmt.Errorf("signer %q is not built in", signer)
}

func checkClient(usages []certificatesv1.KeyUsage) error {
	allowed := []certificatesv1.KeyUsage{certificatesv1.UsageKeyEncipherment, certificatesv1.UsageDigitalSignature, certificatesv1.UsageClientAuth}
	for _, u := range usages {
		if !slices.Contains(allowed, u) {
			return fmt.Errorf("usages did not match, got %q, allowed are %q", usages, allowed)
		}
	}
	if !slices.Contains(usages, certificatesv1.UsageClientAuth) {
		return fmt.Errorf("usages did not match, got %q, %q is required", usages, certificatesv1.UsageClientAuth)
	}
	return nil
}

func checkNodeSubject(req *x509.CertificateRequest) error {
	switch {
	case !slices.Equal(req.Subject.Organization, []string{nodesGroup}):
		return errors.New("subject organization is not system:nodes")
	case !strings.HasPrefix(req.Subject.CommonName, nodeUser):
		//lint:ignore ST1005 clients know upstream's text
		return errors.New("subject common name does not begin with system:node:")
	case len(req.EmailAddresses) > 0:
		//lint:ignore ST1005 clients know upstream's text
		return errors.New("Email subjectAltNames are not allowed")
	case len(req.URIs) > 0:
		return errors.New("URI subjectAltNames are not allowed")
	}
	return nil
}

func checkNodeClient(req *x509.CertificateRequest, usages []certificatesv1.KeyUsage) error {
	switch err := checkNodeSubject(req); {
	case err != nil:
		return err
	case len(req.DNSNames) > 0:
		return errors.New("DNS subjectAltNames are not allowed")
	case len(req.IPAddresses) > 0:
		return errors.New("IP subjectAltNames are not allowed")
	}
	return exactly(usages, certificatesv1.UsageClientAuth)
}

func checkServing(req *x509.CertificateRequest, usages []certificatesv1.KeyUsage) error {
	if err := checkNodeSubject(req); err != nil {
		return err
	}
	if len(req.DNSNames) == 0 && len(req.IPAddresses) == 0 {
		return errors.New("DNS or IP subjectAltName is required")
	}
	return exactly(usages, certificatesv1.UsageServerAuth)
}

// exactly wants the purpose and a digital signature; key encipherment is what RSA keys need besides.
func exactly(usages []certificatesv1.KeyUsage, purpose certificatesv1.KeyUsage) error {
	rest := slices.DeleteFunc(slices.Clone(usages), func(u certificatesv1.KeyUsage) bool { return u == certificatesv1.UsageKeyEncipherment })
	slices.Sort(rest)
	want := []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, purpose}
	slices.Sort(want)
	if !slices.Equal(rest, want) {
		return fmt.Errorf("usages did not match, got %q, wanted %q with or without %q", usages, want, certificatesv1.UsageKeyEncipherment)
	}
	return nil
}

// x509Usages turns the API's usages into those of crypto/x509.
func x509Usages(usages []certificatesv1.KeyUsage) (x509.KeyUsage, []x509.ExtKeyUsage, error) {
	var plain x509.KeyUsage
	var extended []x509.ExtKeyUsage
	for _, u := range usages {
		if k, ok := plainUsage(u); ok {
			plain |= k
		} else if e, ok := extendedUsage(u); ok {
			extended = append(extended, e)
		} else {
			return 0, nil, fmt.Errorf("unrecognized usage %q", u)
		}
	}
	slices.Sort(extended)
	return plain, slices.Compact(extended), nil
}

func plainUsage(u certificatesv1.KeyUsage) (x509.KeyUsage, bool) {
	k, ok := map[certificatesv1.KeyUsage]x509.KeyUsage{
		certificatesv1.UsageSigning: x509.KeyUsageDigitalSignature, certificatesv1.UsageDigitalSignature: x509.KeyUsageDigitalSignature,
		certificatesv1.UsageContentCommitment: x509.KeyUsageContentCommitment, certificatesv1.UsageKeyEncipherment: x509.KeyUsageKeyEncipherment,
		certificatesv1.UsageKeyAgreement: x509.KeyUsageKeyAgreement, certificatesv1.UsageDataEncipherment: x509.KeyUsageDataEncipherment,
		certificatesv1.UsageCertSign: x509.KeyUsageCertSign, certificatesv1.UsageCRLSign: x509.KeyUsageCRLSign,
		certificatesv1.UsageEncipherOnly: x509.KeyUsageEncipherOnly, certificatesv1.UsageDecipherOnly: x509.KeyUsageDecipherOnly,
	}[u]
	return k, ok
}

func extendedUsage(u certificatesv1.KeyUsage) (x509.ExtKeyUsage, bool) {
	k, ok := map[certificatesv1.KeyUsage]x509.ExtKeyUsage{
		certificatesv1.UsageAny: x509.ExtKeyUsageAny, certificatesv1.UsageServerAuth: x509.ExtKeyUsageServerAuth,
		certificatesv1.UsageClientAuth: x509.ExtKeyUsageClientAuth, certificatesv1.UsageCodeSigning: x509.ExtKeyUsageCodeSigning,
		certificatesv1.UsageEmailProtection: x509.ExtKeyUsageEmailProtection, certificatesv1.UsageSMIME: x509.ExtKeyUsageEmailProtection,
		certificatesv1.UsageIPsecEndSystem: x509.ExtKeyUsageIPSECEndSystem, certificatesv1.UsageIPsecTunnel: x509.ExtKeyUsageIPSECTunnel,
		certificatesv1.UsageIPsecUser: x509.ExtKeyUsageIPSECUser, certificatesv1.UsageTimestamping: x509.ExtKeyUsageTimeStamping,
		certificatesv1.UsageOCSPSigning: x509.ExtKeyUsageOCSPSigning, certificatesv1.UsageMicrosoftSGC: x509.ExtKeyUsageMicrosoftServerGatedCrypto,
		certificatesv1.UsageNetscapeSGC: x509.ExtKeyUsageNetscapeServerGatedCrypto,
	}[u]
	return k, ok
}
