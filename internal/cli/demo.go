package cli

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"
	appsapply "k8s.io/client-go/applyconfigurations/apps/v1"
	coreapply "k8s.io/client-go/applyconfigurations/core/v1"
	metaapply "k8s.io/client-go/applyconfigurations/meta/v1"
)

// What the demo is called.
const (
	DemoNamespace = "demo"
	DemoName      = "web"
	demoImage     = "canopus.local/demo:1" // part of the bundle, and loaded at every start
	demoPort      = 8080
)

// DemoNamespaceObject is the namespace the demo lives in.
func DemoNamespaceObject() *coreapply.NamespaceApplyConfiguration {
	return coreapply.Namespace(DemoNamespace)
}

func demoLabels() map[string]string { return map[string]string{"app": DemoName} }

// DemoDeployment runs two copies of the demo's web server.
func DemoDeployment() *appsapply.DeploymentApplyConfiguration {
	health := coreapply.HTTPGetAction().WithPath("/healthz").WithPort(intstr.FromString("http"))
	field := func(name, path string) *coreapply.EnvVarApplyConfiguration {
		return coreapply.EnvVar().WithName(name).WithValueFrom(coreapply.EnvVarSource().WithFieldRef(coreapply.ObjectFieldSelector().WithFieldPath(path)))
	}
	container := coreapply.Container().WithName("web").WithImage(demoImage).
		WithPorts(coreapply.ContainerPort().WithName("http").WithContainerPort(demoPort)).
		WithEnv(field("POD_NAME", "metadata.name"), field("POD_NAMESPACE", "metadata.namespace"), field("NODE_NAME", "spec.nodeName"), field("POD_IP", "status.podIP")).
		WithReadinessProbe(coreapply.Probe().WithHTTPGet(health).WithPeriodSeconds(2)).
		WithLivenessProbe(coreapply.Probe().WithHTTPGet(health).WithPeriodSeconds(10)).
		WithResources(coreapply.ResourceRequirements().WithRequests(demoRequests()).WithLimits(demoLimits()))
	return appsapply.Deployment(DemoName, DemoNamespace).WithLabels(demoLabels()).WithSpec(appsapply.DeploymentSpec().
		WithReplicas(2).
		WithSelector(metaapply.LabelSelector().WithMatchLabels(demoLabels())).
		WithTemplate(coreapply.PodTemplateSpec().WithLabels(demoLabels()).
			WithSpec(coreapply.PodSpec().WithContainers(container))))
}

// DemoService makes it reachable on a port of every node.
func DemoService() *coreapply.ServiceApplyConfiguration {
	return coreapply.Service(DemoName, DemoNamespace).WithLabels(demoLabels()).WithSpec(coreapply.ServiceSpec().
		WithType(corev1.ServiceTypeNodePort).
		WithSelector(demoLabels()).
		WithPorts(coreapply.ServicePort().WithName("http").WithPort(80).WithTargetPort(intstr.FromString("http"))))
}

func demoRequests() corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("10m"), corev1.ResourceMemory: resource.MustParse("16Mi")}
}

func demoLimits() corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("64Mi")}
}
