package scheduler

import (
	"cmp"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/storage/ephemeral"
	volumehelper "k8s.io/component-helpers/storage/volume"
)

const (
	unboundImmediate = "pod has unbound immediate PersistentVolumeClaims"
	noVolume         = "node(s) didn't find available persistent volumes to bind"
	volumeElsewhere  = "node(s) didn't match PersistentVolume's node affinity"
	noStorage        = "node(s) did not have enough free storage"
	volumeGone       = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"

	noProvisioner = "kubernetes.io/no-provisioner"
)

// wanted are a pod's claims by what there is to do about them.
type wanted struct {
	bound   []*corev1.PersistentVolumeClaim
	delayed []*corev1.PersistentVolumeClaim // unbound; to be bound for the sake of this pod, those that ask for least first
}

// claimsOf sorts p's claims, or says why p can run nowhere.
func (v *storage) claimsOf(p *podInfo) (wanted, reason) {
	var out wanted
	for _, c := range p.claims {
		claim := v.claims[c.key]
		if claim == nil {
			if c.ephemeral {
				return out, final(fmt.Sprintf("waiting for ephemeral volume controller to create the persistentvolumeclaim %q", c.key.Name))
			}
			return out, final(fmt.Sprintf("persistentvolumeclaim %q not found", c.key.Name))
		}
		if claim.Status.Phase == corev1.ClaimLost {
			return out, final(fmt.Sprintf("persistentvolumeclaim %q bound to non-existent persistentvolume %q", claim.Name, claim.Spec.VolumeName))
		}
		if claim.DeletionTimestamp != nil {
			return out, final(fmt.Sprintf("persistentvolumeclaim %q is being deleted", claim.Name))
		}
		if c.ephemeral {
			if err := ephemeral.VolumeIsForPod(p.pod, claim); err != nil {
				return out, final(err.Error())
			}
		}
	}
	immediate := false
	for _, c := range p.claims {
		switch claim := v.claims[c.key]; {
		case bound(claim):
			out.bound = append(out.bound, claim)
		case claim.Spec.VolumeName == "" && v.waitsForConsumer(claim):
			out.delayed = append(out.delayed, claim)
		default: // one that names a volume is the binder's business, whatever its class
			immediate = true
		}
	}
	if immediate {
		return out, final(unboundImmediate)
	}
	slices.SortStableFunc(out.delayed, func(a, b *corev1.PersistentVolumeClaim) int {
		x, y := storageOf(a), storageOf(b)
		return cmp.Or(x.Cmp(y), cmp.Compare(a.Name, b.Name))
	})
	return out, reason{}
}

func storageOf(claim *corev1.PersistentVolumeClaim) resource.Quantity {
	return claim.Spec.Resources.Requests[corev1.ResourceStorage]
}

// refuseUnboundClaims turns down pods whose claims cannot be had on any node.
func refuseUnboundClaims(c *cluster, p *podInfo) reason {
	_, why := c.storage.claimsOf(p)
	return why
}

// filterVolumeBinding refuses nodes from which a bound volume cannot be reached, or that have none for an unbound claim.
func filterVolumeBinding(c *cluster, p *podInfo) check {
	if len(p.claims) == 0 {
		return nil
	}
	w, why := c.storage.claimsOf(p)
	if why.refuses() { // to come here without being refused before, p must have been looked at by another way
		return func(*node) reason { return why }
	}
	return func(n *node) reason {
		_, why := c.storage.plan(w, n)
		return why
	}
}

// match is a volume for a claim.
type match struct {
	claim  *corev1.PersistentVolumeClaim
	volume *corev1.PersistentVolume
}

// volumePlan is what has to be written for a pod's claims before the pod can be bound to a node.
type volumePlan struct {
	matches   []match                         // volumes that there are
	provision []*corev1.PersistentVolumeClaim // volumes to be made on the node
	started   []match                         // the same, begun for another pod
	await     []*corev1.PersistentVolumeClaim // all that are not bound yet
}

