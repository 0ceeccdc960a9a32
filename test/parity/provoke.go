package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"canopus/test/plane"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
)

const (
	demoImage = "canopus.local/demo:1"
	patience  = 2 * time.Minute
)

// provoke makes happen what a cluster at rest has no series for: a Job that ends by a rule, a container with limits that is
// probed, a pod that no node takes, a Service whose traffic stays near, an autoscaler, a deprecated kind that is asked for, a
// look at the server's health. end takes it all away.
func provoke(ctx context.Context, k kubernetes.Interface) (end func(), err error) {
	end = func() {}
	ns, err := plane.Namespace(ctx, k)
	if err != nil {
		return end, err
	}
	end = func() {
		if err := k.CoreV1().Namespaces().Delete(context.WithoutCancel(ctx), ns, metav1.DeleteOptions{}); err != nil {
			fmt.Println("left behind: namespace", ns, err)
		}
	}
	if _, err := k.CoreV1().Endpoints(ns).List(ctx, metav1.ListOptions{}); err != nil { //nolint:staticcheck // because it is deprecated
		return end, err
	}
	if _, err := k.CoreV1().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx); err != nil {
		return end, err
	}
	refused := probed()
	refused.Name, refused.Spec.NodeSelector = "refused", map[string]string{"parity": "none"}
	for _, p := range []*corev1.Pod{probed(), refused} {
		if _, err := k.CoreV1().Pods(ns).Create(ctx, p, metav1.CreateOptions{}); err != nil {
			return end, err
		}
	}
	if _, err := k.BatchV1().Jobs(ns).Create(ctx, failing(), metav1.CreateOptions{}); err != nil {
		return end, err
	}
	if _, err := k.CoreV1().Services(ns).Create(ctx, near(), metav1.CreateOptions{}); err != nil {
		return end, err
	}
	if _, err := k.AppsV1().Deployments(ns).Create(ctx, scaled(), metav1.CreateOptions{}); err != nil {
		return end, err
	}
	if _, err := k.AutoscalingV2().HorizontalPodAutoscalers(ns).Create(ctx, scaling(), metav1.CreateOptions{}); err != nil {
		return end, err
	}
	return end, plane.Until(ctx, patience, func(ctx context.Context) error {
		h, err := k.AutoscalingV2().HorizontalPodAutoscalers(ns).Get(ctx, "scaled", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(h.Status.Conditions, func(c autoscalingv2.HorizontalPodAutoscalerCondition) bool {
			return c.Type == autoscalingv2.ScalingActive
		}) {
			return fmt.Errorf("no metric of autoscaler %s of namespace %s was looked at: %v", h.Name, ns, h.Status)
		}
		p, err := k.CoreV1().Pods(ns).Get(ctx, "probed", metav1.GetOptions{})
		if err != nil {
			return err
		}
		j, err := k.BatchV1().Jobs(ns).Get(ctx, "failing", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if len(p.Status.ContainerStatuses) == 0 || !p.Status.ContainerStatuses[0].Ready || j.Status.Failed == 0 || len(j.Status.Conditions) < 2 {
			return fmt.Errorf("pod %s and Job %s of namespace %s do not get on: %v; %v", p.Name, j.Name, ns, p.Status, j.Status)
		}
		return nil
	})
}

// probed is a pod that asks for something, may use something, and is ready when its server is.
func probed() *corev1.Pod {
	small := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("50m"), corev1.ResourceMemory: resource.MustParse("32Mi")}
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "probed"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{
		Name: "demo", Image: demoImage, Resources: corev1.ResourceRequirements{Requests: small, Limits: small},
		ReadinessProbe: &corev1.Probe{PeriodSeconds: 1, ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(8080)}}},
	}}}}
}

// near is a Service that wants its traffic to stay in a zone.
func near() *corev1.Service {
	distribution := corev1.ServiceTrafficDistributionPreferSameZone
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "near"}, Spec: corev1.ServiceSpec{
		Selector: map[string]string{"app": "scaled"}, Ports: []corev1.ServicePort{{Port: 80}}, TrafficDistribution: &distribution,
	}}
}

// scaled is a Deployment that scaling scales.
func scaled() *appsv1.Deployment {
	labels := map[string]string{"app": "scaled"}
	return &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "scaled"}, Spec: appsv1.DeploymentSpec{
		Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: probed().Spec},
	}}
}

func scaling() *autoscalingv2.HorizontalPodAutoscaler {
	return &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Name: "scaled"}, Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
		ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "scaled"}, MaxReplicas: 1,
		Metrics: []autoscalingv2.MetricSpec{{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{
			Name: corev1.ResourceCPU, Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: new(int32(50))},
		}}},
	}}
}

// failing is a Job whose pod ends at once, and a rule says that it counts.
func failing() *batchv1.Job {
	return &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "failing"}, Spec: batchv1.JobSpec{BackoffLimit: new(int32(0)),
		PodFailurePolicy: &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{{
			Action:      batchv1.PodFailurePolicyActionCount,
			OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{Operator: batchv1.PodFailurePolicyOnExitCodesOpNotIn, Values: []int32{0}},
		}}},
		Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{
			Name: "demo", Image: demoImage, Env: []corev1.EnvVar{{Name: "PORT", Value: "none"}}, // no port it could listen on
		}}}},
	}}
}
