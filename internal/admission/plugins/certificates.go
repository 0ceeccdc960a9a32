package plugins

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"

	"canopus/internal/admission"
	"canopus/internal/auth"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/api/equality"
)

// signerRights asks whether users have a verb on a signer.
type signerRights struct{ authorizer auth.Authorizer }

// may is true when r's user has verb on the signer itself or on all signers of its domain.
func (s signerRights) may(ctx context.Context, r *admission.Request, verb, signer string) bool {
	domain, _, _ := strings.Cut(signer, "/")
	for _, name := range []string{signer, domain + "/*"} {
		d, _, _ := s.authorizer.Authorize(ctx, &auth.Attributes{
			User: r.User, Verb: verb, IsResource: true, Group: certificatesv1.GroupName, Version: "*", Resource: "signers", Name: name,
		})
		if d == auth.Allow {
			return true
		}
	}
	return false
}

func isRequest(r *admission.Request, subresource string) bool {
	return r.Resource.Group == certificatesv1.GroupName && r.Resource.Resource == "certificatesigningrequests" && r.Subresource == subresource
}

func isPodRequest(r *admission.Request, subresource string) bool {
	return r.Resource.Group == certificatesv1.GroupName && r.Resource.Resource == "podcertificaterequests" && r.Subresource == subresource
}

// CertificateApproval lets only those who may approve for a signer approve or deny requests to it.
type CertificateApproval struct{ rights signerRights }

// Name implements admission.Plugin.
func (CertificateApproval) Name() string { return "CertificateApproval" }

// Handles implements admission.Plugin.
func (CertificateApproval) Handles(r *admission.Request) bool {
	return r.Operation == admission.Update && isRequest(r, "approval")
}

// Validate implements admission.Validator.
func (p CertificateApproval) Validate(ctx context.Context, r *admission.Request) error {
	old, ok := r.Old.(*certificatesv1.CertificateSigningRequest)
	if !ok {
		return forbidden(r, fmt.Sprintf("unexpected type %T", r.Old))
	}
	if !p.rights.may(ctx, r, "approve", old.Spec.SignerName) {
		return forbidden(r, fmt.Sprintf("user not permitted to approve requests with signerName %q", old.Spec.SignerName))
	}
	return nil
}

// CertificateSigning lets only those who may sign for a signer issue certificates in its name, or say that it failed.
type CertificateSigning struct{ rights signerRights }

// Name implements admission.Plugin.
func (CertificateSigning) Name() string { return "CertificateSigning" }

// Handles implements admission.Plugin.
func (CertificateSigning) Handles(r *admission.Request) bool {
	return r.Operation == admission.Update && (isRequest(r, "status") || isPodRequest(r, "status"))
}

// Validate implements admission.Validator.
func (p CertificateSigning) Validate(ctx context.Context, r *admission.Request) error {
	if isPodRequest(r, "status") {
		return p.validatePodRequest(ctx, r)
	}
	now, ok := r.Object.(*certificatesv1.CertificateSigningRequest)
	old, had := r.Old.(*certificatesv1.CertificateSigningRequest)
	if !ok || !had {
		return forbidden(r, fmt.Sprintf("unexpected types %T and %T", r.Old, r.Object))
	}
	if bytes.Equal(now.Status.Certificate, old.Status.Certificate) && equality.Semantic.DeepEqual(now.Status.Conditions, old.Status.Conditions) {
		return nil
	}
	if !p.rights.may(ctx, r, "sign", old.Spec.SignerName) {
		return forbidden(r, fmt.Sprintf("user not permitted to sign requests with signerName %q", old.Spec.SignerName))
	}
	return nil
}

// validatePodRequest: only a signer says anything about the certificate of a pod.
func (p CertificateSigning) validatePodRequest(ctx context.Context, r *admission.Request) error {
	now, ok := r.Object.(*certificatesv1.PodCertificateRequest)
	old, had := r.Old.(*certificatesv1.PodCertificateRequest)
	if !ok || !had {
		return forbidden(r, fmt.Sprintf("unexpected types %T and %T", r.Old, r.Object))
	}
	if equality.Semantic.DeepEqual(now.Status, old.Status) || p.rights.may(ctx, r, "sign", old.Spec.SignerName) {
		return nil
	}
	return forbidden(r, fmt.Sprintf("user not permitted to sign requests with signerName %q", old.Spec.SignerName))
}

// ClusterTrustBundleAttest lets only those who may attest for a signer publish its trust anchors.
type ClusterTrustBundleAttest struct{ rights signerRights }

// Name implements admission.Plugin.
func (ClusterTrustBundleAttest) Name() string { return "ClusterTrustBundleAttest" }

// Handles implements admission.Plugin.
func (ClusterTrustBundleAttest) Handles(r *admission.Request) bool {
	return (r.Operation == admission.Create || r.Operation == admission.Update) && r.Subresource == "" &&
		r.Resource.Group == certificatesv1.GroupName && r.Resource.Resource == "clustertrustbundles"
}

// Validate implements admission.Validator.
func (p ClusterTrustBundleAttest) Validate(ctx context.Context, r *admission.Request) error {
	now, ok := r.Object.(*certificatesv1.ClusterTrustBundle)
	if !ok {
		return forbidden(r, fmt.Sprintf("unexpected type %T", r.Object))
	}
	if old, ok := r.Old.(*certificatesv1.ClusterTrustBundle); ok && old.Spec == now.Spec {
		return nil
	}
	if signer := now.Spec.SignerName; signer != "" && !p.rights.may(ctx, r, "attest", signer) {
		return forbidden(r, fmt.Sprintf("user not permitted to attest for signerName %q", signer))
	}
	return nil
}

// CertificateSubjectRestriction refuses requests for client certificates in the group that authorization never asks about.
type CertificateSubjectRestriction struct{}

// Name implements admission.Plugin.
func (CertificateSubjectRestriction) Name() string { return "CertificateSubjectRestriction" }

// Handles implements admission.Plugin.
func (CertificateSubjectRestriction) Handles(r *admission.Request) bool {
	return r.Operation == admission.Create && isRequest(r, "")
}

// Validate implements admission.Validator.
func (CertificateSubjectRestriction) Validate(_ context.Context, r *admission.Request) error {
	csr, ok := r.Object.(*certificatesv1.CertificateSigningRequest)
	if !ok {
		return forbidden(r, fmt.Sprintf("unexpected type %T", r.Object))
	}
	if csr.Spec.SignerName != certificatesv1.KubeAPIServerClientSignerName {
		return nil
	}
	b, _ := pem.Decode(csr.Spec.Request)
	if b == nil {
		return forbidden(r, "unable to parse the request as PEM")
	}
	request, err := x509.ParseCertificateRequest(b.Bytes)
	if err != nil {
		return forbidden(r, fmt.Sprintf("unable to parse the request: %v", err))
	}
	if slices.Contains(request.Subject.Organization, auth.MastersGroup) {
		return forbidden(r, fmt.Sprintf("use of %s signer with %s group is not allowed", csr.Spec.SignerName, auth.MastersGroup))
	}
	return nil
}
