// Package servingbundle publishes the certificates by which API servers are known as a ClusterTrustBundle of the signer
// kubernetes.io/kube-apiserver-serving, for pods that project it. When the certificates change, a bundle of another name takes the
// place of the old one.
package servingbundle

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	listers "k8s.io/client-go/listers/certificates/v1"

	"canopus/internal/controllers/reconcile"
)

const signer = "kubernetes.io/kube-apiserver-serving"

// Config is what the controller works with.
type Config struct {
	reconcile.Deps
	RootCA []byte // PEM
}

// Controller reconciles the bundles of the signer, all with one key.
type Controller struct {
	Config
	want    *certificatesv1.ClusterTrustBundle
	bundles listers.ClusterTrustBundleLister
	loop    *reconcile.Loop[string]
}

// New makes a controller that does nothing before Run.
func New(config Config) (*Controller, error) {
	if err := config.Check(); err != nil {
		return nil, err
	}
	if !Anchors(config.RootCA) {
		return nil, errors.New("the publisher of trust anchors needs certificates of authorities")
	}
	informer := config.Informers.Certificates().V1().ClusterTrustBundles()
	c := &Controller{Config: config, want: bundle(config.RootCA), bundles: informer.Lister()}
	var err error
	c.loop, err = reconcile.New(reconcile.Config[string]{
		Name: "kube-apiserver-serving-clustertrustbundle-publisher", Workers: 1, Reconcile: c.reconcile, Clock: config.Clock, Log: config.Log, Queues: config.Queues,
		Sources: []reconcile.Source[string]{reconcile.On(informer.Informer(), concerns)},
	})
	if err == nil {
		c.loop.Add(signer) // if there is none yet, nothing tells
	}
	return c, err
}

// Run works until ctx ends.
func (c *Controller) Run(ctx context.Context) error { return c.loop.Run(ctx) }

// Anchors says whether ca is what can be published: certificates of authorities, and at least one.
func Anchors(ca []byte) bool {
	n := 0
	for {
		var b *pem.Block
		if b, ca = pem.Decode(ca); b == nil {
			return n > 0
		}
		if certificate, err := x509.ParseCertificate(b.Bytes); err != nil || !certificate.IsCA {
			return false
		}
		n++
	}
}

// bundle is what is to be published. Its name follows from what it holds, so that one that holds something else is another.
func bundle(ca []byte) *certificatesv1.ClusterTrustBundle {
	sum := sha256.Sum256(ca)
	return &certificatesv1.ClusterTrustBundle{
		ObjectMeta: metav1.ObjectMeta{Name: strings.ReplaceAll(signer, "/", ":") + ":" + hex.EncodeToString(sum[:8])},
		Spec:       certificatesv1.ClusterTrustBundleSpec{SignerName: signer, TrustBundle: string(ca)},
	}
}

func concerns(old, b *certificatesv1.ClusterTrustBundle) []string {
	for _, side := range []*certificatesv1.ClusterTrustBundle{old, b} {
		if side != nil && side.Spec.SignerName == signer {
			return []string{signer}
		}
	}
	return nil
}

// plan says what of the signer's bundles is to be written, nil if want is there, and which are to go. They go last: until then
// everybody finds one.
func plan(want *certificatesv1.ClusterTrustBundle, all []*certificatesv1.ClusterTrustBundle) (write *certificatesv1.ClusterTrustBundle, remove []*certificatesv1.ClusterTrustBundle) {
	write = want
	for _, b := range all {
		switch {
		case b.Spec.SignerName != signer:
		case b.Name != want.Name:
			remove = append(remove, b)
		case b.Spec.TrustBundle == want.Spec.TrustBundle:
			write = nil
		default:
			write = b.DeepCopy()
			write.Spec.TrustBundle = want.Spec.TrustBundle
		}
	}
	slices.SortFunc(remove, func(a, b *certificatesv1.ClusterTrustBundle) int { return strings.Compare(a.Name, b.Name) })
	return write, remove
}

func (c *Controller) reconcile(ctx context.Context, _ string) (time.Duration, error) {
	all, err := c.bundles.List(labels.Everything())
	if err != nil {
		return 0, err
	}
	api := c.Client.CertificatesV1().ClusterTrustBundles()
	write, remove := plan(c.want, all)
	switch {
	case write == nil:
	case write.ResourceVersion == "":
		_, err = api.Create(ctx, write, metav1.CreateOptions{})
	default:
		_, err = api.Update(ctx, write, metav1.UpdateOptions{})
	}
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return 0, fmt.Errorf("publish trust bundle %s: %w", c.want.Name, err)
	}
	for _, b := range remove {
		err := api.Delete(ctx, b.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(b.UID))})
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			return 0, fmt.Errorf("remove the former trust bundle %s: %w", b.Name, err)
		}
	}
	return 0, nil
}
