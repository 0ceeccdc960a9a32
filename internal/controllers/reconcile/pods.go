package reconcile

import (
	corev1 "k8s.io/api/core/v1"
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
