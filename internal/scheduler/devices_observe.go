package scheduler

import (
	"errors"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/dynamic-resource-allocation/resourceclaim"
)

// deviceSources are what the rule of devices reads.
func deviceSources(f informers.SharedInformerFactory, b *inbox) []source {
	r := f.Resource().V1()
	return []source{
		{r.ResourceClaims().Informer(), handle(b, (*Scheduler).observeDeviceClaim, (*Scheduler).forgetDeviceClaim)},
		{r.ResourceSlices().Informer(), handle(b, (*Scheduler).observeSlice, (*Scheduler).forgetSlice)},
		{r.DeviceClasses().Informer(), handle(b, (*Scheduler).observeDeviceClass, (*Scheduler).forgetDeviceClass)},
		{r.DeviceTaintRules().Informer(), handle(b, (*Scheduler).observeTaintRule, (*Scheduler).forgetTaintRule)},
	}
}

// observeDeviceClaim also looks whether the claim has given devices back: that helps whoever waits for any.
func (s *Scheduler) observeDeviceClaim(c *resourcev1.ResourceClaim) {
	key := claimKey(c)
	v := s.cluster.devices
	held := v.claims[key] != nil && v.claims[key].Status.Allocation != nil
	if !v.setClaim(c) {
		return
	}
	v.look(key)
	e := &event{what: deviceClaimChanged, claim: key}
	if held && c.Status.Allocation == nil {
		e.what |= devicesFreed
	}
	s.changed(e)
}

func (s *Scheduler) forgetDeviceClaim(c *resourcev1.ResourceClaim) {
	key := claimKey(c)
	s.cluster.devices.removeClaim(key)
	s.cluster.devices.look(key)
	s.changed(&event{what: deviceClaimChanged | devicesFreed, claim: key})
}

func (s *Scheduler) observeSlice(o *resourcev1.ResourceSlice) {
	s.cluster.devices.stock.SetSlice(o)
	s.changed(&event{what: deviceSliceChanged})
}

func (s *Scheduler) forgetSlice(o *resourcev1.ResourceSlice) {
	s.cluster.devices.stock.DropSlice(o.Name)
	s.changed(&event{what: deviceSliceChanged}) // one of an old generation may have stood in the way
}

func (s *Scheduler) observeDeviceClass(o *resourcev1.DeviceClass) {
	if s.cluster.devices.stock.SetClass(o) {
		s.cluster.forgetTables()
	}
	s.changed(&event{what: deviceClassChanged})
}

func (s *Scheduler) forgetDeviceClass(o *resourcev1.DeviceClass) {
	if s.cluster.devices.stock.DropClass(o.Name) {
		s.cluster.forgetTables()
	}
}

func (s *Scheduler) observeTaintRule(o *resourcev1.DeviceTaintRule) {
	s.cluster.devices.stock.SetRule(o)
	s.changed(&event{what: deviceSliceChanged})
}

func (s *Scheduler) forgetTaintRule(o *resourcev1.DeviceTaintRule) {
	s.cluster.devices.stock.DropRule(o.Name)
	s.changed(&event{what: deviceSliceChanged})
}

// lacksClaims reports whether claims are still to be made for a pod from templates. It is not tried before.
func lacksClaims(pod *corev1.Pod) bool {
	for i := range pod.Spec.ResourceClaims {
		if _, _, err := resourceclaim.Name(pod, &pod.Spec.ResourceClaims[i]); errors.Is(err, resourceclaim.ErrClaimNotFound) {
			return true
		}
	}
	return false
}

// hintDevices: a claim helps the pods that name it, or all if devices came free.
func hintDevices(c *cluster, p *podInfo, e *event) bool {
	if !c.devices.wanted(p) {
		return false
	}
	if e.what&deviceClaimChanged == 0 || e.what&devicesFreed != 0 {
		return true
	}
	for i := range p.pod.Spec.ResourceClaims {
		name, _, err := resourceclaim.Name(p.pod, &p.pod.Spec.ResourceClaims[i])
		if err == nil && name != nil && (types.NamespacedName{Namespace: p.pod.Namespace, Name: *name}) == e.claim {
			return true
		}
	}
	return e.claim == types.NamespacedName{Namespace: p.pod.Namespace, Name: specialName(p.pod)}
}
