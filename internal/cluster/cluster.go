// Package cluster makes and keeps what a cluster is known by: its certificate authorities, the certificates and kubeconfigs of
// its parts, the key of ServiceAccount tokens and, in cluster/atrest, the keys of data at rest.
//
// Everything is made at the first start. Leaf certificates are renewed while the server runs, after two thirds of their
// life; connections made afterwards use the new ones. Files are listed in layout.go.
//
// The admin's certificate is of kubernetes-admin in group system:masters. That group is allowed everything without asking RBAC, so the
// admin gets in while there are no RBAC objects yet, or broken ones.
package cluster

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/utils/clock"
)

// The certificates' names, which are also their file names.
const (
	caName           = "ca"
	frontProxyCAName = "front-proxy-ca"
	servingName      = "apiserver"
	kubeletClient    = "apiserver-kubelet-client"
	frontProxyClient = "front-proxy-client"
	adminName        = "admin"
	schedulerName    = "scheduler"
	controllersName  = "controller-manager"
	nodeName         = "kubelet-client"
	nodeServingName  = "kubelet"
)

// Config says whose certificates to make. All but Addresses and Names are required.
type Config struct {
	Layout    Layout
	Node      string       // this machine's node name
	Addresses []netip.Addr // at which the API server and this node's agent are reached
	Names     []string     // further DNS names of the API server
	ServiceIP netip.Addr   // of the kubernetes Service
	Domain    string       // cluster.local
	Server    string       // URL of the API server for clients on this machine: https://127.0.0.1:6443
	Clock     clock.Clock
	Log       *slog.Logger
}

// Cluster holds the present certificates. Safe for concurrent use.
type Cluster struct {
	c        Config
	ca       *pair
	front    *pair
	accounts crypto.Signer
	roots    *x509.CertPool
	leaves   atomic.Pointer[map[string]*pair] // replaced, never changed
}

// Open reads what is in the layout's directories and makes what is missing or due. It never replaces an authority or the key of
// service accounts.
func Open(c Config) (*Cluster, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	if err := checkFormat(c.Layout); err != nil {
		return nil, err
	}
	cl := &Cluster{c: c, roots: x509.NewCertPool()}
	g := errgroup.Group{} // what costs time is syncing files: do it side by side
	g.Go(func() (err error) { cl.ca, err = authority(c, caName, "kubernetes"); return err })
	g.Go(func() (err error) { cl.front, err = authority(c, frontProxyCAName, "front-proxy-ca"); return err })
	g.Go(func() (err error) { cl.accounts, err = accountKey(c.Layout); return err })
	if err := g.Wait(); err != nil {
		return nil, err
	}
	cl.roots.AddCert(cl.ca.cert)
	cl.leaves.Store(&map[string]*pair{})
	if _, err := cl.renew(); err != nil {
		return nil, err
	}
	return cl, nil
}

func (c *Config) check() error {
	switch {
	case c.Layout.Data == "" || c.Layout.Config == "":
		return errors.New("cluster: data and configuration directories are required")
	case c.Node == "" || c.Domain == "" || c.Server == "":
		return errors.New("cluster: node name, domain and server URL are required")
	case !c.ServiceIP.IsValid():
		return errors.New("cluster: the address of the kubernetes Service is required")
	case c.Clock == nil || c.Log == nil:
		return errors.New("cluster: clock and log are required")
	}
	return nil
}

// authority reads or makes a certificate authority. A broken one is an error: everything else hangs on it.
func authority(c Config, file, name string) (*pair, error) {
	p, err := load(c.Layout, file)
	if err != nil {
		return nil, fmt.Errorf("%w: restore both files from a backup; a new authority would lock out every client", err)
	}
	now := c.Clock.Now()
	if p != nil {
		if !p.cert.IsCA || now.After(p.cert.NotAfter) {
			return nil, fmt.Errorf("%s is no certificate authority or expired at %s: replace it and its key", c.Layout.Certificate(file), p.cert.NotAfter.Format(time.RFC3339))
		}
		return p, nil
	}
	if p, err = newAuthority(name, now); err != nil {
		return nil, err
	}
	return p, p.save(c.Layout, file)
}

// accountKey reads or makes the key that signs ServiceAccount tokens.
func accountKey(l Layout) (crypto.Signer, error) {
	raw, err := os.ReadFile(l.ServiceAccountKey())
	if err == nil {
		key, err := parseKey(raw)
		if err != nil {
			return nil, fmt.Errorf("service account key %s: %w: restore it from a backup; a new one would invalidate every token", l.ServiceAccountKey(), err)
		}
		return key, nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read the service account key: %w", err)
	}
	p, err := newAuthority("service-accounts", time.Unix(0, 0)) // only its key is used
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(p.key.Public())
	if err != nil {
		return nil, fmt.Errorf("encode the service account public key: %w", err)
	}
	pub := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	if err := WriteFile(l.ServiceAccountKey(), p.keyPEM, 0o600); err != nil {
		return nil, err
	}
	return p.key, WriteFile(l.PKI()+"/sa.pub", pub, 0o644)
}

