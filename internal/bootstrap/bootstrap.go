// Package bootstrap writes the objects that every cluster has: system namespaces, the kubernetes and kube-dns Services, priority classes,
// the first StorageClass, the default RBAC policy and what extension API servers read. It completes what is missing at every start and takes nothing away,
// and it keeps the endpoints of the kubernetes Service at the addresses of the servers that live.
//
// Reading order: objects.go and policy.go say what should be there (pure), bootstrap.go writes it, endpoints.go keeps the endpoints.
package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"canopus/internal/localvolume"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/clock"
)

// Config says what a Bootstrap writes. Client must be of system:apiserver in group system:masters: RBAC is among what is written.
type Config struct {
	Client      kubernetes.Interface
	Node        string       // this server's name
	Addresses   []netip.Addr // at which pods reach this server; of one family
	Port        int32        // of the API server: 6443
	ServiceCIDR netip.Prefix // 10.96.0.0/12; the kubernetes Service is at its first address
	DNS         netip.Addr   // of the kube-dns Service: 10.96.0.10
	CA          []byte       // PEM, for extension API servers
	FrontProxy  []byte       // PEM of the aggregation layer's authority; nil: there is none
	Clock       clock.WithTicker
	Log         *slog.Logger
}

// Bootstrap is a component. Make it with New.
type Bootstrap struct {
	c     Config
	ready chan struct{}
}

// classWritten is on the namespace kube-system once the first StorageClass has been written.
const classWritten = "canopus.io/storage-class-written"

// writers bounds the objects written at once: etcd groups what arrives together.
const writers = 32

// retryAfter is how long to wait when something could not be written.
const retryAfter = time.Second

// New checks c.
func New(c Config) (*Bootstrap, error) {
	switch {
	case c.Client == nil || c.Clock == nil || c.Log == nil:
		return nil, errors.New("bootstrap: client, clock and log are required")
	case c.Node == "" || len(c.Addresses) == 0 || c.Port <= 0:
		return nil, errors.New("bootstrap: node name, addresses and port of this server are required")
	case !c.ServiceCIDR.IsValid() || !c.ServiceCIDR.Contains(c.DNS):
		return nil, fmt.Errorf("bootstrap: the service range %s must hold the DNS address %s", c.ServiceCIDR, c.DNS)
	case len(c.CA) == 0:
		return nil, errors.New("bootstrap: the certificate authority is required")
	}
	for _, a := range c.Addresses {
		if a.Unmap().Is4() != c.Addresses[0].Unmap().Is4() || a.IsLoopback() {
			return nil, fmt.Errorf("bootstrap: %s cannot be an endpoint of the kubernetes Service: addresses must be of one family and not loopback", a)
		}
	}
	return &Bootstrap{c: c, ready: make(chan struct{})}, nil
}

// Ready is closed when everything has been written once.
func (b *Bootstrap) Ready() <-chan struct{} { return b.ready }

// Run writes what is missing, then keeps the endpoints of the kubernetes Service until ctx ends.
func (b *Bootstrap) Run(ctx context.Context) error {
	for {
		began := b.c.Clock.Now()
		err := b.write(ctx)
		if err == nil {
			b.c.Log.Info("bootstrap objects are there", "took", b.c.Clock.Since(began))
			break
		}
		if ctx.Err() != nil {
			return nil
		}
		b.c.Log.Warn("bootstrap objects are not complete, trying again", "after", retryAfter, "error", err)
		select {
		case <-ctx.Done():
			return nil
		case <-b.c.Clock.After(retryAfter):
		}
	}
	close(b.ready)
	return b.keepEndpoints(ctx)
}

// write makes one pass over everything. Namespaces come first: the rest lives in them.
func (b *Bootstrap) write(ctx context.Context) error {
	if err := b.namespaces(ctx); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, part := range []func(context.Context) error{
		b.services, b.priorityClasses, b.storageClass, b.serviceCIDR, b.extensionConfig, b.clusterInfo, b.tokenTracking,
		b.clusterRoles, b.clusterRoleBindings, b.roles, b.roleBindings,
	} {
		g.Go(func() error { return part(ctx) })
	}
	return g.Wait()
}

