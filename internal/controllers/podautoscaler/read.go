package podautoscaler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	custommetrics "k8s.io/metrics/pkg/apis/custom_metrics/v1beta2"
	externalmetrics "k8s.io/metrics/pkg/apis/external_metrics/v1beta1"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"
)

// source reads metrics for one autoscaler.
type source struct {
	resources *resources
	namespace string
	selector  labels.Selector
	// used is what metrics.k8s.io said, read once for all metrics of resources.
	used *metricsv1beta1.PodMetricsList
}

// measure reads one metric.
func (s *source) measure(ctx context.Context, m *autoscalingv2.MetricSpec) measure {
	var out measure
	switch {
	case m.Type == autoscalingv2.ResourceMetricSourceType && m.Resource != nil:
		out.pods, out.err = s.usage(ctx, m.Resource.Name, "")
	case m.Type == autoscalingv2.ContainerResourceMetricSourceType && m.ContainerResource != nil:
		out.pods, out.err = s.usage(ctx, m.ContainerResource.Name, m.ContainerResource.Container)
	case m.Type == autoscalingv2.PodsMetricSourceType && m.Pods != nil:
		out.pods, out.err = s.ofPods(ctx, m.Pods.Metric)
	case m.Type == autoscalingv2.ObjectMetricSourceType && m.Object != nil:
		out.value, out.err = s.ofObject(ctx, m.Object)
	case m.Type == autoscalingv2.ExternalMetricSourceType && m.External != nil:
		out.value, out.err = s.external(ctx, m.External.Metric)
	}
	return out
}

// get reads JSON: the APIs of metrics are served by whoever chooses to, and need not speak anything else.
func get(ctx context.Context, rq *rest.Request, into any) error {
	data, err := rq.SetHeader("Accept", "application/json").Do(ctx).Raw()
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("the answer cannot be read: %w", err)
	}
	return nil
}

// usage returns what pods use of a resource. A pod of which a container is not told of has no metrics.
func (s *source) usage(ctx context.Context, name corev1.ResourceName, container string) (map[string]podUse, error) {
	if err := s.readUsage(ctx); err != nil {
		return nil, fmt.Errorf("unable to get metrics for resource %s: %w", name, err)
	}
	out := map[string]podUse{}
	for i := range s.used.Items {
		p := &s.used.Items[i]
		use, ok, err := sumOf(p, name, container)
		if err != nil {
			return nil, err
		}
		if ok {
			out[p.Name] = podUse{at: p.Timestamp.Time, window: p.Window.Duration, milli: use}
		}
	}
	return out, nil
}

func (s *source) readUsage(ctx context.Context) error {
	if s.used != nil {
		return nil
	}
	var list metricsv1beta1.PodMetricsList
	rq := s.resources.rest().Get().AbsPath(root(metricsv1beta1.SchemeGroupVersion)).Namespace(s.namespace).Resource("pods").
		Param("labelSelector", s.selector.String())
	if err := get(ctx, rq, &list); err != nil {
		return fmt.Errorf("unable to fetch metrics from resource metrics API: %w", err)
	}
	if len(list.Items) == 0 {
		return errors.New("no metrics returned from resource metrics API")
	}
	s.used = &list
	return nil
}

func sumOf(p *metricsv1beta1.PodMetrics, name corev1.ResourceName, container string) (sum int64, ok bool, err error) {
	found := false
	for i := range p.Containers {
		c := &p.Containers[i]
		if container != "" && c.Name != container {
			continue
		}
		found = true
		q, ok := c.Usage[name]
		if !ok {
			return 0, false, nil
		}
		sum += q.MilliValue()
	}
	if container != "" && !found {
		return 0, false, fmt.Errorf("container %s not present in metrics for pod %s/%s", container, p.Namespace, p.Name)
	}
	return sum, found, nil
}

// custom returns where custom metrics are served.
func (s *source) custom(ctx context.Context) (string, error) {
	const group = custommetrics.GroupName
	versions, err := s.resources.versions(ctx, group)
	if err != nil {
		return "", err
	}
	for _, v := range prefer("v1beta2", versions) {
		if v == "v1beta2" || v == "v1beta1" { // what is read of them is the same
			return root(schema.GroupVersion{Group: group, Version: v}), nil
		}
	}
	return "", errors.New("no custom metrics API (custom.metrics.k8s.io) registered")
}

