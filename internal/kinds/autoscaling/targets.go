package autoscaling

import (
	"fmt"
	"strconv"
	"strings"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/api/resource"

	"canopus/internal/kinds/show"
)

// maxTargets is how many metrics the column shows; of the others it says how many there are.
const maxTargets = 2

func minCell(n *int32) string {
	if n == nil {
		return "<unset>"
	}
	return strconv.Itoa(int(*n))
}

// targets shows each metric as current/wanted.
func targets(specs []autoscalingv2.MetricSpec, now []autoscalingv2.MetricStatus) string {
	if len(specs) == 0 {
		return show.None
	}
	var out []string
	for i := range specs {
		status := autoscalingv2.MetricStatus{}
		if i < len(now) {
			status = now[i]
		}
		out = append(out, target(&specs[i], &status))
	}
	if len(out) > maxTargets {
		return fmt.Sprintf("%s + %d more...", strings.Join(out[:maxTargets], ", "), len(out)-maxTargets)
	}
	return strings.Join(out, ", ")
}

// target shows one metric. A status of another type than the metric shows nothing: the metrics were changed after it.
func target(m *autoscalingv2.MetricSpec, now *autoscalingv2.MetricStatus) string {
	var current autoscalingv2.MetricValueStatus
	switch {
	case m.Type == autoscalingv2.ExternalMetricSourceType && m.External != nil:
		if now.External != nil {
			current = now.External.Current
		}
		return valueOrAverage(m.External.Target, current)
	case m.Type == autoscalingv2.ObjectMetricSourceType && m.Object != nil:
		if now.Object != nil {
			current = now.Object.Current
		}
		return valueOrAverage(m.Object.Target, current)
	case m.Type == autoscalingv2.PodsMetricSourceType && m.Pods != nil:
		if now.Pods != nil {
			current = now.Pods.Current
		}
		return quantity(current.AverageValue) + "/" + quantity(m.Pods.Target.AverageValue)
	case m.Type == autoscalingv2.ResourceMetricSourceType && m.Resource != nil:
		if now.Resource != nil {
			current = now.Resource.Current
		}
		return string(m.Resource.Name) + ": " + resourceTarget(m.Resource.Target, current)
	case m.Type == autoscalingv2.ContainerResourceMetricSourceType && m.ContainerResource != nil:
		if now.ContainerResource != nil {
			current = now.ContainerResource.Current
		}
		return string(m.ContainerResource.Name) + ": " + resourceTarget(m.ContainerResource.Target, current)
	}
	return "<unknown type>"
}

func valueOrAverage(want autoscalingv2.MetricTarget, current autoscalingv2.MetricValueStatus) string {
	if want.AverageValue != nil {
		return quantity(current.AverageValue) + "/" + quantity(want.AverageValue) + " (avg)"
	}
	return quantity(current.Value) + "/" + quantity(want.Value)
}

func resourceTarget(want autoscalingv2.MetricTarget, current autoscalingv2.MetricValueStatus) string {
	if want.AverageValue != nil {
		return quantity(current.AverageValue) + "/" + quantity(want.AverageValue)
	}
	wanted := "<auto>"
	if want.AverageUtilization != nil {
		wanted = percent(want.AverageUtilization)
	}
	return percent(current.AverageUtilization) + "/" + wanted
}

func percent(n *int32) string {
	if n == nil {
		return show.Unknown
	}
	return strconv.Itoa(int(*n)) + "%"
}

func quantity(q *resource.Quantity) string {
	if q == nil {
		return show.Unknown
	}
	return q.String()
}
