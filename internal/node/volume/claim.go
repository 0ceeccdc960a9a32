package volume

import (
	"context"
	"fmt"
	"time"
)

// claim is a PersistentVolumeClaim whose volume is a path of this node (local or hostPath).
type claim struct {
	Source
	name string
}

func (c *claim) SetUp(ctx context.Context) (string, error) {
	if c.Host.Claims == nil {
		return "", fmt.Errorf("persistent volume claims are not available on this node")
	}
	pv, bound, err := c.Host.Claims.Volume(ctx, c.Pod.Namespace, c.name)
	if err != nil {
		return "", err
	}
	if !bound {
		return "", fmt.Errorf("persistentvolumeclaim %q is not bound yet", c.name)
	}
	var p string
	switch {
	case pv.Spec.HostPath != nil:
		p, err = (&hostPath{path: pv.Spec.HostPath.Path, kind: pv.Spec.HostPath.Type}).SetUp(ctx)
	case pv.Spec.Local != nil:
		p = pv.Spec.Local.Path
	default:
		return "", fmt.Errorf("persistent volume %q has a type that this node does not provide: it must be local or hostPath", pv.Name)
	}
	if err != nil {
		return "", err
	}
	if pv.Spec.Local != nil {
		return p, setGroup(p, c.Pod, false)
	}
	return p, nil
}

func (c *claim) Refresh() time.Time { return time.Time{} }

func (c *claim) TearDown() error { return nil }
