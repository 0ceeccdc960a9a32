package volume

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/storage/ephemeral"
	"k8s.io/component-helpers/storage/volume"
)

// claim is a PersistentVolumeClaim, one of the pod's own for an ephemeral volume.
type claim struct {
	Source
	inner Volume // the volume behind it, once known
}

func (c *claim) SetUp(ctx context.Context) (string, error) {
	if c.Host.Claims == nil {
		return "", fmt.Errorf("persistent volume claims are not available on this node")
	}
	pv, err := c.find(ctx)
	if err != nil {
		return "", err
	}
	c.inner, err = behind(c.Source, pv)
	if err != nil {
		return "", err
	}
	return c.inner.SetUp(ctx)
}

func (c *claim) Refresh() time.Time { return time.Time{} }

// TearDown leaves the work to RemovePodDir, which finds mounts by themselves: the claim may be gone.
func (c *claim) TearDown() error { return nil }

// find returns the volume that the claim is bound to, if this pod may use it here.
func (c *claim) find(ctx context.Context) (*corev1.PersistentVolume, error) {
	name := claimName(c.Pod, c.Volume)
	said := func(err error) error {
		return fmt.Errorf("error processing PVC %s/%s: %w", c.Pod.Namespace, name, err)
	}
	pvc, err := c.Host.Claims.Claim(ctx, c.Pod.Namespace, name)
	if err != nil {
		return nil, said(err)
	}
	if c.Volume.Ephemeral != nil {
		if err := ephemeral.VolumeIsForPod(c.Pod, pvc); err != nil {
			return nil, said(err)
		}
	}
	if pvc.Status.Phase != corev1.ClaimBound || pvc.Spec.VolumeName == "" {
		return nil, said(fmt.Errorf("PVC is not bound"))
	}
	pv, err := c.Host.Claims.Volume(ctx, pvc.Spec.VolumeName)
	if err != nil {
		return nil, said(err)
	}
	if ref := pv.Spec.ClaimRef; ref == nil || ref.UID != pvc.UID {
		return nil, said(fmt.Errorf("PV %s is bound to another claim", pv.Name))
	}
	return pv, c.admit(ctx, pvc, pv)
}

// admit checks what the scheduler checks too, because a pod can be bound to a node without it.
func (c *claim) admit(ctx context.Context, pvc *corev1.PersistentVolumeClaim, pv *corev1.PersistentVolume) error {
	if pvc.DeletionTimestamp != nil && pvc.DeletionTimestamp.Before(&c.Pod.CreationTimestamp) {
		return fmt.Errorf("error processing PVC %s/%s: PVC is being deleted", pvc.Namespace, pvc.Name)
	}
	if m := pv.Spec.VolumeMode; m != nil && *m == corev1.PersistentVolumeBlock {
		return fmt.Errorf("persistent volume %s has volumeMode Block, which is not supported yet: use Filesystem", pv.Name)
	}
	if pv.Spec.NodeAffinity == nil {
		return nil
	}
	node, err := c.Host.Claims.Node(ctx)
	if err != nil {
		return err
	}
	if err := volume.CheckNodeAffinity(pv, node.Labels); err != nil {
		return fmt.Errorf("node affinity of persistent volume %s does not allow node %s: %w", pv.Name, node.Name, err)
	}
	return nil
}

// claimName returns the claim that a volume of pod stands for.
func claimName(pod *corev1.Pod, v *corev1.Volume) string {
	if v.PersistentVolumeClaim != nil {
		return v.PersistentVolumeClaim.ClaimName
	}
	return ephemeral.VolumeClaimName(pod, v)
}

// readOnlyClaim says whether the pod uses the claim for reading only.
func readOnlyClaim(v *corev1.Volume) bool {
	return v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ReadOnly
}

// behind returns the volume of a PersistentVolume for its type.
func behind(s Source, pv *corev1.PersistentVolume) (Volume, error) {
	src := &pv.Spec.PersistentVolumeSource
	switch {
	case src.Local != nil:
		return &local{Source: s, pv: pv}, nil
	case src.HostPath != nil:
		return &hostPath{path: src.HostPath.Path, kind: src.HostPath.Type}, nil
	case src.CSI != nil:
		return nil, fmt.Errorf("persistent volume %s: CSI volumes are not supported yet (driver %s): use local or hostPath", pv.Name, src.CSI.Driver)
	}
	return nil, fmt.Errorf("persistent volume %s has a type that this node does not provide: it must be local or hostPath", pv.Name)
}
