package patch

import (
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"canopus/internal/kinds"
)

var (
	podGVK        = corev1.SchemeGroupVersion.WithKind("Pod")
	configMapGVK  = corev1.SchemeGroupVersion.WithKind("ConfigMap")
	deploymentGVK = appsv1.SchemeGroupVersion.WithKind("Deployment")
	widgetGVK     = schema.GroupVersionKind{Group: "example.com", Version: "v1", Kind: "Widget"}
	schemas       = NewSchemas(scheme.Scheme)
)

// testSet has three built-in kinds without their rules, and a custom one.
func testSet(t testing.TB) *kinds.Set {
	t.Helper()
	status := kinds.Subresource{Name: "status", Verbs: []string{"get", "patch", "update"}}
	set, err := kinds.NewSet(
		kinds.New(kinds.Spec[corev1.Pod, *corev1.Pod]{
			GVK: podGVK, Plural: "pods", Namespaced: true, Subresources: []kinds.Subresource{status},
			NewList: func() runtime.Object { return &corev1.PodList{} },
		}),
		kinds.New(kinds.Spec[corev1.ConfigMap, *corev1.ConfigMap]{
			GVK: configMapGVK, Plural: "configmaps", Namespaced: true,
			NewList: func() runtime.Object { return &corev1.ConfigMapList{} },
		}),
		kinds.New(kinds.Spec[appsv1.Deployment, *appsv1.Deployment]{
			GVK: deploymentGVK, Plural: "deployments", Namespaced: true, Subresources: []kinds.Subresource{status},
			NewList: func() runtime.Object { return &appsv1.DeploymentList{} },
		}),
		kinds.New(kinds.Spec[unstructured.Unstructured, *unstructured.Unstructured]{
			GVK: widgetGVK, Plural: "widgets", Namespaced: true,
			NewList: func() runtime.Object { return &unstructured.UnstructuredList{} },
		}),
	)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func owners(t testing.TB, gvk schema.GroupVersionKind, sub string) *Owners {
	t.Helper()
	set := testSet(t)
	served, _ := set.Kind(gvk)
	o, err := NewOwners(OwnersConfig{Schemas: schemas, Versions: set, Served: served, Subresource: sub})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func testConfigMap() *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "settings", Namespace: "default", Labels: map[string]string{"app": "web"}},
		Data:       map[string]string{"color": "blue", "size": "10", "mode": "fast"},
	}
}

func testPod() *corev1.Pod {
	yes := true
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web-1", Namespace: "default", Labels: map[string]string{"app": "web", "tier": "front"}},
		Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyAlways, DNSPolicy: corev1.DNSClusterFirst, SchedulerName: "default-scheduler",
			EnableServiceLinks: &yes, SecurityContext: &corev1.PodSecurityContext{},
			Containers: []corev1.Container{{
				Name: "web", Image: "demo:1", ImagePullPolicy: corev1.PullIfNotPresent,
				Env:   []corev1.EnvVar{{Name: "A", Value: "1"}, {Name: "B", Value: "2"}},
				Ports: []corev1.ContainerPort{{ContainerPort: 8080, Protocol: corev1.ProtocolTCP, Name: "http"}},
			}},
		},
	}
}

// stored returns obj as it is after manager has created it.
func stored[T kinds.Object](t testing.TB, o *Owners, obj T, manager string) T {
	t.Helper()
	if err := o.Create(obj, manager); err != nil {
		t.Fatal(err)
	}
	obj.SetUID("0b8a2e6c-6a0f-4b43-9ad1-3f0c5b0a7c11")
	obj.SetResourceVersion("7")
	old := metav1.NewTime(time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC))
	entries := obj.GetManagedFields()
	for i := range entries {
		entries[i].Time = &old
	}
	obj.SetManagedFields(entries)
	return obj
}

func withStatus(p *corev1.Pod) *corev1.Pod {
	at := metav1.NewTime(time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC))
	p.Status = corev1.PodStatus{
		Phase: corev1.PodRunning, PodIP: "10.244.1.5", HostIP: "192.0.2.1", StartTime: &at,
		PodIPs: []corev1.PodIP{{IP: "10.244.1.5"}}, HostIPs: []corev1.HostIP{{IP: "192.0.2.1"}},
		Conditions: []corev1.PodCondition{
			{Type: corev1.PodReady, Status: corev1.ConditionFalse, LastTransitionTime: at, Reason: "ContainersNotReady"},
			{Type: corev1.PodInitialized, Status: corev1.ConditionTrue, LastTransitionTime: at},
		},
		ContainerStatuses: []corev1.ContainerStatus{{Name: "web", Image: "demo:1", RestartCount: 0}},
	}
	return p
}
