package plugins

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"canopus/internal/admission"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/utils/clock"
)

// NamespaceLifecycle keeps new objects out of namespaces that are missing or on their way out, and keeps the namespaces
// that the system needs.
type NamespaceLifecycle struct {
	client     kubernetes.Interface
	namespaces corelisters.NamespaceLister
	clock      clock.PassiveClock

	mu      sync.Mutex
	deleted map[string]time.Time // guarded by mu: namespaces deleted here not long ago; the cache may not show it yet
}

// deletionMemory is how long a deletion is remembered: longer than the cache can lag.
const deletionMemory = 30 * time.Second

// NewNamespaceLifecycle makes the plugin.
func NewNamespaceLifecycle(c Config) *NamespaceLifecycle {
	i := c.Informers.Core().V1().Namespaces()
	i.Informer()
	return &NamespaceLifecycle{client: c.Client, namespaces: i.Lister(), clock: c.Clock, deleted: map[string]time.Time{}}
}

// Name implements admission.Plugin.
func (n *NamespaceLifecycle) Name() string { return "NamespaceLifecycle" }

// Handles implements admission.Plugin.
func (n *NamespaceLifecycle) Handles(r *admission.Request) bool {
	switch r.Operation {
	case admission.Create:
		return r.Namespace != "" && !isNamespace(r) && !isReview(r)
	case admission.Delete:
		return isNamespace(r)
	}
	return false
}

func isNamespace(r *admission.Request) bool {
	return r.Kind.Kind == "Namespace" && r.Kind.Group == ""
}

// isReview is true for access reviews: one may ask about a namespace that is not there.
func isReview(r *admission.Request) bool {
	return r.Resource.Group == "authorization.k8s.io"
}

// Admit implements admission.Mutator: upstream checks before anything else is looked at.
func (n *NamespaceLifecycle) Admit(ctx context.Context, r *admission.Request) error {
	if r.Operation == admission.Delete {
		return n.delete(r)
	}
	ns, err := n.namespaces.Get(r.Namespace)
	if apierrors.IsNotFound(err) || err == nil && !ending(ns) && n.deletedLately(r.Namespace) {
		// The cache may be a moment behind. Where it shows the end there is nothing to ask: every refused create would.
		ns, err = n.client.CoreV1().Namespaces().Get(ctx, r.Namespace, metav1.GetOptions{})
	}
	if err != nil {
		return err
	}
	if !ending(ns) {
		return nil
	}
	refusal := apierrors.NewForbidden(r.Resource.GroupResource(), r.Called(),
		fmt.Errorf("unable to create new content in namespace %s because it is being terminated", r.Namespace))
	refusal.ErrStatus.Details.Causes = append(refusal.ErrStatus.Details.Causes, metav1.StatusCause{
		Type: corev1.NamespaceTerminatingCause, Message: fmt.Sprintf("namespace %s is being terminated", r.Namespace), Field: "metadata.namespace",
	})
	return refusal
}

func ending(ns *corev1.Namespace) bool {
	return ns.Status.Phase == corev1.NamespaceTerminating || ns.DeletionTimestamp != nil
}

func (n *NamespaceLifecycle) delete(r *admission.Request) error {
	switch r.Name {
	case metav1.NamespaceDefault, metav1.NamespaceSystem, metav1.NamespacePublic:
		return apierrors.NewForbidden(r.Resource.GroupResource(), r.Name, errors.New("this namespace may not be deleted"))
	}
	if r.DryRun {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	now := n.clock.Now()
	for name, at := range n.deleted {
		if now.Sub(at) > deletionMemory {
			delete(n.deleted, name)
		}
	}
	n.deleted[r.Name] = now
	return nil
}

func (n *NamespaceLifecycle) deletedLately(name string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	at, ok := n.deleted[name]
	return ok && n.clock.Since(at) < deletionMemory
}
