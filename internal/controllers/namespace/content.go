package namespace

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"

	"canopus/internal/controllers/reconcile"
)

// content is what one attempt to empty a namespace found.
type content struct {
	discovery  error          // some groups could not be asked for their kinds
	parsing    error          // some group versions have no valid name
	deletion   []error        // some objects could not be listed or deleted
	left       map[string]int // remaining objects by "resource.group", with the dot even when the group is empty: so it reads upstream
	finalizers map[string]int // remaining objects by finalizer
	errs       []error        // all of the above
}

// podsLeft is the key of pods in content.left.
const podsLeft = "pods."

func (c content) remaining() int {
	n := 0
	for _, count := range c.left {
		n += count
	}
	return n
}

// resource is a kind that a namespace may contain.
type resource struct {
	schema.GroupVersionResource
	collection bool // deletecollection is served
}

// empty deletes everything in namespace, as far as it goes in one attempt, and says what remains.
func (c *Controller) empty(ctx context.Context, namespace string) content {
	found := content{left: map[string]int{}, finalizers: map[string]int{}}
	resources := c.discover(&found)
	isPods := func(r resource) bool { return r.Group == corev1.GroupName && r.Resource == "pods" }
	var rest []resource
	for _, r := range resources {
		if !isPods(r) {
			rest = append(rest, r)
			continue
		}
		left, err := c.clear(ctx, namespace, r)
		found.add(r, left, err)
	}
	if found.remaining() == 0 && len(found.deletion) == 0 {
		var mu sync.Mutex
		reconcile.Parallel(ctx, len(rest), func(ctx context.Context, i int) error {
			left, err := c.clear(ctx, namespace, rest[i])
			mu.Lock()
			defer mu.Unlock()
			found.add(rest[i], left, err)
			return nil
		})
	}
	for _, err := range append([]error{found.discovery, found.parsing}, found.deletion...) {
		if err != nil {
			found.errs = append(found.errs, err)
		}
	}
	return found
}

func (c *content) add(r resource, left []metav1.PartialObjectMetadata, err error) {
	if err != nil {
		c.deletion = append(c.deletion, fmt.Errorf("%s: %w", r.GroupResource(), err))
	}
	if len(left) == 0 {
		return
	}
	c.left[r.Resource+"."+r.Group] = len(left)
	for _, o := range left {
		for _, f := range o.Finalizers {
			c.finalizers[f]++
		}
	}
}

// discover asks the server which namespaced kinds can be deleted.
func (c *Controller) discover(found *content) []resource {
	lists, err := discovery.ServerPreferredNamespacedResources(c.Client.Discovery())
	if err != nil {
		found.discovery = err
	}
	var out []resource
	for _, list := range lists {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			found.parsing = errors.Join(found.parsing, err)
			continue
		}
		for _, r := range list.APIResources {
			if slices.Contains(r.Verbs, "delete") && slices.Contains(r.Verbs, "list") {
				out = append(out, resource{gv.WithResource(r.Name), slices.Contains(r.Verbs, "deletecollection")})
			}
		}
	}
	return out
}

// clear deletes all objects of r in namespace and returns those that are still there.
func (c *Controller) clear(ctx context.Context, namespace string, r resource) ([]metav1.PartialObjectMetadata, error) {
	client := c.Metadata.Resource(r.GroupVersionResource).Namespace(namespace)
	list, err := client.List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, ignoreAbsent(err)
	}
	if len(list.Items) == 0 {
		return nil, nil
	}
	if !slices.ContainsFunc(list.Items, wanting) {
		return list.Items, nil // all are on their way: to delete them again changes nothing
	}
	background := metav1.DeletePropagationBackground
	options := metav1.DeleteOptions{PropagationPolicy: &background}
	if r.collection {
		if err := client.DeleteCollection(ctx, options, metav1.ListOptions{}); err != nil {
			return list.Items, ignoreAbsent(err)
		}
	} else {
		failed := reconcile.Parallel(ctx, len(list.Items), func(ctx context.Context, i int) error {
			return ignoreAbsent(client.Delete(ctx, list.Items[i].Name, options))
		})
		if len(failed) > 0 {
			return list.Items, failed[0]
		}
	}
	if list, err = client.List(ctx, metav1.ListOptions{}); err != nil {
		return nil, ignoreAbsent(err)
	}
	return list.Items, nil
}

// wanting says whether o has yet to be deleted, or to be told that it need not wait for its dependents.
func wanting(o metav1.PartialObjectMetadata) bool {
	return o.DeletionTimestamp == nil || slices.Contains(o.Finalizers, metav1.FinalizerDeleteDependents) ||
		slices.Contains(o.Finalizers, metav1.FinalizerOrphanDependents)
}

// ignoreAbsent forgives an object, or a kind, that went away meanwhile.
func ignoreAbsent(err error) error {
	if apierrors.IsNotFound(err) || apierrors.IsMethodNotSupported(err) {
		return nil
	}
	return err
}
