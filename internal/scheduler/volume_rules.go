package scheduler

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	volumehelper "k8s.io/component-helpers/storage/volume"
)

const (
	soleUserElsewhere = "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode"
	diskInUse         = "node(s) had no available disk"
	otherVolumeZone   = "node(s) had no available volume zone"
	tooManyVolumes    = "node(s) exceed max volume count"
)

// filterVolumeRestrictions refuses nodes on which a disk of the pod is in use already, and every node as long as another pod,
// wherever it is, has a claim that only one pod may have. Evicting that pod would help, so that only its own node passes then.
func filterVolumeRestrictions(c *cluster, p *podInfo) check {
	disks := podDisks(p.pod)
	var sole []podClaim
	for _, ref := range p.claims {
		if claim := c.storage.claims[ref.key]; claim != nil && slices.Contains(claim.Spec.AccessModes, corev1.ReadWriteOncePod) {
			sole = append(sole, ref)
		}
	}
	if disks == nil && sole == nil {
		return nil
	}
	return func(n *node) reason {
		for _, q := range n.pods {
			if disks != nil && clash(disks, podDisks(q.pod)) {
				return passing(diskInUse)
			}
		}
		for _, ref := range sole {
			if c.storage.users[ref.key] > 0 {
				return passing(soleUserElsewhere)
			}
		}
		return reason{}
	}
}

// disk is an inline volume that one pod at a time can have on a node, except that all may read it.
type disk struct {
	id       string
	readOnly bool // as far as this source shares between readers
}

func podDisks(pod *corev1.Pod) []disk {
	var out []disk
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		switch {
		case v.GCEPersistentDisk != nil:
			out = append(out, disk{"gce/" + v.GCEPersistentDisk.PDName, v.GCEPersistentDisk.ReadOnly})
		case v.AWSElasticBlockStore != nil: // cannot be shared, not even between readers
			out = append(out, disk{"aws/" + v.AWSElasticBlockStore.VolumeID, false})
		case v.ISCSI != nil:
			out = append(out, disk{"iscsi/" + v.ISCSI.IQN, v.ISCSI.ReadOnly})
		case v.RBD != nil:
			for _, monitor := range v.RBD.CephMonitors { // one monitor in common means the same cluster
				out = append(out, disk{"rbd/" + monitor + "/" + v.RBD.RBDPool + "/" + v.RBD.RBDImage, v.RBD.ReadOnly})
			}
		}
	}
	return out
}

func clash(mine, others []disk) bool {
	for _, a := range mine {
		for _, b := range others {
			if a.id == b.id && (!a.readOnly || !b.readOnly) {
				return true
			}
		}
	}
	return false
}

// zoneLabels are the labels of a volume that say where it is, each with the name it has today.
func zoneLabels() [][2]string {
	return [][2]string{
		{corev1.LabelTopologyZone, corev1.LabelTopologyZone}, {corev1.LabelTopologyRegion, corev1.LabelTopologyRegion},
		{corev1.LabelFailureDomainBetaZone, corev1.LabelTopologyZone}, {corev1.LabelFailureDomainBetaRegion, corev1.LabelTopologyRegion},
	}
}

// filterVolumeZone refuses nodes that are not in the zones and regions by which the pod's volumes are labelled. A node without
// any such label is in all of them.
func filterVolumeZone(c *cluster, p *podInfo) check {
	type place struct {
		label, today string
		values       []string
	}
	var places []place
	for _, ref := range p.claims {
		claim := c.storage.claims[ref.key]
		if claim == nil {
			continue
		}
		pv := c.storage.volumes[claim.Spec.VolumeName]
		if pv == nil {
			continue
		}
		for _, l := range zoneLabels() {
			if value, ok := pv.Labels[l[0]]; ok {
				places = append(places, place{l[0], l[1], strings.Split(value, "__")})
			}
		}
	}
	if places == nil {
		return nil
	}
	return func(n *node) reason {
		if !slices.ContainsFunc(zoneLabels(), func(l [2]string) bool { _, ok := n.object.Labels[l[0]]; return ok }) {
			return reason{}
		}
		for _, at := range places {
			value, ok := n.object.Labels[at.label]
			if !ok {
				value = n.object.Labels[at.today]
			}
			if !slices.Contains(at.values, value) {
				return final(otherVolumeZone)
			}
		}
		return reason{}
	}
}

// attached is a volume as a CSI driver of a node sees it.
type attached struct{ driver, handle string }

// csiVolumes lists the CSI volumes behind p's claims. A claim without a volume counts for the driver that will make it.
func (v *storage) csiVolumes(p *podInfo) []attached {
	var out []attached
	for _, ref := range p.claims {
		claim := v.claims[ref.key]
		if claim == nil {
			continue
		}
		if pv := v.volumes[claim.Spec.VolumeName]; pv != nil {
			if pv.Spec.CSI != nil {
				out = append(out, attached{pv.Spec.CSI.Driver, pv.Spec.CSI.VolumeHandle})
			}
			continue
		}
		if class := v.classes[volumehelper.GetPersistentVolumeClaimClass(claim)]; class != nil {
			out = append(out, attached{class.Provisioner, ref.key.String()})
		}
	}
	return out
}

// filterVolumeLimits refuses nodes on which a CSI driver would have more volumes than it can attach there.
func filterVolumeLimits(c *cluster, p *podInfo) check {
	mine := c.storage.csiVolumes(p)
	if mine == nil {
		return nil
	}
	return func(n *node) reason {
		limits := c.storage.limits(n.name)
		if !slices.ContainsFunc(mine, func(a attached) bool { _, limited := limits[a.driver]; return limited }) {
			return reason{}
		}
		all := sets.New(mine...)
		before := sets.Set[attached]{}
		for _, q := range n.pods {
			before.Insert(c.storage.csiVolumes(q)...)
		}
		before.Insert(c.storage.attachedTo(n.name)...)
		perDriver := map[string]int{}
		for a := range all.Union(before) {
			perDriver[a.driver]++
		}
		for a := range all.Difference(before) { // what is there already takes no more room
			if limit, limited := limits[a.driver]; limited && perDriver[a.driver] > int(limit) {
				return passing(tooManyVolumes)
			}
		}
		return reason{}
	}
}

// limits are the numbers of volumes that CSI drivers can attach to a node.
func (v *storage) limits(node string) map[string]int32 {
	object := v.nodes[node]
	if object == nil {
		return nil
	}
	var out map[string]int32
	for _, d := range object.Spec.Drivers {
		if d.Allocatable == nil || d.Allocatable.Count == nil {
			continue
		}
		if out == nil {
			out = map[string]int32{}
		}
		out[d.Name] = *d.Allocatable.Count
	}
	return out
}

// attachedTo lists what is attached to a node, though no pod there may use it any more.
func (v *storage) attachedTo(node string) []attached {
	var out []attached
	for _, a := range v.attachments {
		if a.Spec.NodeName != node || a.Spec.Source.PersistentVolumeName == nil {
			continue
		}
		if pv := v.volumes[*a.Spec.Source.PersistentVolumeName]; pv != nil && pv.Spec.CSI != nil {
			out = append(out, attached{pv.Spec.CSI.Driver, pv.Spec.CSI.VolumeHandle})
		}
	}
	return out
}
