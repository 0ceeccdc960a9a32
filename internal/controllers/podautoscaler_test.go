package controllers

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
)

// TestPodAutoscaler brings a Deployment into an autoscaler's range, says why it can do no more without metrics, and stops
// when somebody scales to zero.
func TestPodAutoscaler(t *testing.T) {
	t.Parallel()
	c := start(t, func(c *Config, _ *rest.Config) { c.AutoscalerPeriod = 50 * time.Millisecond })
	c.hollow("node-1")
	const d = "web"
	if _, err := c.AppsV1().Deployments("default").Create(t.Context(), web(1), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	api := c.AutoscalingV2().HorizontalPodAutoscalers("default")
	hpa := &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
		ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: d}, MinReplicas: ptr.To(int32(2)), MaxReplicas: 4,
	}}
	if _, err := api.Create(t.Context(), hpa, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	show := func(ctx context.Context) (string, *autoscalingv2.HorizontalPodAutoscaler, error) {
		h, err := api.Get(ctx, "web", metav1.GetOptions{})
		if err != nil {
			return "", nil, err
		}
		text, err := json.Marshal(h.Status)
		return string(text), h, err
	}
	c.eventually("the minimum, and why no more", func(ctx context.Context) (string, error) {
		text, h, err := show(ctx)
		if err != nil {
			return "", err
		}
		if h.Status.CurrentReplicas != 2 || h.Status.LastScaleTime == nil || *h.Status.ObservedGeneration != h.Generation ||
			!strings.Contains(text, "the HPA was unable to compute the replica count: failed to get cpu utilization: unable to get metrics for resource cpu: unable to fetch metrics from resource metrics API") {
			return text, nil
		}
		return "", nil
	})
	c.eventually("the event of scaling", func(ctx context.Context) (string, error) {
		events, err := c.CoreV1().Events("default").List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.name=web,reason=SuccessfulRescale"})
		if err != nil || len(events.Items) == 0 {
			return "none", err
		}
		if e := events.Items[0]; e.Message != "New size: 2; reason: Current number of replicas below Spec.MinReplicas" || e.Source.Component != "horizontal-pod-autoscaler" || e.Type != corev1.EventTypeNormal {
			return fmt.Sprintf("%+v", e), nil
		}
		return "", nil
	})
	if _, err := c.AppsV1().Deployments("default").Patch(t.Context(), d, types.MergePatchType, []byte(`{"spec":{"replicas":0}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventually("scaling is off", func(ctx context.Context) (string, error) {
		text, _, err := show(ctx)
		if err != nil || !strings.Contains(text, "ScalingDisabled") {
			return text, err
		}
		return "", nil
	})
	broken := hpa.DeepCopy()
	broken.Name, broken.Spec.ScaleTargetRef.Kind = "lost", "Nothing"
	if _, err := api.Create(t.Context(), broken, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventually("a target that cannot be", func(ctx context.Context) (string, error) {
		h, err := api.Get(ctx, "lost", metav1.GetOptions{})
		if err != nil || len(h.Status.Conditions) == 0 || h.Status.Conditions[0].Reason != "FailedGetScale" || !strings.Contains(h.Status.Conditions[0].Message, "no matches for kind") {
			return fmt.Sprint(h), err
		}
		return "", nil
	})
}
