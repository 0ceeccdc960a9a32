package disruption

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	appslisters "k8s.io/client-go/listers/apps/v1"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
)

// knownFor is how long the resource of a kind is remembered. A kind without scale is asked about every time.
const knownFor = 5 * time.Minute

// unscalable is an error about the pods of a budget, not about the server: trying again soon gives the same.
type unscalable struct{ error }

// scale is a controller of pods with the number of pods it should have.
type scale struct {
	uid      types.UID
	replicas int32
}

// scales finds out how many pods a controller should have: from the cache for the kinds of apps, else by the scale
// subresource of whatever kind it is.
type scales struct {
	client      kubernetes.Interface
	clock       clock.PassiveClock
	deployments appslisters.DeploymentLister
	replicaSets appslisters.ReplicaSetLister
	sets        appslisters.StatefulSetLister

	mu    sync.Mutex
	known map[schema.GroupVersionKind]known
}

// known is the resource of a kind that has the scale subresource.
type known struct {
	resource string
	until    time.Time
}

// of returns the scale of every controller of pods, each once, and whether some pod has none.
func (s *scales) of(ctx context.Context, pods []*corev1.Pod) (found map[types.UID]int32, unmanaged bool, err error) {
	found = map[types.UID]int32{}
	seen := map[types.UID]bool{}
	for _, pod := range pods {
		ref := metav1.GetControllerOfNoCopy(pod)
		if ref == nil {
			unmanaged = true
			continue
		}
		if seen[ref.UID] {
			continue
		}
		seen[ref.UID] = true
		sc, err := s.find(ctx, pod.Namespace, ref)
		if err != nil {
			return nil, unmanaged, err
		}
		if sc == nil {
			return nil, unmanaged, unscalable{fmt.Errorf("found no controllers for pod %q", pod.Name)}
		}
		found[sc.uid] = sc.replicas
	}
	return found, unmanaged, nil
}

// find returns nil when ref leads to nothing.
func (s *scales) find(ctx context.Context, namespace string, ref *metav1.OwnerReference) (*scale, error) {
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return nil, unscalable{fmt.Errorf("controller %s %s: %w", ref.Kind, ref.Name, err)}
	}
	if gv.Group == "apps" {
		sc, err := s.cached(namespace, ref)
		if sc != nil || err != nil {
			return sc, err
		}
	}
	return s.live(ctx, namespace, gv.WithKind(ref.Kind), ref)
}

// cached returns nil for what is not in the cache, which may be because the cache is behind.
func (s *scales) cached(namespace string, ref *metav1.OwnerReference) (*scale, error) {
	switch ref.Kind {
	case "ReplicaSet":
		rs, err := s.replicaSets.ReplicaSets(namespace).Get(ref.Name)
		if err != nil || rs.UID != ref.UID {
			return nil, ignoreNotFound(err)
		}
		if owner := metav1.GetControllerOfNoCopy(rs); isDeployment(owner) {
			d, err := s.deployments.Deployments(namespace).Get(owner.Name)
			if err != nil || d.UID != owner.UID {
				return nil, ignoreNotFound(err)
			}
			return &scale{d.UID, ptr.Deref(d.Spec.Replicas, 1)}, nil
		}
		return &scale{rs.UID, ptr.Deref(rs.Spec.Replicas, 1)}, nil
	case "StatefulSet":
		ss, err := s.sets.StatefulSets(namespace).Get(ref.Name)
		if err != nil || ss.UID != ref.UID {
			return nil, ignoreNotFound(err)
		}
		return &scale{ss.UID, ptr.Deref(ss.Spec.Replicas, 1)}, nil
	}
	return nil, nil
}

func isDeployment(ref *metav1.OwnerReference) bool {
	if ref == nil || ref.Kind != "Deployment" {
		return false
	}
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	return err == nil && gv.Group == "apps"
}

func ignoreNotFound(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// live reads the scale subresource of ref from the server.
func (s *scales) live(ctx context.Context, namespace string, gvk schema.GroupVersionKind, ref *metav1.OwnerReference) (*scale, error) {
	resource, err := s.resource(ctx, gvk)
	if err != nil {
		return nil, err
	}
	out := &autoscalingv1.Scale{}
	err = s.client.AutoscalingV1().RESTClient().Get().
		AbsPath(root(gvk.GroupVersion())).Namespace(namespace).Resource(resource).Name(ref.Name).SubResource("scale").Do(ctx).Into(out)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the scale of %s %s: %w", ref.Kind, ref.Name, err)
	}
	if out.UID != ref.UID {
		return nil, nil
	}
	return &scale{out.UID, out.Spec.Replicas}, nil
}

func root(gv schema.GroupVersion) string {
	if gv.Group == "" {
		return "/api/" + gv.Version
	}
	return "/apis/" + gv.String()
}

// resource names the resource of a kind if that has the scale subresource.
func (s *scales) resource(ctx context.Context, gvk schema.GroupVersionKind) (string, error) {
	now := s.clock.Now()
	s.mu.Lock()
	k, ok := s.known[gvk]
	s.mu.Unlock()
	if ok && now.Before(k.until) {
		return k.resource, nil
	}
	list, err := s.client.Discovery().ServerResourcesForGroupVersionWithContext(ctx, gvk.GroupVersion().String())
	if apierrors.IsNotFound(err) {
		list, err = &metav1.APIResourceList{}, nil
	}
	if err != nil {
		return "", fmt.Errorf("look up the resource of %s: %w", gvk, err)
	}
	resource, err := scalable(gvk, list.APIResources)
	if err != nil {
		return "", unscalable{err}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known[gvk] = known{resource, now.Add(knownFor)}
	return resource, nil
}

// scalable finds the resource of a kind among all of its group and version.
func scalable(gvk schema.GroupVersionKind, all []metav1.APIResource) (string, error) {
	names := map[string]bool{}
	resource := ""
	for _, r := range all {
		names[r.Name] = true
		if r.Kind == gvk.Kind && !strings.Contains(r.Name, "/") {
			resource = r.Name
		}
	}
	switch {
	case resource == "":
		return "", &meta.NoKindMatchError{GroupKind: gvk.GroupKind(), SearchedVersions: []string{gvk.Version}}
	case !names[resource+"/scale"]:
		return "", fmt.Errorf("%s does not implement the scale subresource", schema.GroupResource{Group: gvk.Group, Resource: resource})
	}
	return resource, nil
}

// wanted returns how many pods a workload of apps wants, and its namespace.
func wanted(obj any) (replicas int32, namespace string) {
	switch w := obj.(type) {
	case *appsv1.Deployment:
		return ptr.Deref(w.Spec.Replicas, 1), w.Namespace
	case *appsv1.ReplicaSet:
		return ptr.Deref(w.Spec.Replicas, 1), w.Namespace
	case *appsv1.StatefulSet:
		return ptr.Deref(w.Spec.Replicas, 1), w.Namespace
	}
	return 0, ""
}
