// Package metrics describes metrics.k8s.io/v1beta1: what nodes and pods use. Nothing of it is stored, and it can only be read.
package metrics

import (
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"canopus/internal/kinds"
	"canopus/internal/kinds/show"
)

// NodeMetrics is metrics.k8s.io/v1beta1 nodes.
func NodeMetrics() *kinds.Kind {
	return kinds.New(kinds.Spec[metricsv1beta1.NodeMetrics, *metricsv1beta1.NodeMetrics]{
		GVK:     metricsv1beta1.SchemeGroupVersion.WithKind("NodeMetrics"),
		Plural:  "nodes",
		Virtual: true,
		Verbs:   []string{"get", "list"},
		NewList: func() runtime.Object { return &metricsv1beta1.NodeMetricsList{} },
		Columns: columns(),
		Cells: func(m *metricsv1beta1.NodeMetrics, _ time.Time) []any {
			return cells(m.Name, m.Usage, m.Window)
		},
	})
}

// PodMetrics is metrics.k8s.io/v1beta1 pods.
func PodMetrics() *kinds.Kind {
	return kinds.New(kinds.Spec[metricsv1beta1.PodMetrics, *metricsv1beta1.PodMetrics]{
		GVK:        metricsv1beta1.SchemeGroupVersion.WithKind("PodMetrics"),
		Plural:     "pods",
		Namespaced: true,
		Virtual:    true,
		Verbs:      []string{"get", "list"},
		NewList:    func() runtime.Object { return &metricsv1beta1.PodMetricsList{} },
		Columns:    columns(),
		Cells: func(m *metricsv1beta1.PodMetrics, _ time.Time) []any {
			return cells(m.Name, total(m.Containers), m.Window)
		},
	})
}

func columns() []metav1.TableColumnDefinition {
	return []metav1.TableColumnDefinition{
		show.Name(),
		{Name: "cpu", Type: "string", Format: "quantity", Description: "cores in use, on average over the window"},
		{Name: "memory", Type: "string", Format: "quantity", Description: "working set at the end of the window"},
		{Name: "Window", Type: "string", Format: "duration", Description: "how long the use of CPU was measured"},
	}
}

func cells(name string, use corev1.ResourceList, window metav1.Duration) []any {
	return []any{name, use.Cpu().String(), use.Memory().String(), window.Duration.String()}
}

// total adds up what the containers of a pod use.
func total(containers []metricsv1beta1.ContainerMetrics) corev1.ResourceList {
	sum := corev1.ResourceList{}
	for _, c := range containers {
		for _, name := range slices.Sorted(maps.Keys(c.Usage)) {
			have, ok := sum[name]
			if !ok {
				have = resource.Quantity{Format: c.Usage[name].Format}
			}
			have.Add(c.Usage[name])
			sum[name] = have
		}
	}
	return sum
}
