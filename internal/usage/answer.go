package usage

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"canopus/internal/kinds"
)

// Nodes answers for metrics.k8s.io nodes.
type Nodes struct{ m *Meter }

// Nodes returns what nodes use.
func (m *Meter) Nodes() Nodes { return Nodes{m} }

// Get returns what a node uses: an error NotFound when there is no such node, or nothing is known of it yet.
func (n Nodes) Get(_ context.Context, _, name string) (kinds.Object, error) {
	node, err := n.m.nodes.Get(name)
	if err == nil {
		if out := n.m.nodeMetrics(node); out != nil {
			return out, nil
		}
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Group: metricsv1beta1.GroupName, Resource: "nodes"}, name)
}

// List returns what the selected nodes use, as far as that is known.
func (n Nodes) List(_ context.Context, _ string, selector labels.Selector) ([]kinds.Object, error) {
	nodes, err := n.m.nodes.List(selector)
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	var out []kinds.Object
	for _, node := range nodes {
		if m := n.m.nodeMetrics(node); m != nil {
			out = append(out, m)
		}
	}
	return out, nil
}

// Pods answers for metrics.k8s.io pods.
type Pods struct{ m *Meter }

// Pods returns what pods use.
func (m *Meter) Pods() Pods { return Pods{m} }

// Get returns what a pod uses: an error NotFound when there is no such pod, or nothing is known of it yet.
func (p Pods) Get(_ context.Context, namespace, name string) (kinds.Object, error) {
	pod, err := p.m.pods.Pods(namespace).Get(name)
	if err == nil {
		if out := p.m.podMetrics(pod); out != nil {
			return out, nil
		}
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Group: metricsv1beta1.GroupName, Resource: "pods"}, namespace+"/"+name)
}

// List returns what the selected pods use, as far as that is known; namespace "" stands for all.
func (p Pods) List(_ context.Context, namespace string, selector labels.Selector) ([]kinds.Object, error) {
	pods, err := p.m.pods.Pods(namespace).List(selector)
	if err != nil {
		return nil, fmt.Errorf("list pods: %w", err)
	}
	var out []kinds.Object
	for _, pod := range pods {
		if m := p.m.podMetrics(pod); m != nil {
			out = append(out, m)
		}
	}
	return out, nil
}

func (m *Meter) nodeMetrics(node *corev1.Node) *metricsv1beta1.NodeMetrics {
	known := m.use(node.Name)
	if known == nil {
		return nil
	}
	u, ok := known.node.use()
	if !ok {
		return nil
	}
	return &metricsv1beta1.NodeMetrics{
		ObjectMeta: metav1.ObjectMeta{Name: node.Name, Labels: node.Labels, CreationTimestamp: metav1.NewTime(m.c.Clock.Now())},
		Timestamp:  metav1.NewTime(u.at), Window: metav1.Duration{Duration: u.window}, Usage: u.list(),
	}
}

// podMetrics tells of a pod only when all its containers can be told of: a part would look like little use.
func (m *Meter) podMetrics(pod *corev1.Pod) *metricsv1beta1.PodMetrics {
	known := m.use(pod.Spec.NodeName)
	if known == nil {
		return nil
	}
	containers := known.pods[types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name}]
	if len(containers) == 0 {
		return nil
	}
	out := &metricsv1beta1.PodMetrics{ObjectMeta: metav1.ObjectMeta{
		Name: pod.Name, Namespace: pod.Namespace, Labels: pod.Labels, CreationTimestamp: metav1.NewTime(m.c.Clock.Now()),
	}}
	for _, c := range containers {
		u, ok := c.use()
		if !ok {
			return nil
		}
		out.Containers = append(out.Containers, metricsv1beta1.ContainerMetrics{Name: c.name, Usage: u.list()})
		if out.Timestamp.IsZero() || u.at.Before(out.Timestamp.Time) {
			out.Timestamp, out.Window = metav1.NewTime(u.at), metav1.Duration{Duration: u.window}
		}
	}
	return out
}

func (u used) list() corev1.ResourceList {
	return corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewScaledQuantity(u.nanoCores, resource.Nano),
		corev1.ResourceMemory: *resource.NewQuantity(u.memory, resource.BinarySI),
	}
}
