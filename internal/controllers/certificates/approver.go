package certificates

import (
	"context"
	"crypto/x509"
	"fmt"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	listers "k8s.io/client-go/listers/certificates/v1"

	"canopus/internal/controllers/reconcile"
)

// askAgain is how long a request that was refused waits: its author may get the right, its node the address.
const askAgain = time.Minute

// claim is a request that is approved by itself if its author has a right: to create the subresource of requests.
type claim struct {
	subresource string
	message     string
	serving     bool // the node's addresses decide too
}

// recognize tells which claim r makes; false when it is for people to decide.
func recognize(r *csr, req *x509.CertificateRequest) (claim, bool) {
	self := r.Spec.Username == req.Subject.CommonName
	switch {
	case checkRules(r.Spec.SignerName, req, r.Spec.Usages) != nil:
	case r.Spec.SignerName == certificatesv1.KubeAPIServerClientKubeletSignerName && self:
		return claim{"selfnodeclient", "Auto approving self kubelet client certificate after SubjectAccessReview.", false}, true
	case r.Spec.SignerName == certificatesv1.KubeAPIServerClientKubeletSignerName:
		return claim{"nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview.", false}, true
	case r.Spec.SignerName == certificatesv1.KubeletServingSignerName && self:
		return claim{"selfnodeserver", "Auto approving self kubelet server certificate after SubjectAccessReview.", true}, true
	}
	return claim{}, false
}

// review is the question whether r's author may make the claim.
func (c claim) review(r *csr) *authorizationv1.SubjectAccessReview {
	extra := make(map[string]authorizationv1.ExtraValue, len(r.Spec.Extra))
	for k, v := range r.Spec.Extra {
		extra[k] = authorizationv1.ExtraValue(v)
	}
	return &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: r.Spec.Username, UID: r.Spec.UID, Groups: r.Spec.Groups, Extra: extra,
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Group: certificatesv1.GroupName, Resource: "certificatesigningrequests", Verb: "create", Subresource: c.subresource, Version: "*",
		},
	}}
}

// Approver is the controller that approves what needs no person.
type Approver struct {
	reconcile.Deps
	requests listers.CertificateSigningRequestLister
	places   places
	loop     *reconcile.Loop[string]
}

// NewApprover makes a controller that does nothing before Run.
func NewApprover(d reconcile.Deps) (*Approver, error) {
	if err := d.Check(); err != nil {
		return nil, err
	}
	a := &Approver{Deps: d, requests: d.Informers.Certificates().V1().CertificateSigningRequests().Lister(), places: newPlaces(d.Informers)}
	var err error
	a.loop, err = reconcile.New(reconcile.Config[string]{
		Name: "certificate_approver", Workers: 2, Reconcile: a.reconcile, Clock: d.Clock, Log: d.Log, Queues: d.Queues, Caches: a.places.caches(),
		Sources: []reconcile.Source[string]{reconcile.On(d.Informers.Certificates().V1().CertificateSigningRequests().Informer(), byName)},
	})
	return a, err
}

// Run works until ctx ends.
func (a *Approver) Run(ctx context.Context) error { return a.loop.Run(ctx) }

func (a *Approver) reconcile(ctx context.Context, name string) (time.Duration, error) {
	r, err := a.requests.Get(name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if len(r.Status.Certificate) > 0 || has(r, certificatesv1.CertificateApproved) || has(r, certificatesv1.CertificateDenied) || has(r, certificatesv1.CertificateFailed) {
		return 0, nil
	}
	req, err := parse(r)
	if err != nil {
		return 0, reconcile.Terminal(fmt.Errorf("certificate request %s: %w", name, err))
	}
	claimed, ok := recognize(r, req)
	if !ok {
		return 0, nil
	}
	if refused, err := a.refuse(ctx, r, req, claimed); err != nil || refused != "" {
		if refused != "" {
			a.Log.Info("a node's certificate request waits", "certificatesigningrequest", name, "reason", refused)
			return askAgain, nil
		}
		return 0, err
	}
	next := r.DeepCopy()
	mark(next, certificatesv1.CertificateSigningRequestCondition{Type: certificatesv1.CertificateApproved, Reason: "AutoApproved", Message: claimed.message}, a.Clock.Now())
	_, err = a.Client.CertificatesV1().CertificateSigningRequests().UpdateApproval(ctx, name, next, metav1.UpdateOptions{})
	if err == nil || apierrors.IsNotFound(err) {
		return 0, nil
	}
	return 0, fmt.Errorf("approve certificate request %s: %w", name, err)
}

// refuse says why a claim is not granted now, or "".
func (a *Approver) refuse(ctx context.Context, r *csr, req *x509.CertificateRequest, c claim) (string, error) {
	answer, err := a.Client.AuthorizationV1().SubjectAccessReviews().Create(ctx, c.review(r), metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("ask whether %s may have the certificate that %s asks for: %w", r.Spec.Username, r.Name, err)
	}
	if !answer.Status.Allowed {
		return fmt.Sprintf("%s may not create certificatesigningrequests/%s: approve it by hand, or bind a role that allows it", r.Spec.Username, c.subresource), nil
	}
	if !c.serving {
		return "", nil
	}
	seen, err := a.places.observe()
	if err != nil {
		return "", err
	}
	return refuseServing(req, seen), nil
}
