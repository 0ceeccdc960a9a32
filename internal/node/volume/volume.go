// Package volume makes the content of pods' volumes available as directories of the node: every type is a file of its own
// behind the Volume interface, New chooses the type, and Mounts binds prepared volumes into containers, subPath included.
// Contents that come from the API are written atomically and again whenever SetUp is called after a change.
package volume

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/mount-utils"
	"k8s.io/utils/clock"

	"canopus/internal/node/env"
)

// Volume is one volume of one pod.
type Volume interface {
	// SetUp makes the volume available and returns its path on the node. It may be called again, to bring the content
	// up to date.
	SetUp(ctx context.Context) (string, error)
	// Refresh returns when SetUp should be called again though nothing else changed; zero means never.
	Refresh() time.Time
	// TearDown undoes SetUp; it also works when SetUp never ran in this process.
	TearDown() error
}

// Tokens requests a token bound to the pod for a service account.
type Tokens interface {
	Token(ctx context.Context, pod *corev1.Pod, audience string, seconds int64) (token string, expires time.Time, err error)
}

// Claims reads what is between a pod and its persistent volume, and the node itself, whose labels decide where a volume may
// be used. An object that is not there is an error.
type Claims interface {
	Claim(ctx context.Context, namespace, name string) (*corev1.PersistentVolumeClaim, error)
	Volume(ctx context.Context, name string) (*corev1.PersistentVolume, error)
	Node(ctx context.Context) (*corev1.Node, error)
}

// Host is what volumes need of the node.
type Host struct {
	Root         string // the agent's root directory; pods' volumes are below Root/pods
	Node         string // its name
	LocalVolumes string // directory of the volumes that are provisioned on this node; empty: none are
	Mounter      mount.Interface
	Tokens       Tokens
	Claims       Claims
	Clock        clock.Clock
	Allocatable  corev1.ResourceList
}

// Source is one volume of a pod with the means to read what it refers to.
type Source struct {
	Pod     *corev1.Pod
	Volume  *corev1.Volume
	Objects env.Objects
	Host    *Host
}

// New returns the volume for its type, or an error that names the type when this node cannot provide it.
func New(s Source) (Volume, error) {
	v := s.Volume
	switch {
	case v.EmptyDir != nil:
		return &emptyDir{s}, nil
	case v.HostPath != nil:
		return &hostPath{path: v.HostPath.Path, kind: v.HostPath.Type}, nil
	case v.ConfigMap != nil:
		return newWritten(s, "kubernetes.io~configmap", configMapFiles), nil
	case v.Secret != nil:
		return newWritten(s, "kubernetes.io~secret", secretFiles), nil
	case v.DownwardAPI != nil:
		return newWritten(s, "kubernetes.io~downward-api", downwardFiles), nil
	case v.Projected != nil:
		return newWritten(s, "kubernetes.io~projected", projectedFiles), nil
	case v.PersistentVolumeClaim != nil, v.Ephemeral != nil:
		return &claim{Source: s}, nil
	case v.Image != nil:
		return image{}, nil
	case v.VolumeSource == (corev1.VolumeSource{}):
		return &emptyDir{s}, nil
	}
	return nil, fmt.Errorf("volume %q has a type that this node does not provide: %s", v.Name, typeName(v))
}

// image is the content of an image: the runtime mounts it, and its pod's containers get it when they start.
type image struct{}

func (image) SetUp(context.Context) (string, error) { return "", nil }
func (image) Refresh() time.Time                    { return time.Time{} }
func (image) TearDown() error                       { return nil }

// typeName names the type of a volume this node cannot provide.
func typeName(v *corev1.Volume) string {
	switch {
	case v.CSI != nil:
		return "CSI volumes are not supported yet (driver " + v.CSI.Driver + ")"
	case v.NFS != nil:
		return "nfs"
	case v.ISCSI != nil:
		return "iscsi"
	case v.FC != nil:
		return "fc"
	}
	return "one of the in-tree types that Kubernetes has removed"
}

// PodDir returns the directory of a pod below root.
func PodDir(root string, uid types.UID) string { return filepath.Join(root, "pods", string(uid)) }

// dir returns the directory of the volume for a plugin's name.
func (s Source) dir(plugin string) string {
	return filepath.Join(PodDir(s.Host.Root, s.Pod.UID), "volumes", plugin, s.Volume.Name)
}
