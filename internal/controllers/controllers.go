// Package controllers lists the controllers and runs them.
//
// A controller is one package below this one and one line in All. Each writes with an identity of its own, the service
// account in kube-system that upstream gives it; they read from one set of shared informers.
package controllers

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/utils/clock"

	"canopus/internal/auth/token"
	"canopus/internal/controllers/attachdetach"
	"canopus/internal/controllers/bootstraptoken"
	"canopus/internal/controllers/certificates"
	"canopus/internal/controllers/clusterroleaggregation"
	"canopus/internal/controllers/cronjob"
	"canopus/internal/controllers/daemonset"
	"canopus/internal/controllers/deployment"
	"canopus/internal/controllers/devicetainteviction"
	"canopus/internal/controllers/disruption"
	"canopus/internal/controllers/endpoints"
	"canopus/internal/controllers/endpointslice"
	"canopus/internal/controllers/endpointslicemirroring"
	"canopus/internal/controllers/ephemeralvolume"
	"canopus/internal/controllers/gc"
	"canopus/internal/controllers/job"
	"canopus/internal/controllers/localvolume"
	"canopus/internal/controllers/namespace"
	"canopus/internal/controllers/nodeipam"
	"canopus/internal/controllers/nodelifecycle"
	"canopus/internal/controllers/nodettl"
	"canopus/internal/controllers/persistentvolume"
	"canopus/internal/controllers/podautoscaler"
	"canopus/internal/controllers/podgc"
	"canopus/internal/controllers/reconcile"
	"canopus/internal/controllers/replicaset"
	"canopus/internal/controllers/resourceclaim"
	"canopus/internal/controllers/resourcequota"
	"canopus/internal/controllers/rootca"
	"canopus/internal/controllers/serviceaccount"
	"canopus/internal/controllers/serviceaccounttoken"
	"canopus/internal/controllers/servicecidr"
	"canopus/internal/controllers/servingbundle"
	"canopus/internal/controllers/statefulset"
	"canopus/internal/controllers/storageprotection"
	"canopus/internal/controllers/storageversionmigrator"
	"canopus/internal/controllers/tainteviction"
	"canopus/internal/controllers/ttlafterfinished"
	"canopus/internal/controllers/volumeexpand"
	"canopus/internal/leader"
)

// Runner is a controller: it works until ctx ends and returns when all it started has.
type Runner interface {
	Run(ctx context.Context) error
}

// Controller is how a controller is made. Name is also its source of events, Identity its service account in kube-system.
type Controller struct {
	Name     string
	Identity string
	New      func(Config, Parts) (Runner, error)
}

// Authority is what certificates are issued with.
type Authority = certificates.Authority

// Parts is what one controller gets.
type Parts struct {
	reconcile.Deps
	Metadata metadata.Interface
}

