package podautoscaler

import (
	"errors"
	"fmt"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// measure is one metric as it was read.
type measure struct {
	pods  map[string]podUse // of metrics of pods
	value int64             // of metrics of something else, in thousandths
	err   error
	took  time.Duration // to read it
}

// proposal is what one metric asks for.
type proposal struct {
	replicas int32
	name     string // as events tell it
	status   autoscalingv2.MetricStatus
}

// failure is a metric that cannot say anything. As an error it is what the event and the condition tell.
type failure struct {
	reason string // of the condition
	event  string // of the event
	text   string // what the list of failures says before err
	err    error
}

// Error implements error.
func (f *failure) Error() string { return f.text + ": " + f.err.Error() }

// Unwrap lets errors.Is look at what happened.
func (f *failure) Unwrap() error { return f.err }

// milli is a quantity of thousandths.
func milli(n int64) *resource.Quantity { return resource.NewMilliQuantity(n, resource.DecimalSI) }

// evaluate turns one metric into a proposal.
func (w *workload) evaluate(m *autoscalingv2.MetricSpec, got measure) (proposal, *failure) {
	switch m.Type {
	case autoscalingv2.ResourceMetricSourceType:
		p, err := w.resource(m.Resource, got)
		return p, failed("FailedGetResourceMetric", fmt.Sprintf("failed to get %s resource metric value", m.Resource.Name), err)
	case autoscalingv2.ContainerResourceMetricSourceType:
		p, err := w.containerResource(m.ContainerResource, got)
		return p, failed("FailedGetContainerResourceMetric", fmt.Sprintf("failed to get %s container metric value", m.ContainerResource.Name), err)
	case autoscalingv2.PodsMetricSourceType:
		p, err := w.podsMetric(m.Pods, got)
		return p, failed("FailedGetPodsMetric", "failed to get pods metric value", err)
	case autoscalingv2.ObjectMetricSourceType:
		p, err := w.objectMetric(m.Object, got)
		return p, failed("FailedGetObjectMetric", "failed to get object metric value", err)
	case autoscalingv2.ExternalMetricSourceType:
		p, err := w.externalMetric(m.External, got)
		return p, failed("FailedGetExternalMetric", fmt.Sprintf("failed to get %s external metric value", m.External.Metric.Name), err)
	}
	return proposal{}, failed("InvalidMetricSourceType", "unknown metric source type", specError{fmt.Errorf("%q", string(m.Type))})
}

func failed(reason, text string, err error) *failure {
	if err == nil {
		return nil
	}
	return &failure{reason, reason, text, err}
}

// usage proposes by what pods use of a resource, all containers or one.
func (w *workload) usage(name corev1.ResourceName, container string, t autoscalingv2.MetricTarget, got measure) (scaled, autoscalingv2.MetricValueStatus, error) {
	var now autoscalingv2.MetricValueStatus
	switch {
	case t.AverageValue != nil:
		s, err := scaled{}, got.err
		if err == nil {
			s, err = w.byAverage(got.pods, name, t.AverageValue.MilliValue())
		}
		if err != nil {
			return s, now, fmt.Errorf("failed to get %s usage: %w", name, err)
		}
		now.AverageValue = milli(s.average)
		return s, now, nil
	case t.AverageUtilization != nil:
		s, err := scaled{}, got.err
		if err == nil {
			s, err = w.byUtilization(got.pods, name, container, *t.AverageUtilization)
		}
		if err != nil {
			return s, now, fmt.Errorf("failed to get %s utilization: %w", name, err)
		}
		now.AverageValue, now.AverageUtilization = milli(s.average), &s.utilization
		return s, now, nil
	}
	return scaled{}, now, specError{errors.New("invalid resource metric source: neither an average utilization target nor an average value (usage) target was set")}
}

func (w *workload) resource(m *autoscalingv2.ResourceMetricSource, got measure) (proposal, error) {
	s, now, err := w.usage(m.Name, "", m.Target, got)
	name := fmt.Sprintf("%s resource", m.Name)
	if m.Target.AverageValue == nil {
		name += " utilization (percentage of request)"
	}
	return proposal{s.replicas, name, autoscalingv2.MetricStatus{
		Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricStatus{Name: m.Name, Current: now},
	}}, err
}

func (w *workload) containerResource(m *autoscalingv2.ContainerResourceMetricSource, got measure) (proposal, error) {
	s, now, err := w.usage(m.Name, m.Container, m.Target, got)
	name := fmt.Sprintf("%s container resource", m.Name)
	if m.Target.AverageValue == nil {
		name += " utilization (percentage of request)"
	}
	return proposal{s.replicas, name, autoscalingv2.MetricStatus{
		Type: autoscalingv2.ContainerResourceMetricSourceType,
		ContainerResource: &autoscalingv2.ContainerResourceMetricStatus{
			Name: m.Name, Container: m.Container, Current: now,
		},
	}}, err
}

func (w *workload) podsMetric(m *autoscalingv2.PodsMetricSource, got measure) (proposal, error) {
	if got.err != nil {
		return proposal{}, got.err
	}
	if m.Target.AverageValue == nil {
		return proposal{}, specError{errors.New("invalid pods metric source: no average value target was set")}
	}
	s, err := w.byAverage(got.pods, "", m.Target.AverageValue.MilliValue())
	return proposal{s.replicas, "pods metric " + m.Metric.Name, autoscalingv2.MetricStatus{
		Type: autoscalingv2.PodsMetricSourceType, Pods: &autoscalingv2.PodsMetricStatus{
			Metric: m.Metric, Current: autoscalingv2.MetricValueStatus{AverageValue: milli(s.average)},
		},
	}}, err
}

// whole proposes by a metric of the whole workload.
func (w *workload) whole(t autoscalingv2.MetricTarget, got measure) (int32, autoscalingv2.MetricValueStatus, error) {
	switch {
	case got.err != nil:
		return 0, autoscalingv2.MetricValueStatus{}, got.err
	case t.AverageValue != nil:
		s := w.perPod(got.value, t.AverageValue.MilliValue())
		return s.replicas, autoscalingv2.MetricValueStatus{AverageValue: milli(s.average)}, nil
	case t.Value != nil:
		n, err := w.byValue(got.value, t.Value.MilliValue())
		return n, autoscalingv2.MetricValueStatus{Value: milli(got.value)}, err
	}
	return 0, autoscalingv2.MetricValueStatus{}, specError{errors.New("neither a value target nor an average value target was set")}
}

func (w *workload) objectMetric(m *autoscalingv2.ObjectMetricSource, got measure) (proposal, error) {
	n, now, err := w.whole(m.Target, got)
	return proposal{n, m.DescribedObject.Kind + " metric " + m.Metric.Name, autoscalingv2.MetricStatus{
		Type:   autoscalingv2.ObjectMetricSourceType,
		Object: &autoscalingv2.ObjectMetricStatus{Metric: m.Metric, DescribedObject: m.DescribedObject, Current: now},
	}}, err
}

func (w *workload) externalMetric(m *autoscalingv2.ExternalMetricSource, got measure) (proposal, error) {
	n, now, err := w.whole(m.Target, got)
	name := fmt.Sprintf("external metric %s(%s)", m.Metric.Name, metav1.FormatLabelSelector(m.Metric.Selector))
	return proposal{n, name, autoscalingv2.MetricStatus{
		Type: autoscalingv2.ExternalMetricSourceType, External: &autoscalingv2.ExternalMetricStatus{Metric: m.Metric, Current: now},
	}}, err
}
