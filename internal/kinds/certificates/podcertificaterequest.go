package certificates

import (
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds"
	"canopus/internal/kinds/show"
)

// dayOfLife is how long certificates of pods live whose requests do not say.
const dayOfLife = 24 * 60 * 60

// PodCertificateRequest is certificates.k8s.io/v1 podcertificaterequests: a node asks for the certificate of one of its pods.
func PodCertificateRequest() *kinds.Kind {
	doc := certificatesv1.PodCertificateRequestSpec{}.SwaggerDoc()
	return kinds.New(kinds.Spec[certificatesv1.PodCertificateRequest, *certificatesv1.PodCertificateRequest]{
		GVK:        certificatesv1.SchemeGroupVersion.WithKind("PodCertificateRequest"),
		Plural:     "podcertificaterequests",
		Namespaced: true,
		NewList:    func() runtime.Object { return &certificatesv1.PodCertificateRequestList{} },

		Default: func(r *certificatesv1.PodCertificateRequest) {
			if r.Spec.MaxExpirationSeconds == nil {
				seconds := int32(dayOfLife)
				r.Spec.MaxExpirationSeconds = &seconds
			}
		},
		PrepareCreate: func(r *certificatesv1.PodCertificateRequest) { r.Status = certificatesv1.PodCertificateRequestStatus{} },
		PrepareUpdate: func(r, old *certificatesv1.PodCertificateRequest) { r.Status = old.Status },
		Validate:      validatePodRequest,
		ValidateUpdate: func(r, old *certificatesv1.PodCertificateRequest) field.ErrorList {
			return apivalidation.ValidateImmutableField(r.Spec, old.Spec, field.NewPath("spec"))
		},
		Subresources: []kinds.Subresource{kinds.Status(
			func(r, old *certificatesv1.PodCertificateRequest) { r.Spec = old.Spec }, validatePodRequestStatus)},
		Columns: []metav1.TableColumnDefinition{
			show.Name(),
			show.Column("PodName", "string", doc["podName"]),
			show.Column("ServiceAccountName", "string", doc["serviceAccountName"]),
			show.Column("NodeName", "string", doc["nodeName"]),
			show.Column("SignerName", "string", doc["signerName"]),
			show.Column("State", "string", certificatesv1.PodCertificateRequestStatus{}.SwaggerDoc()["conditions"]),
		},
		Cells: func(r *certificatesv1.PodCertificateRequest, _ time.Time) []any {
			return []any{r.Name, r.Spec.PodName, r.Spec.ServiceAccountName, string(r.Spec.NodeName), r.Spec.SignerName, podRequestState(r)}
		},
		Fields: map[string]func(*certificatesv1.PodCertificateRequest) string{
			"spec.signerName": func(r *certificatesv1.PodCertificateRequest) string { return r.Spec.SignerName },
			"spec.podName":    func(r *certificatesv1.PodCertificateRequest) string { return r.Spec.PodName },
			"spec.nodeName":   func(r *certificatesv1.PodCertificateRequest) string { return string(r.Spec.NodeName) },
		},
		Indexed: []string{"spec.nodeName"},
	})
}

// verdict says whether a condition decides about a request: then it is the only one that does.
func verdict(conditionType string) bool {
	switch conditionType {
	case certificatesv1.PodCertificateRequestConditionTypeIssued, certificatesv1.PodCertificateRequestConditionTypeDenied,
		certificatesv1.PodCertificateRequestConditionTypeFailed:
		return true
	}
	return false
}

// podRequestState is the column that tells what became of a request.
func podRequestState(r *certificatesv1.PodCertificateRequest) string {
	for _, c := range r.Status.Conditions {
		if verdict(c.Type) {
			return c.Type
		}
	}
	return "Pending"
}
