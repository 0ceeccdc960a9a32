package podautoscaler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
)

// knownFor is how long it is remembered what a kind is served as.
const knownFor = time.Minute

// resources finds out by discovery where kinds are served, one group and version at a time.
type resources struct {
	client kubernetes.Interface
	clock  clock.PassiveClock

	mu     sync.Mutex
	served map[schema.GroupVersion]knownVersion
	groups map[string]knownGroup
}

type knownVersion struct {
	list  []metav1.APIResource
	until time.Time
}

type knownGroup struct {
	versions []string // preferred first
	until    time.Time
}

// place is where the objects of a kind are.
type place struct {
	gvr        schema.GroupVersionResource
	namespaced bool
}

// find looks for a kind in its version, then in the others of its group. sub must be served below it unless it is "".
func (r *resources) find(ctx context.Context, gvk schema.GroupVersionKind, sub string) (place, error) {
	versions, err := r.versions(ctx, gvk.Group)
	if err != nil {
		return place{}, err
	}
	found := false
	for _, v := range prefer(gvk.Version, versions) {
		gv := schema.GroupVersion{Group: gvk.Group, Version: v}
		list, err := r.list(ctx, gv)
		if err != nil {
			return place{}, err
		}
		for i := range list {
			if list[i].Kind != gvk.Kind || list[i].Group != "" && list[i].Group != gvk.Group || isSub(list[i].Name) {
				continue
			}
			found = true
			if sub == "" || has(list, list[i].Name+"/"+sub) {
				return place{gv.WithResource(list[i].Name), list[i].Namespaced}, nil
			}
		}
	}
	if found {
		return place{}, fmt.Errorf("%s has no subresource %s: it cannot be scaled", gvk.GroupKind(), sub)
	}
	return place{}, &meta.NoKindMatchError{GroupKind: gvk.GroupKind(), SearchedVersions: []string{gvk.Version}}
}

// prefer puts first at the head if it is there.
func prefer(first string, all []string) []string {
	out := make([]string, 0, len(all))
	for _, v := range all {
		if v == first {
			out = append(out, v)
		}
	}
	for _, v := range all {
		if v != first {
			out = append(out, v)
		}
	}
	return out
}

func has(list []metav1.APIResource, name string) bool {
	for i := range list {
		if list[i].Name == name {
			return true
		}
	}
	return false
}

func isSub(name string) bool {
	for i := range len(name) {
		if name[i] == '/' {
			return true
		}
	}
	return false
}

// versions lists the versions of a group, none when it is not served.
func (r *resources) versions(ctx context.Context, group string) ([]string, error) {
	if group == "" {
		return []string{"v1"}, nil
	}
	now := r.clock.Now()
	r.mu.Lock()
	k, ok := r.groups[group]
	r.mu.Unlock()
	if ok && now.Before(k.until) {
		return k.versions, nil
	}
	var g metav1.APIGroup
	err := r.rest().Get().AbsPath("/apis/" + group).Do(ctx).Into(&g)
	if err != nil && !apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("look up the API group %s: %w", group, err)
	}
	k = knownGroup{until: now.Add(knownFor)}
	for _, v := range g.Versions {
		k.versions = append(k.versions, v.Version)
	}
	k.versions = prefer(cmp.Or(g.PreferredVersion.Version, ""), k.versions)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.groups[group] = k
	return k.versions, nil
}

func (r *resources) list(ctx context.Context, gv schema.GroupVersion) ([]metav1.APIResource, error) {
	now := r.clock.Now()
	r.mu.Lock()
	k, ok := r.served[gv]
	r.mu.Unlock()
	if ok && now.Before(k.until) {
		return k.list, nil
	}
	list, err := r.client.Discovery().ServerResourcesForGroupVersionWithContext(ctx, gv.String())
	if apierrors.IsNotFound(err) {
		list, err = &metav1.APIResourceList{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up the resources of %s: %w", gv, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.served[gv] = knownVersion{list.APIResources, now.Add(knownFor)}
	return list.APIResources, nil
}

// rest is a client for any path.
func (r *resources) rest() rest.Interface { return r.client.Discovery().RESTClient() }

func root(gv schema.GroupVersion) string {
	if gv.Group == "" {
		return "/api/" + gv.Version
	}
	return "/apis/" + gv.String()
}

// target is a scale with the place it was read from.
type target struct {
	place
	*autoscalingv1.Scale
}

// readScale reads the scale subresource of whatever an autoscaler refers to.
func (c *Controller) readScale(ctx context.Context, namespace, apiVersion, kind, name string) (target, error) {
	gv, err := schema.ParseGroupVersion(apiVersion)
	if err != nil {
		return target{}, specError{fmt.Errorf("invalid API version in scale target reference: %w", err)}
	}
	at, err := c.resources.find(ctx, gv.WithKind(kind), "scale")
	if err != nil {
		return target{}, fmt.Errorf("unable to determine resource for scale target reference: %w", err)
	}
	if !at.namespaced {
		return target{}, errors.New("unable to determine resource for scale target reference: its kind is not namespaced")
	}
	out := &autoscalingv1.Scale{}
	err = c.scales().Get().AbsPath(root(at.gvr.GroupVersion())).Namespace(namespace).Resource(at.gvr.Resource).Name(name).SubResource("scale").Do(ctx).Into(out)
	return target{at, out}, err
}

// writeScale asks for replicas. The scale's resourceVersion makes sure that nobody asked for others meanwhile.
func (c *Controller) writeScale(ctx context.Context, t target, replicas int32) error {
	s := t.DeepCopy()
	s.Spec.Replicas = replicas
	return c.scales().Put().AbsPath(root(t.gvr.GroupVersion())).Namespace(s.Namespace).Resource(t.gvr.Resource).Name(s.Name).SubResource("scale").
		Body(s).Do(ctx).Error()
}

// scales is a client that knows autoscaling/v1, in which every scale is.
func (c *Controller) scales() rest.Interface { return c.Client.AutoscalingV1().RESTClient() }
