// Package certificates serves requests for the certificates of this cluster: three controllers that meet only in the
// CertificateSigningRequest. The approver says yes to nodes that renew what they have, the signer issues what was approved,
// the cleaner removes what nobody needs any more. Requests for the certificates of pods are for signers that are programs of their
// own: here they are only removed in time (podcleaner.go).
//
// request.go reads a request and knows the rules of each signer; signer.go, approver.go and cleaner.go are the controllers,
// each with its decision first; serving.go is the rule by which nodes get certificates for their own addresses.
package certificates

import (
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"canopus/internal/controllers/reconcile"
)

type csr = certificatesv1.CertificateSigningRequest

// legacyUnknown is a signer that only requests of old API versions could name.
const legacyUnknown = "kubernetes.io/legacy-unknown"

// byName is the key of every loop here: requests have no namespace.
func byName(_, r *csr) []string {
	if r == nil {
		return nil
	}
	return []string{r.Name}
}

func condition(r *csr, t certificatesv1.RequestConditionType) *certificatesv1.CertificateSigningRequestCondition {
	for i := range r.Status.Conditions {
		if r.Status.Conditions[i].Type == t {
			return &r.Status.Conditions[i]
		}
	}
	return nil
}

func has(r *csr, t certificatesv1.RequestConditionType) bool { return condition(r, t) != nil }

// mark adds a condition that is True.
func mark(r *csr, c certificatesv1.CertificateSigningRequestCondition, now time.Time) {
	c.Status, c.LastUpdateTime, c.LastTransitionTime = corev1.ConditionTrue, metav1.NewTime(now), metav1.NewTime(now)
	r.Status.Conditions = append(r.Status.Conditions, c)
}

// loop is what the three have in common.
func loop(name string, d reconcile.Deps, f reconcile.Func[string]) (*reconcile.Loop[string], error) {
	return reconcile.New(reconcile.Config[string]{
		Name: name, Workers: 2, Reconcile: f, Clock: d.Clock, Log: d.Log, Queues: d.Queues,
		Sources: []reconcile.Source[string]{reconcile.On(d.Informers.Certificates().V1().CertificateSigningRequests().Informer(), byName)},
	})
}
