// Package plugins holds the built-in admission plugins, one per file, named and behaving as upstream's. Default returns them in
// upstream's order.
package plugins

import (
	"errors"

	"canopus/internal/admission"
	"canopus/internal/auth"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/clock"
)

// Config is what the plugins share. All fields are required; the informers must not have been started.
type Config struct {
	Client    kubernetes.Interface // for the rare read that a cache is too old for
	Informers informers.SharedInformerFactory
	Clock     clock.PassiveClock
	// Authorizer is the server's whole one: some plugins ask it about rights that no path of the API stands for.
	Authorizer auth.Authorizer
}

// Default returns the plugins that are on by default, in upstream's order.
func Default(c Config) ([]admission.Plugin, error) {
	if c.Client == nil || c.Informers == nil || c.Clock == nil || c.Authorizer == nil {
		return nil, errors.New("admission plugins: client, informers, clock and authorizer are required")
	}
	signers := signerRights{c.Authorizer}
	return []admission.Plugin{
		NewNamespaceLifecycle(c),
		NewLimitRanger(c),
		NewServiceAccount(c),
		NewNodeRestriction(c),
		TaintNodesByCondition{},
		NewPriority(c),
		DefaultTolerationSeconds{},
		NewDefaultStorageClass(c),
		StorageObjectInUseProtection{},
		NewPersistentVolumeClaimResize(c),
		NewRuntimeClass(c),
		CertificateApproval{signers},
		CertificateSigning{signers},
		ClusterTrustBundleAttest{signers},
		CertificateSubjectRestriction{},
		NewPodTopologyLabels(c),
		NewDeviceAdminAccess(c),
		DeviceClaimStatus{c.Authorizer},
	}, nil
}

// forbidden refuses r with upstream's shape of text: <resource> "<name>" is forbidden: <reason>.
func forbidden(r *admission.Request, reason string) error {
	return apierrors.NewForbidden(r.Resource.GroupResource(), r.Called(), errors.New(reason))
}

// isPod says whether r writes whole pods.
func isPod(r *admission.Request) bool {
	return r.Resource.Resource == "pods" && r.Resource.Group == "" && r.Subresource == ""
}
