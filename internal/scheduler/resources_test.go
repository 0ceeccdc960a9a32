package scheduler

import (
	"math/rand/v2"
	"reflect"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/component-helpers/resource"
)

// TestPodRequestsAreCountedAsInTwoWalks compares what podRequests finds, which often walks over a pod once, with a walk for each.
func TestPodRequestsAreCountedAsInTwoWalks(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 4))
	always := corev1.ContainerRestartPolicyAlways
	names := []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage, "example.com/gpu"}
	list := func(often int) corev1.ResourceList {
		l := corev1.ResourceList{}
		for _, name := range names {
			if r.IntN(often) > 0 {
				l[name] = *apiresource.NewQuantity(int64(r.IntN(4)), apiresource.DecimalSI)
			}
		}
		return l
	}
	containers := func(n, often int) (out []corev1.Container) {
		for range n {
			out = append(out, corev1.Container{Name: string(rune('a' + len(out))), Resources: corev1.ResourceRequirements{Requests: list(often)}})
		}
		return out
	}
	once := 0
	for range 2000 {
		often := 2 + r.IntN(20)
		pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: containers(1+r.IntN(2), often), InitContainers: containers(r.IntN(3), often)}}
		for i := range pod.Spec.InitContainers {
			if r.IntN(2) == 0 {
				pod.Spec.InitContainers[i].RestartPolicy = &always
			}
		}
		if r.IntN(4) == 0 {
			pod.Spec.Overhead = list(2)
		}
		if r.IntN(4) == 0 {
			pod.Spec.Resources = &corev1.ResourceRequirements{Requests: list(2)}
		}
		if r.IntN(2) == 0 {
			pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "a", Resources: &corev1.ResourceRequirements{Requests: list(2)}, AllocatedResources: list(2)}}
		}
		if r.IntN(4) == 0 {
			pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodResizePending, Status: corev1.ConditionTrue, Reason: corev1.PodReasonInfeasible}}
		}
		asked, compared := podRequests(pod)
		wantAsked := toResources(resource.PodRequests(pod, resource.PodResourcesOptions{UseStatusResources: true}))
		wantAsked.pods = 1
		wantCompared := toResources(resource.PodRequests(pod, resource.PodResourcesOptions{UseStatusResources: true, NonMissingContainerRequests: corev1.ResourceList{
			corev1.ResourceCPU: *quantityMilli(defaultMilliCPU), corev1.ResourceMemory: *quantity(defaultMemory),
		}}))
		if !reflect.DeepEqual(asked, wantAsked) || !reflect.DeepEqual(compared, wantCompared) {
			t.Fatalf("got %v and %v, want %v and %v, of\n%v", asked, compared, wantAsked, wantCompared, pod)
		}
		if pod.Status.ContainerStatuses == nil && allAsk(pod.Spec.Containers) && allAsk(pod.Spec.InitContainers) {
			once++
		}
	}
	if once < 200 || once > 1800 {
		t.Errorf("%d of 2000 pods are walked once: the test does not try both", once)
	}
}
