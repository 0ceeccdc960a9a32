package why

import (
	"fmt"
	"strings"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
)

// explainAutoscaler tells what stops an autoscaler from scaling, and then what is wrong with what it scales.
func (f *Facts) explainAutoscaler(h *autoscalingv2.HorizontalPodAutoscaler) (string, []Finding) {
	target := strings.ToLower(h.Spec.ScaleTargetRef.Kind) + "/" + h.Spec.ScaleTargetRef.Name
	summary := fmt.Sprintf("%s has %s, wanted are %d, between %d and %d", target,
		plural(int(h.Status.CurrentReplicas), "replica"), h.Status.DesiredReplicas, deref(h.Spec.MinReplicas, 1), h.Spec.MaxReplicas)
	if text := metricTexts(h); text != "" {
		summary += "; " + text
	}
	var out []Finding
	seen := false
	for _, c := range h.Status.Conditions {
		seen = seen || c.Type == autoscalingv2.AbleToScale
		if x, ok := f.scaleCondition(h, c, target); ok {
			out = append(out, x)
		}
	}
	if !seen {
		x := Finding{Link: LinkController, Severity: Waiting, Reason: "NotObserved", Object: f.Target.String(), Message: "its controller has not looked at it yet"}
		if f.Now.Sub(h.CreationTimestamp.Time) > slowToLook {
			x.Severity, x.Do = Error, "see whether the controllers run: `canopus status`"
		}
		out = append(out, x)
	}
	if f.Next == nil {
		return summary, out
	}
	return summary, append(out, Explain(f.Next).Findings...)
}

// scaleCondition explains a condition that is not as it should be.
func (f *Facts) scaleCondition(h *autoscalingv2.HorizontalPodAutoscaler, c autoscalingv2.HorizontalPodAutoscalerCondition, target string) (Finding, bool) {
	out := Finding{Link: LinkScale, Severity: Error, Reason: c.Reason, Object: f.Target.String(), Message: c.Message}
	limited := c.Type == autoscalingv2.ScalingLimited && c.Status == corev1.ConditionTrue
	if !limited && (c.Type == autoscalingv2.ScalingLimited || c.Type == autoscalingv2.ScaledToZero || c.Status != corev1.ConditionFalse) {
		return out, false
	}
	out.Do = "mend what the message says; it is tried again by itself"
	switch c.Reason {
	case "FailedGetScale":
		if strings.Contains(c.Message, "not found") {
			out.Do = fmt.Sprintf("make %s, or correct spec.scaleTargetRef", target)
		}
	case "ScalingDisabled":
		out.Severity = Warning
		out.Do = fmt.Sprintf("`%s` turns it on again", f.inNamespace("scale %s --replicas=1", target))
	case "AmbiguousSelector":
		out.Do = "delete all autoscalers of these pods but one: `" + f.inNamespace("get hpa") + "`"
	case "InvalidSelector", "InvalidMetricSourceType":
		out.Do = "correct what the message names"
	case "FailedGetResourceMetric", "FailedGetContainerResourceMetric":
		out.Do = "see whether its pods run and are measured: `" + f.inNamespace("top pods") + "`"
		if _, rest, ok := strings.Cut(c.Message, "missing request for "); ok {
			resource, _, _ := strings.Cut(rest, " ")
			out.Do = fmt.Sprintf("give every container of %s a request for %s: utilization is a share of it", target, resource)
		}
	case "FailedGetPodsMetric", "FailedGetObjectMetric":
		out.Do = "see whether a metrics adapter is installed and serves that metric: `kubectl get apiservices v1beta2.custom.metrics.k8s.io v1beta1.custom.metrics.k8s.io`"
	case "FailedGetExternalMetric":
		out.Do = "see whether a metrics adapter is installed and serves that metric: `kubectl get apiservices v1beta1.external.metrics.k8s.io`"
	case "TooManyReplicas":
		out.Severity = Warning
		out.Do = fmt.Sprintf("raise spec.maxReplicas, now %d, if the load is to be carried", h.Spec.MaxReplicas)
	case "TooFewReplicas":
		out.Severity, out.Do = Note, ""
	case "ScaleUpLimit", "ScaleDownLimit":
		out.Severity, out.Do = Waiting, ""
	}
	return out, true
}

// metricTexts are what resources are used, as the autoscaler sees it.
func metricTexts(h *autoscalingv2.HorizontalPodAutoscaler) string {
	var out []string
	for i, m := range h.Spec.Metrics {
		if i >= len(h.Status.CurrentMetrics) || h.Status.CurrentMetrics[i].Type != m.Type {
			continue
		}
		var name corev1.ResourceName
		var has autoscalingv2.MetricValueStatus
		var want autoscalingv2.MetricTarget
		switch now := &h.Status.CurrentMetrics[i]; {
		case now.Resource != nil && m.Resource != nil:
			name, has, want = now.Resource.Name, now.Resource.Current, m.Resource.Target
		case now.ContainerResource != nil && m.ContainerResource != nil:
			name, has, want = now.ContainerResource.Name, now.ContainerResource.Current, m.ContainerResource.Target
		default:
			continue
		}
		switch {
		case has.AverageUtilization != nil && want.AverageUtilization != nil:
			out = append(out, fmt.Sprintf("%s at %d%% of what is requested, wanted %d%%", name, *has.AverageUtilization, *want.AverageUtilization))
		case has.AverageValue != nil && want.AverageValue != nil:
			out = append(out, fmt.Sprintf("%s at %s a pod, wanted %s", name, has.AverageValue, want.AverageValue))
		}
	}
	return strings.Join(out, ", ")
}
