package devices

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/dynamic-resource-allocation/resourceclaim"
	drapb "k8s.io/kubelet/pkg/apis/dra/v1"
)

// answerTimeout is how long a driver may take for one claim.
const answerTimeout = 45 * time.Second

// Host prepares claims for the pods of a node. It is safe for concurrent use.
type Host struct {
	client   kubernetes.Interface
	registry *Registry
	path     string // of the state

	mu     sync.Mutex
	claims map[types.UID]*claimState   // replaced, never changed
	busy   map[types.UID]chan struct{} // claims that somebody works on; closed when done
}

// NewHost makes one whose state is kept in root. It reads what an earlier one left.
func NewHost(client kubernetes.Interface, registry *Registry, root string) (*Host, error) {
	if client == nil || registry == nil || !filepath.IsAbs(root) {
		return nil, fmt.Errorf("devices: a client, a registry and an absolute directory are required, got %q", root)
	}
	path := filepath.Join(root, "canopus_devices.json")
	claims, err := readState(path)
	if errors.Is(err, errDamaged) {
		// Drivers are asked again for what is in use; what is not stays prepared until they see to it.
		registry.log.Error("what devices are in use is forgotten, the file is kept aside", "aside", path+".damaged", "error", err)
		claims, err = map[types.UID]*claimState{}, os.Rename(path, path+".damaged")
	}
	if err != nil {
		return nil, err
	}
	return &Host{client: client, registry: registry, path: path, claims: claims, busy: map[types.UID]chan struct{}{}}, nil
}

// Prepare has the drivers prepare what pod claims. It is harmless to repeat.
func (h *Host) Prepare(ctx context.Context, pod *corev1.Pod) error {
	for i := range pod.Spec.ResourceClaims {
		ref := &pod.Spec.ResourceClaims[i]
		name, owned, err := resourceclaim.Name(pod, ref)
		if err != nil {
			return err
		}
		if name == nil {
			continue // it does without
		}
		if err := h.prepareNamed(ctx, pod, *name, owned); err != nil {
			return err
		}
	}
	if x := pod.Status.ExtendedResourceClaimStatus; x != nil && x.ResourceClaimName != "" {
		return h.prepareNamed(ctx, pod, x.ResourceClaimName, true)
	}
	return nil
}

// prepareNamed prepares one claim. An owned one must have been made for pod.
func (h *Host) prepareNamed(ctx context.Context, pod *corev1.Pod, name string, owned bool) error {
	claim, err := h.client.ResourceV1().ResourceClaims(pod.Namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("fetch ResourceClaim %s referenced by pod %s: %w", name, pod.Name, err)
	}
	if owned {
		if err := resourceclaim.IsForPod(pod, claim, false); err != nil {
			return err
		}
	}
	if !resourceclaim.IsReservedForPod(pod, claim, false) || claim.Status.Allocation == nil {
		return fmt.Errorf("pod %s (%s) is not allowed to use ResourceClaim %s (%s)", pod.Name, pod.UID, claim.Name, claim.UID)
	}
	if err := h.prepare(ctx, pod.UID, claim); err != nil {
		return fmt.Errorf("prepare ResourceClaim %s: %w", claim.Name, err)
	}
	return nil
}

// prepare notes that a pod uses a claim before any driver hears of it, so that whatever happens it is released.
func (h *Host) prepare(ctx context.Context, pod types.UID, claim *resourcev1.ResourceClaim) error {
	done, err := h.enter(ctx, claim.UID)
	if err != nil {
		return err
	}
	defer done()
	drivers := map[string]bool{}
	for i := range claim.Status.Allocation.Devices.Results {
		drivers[claim.Status.Allocation.Devices.Results[i].Driver] = true
	}
	names := slices.Sorted(maps.Keys(drivers))
	if err := h.change(claim.UID, func(s *claimState) {
		s.Namespace, s.Name = claim.Namespace, claim.Name
		if !slices.Contains(s.Pods, pod) {
			s.Pods = append(s.Pods, pod)
		}
		for _, name := range names {
			if _, asked := s.Drivers[name]; !asked {
				s.Drivers[name] = nil
			}
		}
	}); err != nil {
		return err
	}
	for _, name := range names {
		if h.known(claim.UID).Drivers[name] != nil {
			continue
		}
		got, err := h.ask(ctx, name, claim)
		if err != nil {
			return err
		}
		if err := h.change(claim.UID, func(s *claimState) { s.Drivers[name] = got }); err != nil {
			return err
		}
	}
	return nil
}

