package attachdetach

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/utils/ptr"
)

// maxWaitForUnmount is how long an unhealthy node may take to unmount a volume before it is detached all the same.
const maxWaitForUnmount = 6 * time.Minute

const (
	reasonFailed    = "FailedAttachVolume"
	reasonSucceeded = "SuccessfulAttachVolume"
)

// view is what a decision about a node looks at.
type view struct {
	name        string
	node        *corev1.Node                             // nil if there is none of that name any more
	wanted      map[string]want                          // by volume: what the node's pods need attached
	attachments []*storagev1.VolumeAttachment            // to this node
	elsewhere   map[string][]*storagev1.VolumeAttachment // by wanted volume: to other nodes
	volumes     map[string]*corev1.PersistentVolume      // of the attachments
	users       map[string][]string                      // by wanted volume: pods on other nodes that use it
	unwanted    map[string]time.Time                     // by attachment: since when nobody wants it
	now         time.Time
}

// want is a volume that pods of a node need attached to it.
type want struct {
	volume *corev1.PersistentVolume
	pods   []*corev1.Pod
}

// plan is what a node needs. The list of what is attached is written first: what is about to be detached must not be mounted.
type plan struct {
	attached []corev1.AttachedVolume
	detach   []string // names of attachments
	attach   []*storagev1.VolumeAttachment
	events   []podEvent
	after    time.Duration // look again then; 0: when something changes
}

type podEvent struct {
	pod                   *corev1.Pod
	kind, reason, message string
}

func (p *plan) tell(pods []*corev1.Pod, kind, reason, message string) {
	for _, pod := range pods {
		p.events = append(p.events, podEvent{pod, kind, reason, message})
	}
}

func planNode(v view) plan {
	var p plan
	have := map[string]*storagev1.VolumeAttachment{}
	for _, a := range v.attachments {
		have[a.Name] = a
	}
	for _, name := range slices.Sorted(maps.Keys(v.wanted)) {
		w := v.wanted[name]
		planWanted(&p, v, w, have[attachmentName(w.volume, v.name)])
	}
	for _, name := range slices.Sorted(maps.Keys(have)) {
		planHeld(&p, v, have[name])
	}
	return p
}

// planWanted attaches a volume that is not attached, and tells the pods that wait for it why it is not.
func planWanted(p *plan, v view, w want, has *storagev1.VolumeAttachment) {
	switch {
	case has != nil && has.Status.AttachError != nil && !has.Status.Attached:
		p.tell(w.pods, corev1.EventTypeWarning, reasonFailed,
			fmt.Sprintf("AttachVolume.Attach failed for volume %q : %s", w.volume.Name, has.Status.AttachError.Message))
	case has != nil, v.node == nil: // on its way, or has nowhere to go
	case len(v.elsewhere[w.volume.Name]) > 0 && exclusive(w.volume):
		p.tell(w.pods, corev1.EventTypeWarning, reasonFailed, multiAttach(w.volume.Name, v.users[w.volume.Name]))
	default:
		p.attach = append(p.attach, attachmentOf(w.volume, v.name))
	}
}

func multiAttach(volume string, users []string) string {
	why := "Volume is already exclusively attached to one node and can't be attached to another"
	if len(users) > 0 {
		why = "Volume is already used by pod(s) " + strings.Join(users, ", ")
	}
	return fmt.Sprintf("Multi-Attach error for volume %q %s", volume, why)
}

// exclusive says whether pv can be attached to one node only.
func exclusive(pv *corev1.PersistentVolume) bool {
	return len(pv.Spec.AccessModes) > 0 && !slices.ContainsFunc(pv.Spec.AccessModes, func(m corev1.PersistentVolumeAccessMode) bool {
		return m == corev1.ReadWriteMany || m == corev1.ReadOnlyMany
	})
}

// planHeld decides about what is attached: it stays while it is wanted or mounted. Attachments that others made are theirs.
func planHeld(p *plan, v view, a *storagev1.VolumeAttachment) {
	pv := v.volumes[ptr.Deref(a.Spec.Source.PersistentVolumeName, "")]
	if pv == nil || a.Name != attachmentName(pv, v.name) {
		return
	}
	w, wanted := v.wanted[pv.Name]
	if a.DeletionTimestamp != nil {
		return // its driver is at work; it may not be mounted again
	}
	if !wanted {
		wait, keep := unmounting(v, a, pv)
		if !keep {
			p.detach = append(p.detach, a.Name)
			return
		}
		if wait > 0 && (p.after == 0 || wait < p.after) {
			p.after = wait
		}
	}
	if !a.Status.Attached {
		return
	}
	unique := uniqueName(pv)
	p.attached = append(p.attached, corev1.AttachedVolume{Name: unique})
	if v.node != nil && !slices.ContainsFunc(v.node.Status.VolumesAttached, func(x corev1.AttachedVolume) bool { return x.Name == unique }) {
		p.tell(w.pods, corev1.EventTypeNormal, reasonSucceeded, fmt.Sprintf("AttachVolume.Attach succeeded for volume %q ", pv.Name))
	}
}

// unmounting says whether an unwanted volume stays because the node still has it mounted, and when to give up on the node; 0:
// never, as it is well and will say so itself.
func unmounting(v view, a *storagev1.VolumeAttachment, pv *corev1.PersistentVolume) (wait time.Duration, keep bool) {
	if v.node == nil || !slices.Contains(v.node.Status.VolumesInUse, uniqueName(pv)) || outOfService(v.node) {
		return 0, false
	}
	if ready(v.node) {
		return 0, true
	}
	since, known := v.unwanted[a.Name]
	if !known {
		return maxWaitForUnmount, true
	}
	left := since.Add(maxWaitForUnmount).Sub(v.now)
	return left, left > 0
}

func outOfService(n *corev1.Node) bool {
	return slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == corev1.TaintNodeOutOfService })
}

func ready(n *corev1.Node) bool {
	return slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}

// uniqueName is what nodes call a volume in their status.
func uniqueName(pv *corev1.PersistentVolume) corev1.UniqueVolumeName {
	return corev1.UniqueVolumeName("kubernetes.io/csi/" + pv.Spec.CSI.Driver + "^" + pv.Spec.CSI.VolumeHandle)
}

// attachmentName is the name under which drivers and node agents look for the attachment of pv to node.
func attachmentName(pv *corev1.PersistentVolume, node string) string {
	if pv.Spec.CSI == nil {
		return ""
	}
	sum := sha256.Sum256([]byte(pv.Spec.CSI.VolumeHandle + pv.Spec.CSI.Driver + node))
	return "csi-" + hex.EncodeToString(sum[:])
}

// terminated says whether p's volumes may go: none of its containers runs, or will.
func terminated(p *corev1.Pod) bool {
	if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
		return true
	}
	return p.DeletionTimestamp != nil && !slices.ContainsFunc(p.Status.ContainerStatuses, func(s corev1.ContainerStatus) bool {
		return s.State.Terminated == nil && s.State.Waiting == nil
	})
}
