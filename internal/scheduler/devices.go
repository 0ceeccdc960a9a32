package scheduler

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/dynamic-resource-allocation/resourceclaim"

	"canopus/internal/scheduler/devices"
)

const (
	dynamicResources = "DynamicResources"

	devicesElsewhere = "resourceclaim not available on the node"
	noDevices        = "cannot allocate all claims"

	// allocationBudget is how many devices are looked at for one node: upstream gives up after ten seconds.
	allocationBudget = 1_000_000
)

// deviceState is what is known about devices and who has them. Part of the cluster.
type deviceState struct {
	claims map[types.NamespacedName]*resourcev1.ResourceClaim

	// assumed are allocations decided here and not yet seen in their claims.
	assumed map[types.NamespacedName]*resourcev1.ResourceClaim
	// retracted are claims from which a reservation or an allocation is being taken back.
	retracted map[types.NamespacedName]bool
	// waits are the pods that wait for a claim's devices to be ready.
	waits map[types.NamespacedName][]*deviceWait

	stock *devices.Inventory
	held  *devices.Held // by claims and assumed
}

func newDeviceState() *deviceState {
	return &deviceState{
		claims:  map[types.NamespacedName]*resourcev1.ResourceClaim{},
		assumed: map[types.NamespacedName]*resourcev1.ResourceClaim{}, retracted: map[types.NamespacedName]bool{},
		waits: map[types.NamespacedName][]*deviceWait{}, stock: devices.NewInventory(), held: devices.NewHeld(),
	}
}

// recount makes a change to what is known of a claim and keeps held true to it.
func (v *deviceState) recount(key types.NamespacedName, change func()) {
	if c := v.latest(key); c != nil {
		v.held.Give(c)
	}
	change()
	if c := v.latest(key); c != nil {
		v.held.Take(c)
	}
}

// latest is a claim as it is or is about to be.
func (v *deviceState) latest(key types.NamespacedName) *resourcev1.ResourceClaim {
	if c := v.assumed[key]; c != nil {
		return c
	}
	return v.claims[key]
}

// setClaim takes in a claim; it reports false for a state older than the one known: a write of ours was faster than the watch.
func (v *deviceState) setClaim(c *resourcev1.ResourceClaim) bool {
	key := claimKey(c)
	if old := v.claims[key]; old != nil && old.UID == c.UID && older(c.ResourceVersion, old.ResourceVersion) {
		return false
	}
	v.recount(key, func() {
		v.claims[key] = c
		if a := v.assumed[key]; a != nil && (c.Status.Allocation != nil || !isOf(c, a)) {
			delete(v.assumed, key)
		}
	})
	return true
}

func (v *deviceState) removeClaim(key types.NamespacedName) {
	v.recount(key, func() {
		delete(v.claims, key)
		delete(v.assumed, key)
	})
}

// assume counts on allocations that are about to be written, release does no more.
func (v *deviceState) assume(claims []*resourcev1.ResourceClaim) {
	for _, c := range claims {
		v.recount(claimKey(c), func() { v.assumed[claimKey(c)] = c })
	}
}

func (v *deviceState) release(claims []*resourcev1.ResourceClaim) {
	for _, c := range claims {
		if key := claimKey(c); v.assumed[key] == c {
			v.recount(key, func() { delete(v.assumed, key) })
		}
	}
}

// claimOf is the claim behind one of p's references; nil with no reason when the pod does without it.
func (v *deviceState) claimOf(p *podInfo, ref *corev1.PodResourceClaim) (*resourcev1.ResourceClaim, reason) {
	name, owned, err := resourceclaim.Name(p.pod, ref)
	if err != nil {
		return nil, final(err.Error())
	}
	if name == nil {
		return nil, reason{}
	}
	claim := v.claims[types.NamespacedName{Namespace: p.pod.Namespace, Name: *name}]
	switch {
	case claim == nil:
		return nil, final(fmt.Sprintf("resourceclaim.resource.k8s.io %q not found", *name))
	case claim.DeletionTimestamp != nil:
		return nil, final(fmt.Sprintf("resourceclaim %q is being deleted", claim.Name))
	}
	if owned {
		if err := resourceclaim.IsForPod(p.pod, claim, false); err != nil {
			return nil, final(err.Error())
		}
	}
	return claim, reason{}
}

// deviceWants are a pod's claims by what there is to do about them.
type deviceWants struct {
	given   []*resourcev1.ResourceClaim
	within  []*nodeaffinity.NodeSelector // where what is given can be used
	pending []*resourcev1.ResourceClaim
	special *resourcev1.ResourceClaim // of given: the one made for extended resources
}

