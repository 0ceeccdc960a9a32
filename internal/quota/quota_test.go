package quota

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"
)

func list(text string) corev1.ResourceList {
	out := corev1.ResourceList{}
	for _, pair := range strings.Fields(text) {
		name, q, _ := strings.Cut(pair, "=")
		out[corev1.ResourceName(name)] = resource.MustParse(q)
	}
	return out
}

var (
	pods     = schema.GroupResource{Resource: "pods"}
	services = schema.GroupResource{Resource: "services"}
	claims   = schema.GroupResource{Resource: "persistentvolumeclaims"}
	now      = time.Unix(1000, 0)
)

func pod(requests, limits string) *corev1.Pod {
	return &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{
		Name: "c", Resources: corev1.ResourceRequirements{Requests: list(requests), Limits: list(limits)},
	}}}}
}

func service(kind corev1.ServiceType, allocate *bool, ports ...int32) *corev1.Service {
	s := &corev1.Service{Spec: corev1.ServiceSpec{Type: kind, AllocateLoadBalancerNodePorts: allocate}}
	for _, p := range ports {
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{NodePort: p})
	}
	return s
}

func claim(size, class string) *corev1.PersistentVolumeClaim {
	c := &corev1.PersistentVolumeClaim{}
	c.Spec.Resources.Requests = list("storage=" + size)
	if class != "" {
		c.Spec.StorageClassName = &class
	}
	return c
}

