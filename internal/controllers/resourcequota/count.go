package resourcequota

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"

	"canopus/internal/quota"
)

// page is how many objects are in memory at once while they are counted.
const page = 500

// measured are the kinds whose objects have to be looked at.
func measured() []schema.GroupResource {
	return []schema.GroupResource{{Resource: "pods"}, {Resource: "services"}, {Resource: "persistentvolumeclaims"}, quota.DeviceClaims()}
}

// limitedKinds are the kinds that a quota with hard looks at.
func limitedKinds(hard corev1.ResourceList) []schema.GroupResource {
	candidates := measured()
	for name := range hard {
		if of, ok := strings.CutPrefix(string(name), "count/"); ok {
			candidates = append(candidates, schema.ParseGroupResource(of))
		} else {
			candidates = append(candidates, schema.GroupResource{Resource: string(name)}) // the older names of core's kinds
		}
	}
	seen := map[schema.GroupResource]bool{}
	var out []schema.GroupResource
	for _, gr := range candidates {
		if !seen[gr] && len(quota.Names(gr, hard)) > 0 {
			seen[gr] = true
			out = append(out, gr)
		}
	}
	return out
}

// count returns what is used of q. What cannot be counted, because its kind is not served, stays as it was.
func (c *Controller) count(ctx context.Context, q *corev1.ResourceQuota) (corev1.ResourceList, error) {
	used := corev1.ResourceList{}
	for name := range q.Spec.Hard {
		if was, ok := q.Status.Used[name]; ok {
			used[name] = was
		}
	}
	for _, gr := range limitedKinds(q.Spec.Hard) {
		sum, err := c.sum(ctx, gr, q)
		if err != nil {
			return nil, err
		}
		if sum == nil {
			continue
		}
		for _, name := range quota.Names(gr, q.Spec.Hard) {
			n, ok := sum[name]
			if !ok {
				n = *resource.NewQuantity(0, resource.DecimalSI)
			}
			used[name] = n
		}
	}
	return used, nil
}

// sum adds up what the objects of one kind use of q, nil if the kind is not served.
func (c *Controller) sum(ctx context.Context, gr schema.GroupResource, q *corev1.ResourceQuota) (corev1.ResourceList, error) {
	if quota.Plain(gr) {
		return c.number(ctx, gr, q)
	}
	sum, now := corev1.ResourceList{}, c.Clock.Now()
	options := metav1.ListOptions{Limit: page}
	for {
		objects, next, err := c.objects(ctx, gr, q.Namespace, options)
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", gr, err)
		}
		for _, obj := range objects {
			in, err := quota.InScope(gr, q, obj)
			if err != nil {
				return nil, err
			}
			if in {
				quota.Add(sum, quota.Usage(gr, obj, now))
			}
		}
		if options.Continue = next; next == "" {
			return sum, nil
		}
	}
}

// number asks how many objects of a kind there are without reading more than one.
func (c *Controller) number(ctx context.Context, gr schema.GroupResource, q *corev1.ResourceQuota) (corev1.ResourceList, error) {
	if quota.Scoped(q) {
		return corev1.ResourceList{}, nil
	}
	gvr, err := c.kinds.find(ctx, gr)
	if err != nil || gvr.Empty() {
		return nil, err
	}
	list, err := c.Metadata.Resource(gvr).Namespace(q.Namespace).List(ctx, metav1.ListOptions{Limit: 1})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("count %s: %w", gr, err)
	}
	n := int64(len(list.Items))
	if list.RemainingItemCount != nil {
		n += *list.RemainingItemCount
	}
	sum := corev1.ResourceList{}
	for _, name := range quota.Names(gr, q.Spec.Hard) {
		sum[name] = *resource.NewQuantity(n, resource.DecimalSI)
	}
	return sum, nil
}

// objects reads a page of the objects of a measured kind.
func (c *Controller) objects(ctx context.Context, gr schema.GroupResource, namespace string, o metav1.ListOptions) (objects []runtime.Object, next string, err error) {
	core := c.Client.CoreV1()
	if gr == quota.DeviceClaims() {
		list, err := c.Client.ResourceV1().ResourceClaims(namespace).List(ctx, o)
		if err != nil {
			return nil, "", err
		}
		return pointers(list.Items, func(r *resourcev1.ResourceClaim) runtime.Object { return r }), list.Continue, nil
	}
	switch gr.Resource {
	case "pods":
		list, err := core.Pods(namespace).List(ctx, o)
		if err != nil {
			return nil, "", err
		}
		return pointers(list.Items, func(p *corev1.Pod) runtime.Object { return p }), list.Continue, nil
	case "services":
		list, err := core.Services(namespace).List(ctx, o)
		if err != nil {
			return nil, "", err
		}
		return pointers(list.Items, func(s *corev1.Service) runtime.Object { return s }), list.Continue, nil
	case "persistentvolumeclaims":
		list, err := core.PersistentVolumeClaims(namespace).List(ctx, o)
		if err != nil {
			return nil, "", err
		}
		return pointers(list.Items, func(p *corev1.PersistentVolumeClaim) runtime.Object { return p }), list.Continue, nil
	}
	return nil, "", fmt.Errorf("%s is not a kind that is measured", gr)
}

func pointers[T any](items []T, of func(*T) runtime.Object) []runtime.Object {
	out := make([]runtime.Object, len(items))
	for i := range items {
		out[i] = of(&items[i])
	}
	return out
}

// lessens says whether an object of a measured kind that changed may use less than before, or be in other scopes.
func lessens(gr schema.GroupResource, old, obj runtime.Object, now time.Time) bool {
	if !quota.Equal(quota.Usage(gr, old, now), quota.Usage(gr, obj, now)) {
		return true
	}
	switch was := old.(type) {
	case *corev1.Pod:
		is, ok := obj.(*corev1.Pod)
		return ok && (was.Spec.ActiveDeadlineSeconds == nil) != (is.Spec.ActiveDeadlineSeconds == nil)
	case *corev1.PersistentVolumeClaim:
		is, ok := obj.(*corev1.PersistentVolumeClaim)
		return ok && !ptr.Equal(was.Status.CurrentVolumeAttributesClassName, is.Status.CurrentVolumeAttributesClassName)
	}
	return false
}
