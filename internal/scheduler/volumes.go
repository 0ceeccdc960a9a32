package scheduler

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/component-helpers/storage/ephemeral"
	volumehelper "k8s.io/component-helpers/storage/volume"
)

// podClaim is a claim that a pod mounts.
type podClaim struct {
	key       types.NamespacedName
	ephemeral bool // made for this pod alone
}

// podClaims lists the claims of pod's volumes.
func podClaims(pod *corev1.Pod) []podClaim {
	var out []podClaim
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		switch {
		case v.PersistentVolumeClaim != nil:
			out = append(out, podClaim{types.NamespacedName{Namespace: pod.Namespace, Name: v.PersistentVolumeClaim.ClaimName}, false})
		case v.Ephemeral != nil:
			out = append(out, podClaim{types.NamespacedName{Namespace: pod.Namespace, Name: ephemeral.VolumeClaimName(pod, v)}, true})
		}
	}
	return out
}

// storage is what is known about claims, volumes and where there is room for more. Part of the cluster.
type storage struct {
	claims      map[types.NamespacedName]*corev1.PersistentVolumeClaim
	volumes     map[string]*corev1.PersistentVolume
	byClass     map[string][]*corev1.PersistentVolume // by name
	classes     map[string]*storagev1.StorageClass
	drivers     map[string]*storagev1.CSIDriver
	nodes       map[string]*storagev1.CSINode
	capacities  map[types.NamespacedName]*storagev1.CSIStorageCapacity
	attachments map[string]*storagev1.VolumeAttachment
	users       map[types.NamespacedName]int // placed pods that mount a claim

	// promised are volumes given to claims here and not yet seen to be so; chosen is the same the other way around.
	promised map[string]types.NamespacedName
	chosen   map[types.NamespacedName]string
	// intended are the nodes on which claims are to be provisioned, until their annotation is seen to say so.
	intended map[types.NamespacedName]string
	waits    map[types.NamespacedName]map[*volumeWait]bool // by claim
}

func newStorage() *storage {
	return &storage{
		claims:  map[types.NamespacedName]*corev1.PersistentVolumeClaim{},
		volumes: map[string]*corev1.PersistentVolume{}, byClass: map[string][]*corev1.PersistentVolume{},
		classes: map[string]*storagev1.StorageClass{}, drivers: map[string]*storagev1.CSIDriver{}, nodes: map[string]*storagev1.CSINode{},
		capacities: map[types.NamespacedName]*storagev1.CSIStorageCapacity{}, attachments: map[string]*storagev1.VolumeAttachment{},
		users:    map[types.NamespacedName]int{},
		promised: map[string]types.NamespacedName{}, chosen: map[types.NamespacedName]string{}, intended: map[types.NamespacedName]string{},
		waits: map[types.NamespacedName]map[*volumeWait]bool{},
	}
}

// addPod counts the claims of a pod that was placed, or uncounts them.
func (v *storage) addPod(p *podInfo, sign int) {
	for _, c := range p.claims {
		if v.users[c.key] += sign; v.users[c.key] == 0 {
			delete(v.users, c.key)
		}
	}
}

// setClaim takes in a claim; it reports false for a state older than the one known: a write of ours was faster than the watch.
func (v *storage) setClaim(c *corev1.PersistentVolumeClaim) bool {
	key := types.NamespacedName{Namespace: c.Namespace, Name: c.Name}
	if old := v.claims[key]; old != nil && old.UID == c.UID && older(c.ResourceVersion, old.ResourceVersion) {
		return false
	}
	v.claims[key] = c
	if c.Annotations[volumehelper.AnnSelectedNode] != "" || c.Spec.VolumeName != "" {
		delete(v.intended, key)
	}
	return true
}

func (v *storage) removeClaim(c *corev1.PersistentVolumeClaim) {
	delete(v.claims, types.NamespacedName{Namespace: c.Namespace, Name: c.Name})
}

// setVolume takes in a volume; it reports false for a state older than the one known.
func (v *storage) setVolume(pv *corev1.PersistentVolume) bool {
	if old := v.volumes[pv.Name]; old != nil {
		if old.UID == pv.UID && older(pv.ResourceVersion, old.ResourceVersion) {
			return false
		}
		v.unlist(old)
	}
	v.volumes[pv.Name] = pv
	class := volumehelper.GetPersistentVolumeClass(pv)
	list := v.byClass[class]
	at, _ := slices.BinarySearchFunc(list, pv.Name, byVolumeName)
	v.byClass[class] = slices.Insert(list, at, pv)
	if pv.Spec.ClaimRef != nil {
		v.keep(pv.Name)
	}
	return true
}

func (v *storage) removeVolume(pv *corev1.PersistentVolume) {
	if old := v.volumes[pv.Name]; old != nil {
		v.unlist(old)
		delete(v.volumes, pv.Name)
	}
	v.keep(pv.Name)
}

func (v *storage) unlist(pv *corev1.PersistentVolume) {
	class := volumehelper.GetPersistentVolumeClass(pv)
	list := v.byClass[class]
	if at, found := slices.BinarySearchFunc(list, pv.Name, byVolumeName); found {
		list = slices.Delete(list, at, at+1)
	}
	if len(list) == 0 {
		delete(v.byClass, class)
		return
	}
	v.byClass[class] = list
}

// keep ends a promise: the volume now says itself whose it is, or is gone.
func (v *storage) keep(volume string) {
	if claim, ok := v.promised[volume]; ok {
		delete(v.promised, volume)
		delete(v.chosen, claim)
	}
}

func byVolumeName(pv *corev1.PersistentVolume, name string) int {
	return strings.Compare(pv.Name, name)
}

// older compares resource versions of one object; what cannot be compared is not older.
func older(a, b string) bool {
	order, err := resourceversion.CompareResourceVersion(a, b)
	return err == nil && order < 0
}

// bound reports whether claim has its volume for good.
func bound(claim *corev1.PersistentVolumeClaim) bool {
	return claim.Spec.VolumeName != "" && claim.Annotations[volumehelper.AnnBindCompleted] != ""
}

// waitsForConsumer reports whether claim's class binds only when a pod has a node.
func (v *storage) waitsForConsumer(claim *corev1.PersistentVolumeClaim) bool {
	class := v.classes[volumehelper.GetPersistentVolumeClaimClass(claim)]
	return class != nil && class.VolumeBindingMode != nil && *class.VolumeBindingMode == storagev1.VolumeBindingWaitForFirstConsumer
}