// claimsOf sorts p's claims, or says why p can run nowhere.
func (v *deviceState) claimsOf(p *podInfo) (deviceWants, reason) {
	var out deviceWants
	for i := range p.pod.Spec.ResourceClaims {
		claim, why := v.claimOf(p, &p.pod.Spec.ResourceClaims[i])
		switch {
		case why.refuses():
			return out, why
		case claim == nil || slices.Contains(out.given, claim) || slices.Contains(out.pending, claim):
			continue
		case v.assumed[claimKey(claim)] != nil:
			return out, final(fmt.Sprintf("resource claim %s is in the process of being allocated", claim.Name))
		case v.retracted[claimKey(claim)]:
			return out, final(fmt.Sprintf("resource claim %s is in the process of being released", claim.Name))
		case claim.Status.Allocation != nil:
			if !resourceclaim.IsReservedForPod(p.pod, claim, false) && len(claim.Status.ReservedFor) >= resourcev1.ResourceClaimReservedForMaxSize {
				return out, final("resourceclaim in use")
			}
			if err := out.use(claim); err != nil {
				return out, final(err.Error())
			}
			continue
		}
		if request, class := v.stock.MissingClass(claim); class != "" {
			return out, final(fmt.Sprintf("request %s: device class %s does not exist", request, class))
		}
		out.pending = append(out.pending, claim)
	}
	return out, out.addEarlier(v, p)
}

// addEarlier adds what an earlier attempt got for p's extended resources.
func (w *deviceWants) addEarlier(v *deviceState, p *podInfo) reason {
	special, why := v.earlier(p)
	if special == nil {
		return why
	}
	w.special = special
	if err := w.use(special); err != nil {
		return final(err.Error())
	}
	return reason{}
}

func (w *deviceWants) use(claim *resourcev1.ResourceClaim) error {
	w.given = append(w.given, claim)
	if claim.Status.Allocation.NodeSelector == nil {
		return nil
	}
	where, err := nodeaffinity.NewNodeSelector(claim.Status.Allocation.NodeSelector)
	w.within = append(w.within, where)
	return err
}

// refuseDeviceClaims turns down pods whose claims cannot be had on any node.
func refuseDeviceClaims(c *cluster, p *podInfo) reason {
	_, why := c.devices.claimsOf(p)
	return why
}

// filterDevices refuses nodes that a claim's devices are not for, or that have none for a claim without.
func filterDevices(c *cluster, p *podInfo) check {
	if !c.devices.wanted(p) {
		return nil
	}
	w, why := c.devices.claimsOf(p)
	if why.refuses() { // to come here without being refused before, p must have been looked at by another way
		return func(*node) reason { return why }
	}
	return func(n *node) reason {
		_, why := c.devices.plan(p, w, n)
		return why
	}
}

// wanted reports whether p has to do with devices.
func (v *deviceState) wanted(p *podInfo) bool {
	return len(p.pod.Spec.ResourceClaims) > 0 || v.backed(p)
}

// plan gives p's claims that have none devices of n, or says why that cannot be. It returns those claims with what they get.
func (v *deviceState) plan(p *podInfo, w deviceWants, n *node) ([]*resourcev1.ResourceClaim, reason) {
	for _, where := range w.within {
		if !where.Match(n.object) {
			return nil, final(devicesElsewhere)
		}
	}
	pending := w.pending
	special := v.special(p, n)
	switch {
	case w.special != nil && !sameRequests(w.special, special):
		return nil, final(devicesElsewhere)
	case w.special == nil && special != nil:
		pending = append(slices.Clone(pending), special)
	}
	if len(pending) == 0 {
		return nil, reason{}
	}
	results, err := v.stock.Allocate(n.object, pending, v.held, allocationBudget)
	switch {
	case err != nil:
		return nil, final(err.Error())
	case results == nil:
		return nil, final(noDevices)
	}
	out := make([]*resourcev1.ResourceClaim, len(pending))
	for i, claim := range pending {
		copied := *claim // claims are shared
		copied.Status.Allocation = results[i]
		out[i] = &copied
	}
	return out, reason{}
}

// isOf reports whether c is the claim that want is a state of. One that is made here has no UID before it is written.
func isOf(c, want *resourcev1.ResourceClaim) bool { return want.UID == "" || c.UID == want.UID }

func claimKey(c *resourcev1.ResourceClaim) types.NamespacedName {
	return types.NamespacedName{Namespace: c.Namespace, Name: c.Name}
}
