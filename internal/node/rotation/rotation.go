// Package rotation renews the certificates of a node agent that is not a server's own: the one it is a client with, and the one
// it serves with. It asks the cluster for new ones (CertificateSigningRequests to upstream's signers for kubelets) after two
// thirds of their life, with a fresh key each time, and writes both into one file (0600), so that a crash leaves the old pair
// or the new. Whoever uses the pair reads the file again: nothing is restarted.
//
// identity.go is which pair counts at the start, request.go the way to a new one.
package rotation

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/netip"
	"path/filepath"
	"sync"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/clock"
)

// The files that are kept beside the agent's kubeconfig: certificate and key of each.
const (
	clientFile  = "kubelet-client.pem"
	servingFile = "kubelet-server.pem"
)

// ClientFile is where the pair that the agent is a client with lies.
func ClientFile(dir string) string { return filepath.Join(dir, clientFile) }

// ServingFile is where the pair that the agent serves with lies.
func ServingFile(dir string) string { return filepath.Join(dir, servingFile) }

// retryAfter is how long to wait after a renewal that failed: there is a third of the certificate's life left for it.
const retryAfter = 15 * time.Minute

// maxWait makes sure that a clock that jumps, or a machine that slept, does not delay a renewal for months.
const maxWait = 12 * time.Hour

// Config says whose certificates are renewed. All fields are required.
type Config struct {
	Client    kubernetes.Interface // as the node
	Node      string
	Addresses []netip.Addr // at which the node is reached: they are in its status
	Dir       string       // where the pairs lie; see Adopt
	Clock     clock.Clock
	Log       *slog.Logger
}

// Rotator renews one node's certificates.
type Rotator struct{ c Config }

// New checks c.
func New(c Config) (*Rotator, error) {
	if c.Client == nil || c.Node == "" || len(c.Addresses) == 0 || c.Dir == "" || c.Clock == nil || c.Log == nil {
		return nil, errors.New("certificate rotation needs a client, the node's name and addresses, a directory, a clock and a log")
	}
	return &Rotator{c}, nil
}

// Run renews what is due until ctx ends.
func (r *Rotator) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, p := range []purpose{
		{name: "client", file: ClientFile(r.c.Dir), signer: certificatesv1.KubeAPIServerClientKubeletSignerName, usage: certificatesv1.UsageClientAuth},
		{name: "serving", file: ServingFile(r.c.Dir), signer: certificatesv1.KubeletServingSignerName, usage: certificatesv1.UsageServerAuth, names: true},
	} {
		wg.Go(func() { r.keep(ctx, p) })
	}
	wg.Wait()
	return nil
}

// purpose is one of the two certificates.
type purpose struct {
	name   string
	file   string
	signer string
	usage  certificatesv1.KeyUsage
	names  bool // carries the node's name and addresses
}

// keep renews one certificate whenever it is due.
func (r *Rotator) keep(ctx context.Context, p purpose) {
	var notBefore time.Time // of the next try after a failure
	for {
		due := r.c.Clock.Now()
		if cert, _, err := readPair(p.file); err == nil {
			due = renewAt(cert)
		} else {
			r.c.Log.Warn("a certificate of this node cannot be read and is asked for anew", "certificate", p.name, "error", err)
		}
		if due.Before(notBefore) {
			due = notBefore
		}
		if !r.sleep(ctx, due) {
			return
		}
		if r.c.Clock.Now().Before(due) {
			continue
		}
		cert, err := r.renew(ctx, p)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			notBefore = r.c.Clock.Now().Add(retryAfter)
			r.c.Log.Warn("a certificate of this node could not be renewed, trying again", "certificate", p.name, "after", retryAfter, "error", err)
		default:
			r.c.Log.Info("certificate renewed", "certificate", p.name, "expires", cert.NotAfter)
		}
	}
}

// sleep waits until due, or for a part of that; false when ctx has ended.
func (r *Rotator) sleep(ctx context.Context, due time.Time) bool {
	t := r.c.Clock.NewTimer(min(max(due.Sub(r.c.Clock.Now()), 0), maxWait))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C():
		return true
	}
}

// renewAt is when a certificate should be replaced: after two thirds of its life.
func renewAt(c *x509.Certificate) time.Time {
	return c.NotBefore.Add(c.NotAfter.Sub(c.NotBefore) * 2 / 3)
}