// All lists the controllers.
func All() []Controller {
	return []Controller{
		{"deployment-controller", "deployment-controller", func(_ Config, p Parts) (Runner, error) { return deployment.New(p.Deps) }},
		{"replicaset-controller", "replicaset-controller", func(_ Config, p Parts) (Runner, error) { return replicaset.New(p.Deps) }},
		{"replication-controller", "replication-controller", func(_ Config, p Parts) (Runner, error) {
			return replicaset.NewForReplicationControllers(p.Deps)
		}},
		{"daemonset-controller", "daemon-set-controller", func(_ Config, p Parts) (Runner, error) { return daemonset.New(p.Deps) }},
		{"statefulset-controller", "statefulset-controller", func(_ Config, p Parts) (Runner, error) { return statefulset.New(p.Deps) }},
		{"job-controller", "job-controller", func(_ Config, p Parts) (Runner, error) { return job.New(p.Deps) }},
		{"cronjob-controller", "cronjob-controller", func(_ Config, p Parts) (Runner, error) { return cronjob.New(p.Deps) }},
		{"ttl-after-finished-controller", "ttl-after-finished-controller", func(_ Config, p Parts) (Runner, error) { return ttlafterfinished.New(p.Deps) }},
		{"disruption-controller", "disruption-controller", func(_ Config, p Parts) (Runner, error) { return disruption.New(p.Deps) }},
		{"horizontal-pod-autoscaler", "horizontal-pod-autoscaler", newPodAutoscaler},
		{"endpoint-controller", "endpoint-controller", func(_ Config, p Parts) (Runner, error) { return endpoints.New(p.Deps) }},
		{"endpoint-slice-controller", "endpointslice-controller", func(_ Config, p Parts) (Runner, error) { return endpointslice.New(p.Deps) }},
		{"endpoint-slice-mirroring-controller", "endpointslicemirroring-controller", func(_ Config, p Parts) (Runner, error) { return endpointslicemirroring.New(p.Deps) }},
		{"namespace-controller", "namespace-controller", newNamespace},
		{"resourcequota-controller", "resourcequota-controller", newResourceQuota},
		{"garbage-collector-controller", "generic-garbage-collector", newGC},
		{"serviceaccount-controller", "service-account-controller", func(_ Config, p Parts) (Runner, error) { return serviceaccount.New(p.Deps) }},
		{"root-ca-certificate-publisher-controller", "root-ca-cert-publisher", newRootCA},
		{"kube-apiserver-serving-clustertrustbundle-publisher-controller", "kube-apiserver-serving-clustertrustbundle-publisher", newServingBundle},
		{"node-controller", "node-controller", newNodeLifecycle},
		{"cidrAllocator", "node-controller", newNodeIPAM},
		{"ttl-controller", "ttl-controller", func(_ Config, p Parts) (Runner, error) { return nodettl.New(p.Deps) }},
		{"taint-eviction-controller", "node-controller", func(_ Config, p Parts) (Runner, error) { return tainteviction.New(p.Deps) }},
		{"device-taint-eviction-controller", "device-taint-eviction-controller", func(_ Config, p Parts) (Runner, error) { return devicetainteviction.New(p.Deps) }},
		{"resource_claim", "resource-claim-controller", func(c Config, p Parts) (Runner, error) {
			return resourceclaim.New(resourceclaim.Config{Deps: p.Deps, Figures: c.claims})
		}},
		{"clusterrole-aggregation-controller", "clusterrole-aggregation-controller", func(_ Config, p Parts) (Runner, error) { return clusterroleaggregation.New(p.Deps) }},
		{"persistentvolume-controller", "persistent-volume-binder", func(_ Config, p Parts) (Runner, error) { return persistentvolume.New(p.Deps) }},
		{"attachdetach-controller", "attachdetach-controller", func(_ Config, p Parts) (Runner, error) { return attachdetach.New(p.Deps) }},
		{"ephemeral_volume", "ephemeral-volume-controller", func(_ Config, p Parts) (Runner, error) { return ephemeralvolume.New(p.Deps) }},
		{"volume_expand", "expand-controller", func(_ Config, p Parts) (Runner, error) { return volumeexpand.New(p.Deps) }},
		{"persistentvolumeclaim-protection-controller", "pvc-protection-controller", func(_ Config, p Parts) (Runner, error) { return storageprotection.NewClaims(p.Deps) }},
		{"persistentvolume-protection-controller", "pv-protection-controller", func(_ Config, p Parts) (Runner, error) { return storageprotection.NewVolumes(p.Deps) }},
		{"volumeattributesclass-protection-controller", "volumeattributesclass-protection-controller", func(_ Config, p Parts) (Runner, error) { return storageprotection.NewClasses(p.Deps) }},
		{"local-volume-controller", "local-volume-controller", func(_ Config, p Parts) (Runner, error) { return localvolume.New(p.Deps) }},
		{"pod-garbage-collector-controller", "pod-garbage-collector", newPodGC},
		{"storage-version-migrator-controller", "storage-version-migrator-controller", func(_ Config, p Parts) (Runner, error) {
			return storageversionmigrator.New(storageversionmigrator.Config{Deps: p.Deps, Metadata: p.Metadata})
		}},
		{"service-cidr-controller", "service-cidrs-controller", func(_ Config, p Parts) (Runner, error) { return servicecidr.New(p.Deps) }},
		{"ipallocator-repair-controller", "ip-address-repair-controller", func(_ Config, p Parts) (Runner, error) { return servicecidr.NewRepair(p.Deps) }},
		{"serviceaccount-token-controller", "service-account-controller", newTokenSecrets},
		{"legacy-serviceaccount-token-cleaner-controller", "legacy-service-account-token-cleaner", func(c Config, p Parts) (Runner, error) {
			return serviceaccounttoken.NewCleaner(serviceaccounttoken.CleanerConfig{Deps: p.Deps, Reader: c.Reader, Period: c.UnusedTokens})
		}},
		{"bootstrap-signer-controller", "bootstrap-signer", func(c Config, p Parts) (Runner, error) {
			return bootstraptoken.NewSigner(bootstraptoken.Config{Deps: p.Deps, Reader: c.Reader})
		}},
		{"token-cleaner-controller", "token-cleaner", func(c Config, p Parts) (Runner, error) {
			return bootstraptoken.NewCleaner(bootstraptoken.Config{Deps: p.Deps, Reader: c.Reader})
		}},
		{"certificatesigningrequest-signing-controller", "certificate-controller", newCertificateSigner},
		{"certificatesigningrequest-approving-controller", "certificate-controller", func(_ Config, p Parts) (Runner, error) { return certificates.NewApprover(p.Deps) }},
		{"certificatesigningrequest-cleaner-controller", "certificate-controller", func(_ Config, p Parts) (Runner, error) { return certificates.NewCleaner(p.Deps) }},
		{"podcertificaterequest-cleaner-controller", "podcertificaterequestcleaner", func(_ Config, p Parts) (Runner, error) { return certificates.NewPodCleaner(p.Deps) }},
	}
}

