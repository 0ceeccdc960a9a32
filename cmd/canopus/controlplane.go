package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strconv"
	"time"

	"canopus/internal/admission"
	"canopus/internal/admission/allocate"
	"canopus/internal/admission/escalation"
	"canopus/internal/admission/plugins"
	"canopus/internal/admission/quota"
	"canopus/internal/apiserver"
	"canopus/internal/auth"
	"canopus/internal/auth/authn"
	"canopus/internal/auth/bootstraptoken"
	"canopus/internal/auth/node"
	"canopus/internal/auth/rbac"
	"canopus/internal/auth/token"
	"canopus/internal/bootstrap"
	"canopus/internal/client"
	"canopus/internal/cluster"
	"canopus/internal/cluster/atrest"
	"canopus/internal/etcd"
	"canopus/internal/kinds"
	"canopus/internal/run"
	"canopus/internal/scheduler"
	"canopus/internal/store"
	"canopus/internal/usage"
	"canopus/internal/verdict"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime/schema"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"
	"k8s.io/utils/clock"
)

// controlPlane is the API server with everything it stands on. Fields are in the order in which they are made.
type controlPlane struct {
	cfg     *config
	log     *slog.Logger
	clock   clock.RealClock
	metrics *prometheus.Registry // of every part of this process
	node    string
	address netip.Addr
	service netip.Prefix
	dns     netip.Addr
	kinds   *kinds.Set

	listener net.Listener
	etcd     *etcd.Member
	cluster  *cluster.Cluster
	atRest   *atrest.Config
	store    *store.Store
	local    *client.Local
	own      *client.Access // as system:apiserver
	rbac     *rbac.Authorizer
	nodes    *node.Authorizer
	rules    chan struct{} // closed once the authorizers have read their rules
	checks   auth.Union
	tokens   *token.Authority
	legacy   *token.Legacy
	meter    *usage.Meter
	verdicts *verdict.Book // how pods got their nodes, or why not
	server   *apiserver.Server
	boot     *bootstrap.Bootstrap
}

// newControlPlane opens disk and socket, and makes the parts. Nothing but etcd runs yet.
func newControlPlane(ctx context.Context, cfg *config, log *slog.Logger) (_ *controlPlane, err error) {
	c := &controlPlane{cfg: cfg, log: log, metrics: prometheus.NewRegistry(), verdicts: verdict.NewBook()}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if err := c.parse(); err != nil {
		return nil, err
	}
	if c.listener, err = net.Listen("tcp", net.JoinHostPort(cfg.bindAddress, strconv.Itoa(cfg.port))); err != nil {
		return nil, fmt.Errorf("API server: %w: is another one running? --port takes a different port", err)
	}
	if err := c.open(ctx); err != nil {
		return nil, err
	}
	for _, step := range []func() error{c.makeStore, c.makeAuth, c.makeMeter, c.makeServer, c.makeBootstrap} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *controlPlane) parse() error {
	var err, e error
	if c.node, e = nodeName(c.cfg.nodeName); e != nil {
		err = errors.Join(err, e)
	}
	if c.address, e = hostAddress(c.cfg.advertiseAddress); e != nil {
		err = errors.Join(err, e)
	}
	if c.service, e = netip.ParsePrefix(c.cfg.serviceCIDR); e != nil {
		err = errors.Join(err, fmt.Errorf("service-cidr: %w", e))
	}
	if base := filepath.Base(c.cfg.kubeconfig); base != "kubeconfig" {
		err = errors.Join(err, fmt.Errorf("kubeconfig: a server writes a file named kubeconfig, not %s: name its directory differently instead", base))
	}
	if c.dns, e = netip.ParseAddr(c.cfg.clusterDNS); e != nil {
		err = errors.Join(err, fmt.Errorf("cluster-dns: %w", e))
	}
	if c.kinds, e = c.cfg.kinds(); e != nil {
		err = errors.Join(err, e)
	}
	return err
}

func (c *controlPlane) layout() cluster.Layout {
	return cluster.Layout{Data: c.cfg.dataDir, Config: filepath.Dir(c.cfg.kubeconfig)}
}

// port is the one the API server really listens on.
func (c *controlPlane) port() int { return c.listener.Addr().(*net.TCPAddr).Port }

