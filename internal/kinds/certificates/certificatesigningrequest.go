// Package certificates describes requests for certificates.
//
// certificatesigningrequest.go is the kind, request.go and conditions.go are its rules.
package certificates

import (
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds"
	"canopus/internal/kinds/show"
)

// CertificateSigningRequest is certificates.k8s.io/v1 certificatesigningrequests.
func CertificateSigningRequest() *kinds.Kind {
	doc := certificatesv1.CertificateSigningRequestSpec{}.SwaggerDoc()
	return kinds.New(kinds.Spec[certificatesv1.CertificateSigningRequest, *certificatesv1.CertificateSigningRequest]{
		GVK:        certificatesv1.SchemeGroupVersion.WithKind("CertificateSigningRequest"),
		Plural:     "certificatesigningrequests",
		ShortNames: []string{"csr"},
		NewList:    func() runtime.Object { return &certificatesv1.CertificateSigningRequestList{} },
		NameRule:   func(name string, _ bool) []string { return path.IsValidPathSegmentName(name) },

		PrepareCreate: func(r *certificatesv1.CertificateSigningRequest) {
			r.Status = certificatesv1.CertificateSigningRequestStatus{}
			setAuthor(r, authenticationv1.UserInfo{})
		},
		Author:        setAuthor,
		PrepareUpdate: func(r, old *certificatesv1.CertificateSigningRequest) { r.Spec, r.Status = old.Spec, old.Status },
		Validate:      validateRequest,
		// What is stored may come from before a rule; nothing of it can be changed here.
		ValidateUpdate: func(_, _ *certificatesv1.CertificateSigningRequest) field.ErrorList { return nil },
		Subresources: []kinds.Subresource{
			stamped(kinds.Sub("approval", prepareApproval, validateApproval)),
			stamped(kinds.Status(func(r, old *certificatesv1.CertificateSigningRequest) { r.Spec = old.Spec }, validateStatus)),
		},
		Columns: []metav1.TableColumnDefinition{
			show.Name(), show.AgeColumn(),
			show.Column("SignerName", "string", doc["signerName"]),
			show.Column("Requestor", "string", doc["username"]),
			show.Column("RequestedDuration", "string", doc["expirationSeconds"]),
			show.Column("Condition", "string", certificatesv1.CertificateSigningRequestStatus{}.SwaggerDoc()["conditions"]),
		},
		Cells: func(r *certificatesv1.CertificateSigningRequest, now time.Time) []any {
			asked := show.None
			if s := r.Spec.ExpirationSeconds; s != nil {
				asked = duration.HumanDuration(time.Duration(*s) * time.Second)
			}
			return []any{r.Name, show.Age(r.CreationTimestamp, now), r.Spec.SignerName, r.Spec.Username, asked, progress(r)}
		},
		Fields: map[string]func(*certificatesv1.CertificateSigningRequest) string{
			"spec.signerName": func(r *certificatesv1.CertificateSigningRequest) string { return r.Spec.SignerName },
		},
	})
}

// setAuthor records who asks: a signer's decision hangs on it, so that nobody may say it but the server.
func setAuthor(r *certificatesv1.CertificateSigningRequest, by authenticationv1.UserInfo) {
	r.Spec.Username, r.Spec.UID, r.Spec.Groups, r.Spec.Extra = by.Username, by.UID, by.Groups, nil
	for k, v := range by.Extra {
		if r.Spec.Extra == nil {
			r.Spec.Extra = make(map[string]certificatesv1.ExtraValue, len(by.Extra))
		}
		r.Spec.Extra[k] = certificatesv1.ExtraValue(v)
	}
}

// stamped lets the server date the conditions whose writers did not.
func stamped(s kinds.Subresource) kinds.Subresource {
	s.Stamp = func(obj, old kinds.Object, now time.Time) {
		r, before := obj.(*certificatesv1.CertificateSigningRequest), old.(*certificatesv1.CertificateSigningRequest)
		for i := range r.Status.Conditions {
			c := &r.Status.Conditions[i]
			had := find(before, c.Type)
			switch {
			case !c.LastTransitionTime.IsZero():
			case had == nil || had.Status != c.Status:
				c.LastTransitionTime = metav1.NewTime(now.UTC().Truncate(time.Second))
			default:
				c.LastTransitionTime = had.LastTransitionTime
			}
			if c.LastUpdateTime.IsZero() {
				c.LastUpdateTime = metav1.NewTime(now.UTC().Truncate(time.Second))
			}
		}
	}
	return s
}

func find(r *certificatesv1.CertificateSigningRequest, t certificatesv1.RequestConditionType) *certificatesv1.CertificateSigningRequestCondition {
	for i := range r.Status.Conditions {
		if r.Status.Conditions[i].Type == t {
			return &r.Status.Conditions[i]
		}
	}
	return nil
}

// progress is the column that tells how far a request has come.
func progress(r *certificatesv1.CertificateSigningRequest) string {
	is := func(t certificatesv1.RequestConditionType) bool {
		c := find(r, t)
		return c != nil && c.Status != corev1.ConditionFalse
	}
	text := "Pending"
	switch {
	case is(certificatesv1.CertificateDenied):
		text = "Denied"
	case is(certificatesv1.CertificateApproved):
		text = "Approved"
	}
	if is(certificatesv1.CertificateFailed) {
		text += ",Failed"
	}
	if len(r.Status.Certificate) > 0 {
		text += ",Issued"
	}
	return text
}