// wanted are the leaf certificates by name. Those of the front proxy come from their own authority.
func (cl *Cluster) wanted() map[string]request {
	c := &cl.c
	node := "system:node:" + c.Node
	local := []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()}
	return map[string]request{
		servingName: {name: "kube-apiserver", server: true, addresses: append(slices.Concat(local, c.Addresses), c.ServiceIP),
			names: append([]string{"localhost", c.Node, "kubernetes", "kubernetes.default", "kubernetes.default.svc",
				"kubernetes.default.svc." + c.Domain}, c.Names...)},
		kubeletClient:    {name: "kube-apiserver-kubelet-client", organizations: []string{"system:masters"}},
		frontProxyClient: {name: "front-proxy-client"},
		adminName:        {name: "kubernetes-admin", organizations: []string{"system:masters"}},
		schedulerName:    {name: "system:kube-scheduler"},
		controllersName:  {name: "system:kube-controller-manager"},
		nodeName:         {name: node, organizations: []string{"system:nodes"}},
		nodeServingName: {name: node, organizations: []string{"system:nodes"}, server: true,
			names: []string{c.Node, "localhost"}, addresses: slices.Concat(local, c.Addresses)},
	}
}

// renew issues the leaves that are missing or due and the kubeconfigs that carry them, and returns when to look again.
func (cl *Cluster) renew() (time.Time, error) {
	now := cl.c.Clock.Now()
	wanted, have := cl.wanted(), *cl.leaves.Load()
	fresh := make(map[string]*pair, len(wanted))
	results := make(chan *named, len(wanted))
	g := errgroup.Group{}
	for name, r := range wanted {
		g.Go(func() error {
			p, err := cl.leaf(name, r, have[name], now)
			results <- &named{name, p}
			return err
		})
	}
	err := g.Wait()
	close(results)
	if err != nil {
		return time.Time{}, err
	}
	next := now.Add(leafLife)
	for n := range results {
		fresh[n.name] = n.pair
		if due := renewAt(n.cert); due.Before(next) {
			next = due
		}
	}
	cl.leaves.Store(&fresh)
	return next, cl.writeKubeconfigs(fresh)
}

type named struct {
	name string
	*pair
}

func (cl *Cluster) leaf(name string, r request, have *pair, now time.Time) (*pair, error) {
	ca := cl.ca
	if name == frontProxyClient {
		ca = cl.front
	}
	if have == nil {
		var err error
		if have, err = load(cl.c.Layout, name); err != nil {
			cl.c.Log.Warn("a certificate cannot be read and is made anew", "certificate", name, "error", err)
		}
	}
	if have != nil && fits(have, ca, r, now) {
		return have, nil
	}
	p, err := ca.issue(r, now)
	if err != nil {
		return nil, err
	}
	if have != nil {
		cl.c.Log.Info("certificate renewed", "certificate", name, "expires", p.cert.NotAfter)
	}
	return p, p.save(cl.c.Layout, name)
}

// retryRenewal is how long to wait after a renewal that could not be written.
const retryRenewal = 10 * time.Minute

// Run renews certificates when they are due, until ctx ends.
func (cl *Cluster) Run(ctx context.Context) error {
	next := cl.due()
	for {
		// A clock that jumps, or a machine that slept, must not delay a renewal for months.
		wait := min(max(next.Sub(cl.c.Clock.Now()), 0), 12*time.Hour)
		t := cl.c.Clock.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-t.C():
		}
		if cl.c.Clock.Now().Before(next) {
			continue
		}
		at, err := cl.renew()
		if err != nil {
			cl.c.Log.Error("certificates could not be renewed, trying again", "after", retryRenewal, "error", err)
			at = cl.c.Clock.Now().Add(retryRenewal)
		}
		next = at
	}
}

// due is when the first of the present certificates should be renewed.
func (cl *Cluster) due() time.Time {
	next := cl.c.Clock.Now().Add(leafLife)
	for _, p := range *cl.leaves.Load() {
		if at := renewAt(p.cert); at.Before(next) {
			next = at
		}
	}
	return next
}

// Roots verify clients and servers of the cluster.
func (cl *Cluster) Roots() *x509.CertPool { return cl.roots }

// CA returns the cluster's certificate authority as PEM.
func (cl *Cluster) CA() []byte { return cl.ca.certPEM }

// Authority returns the certificate and the key that the cluster's certificates are signed with.
func (cl *Cluster) Authority() (*x509.Certificate, crypto.Signer) { return cl.ca.cert, cl.ca.key }

// FrontProxyCA returns the authority of the aggregation layer's client certificate as PEM.
func (cl *Cluster) FrontProxyCA() []byte { return cl.front.certPEM }

// ServiceAccountKey signs ServiceAccount tokens.
func (cl *Cluster) ServiceAccountKey() crypto.Signer { return cl.accounts }

// ServerTLS is for the API server's listener. It asks clients for certificates and leaves judging them to authentication.
func (cl *Cluster) ServerTLS() *tls.Config { return cl.server(servingName) }

// NodeTLS is for the listener of this machine's node agent; it too leaves judging client certificates to authentication.
func (cl *Cluster) NodeTLS() *tls.Config { return cl.server(nodeServingName) }

func (cl *Cluster) server(name string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}, ClientAuth: tls.RequestClientCert, ClientCAs: cl.roots,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cl.present(name), nil },
	}
}

// NodeClientTLS is what the API server calls node agents with.
func (cl *Cluster) NodeClientTLS() *tls.Config { return cl.client(kubeletClient) }

// AdminTLS is what a client in this process can call the API server with as kubernetes-admin.
func (cl *Cluster) AdminTLS() *tls.Config { return cl.client(adminName) }

// FrontProxyTLS is what the API server calls aggregated API servers with; who they are is for the caller to verify.
func (cl *Cluster) FrontProxyTLS() *tls.Config { return cl.client(frontProxyClient) }

func (cl *Cluster) client(name string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, RootCAs: cl.roots,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cl.present(name), nil },
	}
}

func (cl *Cluster) present(name string) *tls.Certificate { return (*cl.leaves.Load())[name].tls() }
