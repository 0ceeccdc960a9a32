package scheduler

import (
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
)

// source is an informer and what to do with what it reports.
type source struct {
	informer cache.SharedIndexInformer
	handler  cache.ResourceEventHandler
}

// volumeSources are what the volume rules read.
func volumeSources(f informers.SharedInformerFactory, b *inbox) []source {
	core, storage := f.Core().V1(), f.Storage().V1()
	return []source{
		{core.PersistentVolumes().Informer(), handle(b, (*Scheduler).observeVolume, (*Scheduler).forgetVolume)},
		{core.PersistentVolumeClaims().Informer(), handle(b, (*Scheduler).observeClaim, (*Scheduler).forgetClaim)},
		{storage.StorageClasses().Informer(), handle(b, (*Scheduler).observeClass, (*Scheduler).forgetClass)},
		{storage.CSIDrivers().Informer(), handle(b, (*Scheduler).observeDriver, (*Scheduler).forgetDriver)},
		{storage.CSINodes().Informer(), handle(b, (*Scheduler).observeCSINode, (*Scheduler).forgetCSINode)},
		{storage.CSIStorageCapacities().Informer(), handle(b, (*Scheduler).observeCapacity, (*Scheduler).forgetCapacity)},
		{storage.VolumeAttachments().Informer(), handle(b, (*Scheduler).observeAttachment, (*Scheduler).forgetAttachment)},
	}
}

// changed wakes whom e helps. Pods about which extenders are being asked are in no queue, and what their extenders refuse anything may
// turn.
func (s *Scheduler) changed(e *event) {
	s.queue.happened(s.cluster, e, s.Clock.Now())
	for _, q := range s.consulted {
		q.turned = true
	}
}

func (s *Scheduler) observeVolume(pv *corev1.PersistentVolume) {
	v := s.cluster.storage
	if !v.setVolume(pv) {
		return
	}
	if ref := pv.Spec.ClaimRef; ref != nil {
		v.look(types.NamespacedName{Namespace: ref.Namespace, Name: ref.Name})
	}
	s.changed(&event{what: volumeChanged})
}

// forgetVolume also looks at who waited to have it.
func (s *Scheduler) forgetVolume(pv *corev1.PersistentVolume) {
	v := s.cluster.storage
	claim, promised := v.promised[pv.Name]
	v.removeVolume(pv)
	if promised {
		v.look(claim)
	}
	if ref := pv.Spec.ClaimRef; ref != nil {
		v.look(types.NamespacedName{Namespace: ref.Namespace, Name: ref.Name})
	}
}

func (s *Scheduler) observeClaim(c *corev1.PersistentVolumeClaim) {
	if !s.cluster.storage.setClaim(c) {
		return
	}
	s.cluster.storage.look(keyOf(c))
	s.changed(&event{what: claimChanged, claim: keyOf(c)})
}

func (s *Scheduler) forgetClaim(c *corev1.PersistentVolumeClaim) {
	s.cluster.storage.removeClaim(c)
	s.cluster.storage.look(keyOf(c))
	s.changed(&event{what: claimChanged, claim: keyOf(c)})
}

func (s *Scheduler) observeClass(c *storagev1.StorageClass) {
	s.cluster.storage.classes[c.Name] = c
	s.changed(&event{what: classChanged})
}

func (s *Scheduler) forgetClass(c *storagev1.StorageClass) { delete(s.cluster.storage.classes, c.Name) }

func (s *Scheduler) observeDriver(d *storagev1.CSIDriver) {
	s.cluster.storage.drivers[d.Name] = d
	s.changed(&event{what: roomChanged})
}

func (s *Scheduler) forgetDriver(d *storagev1.CSIDriver) {
	delete(s.cluster.storage.drivers, d.Name)
	s.changed(&event{what: roomChanged})
}

func (s *Scheduler) observeCapacity(c *storagev1.CSIStorageCapacity) {
	s.cluster.storage.capacities[types.NamespacedName{Namespace: c.Namespace, Name: c.Name}] = c
	s.changed(&event{what: roomChanged})
}

func (s *Scheduler) forgetCapacity(c *storagev1.CSIStorageCapacity) {
	delete(s.cluster.storage.capacities, types.NamespacedName{Namespace: c.Namespace, Name: c.Name})
}

func (s *Scheduler) observeCSINode(n *storagev1.CSINode) {
	s.cluster.storage.nodes[n.Name] = n
	s.changed(&event{what: limitChanged})
}

func (s *Scheduler) forgetCSINode(n *storagev1.CSINode) {
	delete(s.cluster.storage.nodes, n.Name)
	s.changed(&event{what: limitChanged})
}

func (s *Scheduler) observeAttachment(a *storagev1.VolumeAttachment) {
	s.cluster.storage.attachments[a.Name] = a
}

func (s *Scheduler) forgetAttachment(a *storagev1.VolumeAttachment) {
	delete(s.cluster.storage.attachments, a.Name)
	s.changed(&event{what: limitChanged})
}

// hintClaims: a claim helps the pods that mount it; what happens to volumes and classes may help all.
func hintClaims(_ *cluster, p *podInfo, e *event) bool {
	if e.what&claimChanged == 0 {
		return true
	}
	for _, c := range p.claims {
		if c.key == e.claim {
			return true
		}
	}
	return false
}

// hintClaimUsers: a pod that went helps those that mount what it did.
func hintClaimUsers(c *cluster, p *podInfo, e *event) bool {
	if e.what&podGone == 0 {
		return hintClaims(c, p, e)
	}
	gone := e.was
	if gone == nil {
		gone = e.pod
	}
	if gone == nil {
		return true
	}
	for _, a := range p.claims {
		for _, b := range gone.claims {
			if a.key == b.key {
				return true
			}
		}
	}
	return clash(podDisks(p.pod), podDisks(gone.pod))
}

// hintVolumeLimits: a pod that went may have had its volumes attached for it alone.
func hintVolumeLimits(_ *cluster, _ *podInfo, e *event) bool {
	if e.what&podGone == 0 {
		return true
	}
	gone := e.was
	if gone == nil {
		gone = e.pod
	}
	return gone == nil || len(gone.claims) > 0
}
