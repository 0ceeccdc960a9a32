package plugins

import (
	"context"
	"fmt"

	"canopus/internal/admission"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
)

// PodTopologyLabels tells pods the zone and region of their node: it labels the binding, or a pod that is made with a node.
type PodTopologyLabels struct{ nodes corelisters.NodeLister }

// NewPodTopologyLabels makes the plugin.
func NewPodTopologyLabels(c Config) *PodTopologyLabels {
	i := c.Informers.Core().V1().Nodes()
	i.Informer()
	return &PodTopologyLabels{nodes: i.Lister()}
}

// Name implements admission.Plugin.
func (p *PodTopologyLabels) Name() string { return "PodTopologyLabels" }

// Handles implements admission.Plugin.
func (p *PodTopologyLabels) Handles(r *admission.Request) bool {
	if r.Operation != admission.Create || r.Resource.Group != "" {
		return false
	}
	return r.Resource.Resource == "pods" && (r.Subresource == "" || r.Subresource == "binding") || r.Resource.Resource == "bindings"
}

// Admit implements admission.Mutator.
func (p *PodTopologyLabels) Admit(_ context.Context, r *admission.Request) error {
	var node string
	var meta *metav1.ObjectMeta
	switch obj := r.Object.(type) {
	case *corev1.Binding:
		if obj.Target.Kind != "" && obj.Target.Kind != "Node" {
			return nil
		}
		node, meta = obj.Target.Name, &obj.ObjectMeta
	case *corev1.Pod:
		node, meta = obj.Spec.NodeName, &obj.ObjectMeta
	}
	if node == "" {
		return nil
	}
	n, err := p.nodes.Get(node)
	if apierrors.IsNotFound(err) {
		return nil // what does not exist has no zone; others decide whether that matters
	}
	if err != nil {
		return fmt.Errorf("read node %s: %w", node, err)
	}
	for _, key := range [...]string{corev1.LabelTopologyZone, corev1.LabelTopologyRegion} {
		if value, ok := n.Labels[key]; ok {
			if meta.Labels == nil {
				meta.Labels = map[string]string{}
			}
			meta.Labels[key] = value
		}
	}
	return nil
}