// open reads certificates and keys and starts etcd, side by side: both wait for the disk.
func (c *controlPlane) open(ctx context.Context) error {
	layout := c.layout()
	var g errgroup.Group
	g.Go(func() (err error) { c.cluster, err = c.openCluster(c.port()); return err })
	g.Go(func() (err error) {
		c.atRest, err = atrest.Open(layout.Encryption(), cluster.WriteFile)
		return err
	})
	g.Go(func() (err error) {
		c.etcd, err = etcd.Start(ctx, etcd.Config{Dir: layout.Etcd(), Log: c.log})
		return err
	})
	return g.Wait()
}

func (c *controlPlane) openCluster(port int) (*cluster.Cluster, error) {
	var names []string
	addresses := []netip.Addr{c.address}
	for _, san := range c.cfg.tlsSANs {
		if a, err := netip.ParseAddr(san); err == nil {
			addresses = append(addresses, a)
		} else {
			names = append(names, san)
		}
	}
	return cluster.Open(cluster.Config{
		Layout: c.layout(), Node: c.node, Addresses: addresses, Names: names,
		ServiceIP: c.service.Masked().Addr().Next(), Domain: c.cfg.clusterDomain,
		Server: "https://127.0.0.1:" + strconv.Itoa(port), Clock: c.clock, Log: c.log,
	})
}

func (c *controlPlane) makeStore() error {
	reserve, err := resource.ParseQuantity(c.cfg.reserve)
	if err != nil || reserve.Sign() < 0 {
		return fmt.Errorf("disk-reserve %q: a size such as 256Mi", c.cfg.reserve)
	}
	c.store, err = store.New(store.Config{
		Etcd: c.etcd.Client(), Log: c.log, Clock: c.clock, Compact: c.cfg.etcdCompaction,
		FreeSpace: c.etcd.FreeSpace, Reserve: uint64(reserve.Value()),
	})
	if err != nil {
		return err
	}
	c.local, err = client.NewLocal(client.LocalConfig{
		Handler:    http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { c.server.ServeHTTP(w, r) }),
		Resource:   func(gvk schema.GroupVersionKind) *store.Resource { return c.server.ResourceFor(gvk) },
		Named:      func(gr schema.GroupResource) *store.Resource { return c.server.Resource(gr) },
		Authorizer: &c.checks,
		Log:        c.log,
	})
	if err != nil {
		return err
	}
	c.own, err = c.local.As(&auth.User{Name: "system:apiserver", Groups: []string{"system:masters", "system:authenticated"}}, "kube-apiserver")
	return err
}

func (c *controlPlane) makeAuth() error {
	var err error
	if c.rbac, err = rbac.New(rbac.Config{Informers: c.own.Informers}); err != nil {
		return err
	}
	if c.nodes, err = node.New(node.Config{Informers: c.own.Informers, Volumes: true}); err != nil {
		return err
	}
	c.rules = make(chan struct{})
	c.checks = auth.Union{auth.Masters{}, auth.Gate{Open: c.rules, Authorizer: auth.Union{c.nodes, c.rbac}, Patience: rulesPatience, Clock: c.clock}}
	keys, err := token.NewKeys(c.cluster.ServiceAccountKey())
	if err != nil {
		return err
	}
	objects, err := token.NewObjects(c.own.Client, c.own.Informers)
	if err != nil {
		return err
	}
	c.legacy, err = token.NewLegacy(token.LegacyConfig{
		Keys: keys, Client: c.own.Client, Objects: objects, Audiences: []string{c.issuer()}, Clock: c.clock, Log: c.log,
	})
	if err != nil {
		return err
	}
	c.tokens, err = token.New(token.Config{Issuer: c.issuer(), Keys: keys, Objects: objects, Clock: c.clock})
	return err
}

// makeMeter makes the reader of what nodes and pods use, which the API server answers for metrics.k8s.io with and which
// calls the nodes' agents through the API server.
func (c *controlPlane) makeMeter() error {
	var err error
	c.meter, err = usage.New(usage.Config{
		Informers: c.own.Informers, Clock: c.clock, Log: c.log,
		Agents: roundTripper(func(r *http.Request) (*http.Response, error) { return c.server.Agents().RoundTrip(r) }),
	})
	return err
}

// roundTripper is a function that is an http.RoundTripper.
type roundTripper func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// rulesPatience is how long requests wait for the rules of authorization to be read.
const rulesPatience = 15 * time.Second

// issuer is that of ServiceAccount tokens, and their audience.
func (c *controlPlane) issuer() string {
	return "https://kubernetes.default.svc." + c.cfg.clusterDomain
}