// deviceClaim asks for two gpus, all of them or one or four nics, and one more gpu.
func deviceClaim() *resourcev1.ResourceClaim {
	const exact, all = resourcev1.DeviceAllocationModeExactCount, resourcev1.DeviceAllocationModeAll
	return &resourcev1.ResourceClaim{Spec: resourcev1.ResourceClaimSpec{Devices: resourcev1.DeviceClaim{Requests: []resourcev1.DeviceRequest{
		{Exactly: &resourcev1.ExactDeviceRequest{DeviceClassName: "gpu", AllocationMode: exact, Count: 2}},
		{FirstAvailable: []resourcev1.DeviceSubRequest{{DeviceClassName: "gpu", AllocationMode: all},
			{DeviceClassName: "gpu", AllocationMode: exact, Count: 1}, {DeviceClassName: "nic", AllocationMode: exact, Count: 4}}},
		{Exactly: &resourcev1.ExactDeviceRequest{DeviceClassName: "gpu", AllocationMode: exact, Count: 1, AdminAccess: ptr.To(true)}},
	}}}}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	ended, gone, overhead, resized := pod("cpu=1", ""), pod("cpu=1", ""), pod("cpu=1", ""), claim("1Gi", "")
	ended.Status.Phase = corev1.PodFailed
	gone.DeletionTimestamp, gone.DeletionGracePeriodSeconds = &metav1.Time{Time: now.Add(-time.Minute)}, ptr.To(int64(30))
	overhead.Spec.Overhead = list("cpu=500m")
	resized.Status.AllocatedResources = list("storage=3Gi")
	for name, tc := range map[string]struct {
		gr   schema.GroupResource
		obj  runtime.Object
		want string
	}{
		"pod": {pods, pod("cpu=1 memory=1Gi example.com/gpu=2 hugepages-2Mi=4Mi", "cpu=2 example.com/gpu=2"),
			"count/pods=1 pods=1 cpu=1 requests.cpu=1 limits.cpu=2 memory=1Gi requests.memory=1Gi requests.example.com/gpu=2 hugepages-2Mi=4Mi requests.hugepages-2Mi=4Mi"},
		"ended":         {pods, ended, "count/pods=1"},
		"long gone":     {pods, gone, "count/pods=1"},
		"overhead":      {pods, overhead, "count/pods=1 pods=1 cpu=1500m requests.cpu=1500m"},
		"cluster IP":    {services, service(corev1.ServiceTypeClusterIP, nil, 0, 0), "count/services=1 services=1 services.nodeports=0 services.loadbalancers=0"},
		"node ports":    {services, service(corev1.ServiceTypeNodePort, nil, 0, 30001), "count/services=1 services=1 services.nodeports=2 services.loadbalancers=0"},
		"load balancer": {services, service(corev1.ServiceTypeLoadBalancer, nil, 0, 0), "count/services=1 services=1 services.nodeports=2 services.loadbalancers=1"},
		"its own ports": {services, service(corev1.ServiceTypeLoadBalancer, ptr.To(false), 0, 30001), "count/services=1 services=1 services.nodeports=1 services.loadbalancers=1"},
		"claim": {claims, claim("5Gi", "gold"), "count/persistentvolumeclaims=1 persistentvolumeclaims=1 requests.storage=5Gi " +
			"gold.storageclass.storage.k8s.io/persistentvolumeclaims=1 gold.storageclass.storage.k8s.io/requests.storage=5Gi"},
		"shrinking claim": {claims, resized, "count/persistentvolumeclaims=1 persistentvolumeclaims=1 requests.storage=3Gi"},
		"devices":         {DeviceClaims(), deviceClaim(), "count/resourceclaims.resource.k8s.io=1 gpu.deviceclass.resource.k8s.io/devices=35 nic.deviceclass.resource.k8s.io/devices=4"},
		"secret":          {schema.GroupResource{Resource: "secrets"}, &corev1.Secret{}, "count/secrets=1 secrets=1"},
		"custom":          {schema.GroupResource{Group: "example.com", Resource: "things"}, &corev1.Secret{}, "count/things.example.com=1"},
	} {
		if got := Usage(tc.gr, tc.obj, now); !Equal(got, list(tc.want)) {
			t.Errorf("%s uses %s, want %s", name, Text(got), tc.want)
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	hard := list("pods=1 cpu=1 requests.nvidia.com/gpu=1 services=1 count/pods=1 count/services=1 secrets=1 requests.storage=1 " +
		"gold.storageclass.storage.k8s.io/requests.storage=1 requests.hugepages-1Gi=1 count/things.example.com=1 events=1 count/events=1")
	for gr, want := range map[schema.GroupResource]string{
		pods:                  "count/pods cpu pods requests.hugepages-1Gi requests.nvidia.com/gpu",
		services:              "count/services services",
		claims:                "gold.storageclass.storage.k8s.io/requests.storage requests.storage",
		{Resource: "secrets"}: "secrets",
		{Resource: "events"}:  "",
		{Group: "example.com", Resource: "things"}:  "count/things.example.com",
		{Group: "example.com", Resource: "secrets"}: "",
	} {
		var got []string
		for _, name := range Names(gr, hard) {
			got = append(got, string(name))
		}
		if text := strings.Join(got, " "); text != want {
			t.Errorf("%s: %s, want %s", gr, text, want)
		}
	}
}

func TestScopes(t *testing.T) {
	t.Parallel()
	deadline, high, far, plain := pod("", ""), pod("cpu=1", ""), pod("", ""), pod("", "")
	deadline.Spec.ActiveDeadlineSeconds = ptr.To(int64(0))
	high.Spec.PriorityClassName = "high"
	far.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{
		{PodAffinityTerm: corev1.PodAffinityTerm{Namespaces: []string{"b"}}},
	}}}
	fast := claim("1Gi", "")
	fast.Status.CurrentVolumeAttributesClassName = ptr.To("fast")
	for _, tc := range []struct {
		gr    schema.GroupResource
		obj   runtime.Object
		scope string // name, operator, values
		want  bool
	}{
		{pods, deadline, "Terminating Exists", true},
		{pods, plain, "Terminating Exists", false},
		{pods, plain, "NotTerminating Exists", true},
		{pods, plain, "BestEffort Exists", true},
		{pods, high, "BestEffort Exists", false},
		{pods, high, "NotBestEffort Exists", true},
		{pods, high, "PriorityClass In high low", true},
		{pods, high, "PriorityClass NotIn high", false},
		{pods, plain, "PriorityClass NotIn high", true},
		{pods, plain, "PriorityClass Exists", false},
		{pods, plain, "PriorityClass DoesNotExist", true},
		{pods, far, "CrossNamespacePodAffinity Exists", true},
		{pods, plain, "CrossNamespacePodAffinity Exists", false},
		{claims, fast, "VolumeAttributesClass In fast", true},
		{claims, claim("1Gi", ""), "VolumeAttributesClass In fast", false},
		{claims, fast, "BestEffort Exists", false},
		{services, service(corev1.ServiceTypeClusterIP, nil), "NotTerminating Exists", false},
	} {
		f := strings.Fields(tc.scope)
		q := &corev1.ResourceQuota{Spec: corev1.ResourceQuotaSpec{ScopeSelector: &corev1.ScopeSelector{MatchExpressions: []corev1.ScopedResourceSelectorRequirement{
			{ScopeName: corev1.ResourceQuotaScope(f[0]), Operator: corev1.ScopeSelectorOperator(f[1]), Values: f[2:]},
		}}}}
		if got, err := InScope(tc.gr, q, tc.obj); err != nil || got != tc.want {
			t.Errorf("%s in %s: %v, %v", tc.gr, tc.scope, got, err)
		}
	}
}

func TestMust(t *testing.T) {
	t.Parallel()
	p := pod("cpu=1", "")
	p.Spec.InitContainers = []corev1.Container{{Name: "i"}}
	names := []corev1.ResourceName{"limits.memory", "pods", "requests.cpu"}
	if err := Must(pods, p, names); err == nil || err.Error() != "must specify limits.memory for: c,i; requests.cpu for: i" {
		t.Errorf("got %v", err)
	}
	if err := Must(pods, pod("cpu=1", "memory=1Gi"), names); err != nil {
		t.Error(err)
	}
	if err := Must(services, service(corev1.ServiceTypeClusterIP, nil), names); err != nil {
		t.Error(err)
	}
}