// each calls f for every element, several at once.
func each[T any](ctx context.Context, list []T, f func(context.Context, *T) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(writers)
	for i := range list {
		g.Go(func() error { return f(ctx, &list[i]) })
	}
	return g.Wait()
}

// made turns the error of a create into nil when somebody else was first.
func made(what string, err error) error {
	if err == nil || apierrors.IsAlreadyExists(err) {
		return nil
	}
	return fmt.Errorf("write %s: %w", what, err)
}

func (b *Bootstrap) namespaces(ctx context.Context) error {
	api := b.c.Client.CoreV1().Namespaces()
	return each(ctx, systemNamespaces(), func(ctx context.Context, name *string) error {
		_, err := api.Get(ctx, *name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			_, err = api.Create(ctx, namespace(*name), metav1.CreateOptions{})
		}
		return made("namespace "+*name, err)
	})
}

func (b *Bootstrap) services(ctx context.Context) error {
	return each(ctx, services(&b.c), func(ctx context.Context, s *service) error {
		api := b.c.Client.CoreV1().Services(s.Namespace)
		_, err := api.Get(ctx, s.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			_, err = api.Create(ctx, s, metav1.CreateOptions{})
		}
		return made("service "+s.Name, err)
	})
}

func (b *Bootstrap) priorityClasses(ctx context.Context) error {
	api := b.c.Client.SchedulingV1().PriorityClasses()
	return each(ctx, priorityClasses(), func(ctx context.Context, p *priorityClass) error {
		_, err := api.Get(ctx, p.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			_, err = api.Create(ctx, p, metav1.CreateOptions{})
		}
		return made("priority class "+p.Name, err)
	})
}

// storageClass is written once per cluster: whoever removes it wants none. An annotation of the namespace kube-system remembers.
func (b *Bootstrap) storageClass(ctx context.Context) error {
	namespaces := b.c.Client.CoreV1().Namespaces()
	system, err := namespaces.Get(ctx, metav1.NamespaceSystem, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("read namespace %s: %w", metav1.NamespaceSystem, err)
	}
	if system.Annotations[classWritten] != "" {
		return nil
	}
	_, err = b.c.Client.StorageV1().StorageClasses().Create(ctx, localClass(), metav1.CreateOptions{})
	if err := made("storage class "+localvolume.Class, err); err != nil {
		return err
	}
	patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:"true"}}}`, classWritten)
	if _, err := namespaces.Patch(ctx, system.Name, types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("note that the storage class has been written: %w", err)
	}
	return nil
}

// serviceCIDR is left out while the server does not serve the kind.
func (b *Bootstrap) serviceCIDR(ctx context.Context) error {
	api := b.c.Client.NetworkingV1().ServiceCIDRs()
	want := defaultServiceCIDR(&b.c)
	_, err := api.Get(ctx, want.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		_, err = api.Create(ctx, want, metav1.CreateOptions{})
	}
	if apierrors.IsNotFound(err) {
		b.c.Log.Debug("service CIDRs are not served, the default one is not written")
		return nil
	}
	return made("service CIDR "+want.Name, err)
}

// extensionConfig completes the ConfigMap by keys that differ: others may have added their own.
func (b *Bootstrap) extensionConfig(ctx context.Context) error {
	want := extensionConfig(&b.c)
	api := b.c.Client.CoreV1().ConfigMaps(want.Namespace)
	have, err := api.Get(ctx, want.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		_, err = api.Create(ctx, want, metav1.CreateOptions{})
		return made("configmap "+want.Name, err)
	}
	if err != nil {
		return fmt.Errorf("read configmap %s: %w", want.Name, err)
	}
	next := have.DeepCopy()
	if !overlay(&next.Data, want.Data) {
		return nil
	}
	if _, err := api.Update(ctx, next, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("write configmap %s: %w", want.Name, err)
	}
	return nil
}

// overlay sets in have what want has, and says whether that changed anything.
func overlay(have *map[string]string, want map[string]string) bool {
	changed := false
	for k, v := range want {
		if old, ok := (*have)[k]; ok && old == v {
			continue
		}
		if *have == nil {
			*have = map[string]string{}
		}
		(*have)[k] = v
		changed = true
	}
	return changed
}