// plan says how w can be had on n, or why not.
func (v *storage) plan(w wanted, n *node) (volumePlan, reason) {
	for _, claim := range w.bound {
		pv := v.volumes[claim.Spec.VolumeName]
		if pv == nil {
			return volumePlan{}, final(volumeGone)
		}
		if volumehelper.CheckNodeAffinity(pv, n.object.Labels) != nil {
			return volumePlan{}, final(volumeElsewhere)
		}
	}
	out := volumePlan{await: w.delayed}
	taken := map[string]*corev1.PersistentVolume{}
	for name := range v.promised {
		taken[name] = v.volumes[name]
	}
	for _, claim := range w.delayed {
		key := keyOf(claim)
		if name, ok := v.chosen[key]; ok {
			if pv := v.volumes[name]; pv == nil || volumehelper.CheckNodeAffinity(pv, n.object.Labels) != nil {
				return volumePlan{}, final(noVolume)
			}
			out.started = append(out.started, match{claim, v.volumes[name]})
			continue
		}
		if on := cmp.Or(v.intended[key], claim.Annotations[volumehelper.AnnSelectedNode]); on != "" {
			if on != n.name {
				return volumePlan{}, final(noVolume)
			}
			if claim.Annotations[volumehelper.AnnSelectedNode] == "" {
				continue // the annotation is being written
			}
			if why := v.provisionable(claim, n); why.refuses() {
				return volumePlan{}, why
			}
			continue
		}
		pv, err := volumehelper.FindMatchingVolume(claim, v.byClass[volumehelper.GetPersistentVolumeClaimClass(claim)], n.object, taken, true, true)
		if err != nil {
			return volumePlan{}, final(err.Error())
		}
		if pv != nil {
			taken[pv.Name] = pv
			out.matches = append(out.matches, match{claim, pv})
			continue
		}
		if why := v.provisionable(claim, n); why.refuses() {
			return volumePlan{}, why
		}
		out.provision = append(out.provision, claim)
	}
	return out, reason{}
}

// provisionable says why claim's class cannot make a volume on n.
func (v *storage) provisionable(claim *corev1.PersistentVolumeClaim, n *node) reason {
	class := v.classes[volumehelper.GetPersistentVolumeClaimClass(claim)]
	if class == nil || class.Provisioner == "" || class.Provisioner == noProvisioner || !allows(class.AllowedTopologies, n.object.Labels) {
		return final(noVolume)
	}
	if !v.hasRoom(claim, class, n) {
		return final(noStorage)
	}
	return reason{}
}

// allows reports whether one of the terms is met; no term allows everything.
func allows(terms []corev1.TopologySelectorTerm, have map[string]string) bool {
	return len(terms) == 0 || slices.ContainsFunc(terms, func(t corev1.TopologySelectorTerm) bool {
		for _, e := range t.MatchLabelExpressions {
			if value, ok := have[e.Key]; !ok || !slices.Contains(e.Values, value) {
				return false
			}
		}
		return true
	})
}

// hasRoom reports whether the class's driver, if it publishes how much room there is, has enough of it that n can reach.
func (v *storage) hasRoom(claim *corev1.PersistentVolumeClaim, class *storagev1.StorageClass, n *node) bool {
	driver := v.drivers[class.Provisioner]
	if driver == nil || driver.Spec.StorageCapacity == nil || !*driver.Spec.StorageCapacity {
		return true
	}
	size := storageOf(claim)
	for _, have := range v.capacities {
		if have.StorageClassName != class.Name || have.NodeTopology == nil {
			continue
		}
		limit := have.MaximumVolumeSize
		if limit == nil {
			limit = have.Capacity
		}
		if limit == nil || limit.Cmp(size) < 0 {
			continue
		}
		if s, err := metav1.LabelSelectorAsSelector(have.NodeTopology); err == nil && s.Matches(labels.Set(n.object.Labels)) {
			return true
		}
	}
	return false
}

// reserve counts on what plan will write, so that no other pod is promised the same.
func (v *storage) reserve(plan volumePlan, node string) {
	for _, m := range plan.matches {
		v.promised[m.volume.Name], v.chosen[keyOf(m.claim)] = keyOf(m.claim), m.volume.Name
	}
	for _, claim := range plan.provision {
		v.intended[keyOf(claim)] = node
	}
}

// release takes reserve back.
func (v *storage) release(plan volumePlan) {
	for _, m := range plan.matches {
		if v.promised[m.volume.Name] == keyOf(m.claim) {
			v.keep(m.volume.Name)
		}
	}
	for _, claim := range plan.provision {
		delete(v.intended, keyOf(claim))
	}
}

func keyOf(claim *corev1.PersistentVolumeClaim) types.NamespacedName {
	return types.NamespacedName{Namespace: claim.Namespace, Name: claim.Name}
}