func (c *controlPlane) makeServer() error {
	joining, err := bootstraptoken.New(c.own.Client, c.clock)
	if err != nil {
		return err
	}
	authenticator, err := authn.New(authn.Config{
		ClientCAs: c.cluster.Roots, Tokens: []authn.TokenAuthenticator{c.tokens, c.legacy, joining}, Audiences: c.tokens.Audiences(), Clock: c.clock,
	})
	if err != nil {
		return err
	}
	chain, err := c.admission()
	if err != nil {
		return err
	}
	allocator, err := c.allocator()
	if err != nil {
		return err
	}
	pages, err := c.tokenPages()
	if err != nil {
		return err
	}
	pages[verdict.Path] = c.verdicts
	if !c.cfg.noWorkers {
		pages[scheduler.ResourcesPath] = scheduler.ResourceMetrics(c.own.Informers.Core().V1().Pods().Lister())
	}
	statuses, err := c.statuses()
	if err != nil {
		return err
	}
	charger, err := quota.New(func() *store.Resource { return c.server.Resource(schema.GroupResource{Resource: "resourcequotas"}) }, c.clock)
	if err != nil {
		return err
	}
	c.server, err = apiserver.New(apiserver.Config{
		Kinds: c.kinds, Claims: serviceClaims{allocator}, Quota: charger, Store: c.store, Listener: c.listener, TLS: c.cluster.ServerTLS(),
		Address:       net.JoinHostPort(c.address.String(), strconv.Itoa(c.port())),
		Authenticator: authenticator, Authorizer: c.checks, Admission: chain, Tokens: c.tokens, Reviewer: authenticator, Rules: c.rbac,
		ConnContext: authn.ConnContext, Nodes: apiserver.Nodes{TLS: c.cluster.NodeClientTLS()},
		Checks: []apiserver.Check{{Name: "rbac/bootstrap-roles", Probe: c.bootstrapped}, {Name: "informer-sync", Probe: c.synced}},
		Pages:  pages,
		Computed: map[schema.GroupResource]apiserver.Computed{
			{Group: metricsv1beta1.GroupName, Resource: "nodes"}: c.meter.Nodes(),
			{Group: metricsv1beta1.GroupName, Resource: "pods"}:  c.meter.Pods(),
			{Resource: "componentstatuses"}:                      statuses,
		},
		Transformer: c.atRest.Transformer, Informed: informed,
		Version: serverVersion(), Metrics: c.metrics, Clock: c.clock, Log: c.log,
	})
	return err
}

func (c *controlPlane) admission() (*admission.Chain, error) {
	list, err := plugins.Default(plugins.Config{Client: c.own.Client, Informers: c.own.Informers, Clock: c.clock, Authorizer: &c.checks})
	if err != nil {
		return nil, err
	}
	escalation, err := escalation.New(c.rbac, c.checks)
	if err != nil {
		return nil, err
	}
	chain, err := admission.NewChain(append(list, escalation)...)
	if err != nil {
		return nil, err
	}
	member := c.etcd
	size := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "apiserver_storage_size_bytes", Help: "Bytes of etcd's database file.",
		ConstLabels: prometheus.Labels{"storage_cluster_id": "etcd-0"}}, func() float64 { return float64(member.Size()) })
	return chain, errors.Join(c.metrics.Register(chain), c.metrics.Register(size), c.metrics.Register(buildInfo()))
}

// allocator gives Services their addresses and ports.
func (c *controlPlane) allocator() (*allocate.Allocator, error) {
	var ports allocate.Ports
	if n, err := fmt.Sscanf(c.cfg.nodePortRange, "%d-%d", &ports.First, &ports.Last); err != nil || n != 2 {
		return nil, fmt.Errorf("service-node-port-range %q: two ports, such as 30000-32767", c.cfg.nodePortRange)
	}
	ranges, err := allocate.RegisterRanges(c.store)
	if err != nil {
		return nil, err
	}
	return allocate.New(allocate.Config{
		CIDR: c.service, More: serviceRanges(c.own.Informers), Ports: ports, Ranges: ranges, Clock: c.clock,
		Addresses: func() *store.Resource {
			return c.server.Resource(schema.GroupResource{Group: "networking.k8s.io", Resource: "ipaddresses"})
		},
	})
}

// serviceClaims lets writes of Services claim addresses and ports.
type serviceClaims struct{ *allocate.Allocator }

