package scheduler

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/dynamic-resource-allocation/resourceclaim"
)

// A device class can stand for an extended resource. Where a node does not have the resource itself, a pod that asks for it gets
// devices of the class: by a claim that is made for it here, and that its status names.

// extendedWant is what one container asks of one resource with a domain.
type extendedWant struct {
	container int // among init containers and containers
	resource  corev1.ResourceName
	request   string // in the claim
	count     int64
}

// extendedWants are those of a pod, in order.
func extendedWants(pod *corev1.Pod) []extendedWant {
	var out []extendedWant
	for i := range len(pod.Spec.InitContainers) + len(pod.Spec.Containers) {
		requests := containerAt(pod, i).Resources.Requests
		for j, name := range slices.Sorted(maps.Keys(requests)) {
			q := requests[name]
			if strings.Contains(string(name), "/") && !q.IsZero() {
				out = append(out, extendedWant{i, name, fmt.Sprintf("container-%d-request-%d", i, j), q.Value()})
			}
		}
	}
	return out
}

func containerAt(pod *corev1.Pod, i int) *corev1.Container {
	if n := len(pod.Spec.InitContainers); i >= n {
		return &pod.Spec.Containers[i-n]
	}
	return &pod.Spec.InitContainers[i]
}

// backed reports whether devices may satisfy one of p's extended resources.
func (v *deviceState) backed(p *podInfo) bool {
	return slices.ContainsFunc(p.extended, func(w extendedWant) bool { return v.stock.ClassFor(w.resource) != nil })
}

// byDevices reports whether on n devices stand for a resource.
func (v *deviceState) byDevices(n *node, name corev1.ResourceName) bool {
	return n.allocatable.other[name] == 0 && v.stock.ClassFor(name) != nil
}

// special is the claim that p needs for its extended resources on n; nil when it needs none there.
func (v *deviceState) special(p *podInfo, n *node) *resourcev1.ResourceClaim {
	var requests []resourcev1.DeviceRequest
	for _, w := range p.extended {
		if v.byDevices(n, w.resource) {
			requests = append(requests, resourcev1.DeviceRequest{Name: w.request, Exactly: &resourcev1.ExactDeviceRequest{
				DeviceClassName: v.stock.ClassFor(w.resource).Name, AllocationMode: resourcev1.DeviceAllocationModeExactCount, Count: w.count,
			}})
		}
	}
	if len(requests) == 0 {
		return nil
	}
	return &resourcev1.ResourceClaim{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: p.pod.Namespace, Name: specialName(p.pod), Annotations: map[string]string{resourcev1.ExtendedResourceClaimAnnotation: "true"},
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(p.pod, corev1.SchemeGroupVersion.WithKind("Pod"))},
		},
		Spec: resourcev1.ResourceClaimSpec{Devices: resourcev1.DeviceClaim{Requests: requests}},
	}
}

// specialName follows from the pod, so that making its claim twice makes one, and the next attempt finds what an earlier one left.
func specialName(pod *corev1.Pod) string {
	const most = 200
	h := fnv.New64a()
	_, _ = h.Write([]byte(pod.UID)) // of a hash: it cannot fail
	base := pod.Name
	if len(base) > most {
		base = strings.TrimRight(base[:most], "-.")
	}
	return base + "-extended-resources-" + rand.SafeEncodeString(fmt.Sprint(h.Sum64()))
}

func isSpecial(c *resourcev1.ResourceClaim) bool {
	return c.Annotations[resourcev1.ExtendedResourceClaimAnnotation] == "true"
}

// earlier is the claim that an attempt before this one has left with devices, or what keeps p from being tried now.
func (v *deviceState) earlier(p *podInfo) (*resourcev1.ResourceClaim, reason) {
	if !v.backed(p) {
		return nil, reason{}
	}
	key := types.NamespacedName{Namespace: p.pod.Namespace, Name: specialName(p.pod)}
	claim := v.claims[key]
	switch {
	case v.retracted[key]:
		return nil, final(fmt.Sprintf("resource claim %s is in the process of being released", key.Name))
	case claim == nil:
		return nil, reason{}
	case claim.DeletionTimestamp != nil:
		return nil, final(fmt.Sprintf("resourceclaim %q is being deleted", claim.Name))
	}
	if err := resourceclaim.IsForPod(p.pod, claim, false); err != nil {
		return nil, final(err.Error())
	}
	if claim.Status.Allocation == nil {
		return nil, reason{}
	}
	return claim, reason{}
}

// sameRequests reports whether two claims ask for the same.
func sameRequests(a, b *resourcev1.ResourceClaim) bool {
	return a != nil && b != nil && equality.Semantic.DeepEqual(a.Spec.Devices.Requests, b.Spec.Devices.Requests)
}

// ensure makes a special claim in the API, unless it is there. One that asks for something else is of no use: it is deleted, and
// the pod tried again.
func (b *deviceBinder) ensure(ctx context.Context, want *resourcev1.ResourceClaim, pod *corev1.Pod) error {
	claims := b.client.ResourceV1().ResourceClaims(want.Namespace)
	bare := &resourcev1.ResourceClaim{ObjectMeta: *want.ObjectMeta.DeepCopy(), Spec: *want.Spec.DeepCopy()}
	bare.Finalizers = []string{resourcev1.Finalizer} // it is about to be allocated
	_, err := claims.Create(ctx, bare, metav1.CreateOptions{})
	if err == nil {
		return nil
	}
	if !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create claim %s for extended resources: %w", want.Name, err)
	}
	have, err := claims.Get(ctx, want.Name, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("get claim %s: %w", want.Name, err)
	}
	if err := resourceclaim.IsForPod(pod, have, false); err != nil {
		return err
	}
	if sameRequests(have, want) {
		return nil
	}
	if err := claims.Delete(ctx, have.Name, *metav1.NewPreconditionDeleteOptions(string(have.UID))); err != nil && !lost(err) {
		return fmt.Errorf("delete claim %s, which asks for something else than its pod: %w", have.Name, err)
	}
	return fmt.Errorf("claim %s asks for something else than its pod and is replaced", have.Name)
}

// tellPod has pod's status name its special claim, or none.
func (b *deviceBinder) tellPod(ctx context.Context, pod *corev1.Pod, claim *resourcev1.ResourceClaim) error {
	status := extendedStatus(pod, claim)
	if resourceclaim.PodExtendedStatusEqual(pod.Status.ExtendedResourceClaimStatus, status) {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": pod.UID}, "status": map[string]any{"extendedResourceClaimStatus": status}})
	if err != nil {
		return err
	}
	if _, err := b.client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status"); err != nil {
		return fmt.Errorf("name the claim for extended resources in the pod's status: %w", err)
	}
	return nil
}

// extendedStatus tells which request of claim stands for which resource of which container.
func extendedStatus(pod *corev1.Pod, claim *resourcev1.ResourceClaim) *corev1.PodExtendedResourceClaimStatus {
	if claim == nil {
		return nil
	}
	out := &corev1.PodExtendedResourceClaimStatus{ResourceClaimName: claim.Name}
	for _, w := range extendedWants(pod) {
		if slices.ContainsFunc(claim.Spec.Devices.Requests, func(r resourcev1.DeviceRequest) bool { return r.Name == w.request }) {
			out.RequestMappings = append(out.RequestMappings, corev1.ContainerExtendedResourceRequest{
				ContainerName: containerAt(pod, w.container).Name, ResourceName: string(w.resource), RequestName: w.request,
			})
		}
	}
	return out
}