// ask has one driver prepare its part of a claim.
func (h *Host) ask(ctx context.Context, name string, claim *resourcev1.ResourceClaim) (*prepared, error) {
	d := h.registry.driver(name)
	if d == nil {
		return nil, fmt.Errorf("DRA driver %s is not registered on this node", name)
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	answer, err := d.NodePrepareResources(ctx, &drapb.NodePrepareResourcesRequest{Claims: []*drapb.Claim{{Namespace: claim.Namespace, Name: claim.Name, Uid: string(claim.UID)}}})
	if err != nil {
		return nil, fmt.Errorf("NodePrepareResources of driver %s: %w", name, err)
	}
	one := answer.GetClaims()[string(claim.UID)]
	switch {
	case one == nil:
		return nil, fmt.Errorf("NodePrepareResources of driver %s said nothing of the claim", name)
	case one.GetError() != "":
		return nil, fmt.Errorf("NodePrepareResources of driver %s: %s", name, one.GetError())
	}
	out := &prepared{}
	for _, dev := range one.GetDevices() {
		out.Devices = append(out.Devices, device{Pool: dev.GetPoolName(), Name: dev.GetDeviceName(), Requests: dev.GetRequestNames(), CDI: dev.GetCdiDeviceIds()})
	}
	return out, nil
}

// Release has the drivers release what only pod used.
func (h *Host) Release(ctx context.Context, pod types.UID) error {
	var errs []error
	for _, s := range h.usedBy(pod) {
		if err := h.release(ctx, pod, s.UID); err != nil {
			errs = append(errs, fmt.Errorf("release ResourceClaim %s/%s: %w", s.Namespace, s.Name, err))
		}
	}
	return errors.Join(errs...)
}

// Keep releases what is used only by pods that are not in the list.
func (h *Host) Keep(ctx context.Context, pods map[types.UID]bool) error {
	gone := map[types.UID]bool{}
	h.mu.Lock()
	for _, s := range h.claims {
		for _, pod := range s.Pods {
			if !pods[pod] {
				gone[pod] = true
			}
		}
	}
	h.mu.Unlock()
	var errs []error
	for pod := range gone {
		errs = append(errs, h.Release(ctx, pod))
	}
	return errors.Join(errs...)
}

func (h *Host) release(ctx context.Context, pod, claim types.UID) error {
	done, err := h.enter(ctx, claim)
	if err != nil {
		return err
	}
	defer done()
	s := h.known(claim)
	if s == nil {
		return nil
	}
	if slices.ContainsFunc(s.Pods, func(other types.UID) bool { return other != pod }) {
		return h.change(claim, func(s *claimState) {
			s.Pods = slices.DeleteFunc(s.Pods, func(other types.UID) bool { return other == pod })
		})
	}
	for _, name := range slices.Sorted(maps.Keys(s.Drivers)) {
		if err := h.tellGone(ctx, name, s); err != nil {
			return err
		}
	}
	return h.change(claim, nil)
}

// tellGone has one driver release its part of a claim.
func (h *Host) tellGone(ctx context.Context, name string, s *claimState) error {
	d := h.registry.driver(name)
	if d == nil {
		return fmt.Errorf("DRA driver %s is not registered on this node", name)
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	answer, err := d.NodeUnprepareResources(ctx, &drapb.NodeUnprepareResourcesRequest{Claims: []*drapb.Claim{{Namespace: s.Namespace, Name: s.Name, Uid: string(s.UID)}}})
	if err != nil {
		return fmt.Errorf("NodeUnprepareResources of driver %s: %w", name, err)
	}
	one, ok := answer.GetClaims()[string(s.UID)]
	switch {
	case !ok:
		return fmt.Errorf("NodeUnprepareResources of driver %s said nothing of the claim", name)
	case one.GetError() != "":
		return fmt.Errorf("NodeUnprepareResources of driver %s: %s", name, one.GetError())
	}
	return nil
}

// Wants reports whether a container gets devices from a claim of its pod's, by its own words or through an extended resource.
func Wants(pod *corev1.Pod, container *corev1.Container) bool {
	x := pod.Status.ExtendedResourceClaimStatus
	return len(container.Resources.Claims) > 0 || x != nil &&
		slices.ContainsFunc(x.RequestMappings, func(m corev1.ContainerExtendedResourceRequest) bool { return m.ContainerName == container.Name })
}

// For is what the container runtime calls the devices that a container gets from its pod's claims, which have been prepared.
func (h *Host) For(pod *corev1.Pod, container *corev1.Container) ([]string, error) {
	if !Wants(pod, container) {
		return nil, nil
	}
	for _, want := range container.Resources.Claims {
		at := slices.IndexFunc(pod.Spec.ResourceClaims, func(ref corev1.PodResourceClaim) bool { return ref.Name == want.Name })
		if at < 0 {
			return nil, fmt.Errorf("container %s uses the claim %s, which its pod has not", container.Name, want.Name)
		}
		if _, _, err := resourceclaim.Name(pod, &pod.Spec.ResourceClaims[at]); err != nil {
			return nil, err
		}
	}
	used := h.usedBy(pod.UID)
	var out []string
	for _, want := range partsOf(pod, container) {
		s := slices.IndexFunc(used, func(s *claimState) bool { return s.Namespace == pod.Namespace && s.Name == want.claim })
		if s < 0 {
			return nil, fmt.Errorf("ResourceClaim %s is not prepared", want.claim)
		}
		for _, id := range used[s].ids(want.request) {
			if !slices.Contains(out, id) {
				out = append(out, id)
			}
		}
	}
	return out, nil
}

// ids are what the container runtime calls the devices of a request, of all of them if request is empty.
func (s *claimState) ids(request string) []string {
	var out []string
	s.each(request, func(_ string, d device) { out = append(out, d.CDI...) })
	return out
}

// each calls do with the prepared devices of a request, of all of them if request is empty, and their drivers.
func (s *claimState) each(request string, do func(driver string, d device)) {
	for _, name := range slices.Sorted(maps.Keys(s.Drivers)) {
		if s.Drivers[name] == nil {
			continue
		}
		for _, d := range s.Drivers[name].Devices {
			if request == "" || len(d.Requests) == 0 ||
				slices.ContainsFunc(d.Requests, func(r string) bool { return resourceclaim.BaseRequestRef(r) == request }) {
				do(name, d)
			}
		}
	}
}

// enter waits until nobody else works on a claim.
func (h *Host) enter(ctx context.Context, claim types.UID) (done func(), err error) {
	for {
		h.mu.Lock()
		other, busy := h.busy[claim]
		if !busy {
			mine := make(chan struct{})
			h.busy[claim] = mine
			h.mu.Unlock()
			return func() {
				h.mu.Lock()
				delete(h.busy, claim)
				h.mu.Unlock()
				close(mine)
			}, nil
		}
		h.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (h *Host) known(claim types.UID) *claimState {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.claims[claim]
}

// usedBy are the claims that pod uses.
func (h *Host) usedBy(pod types.UID) []*claimState {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []*claimState
	for _, s := range h.claims {
		if slices.Contains(s.Pods, pod) {
			out = append(out, s)
		}
	}
	return out
}

// change writes a new state of a claim; nil drops it. Only who has entered the claim may.
func (h *Host) change(claim types.UID, change func(*claimState)) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	next := maps.Clone(h.claims)
	delete(next, claim)
	if change != nil {
		s := &claimState{UID: claim, Drivers: map[string]*prepared{}}
		if old := h.claims[claim]; old != nil {
			*s = *old
			s.Pods, s.Drivers = slices.Clone(old.Pods), maps.Clone(old.Drivers)
		}
		change(s)
		next[claim] = s
	}
	if err := writeState(h.path, next); err != nil { // a small file; nobody waits for more than that
		return err
	}
	h.claims = next
	return nil
}