func newTokenSecrets(c Config, p Parts) (Runner, error) {
	if c.AccountKeys == nil {
		return idle{p.Log, "secrets of service accounts get no tokens: this process has no key for them (--service-account-private-key-file)"}, nil
	}
	return serviceaccounttoken.New(serviceaccounttoken.Config{Deps: p.Deps, Reader: c.Reader, Keys: c.AccountKeys, RootCA: c.RootCA})
}

func newCertificateSigner(c Config, p Parts) (Runner, error) {
	if c.Authority == nil {
		return idle{p.Log, "certificate requests are not signed: this process has no authority's key (--cluster-signing-cert-file, --cluster-signing-key-file)"}, nil
	}
	return certificates.NewSigner(p.Deps, c.Authority)
}

func newNamespace(_ Config, p Parts) (Runner, error) {
	return namespace.New(namespace.Config{Deps: p.Deps, Metadata: p.Metadata})
}

func newResourceQuota(_ Config, p Parts) (Runner, error) {
	return resourcequota.New(resourcequota.Config{Deps: p.Deps, Metadata: p.Metadata})
}

func newGC(_ Config, p Parts) (Runner, error) {
	return gc.New(gc.Config{Deps: p.Deps, Metadata: p.Metadata})
}

func newRootCA(c Config, p Parts) (Runner, error) {
	return rootca.New(rootca.Config{Deps: p.Deps, RootCA: c.RootCA, Reader: c.Reader})
}

func newServingBundle(c Config, p Parts) (Runner, error) {
	if !servingbundle.Anchors(c.RootCA) {
		return idle{p.Log, "no trust bundle of API servers is published: what this process knows as the root CA is no certificate of an authority"}, nil
	}
	return servingbundle.New(servingbundle.Config{Deps: p.Deps, RootCA: c.RootCA})
}

func newNodeLifecycle(c Config, p Parts) (Runner, error) {
	return nodelifecycle.New(nodelifecycle.Config{Deps: p.Deps, Grace: c.NodeGrace, StartupGrace: c.NodeStartupGrace})
}