// Claim implements apiserver.Claims.
func (s serviceClaims) Claim(ctx context.Context, c *apiserver.Claim) ([]store.Change, error) {
	object := c.Object
	if object == nil {
		object = c.Old
	}
	if _, ok := object.(*corev1.Service); !ok || c.Subresource != "" {
		return nil, nil
	}
	now, _ := c.Object.(*corev1.Service)
	old, _ := c.Old.(*corev1.Service)
	return s.Allocator.Claim(ctx, c.Operation, now, old)
}

// tokenPages are the documents by which others verify our ServiceAccount tokens.
func (c *controlPlane) tokenPages() (map[string]http.Handler, error) {
	configuration, err := c.tokens.Configuration(net.JoinHostPort(c.address.String(), strconv.Itoa(c.port())))
	if err != nil {
		return nil, err
	}
	keys, err := c.tokens.KeySet()
	if err != nil {
		return nil, err
	}
	document := func(contentType string, body []byte) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.Header().Set("Cache-Control", "public, max-age=3600")
			_, _ = w.Write(body) // a client that has gone
		})
	}
	return map[string]http.Handler{
		"/.well-known/openid-configuration": document("application/json", configuration),
		"/openid/v1/jwks":                   document("application/jwk-set+json", keys),
	}, nil
}

func (c *controlPlane) makeBootstrap() error {
	var err error
	c.boot, err = bootstrap.New(bootstrap.Config{
		Client: c.own.Client, Node: c.node, Addresses: []netip.Addr{c.address}, Port: int32(c.port()),
		ServiceCIDR: c.service, DNS: c.dns, CA: c.cluster.CA(), FrontProxy: c.cluster.FrontProxyCA(), Clock: c.clock, Log: c.log,
	})
	return err
}

func (c *controlPlane) bootstrapped(context.Context) error {
	select {
	case <-c.boot.Ready():
		return nil
	default:
		return errors.New("the first objects are still being written")
	}
}

func (c *controlPlane) synced(context.Context) error {
	if !c.rbac.Synced() || !c.nodes.Synced() {
		return errors.New("the authorizers are still reading their objects")
	}
	return nil
}

// parts are what runs, in the order in which it starts.
func (c *controlPlane) parts() []run.Part {
	return []run.Part{
		{Name: "etcd", Run: c.runEtcd},
		{Name: "certificates", Run: c.cluster.Run},
		{Name: "store", Run: c.store.Run},
		{Name: "API server", Run: c.server.Run},
		{Name: "informers", Run: afterReady(c.store.Ready, c.local.Run)},
		{Name: "first objects", Run: afterReady(c.store.Ready, c.boot.Run)},
		{Name: "usage", Run: afterReady(c.boot.Ready, c.meter.Run)},
		{Name: "permissions", Run: afterReady(c.boot.Ready, c.verify)},
	}
}

// afterReady delays run until ready is closed.
func afterReady(ready func() <-chan struct{}, run func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		select {
		case <-ready():
			return run(ctx)
		case <-ctx.Done():
			return nil
		}
	}
}

func (c *controlPlane) runEtcd(ctx context.Context) error {
	defer c.close()
	loaded := c.store.Ready()
	for {
		select {
		case <-loaded:
			loaded = nil
			if err := c.etcd.ReleasePages(); err != nil {
				c.log.Warn("memory that was needed to start stays in use", "error", err)
			}
		case err := <-c.etcd.Failed():
			return err
		case <-ctx.Done():
			return nil
		}
	}
}

func (c *controlPlane) close() {
	if c.etcd != nil {
		c.etcd.Close()
		c.etcd = nil
	}
	if c.listener != nil && c.server == nil {
		_ = c.listener.Close() // unused
	}
}

// verify lets requests in once there are rules to judge them by, and reports parts of this process that read what they could
// not read over HTTPS: a rule is missing.
func (c *controlPlane) verify(ctx context.Context) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for c.synced(ctx) != nil {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
	close(c.rules)
	if err := c.local.Verify(ctx); err != nil && ctx.Err() == nil {
		c.log.Error("parts of this process read what their role does not allow: add the rules, or they will fail as processes of their own", "error", err)
	}
	<-ctx.Done()
	return nil
}

// informed says which resources parts of this process keep in informers, so that the store keeps their objects decoded.
func informed(gr schema.GroupResource) bool {
	switch gr {
	case schema.GroupResource{Resource: "events"}, schema.GroupResource{Group: "events.k8s.io", Resource: "events"},
		schema.GroupResource{Resource: "secrets"}, schema.GroupResource{Resource: "configmaps"}:
		return false
	}
	return true
}
