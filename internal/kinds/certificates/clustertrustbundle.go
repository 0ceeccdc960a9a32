package certificates

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds"
	"canopus/internal/kinds/check"
	"canopus/internal/kinds/show"
)

// maxTrustBundle bounds a bundle's bytes: pods mount it.
const maxTrustBundle = 1 << 20

// ClusterTrustBundle is certificates.k8s.io/v1 clustertrustbundles.
func ClusterTrustBundle() *kinds.Kind {
	return kinds.New(kinds.Spec[certificatesv1.ClusterTrustBundle, *certificatesv1.ClusterTrustBundle]{
		GVK:     certificatesv1.SchemeGroupVersion.WithKind("ClusterTrustBundle"),
		Plural:  "clustertrustbundles",
		NewList: func() runtime.Object { return &certificatesv1.ClusterTrustBundleList{} },
		// Which names are good depends on the signer: see validateBundleName.
		NameRule: func(name string, _ bool) []string { return path.IsValidPathSegmentName(name) },

		Validate: func(b *certificatesv1.ClusterTrustBundle) field.ErrorList {
			return append(validateBundleIdentity(b), validateAnchors(b.Spec.TrustBundle, field.NewPath("spec", "trustBundle"))...)
		},
		ValidateUpdate: func(b, old *certificatesv1.ClusterTrustBundle) field.ErrorList {
			errs := append(validateBundleIdentity(b), apivalidation.ValidateImmutableField(b.Spec.SignerName, old.Spec.SignerName, field.NewPath("spec", "signerName"))...)
			if b.Spec.TrustBundle != old.Spec.TrustBundle {
				errs = append(errs, validateAnchors(b.Spec.TrustBundle, field.NewPath("spec", "trustBundle"))...)
			}
			return errs
		},
		Columns: []metav1.TableColumnDefinition{
			show.Name(), show.Column("SignerName", "string", certificatesv1.ClusterTrustBundleSpec{}.SwaggerDoc()["signerName"]),
		},
		Cells: func(b *certificatesv1.ClusterTrustBundle, _ time.Time) []any {
			if b.Spec.SignerName == "" {
				return []any{b.Name, show.None}
			}
			return []any{b.Name, b.Spec.SignerName}
		},
		Fields: map[string]func(*certificatesv1.ClusterTrustBundle) string{
			"spec.signerName": func(b *certificatesv1.ClusterTrustBundle) string { return b.Spec.SignerName },
		},
	})
}

// validateBundleIdentity makes the name tell the signer, so that nobody can pass a bundle off as another's.
func validateBundleIdentity(b *certificatesv1.ClusterTrustBundle) field.ErrorList {
	at, signer := field.NewPath("metadata", "name"), b.Spec.SignerName
	if signer == "" {
		return check.Messages(at, b.Name, apivalidation.NameIsDNSSubdomain(b.Name, false))
	}
	errs := validateSignerName(signer, field.NewPath("spec", "signerName"))
	prefix := strings.ReplaceAll(signer, "/", ":") + ":"
	rest, ok := strings.CutPrefix(b.Name, prefix)
	if !ok {
		return append(errs, field.Invalid(at, b.Name, fmt.Sprintf("ClusterTrustBundle for signerName %s must be named with prefix %s", signer, prefix)))
	}
	return append(errs, check.Messages(at, b.Name, apivalidation.NameIsDNSSubdomain(rest, false))...)
}

// validateAnchors wants PEM certificates of authorities, each once.
func validateAnchors(bundle string, at *field.Path) field.ErrorList {
	if len(bundle) > maxTrustBundle {
		return field.ErrorList{field.TooLong(at, "", maxTrustBundle)}
	}
	bad := func(format string, args ...any) field.ErrorList {
		return field.ErrorList{field.Invalid(at, "<value omitted>", fmt.Sprintf(format, args...))}
	}
	var seen []*x509.Certificate
	for rest := []byte(bundle); ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			break
		}
		n := len(seen)
		switch {
		case b.Type != certificate:
			return bad("entry %d has bad block type: %v", n, b.Type)
		case len(b.Headers) > 0:
			return bad("entry %d has PEM block headers", n)
		}
		c, err := x509.ParseCertificate(b.Bytes)
		switch {
		case err != nil:
			return bad("entry %d does not parse as X.509: %v", n, err)
		case !c.IsCA:
			return bad("entry %d does not have the CA bit set", n)
		}
		for i, other := range seen {
			if bytes.Equal(other.Raw, c.Raw) {
				return bad("duplicate trust anchor (indices %d and %d)", i, n)
			}
		}
		seen = append(seen, c)
	}
	if len(seen) == 0 {
		return bad("at least one trust anchor must be provided")
	}
	return nil
}