func newNodeIPAM(c Config, p Parts) (Runner, error) {
	var ranges []nodeipam.Range
	for _, cidr := range c.ClusterCIDRs {
		node := c.NodeMaskIPv6
		if cidr.Addr().Is4() {
			node = c.NodeMaskIPv4
		}
		ranges = append(ranges, nodeipam.Range{Cluster: cidr, Node: node})
	}
	return nodeipam.New(nodeipam.Config{Deps: p.Deps, Ranges: ranges})
}

func newPodAutoscaler(c Config, p Parts) (Runner, error) {
	return podautoscaler.New(podautoscaler.Config{Deps: p.Deps, Period: c.AutoscalerPeriod})
}

func newPodGC(c Config, p Parts) (Runner, error) {
	return podgc.New(podgc.Config{Deps: p.Deps, Threshold: c.TerminatedPods})
}

// Config says what the controllers work with. Client, Metadata, Informers, RootCA, ClusterCIDRs, Clock and Log are required.
type Config struct {
	// Client returns the clients of a service account in kube-system. It is asked once per controller and term of office.
	Client func(serviceAccount string) (kubernetes.Interface, metadata.Interface, error)
	// Informers are shared by all controllers and whoever else reads in this process, with the rights of
	// system:kube-controller-manager. Run starts those that the controllers use.
	Informers informers.SharedInformerFactory
	// Reader has the same rights as Informers, for controllers that watch few objects of a kind that has many.
	Reader kubernetes.Interface
	Clock  clock.WithTicker
	Log    *slog.Logger
	// Metrics shows how the queues and the controllers are doing; nil: nobody asks.
	Metrics prometheus.Registerer
	claims  *resourceclaim.Figures
	running *prometheus.GaugeVec // 1: works here, 0: no longer

	RootCA           []byte                  // PEM, published to every namespace
	Authority        *certificates.Authority // signs certificate requests; nil: somebody else does
	AccountKeys      *token.Keys             // makes tokens in Secrets; nil: somebody else does
	UnusedTokens     time.Duration           // how long a token in a Secret may lie unused; 1 year unless set
	ClusterCIDRs     []netip.Prefix
	NodeMaskIPv4     int           // 24 unless set
	NodeMaskIPv6     int           // 64 unless set
	NodeGrace        time.Duration // 50 s unless set
	NodeStartupGrace time.Duration // 1 min unless set
	AutoscalerPeriod time.Duration // between two looks at a HorizontalPodAutoscaler; 15 s unless set
	TerminatedPods   int           // finished pods kept before the oldest go; 12,500 unless set, -1: all
	// Election makes several processes agree on the one that works; nil: this one works.
	Election *leader.Election
}

func (c *Config) complete() error {
	switch {
	case c.Client == nil, c.Informers == nil, c.Reader == nil, c.Clock == nil, c.Log == nil:
		return fmt.Errorf("controllers need clients, informers, a clock and a log")
	case len(c.RootCA) == 0:
		return fmt.Errorf("controllers need the cluster's CA certificate to publish")
	case len(c.ClusterCIDRs) == 0:
		return fmt.Errorf("controllers need the cluster's pod CIDR")
	}
	orDefault(&c.NodeMaskIPv4, 24)
	orDefault(&c.NodeMaskIPv6, 64)
	orDefault(&c.NodeGrace, 50*time.Second)
	orDefault(&c.NodeStartupGrace, time.Minute)
	orDefault(&c.TerminatedPods, 12500)
	orDefault(&c.UnusedTokens, 365*24*time.Hour)
	c.TerminatedPods = max(c.TerminatedPods, 0)
	c.claims = resourceclaim.NewFigures(c.Informers)
	c.running = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "running_managed_controllers", Help: "Whether a controller works in this process now."},
		[]string{"name", "manager"})
	return nil
}

func orDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
