package reconcile

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
)

// ByNode is the index of pods by spec.nodeName; pods without a node are in none.
const ByNode = "canopus/node"

// IndexByNode gives the pod informer the index ByNode.
func IndexByNode(pods cache.SharedIndexInformer) error {
	return Index(pods, ByNode, func(obj any) ([]string, error) {
		pod, ok := obj.(*corev1.Pod)
		if !ok || pod.Spec.NodeName == "" {
			return nil, nil
		}
		return []string{pod.Spec.NodeName}, nil
	})
}

// Sight is what a cache showed of pods, when, and the resourceVersion that it had reached before.
type Sight struct {
	Pods []*corev1.Pod
	Seen string
	At   time.Time
}

// Taken is View for owners whose pods have places, a name or a node, that stay taken until the pod is gone: pods that we
// deleted are in it too, as leaving.
func Taken(w *Written[*corev1.Pod], owner types.UID, s Sight) []*corev1.Pod {
	out := slices.Clone(w.View(owner, s.Pods, s.Seen))
	shown := make(map[types.UID]bool, len(out))
	for _, p := range out {
		shown[p.UID] = true
	}
	for _, p := range s.Pods {
		if !shown[p.UID] {
			leaving := p.DeepCopy()
			leaving.DeletionTimestamp = &metav1.Time{Time: s.At}
			out = append(out, leaving)
		}
	}
	return out
}