// values reads custom metrics.
func (s *source) values(ctx context.Context, m autoscalingv2.MetricIdentifier, pods string, segments ...string) (*custommetrics.MetricValueList, error) {
	base, err := s.custom(ctx)
	if err != nil {
		return nil, err
	}
	selector, err := metav1.LabelSelectorAsSelector(m.Selector)
	if err != nil {
		return nil, fmt.Errorf("selector of metric %s: %w", m.Name, err)
	}
	rq := s.resources.rest().Get().AbsPath(base).Suffix(segments...)
	if m.Selector != nil {
		rq = rq.Param("metricLabelSelector", selector.String())
	}
	if pods != "" {
		rq = rq.Param("labelSelector", pods)
	}
	list := &custommetrics.MetricValueList{}
	if err := get(ctx, rq, list); err != nil {
		return nil, fmt.Errorf("unable to fetch metrics from custom metrics API: %w", err)
	}
	if len(list.Items) == 0 {
		return nil, errors.New("no metrics returned from custom metrics API")
	}
	return list, nil
}

// ofPods returns a custom metric of each pod.
func (s *source) ofPods(ctx context.Context, m autoscalingv2.MetricIdentifier) (map[string]podUse, error) {
	list, err := s.values(ctx, m, s.selector.String(), "namespaces", s.namespace, "pods", "*", m.Name)
	if err != nil {
		return nil, fmt.Errorf("unable to get metric %s: %w", m.Name, err)
	}
	out := map[string]podUse{}
	for i := range list.Items {
		v := &list.Items[i]
		window := time.Minute // what providers that say nothing usually mean
		if v.WindowSeconds != nil {
			window = time.Duration(*v.WindowSeconds) * time.Second
		}
		out[v.DescribedObject.Name] = podUse{at: v.Timestamp.Time, window: window, milli: v.Value.MilliValue()}
	}
	return out, nil
}

// ofObject returns a custom metric of one object.
func (s *source) ofObject(ctx context.Context, m *autoscalingv2.ObjectMetricSource) (int64, error) {
	o := m.DescribedObject
	wrap := func(err error) error {
		return fmt.Errorf("unable to get metric %s: %s on %s %s: %w", m.Metric.Name, o.Kind, s.namespace, o.Name, err)
	}
	var segments []string
	if o.Kind == "Namespace" && !strings.Contains(o.APIVersion, "/") {
		segments = []string{"namespaces", o.Name, "metrics", m.Metric.Name}
	} else {
		gv, err := schema.ParseGroupVersion(o.APIVersion)
		if err != nil {
			return 0, wrap(err)
		}
		at, err := s.resources.find(ctx, gv.WithKind(o.Kind), "")
		if err != nil {
			return 0, wrap(err)
		}
		segments = []string{at.gvr.GroupResource().String(), o.Name, m.Metric.Name}
		if at.namespaced {
			segments = append([]string{"namespaces", s.namespace}, segments...)
		}
	}
	list, err := s.values(ctx, m.Metric, "", segments...)
	if err != nil {
		return 0, wrap(err)
	}
	return list.Items[0].Value.MilliValue(), nil
}

// external returns the sum of an external metric.
func (s *source) external(ctx context.Context, m autoscalingv2.MetricIdentifier) (int64, error) {
	wrap := func(err error) error {
		return fmt.Errorf("unable to get external metric %s/%s/%s: %w", s.namespace, m.Name, metav1.FormatLabelSelector(m.Selector), err)
	}
	selector, err := metav1.LabelSelectorAsSelector(m.Selector)
	if err != nil {
		return 0, wrap(err)
	}
	rq := s.resources.rest().Get().AbsPath(root(externalmetrics.SchemeGroupVersion)).Namespace(s.namespace).Suffix(m.Name)
	if m.Selector != nil {
		rq = rq.Param("labelSelector", selector.String())
	}
	var list externalmetrics.ExternalMetricValueList
	if err := get(ctx, rq, &list); err != nil {
		return 0, wrap(fmt.Errorf("unable to fetch metrics from external metrics API: %w", err))
	}
	if len(list.Items) == 0 {
		return 0, wrap(errors.New("no metrics returned from external metrics API"))
	}
	sum := int64(0)
	for i := range list.Items {
		sum += list.Items[i].Value.MilliValue()
	}
	return sum, nil
}
