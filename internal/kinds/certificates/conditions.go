package certificates

import (
	"bytes"
	"fmt"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// prepareApproval lets an approval write conditions only.
func prepareApproval(r, old *certificatesv1.CertificateSigningRequest) {
	r.Spec, r.Status.Certificate = old.Spec, old.Status.Certificate
}

func validateApproval(r, old *certificatesv1.CertificateSigningRequest) field.ErrorList {
	return append(validateConditions(r), unremovable(r, old)...)
}

// validateStatus keeps signers from approving, and an issued certificate from being exchanged.
func validateStatus(r, old *certificatesv1.CertificateSigningRequest) field.ErrorList {
	errs := append(validateConditions(r), unremovable(r, old)...)
	path := field.NewPath("status", "conditions")
	for _, t := range []certificatesv1.RequestConditionType{certificatesv1.CertificateApproved, certificatesv1.CertificateDenied} {
		now, before := find(r, t), find(old, t)
		switch {
		case now == nil: // a removal has been refused already
		case before == nil:
			errs = append(errs, field.Forbidden(path, fmt.Sprintf("updates may not add a condition of type %q", t)))
		case !sameVerdict(now, before):
			errs = append(errs, field.Forbidden(path, fmt.Sprintf("updates may not modify a condition of type %q", t)))
		}
	}
	if bytes.Equal(r.Status.Certificate, old.Status.Certificate) {
		return errs
	}
	at := field.NewPath("status", "certificate")
	if len(old.Status.Certificate) > 0 {
		return append(errs, field.Forbidden(at, "updates may not modify existing certificate content"))
	}
	if err := checkCertificate(r.Status.Certificate); err != nil {
		errs = append(errs, field.Invalid(at, "<certificate data>", err.Error()))
	}
	return errs
}

func sameVerdict(a, b *certificatesv1.CertificateSigningRequestCondition) bool {
	return apiequality.Semantic.DeepEqual(a, b)
}

// unremovable refuses to forget a verdict: once approved, denied or failed, a request stays so.
func unremovable(r, old *certificatesv1.CertificateSigningRequest) field.ErrorList {
	var errs field.ErrorList
	for _, c := range old.Status.Conditions {
		switch c.Type {
		case certificatesv1.CertificateApproved, certificatesv1.CertificateDenied, certificatesv1.CertificateFailed:
			if find(r, c.Type) == nil {
				errs = append(errs, field.Forbidden(field.NewPath("status", "conditions"), fmt.Sprintf("updates may not remove a condition of type %q", c.Type)))
			}
		}
	}
	return errs
}

func validateConditions(r *certificatesv1.CertificateSigningRequest) field.ErrorList {
	var errs field.ErrorList
	path, seen := field.NewPath("status", "conditions"), map[certificatesv1.RequestConditionType]bool{}
	for i, c := range r.Status.Conditions {
		at := path.Index(i)
		if c.Type == "" {
			errs = append(errs, field.Required(at.Child("type"), ""))
		}
		errs = append(errs, validateConditionStatus(&c, at.Child("status"))...)
		if seen[c.Type] {
			errs = append(errs, field.Duplicate(at.Child("type"), c.Type))
		}
		seen[c.Type] = true
	}
	if seen[certificatesv1.CertificateApproved] && seen[certificatesv1.CertificateDenied] {
		errs = append(errs, field.Invalid(path, "", "Approved and Denied conditions are mutually exclusive"))
	}
	return errs
}

func validateConditionStatus(c *certificatesv1.CertificateSigningRequestCondition, at *field.Path) field.ErrorList {
	allowed := []corev1.ConditionStatus{corev1.ConditionTrue, corev1.ConditionFalse, corev1.ConditionUnknown}
	switch c.Type {
	case certificatesv1.CertificateApproved, certificatesv1.CertificateDenied, certificatesv1.CertificateFailed:
		allowed = allowed[:1]
	}
	if c.Status == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	for _, s := range allowed {
		if c.Status == s {
			return nil
		}
	}
	return field.ErrorList{field.NotSupported(at, c.Status, allowed)}
}
