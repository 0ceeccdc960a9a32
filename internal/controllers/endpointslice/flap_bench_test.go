package endpointslice

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"canopus/internal/controllers/backends"
	"canopus/internal/controllers/slicepack"
)

// BenchmarkFlap is the decision when one of 5,000 pods of a Service becomes ready or not.
func BenchmarkFlap(b *testing.B) {
	const n = 5000
	svc := service()
	var pods []*corev1.Pod
	known := map[string]*corev1.Node{}
	for i := range n {
		node := fmt.Sprintf("n%d", i/50)
		known[node] = &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}}
		ip := fmt.Sprintf("10.1.%d.%d", i/250, i%250)
		pods = append(pods, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("web-%d", i), UID: types.UID(fmt.Sprintf("00000000-0000-0000-0000-%012d", i))},
			Spec:       corev1.PodSpec{NodeName: node},
			Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}}, Conditions: []corev1.PodCondition{
				{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(time.Unix(int64(i), 0))},
			}},
		})
	}
	groups, _ := desired(svc, pods, known)
	existing := slicepack.Plan(target(svc), nil, groups).Create
	for i, s := range existing {
		s.Name = fmt.Sprintf("web-%02d", i)
	}
	triggers := backends.Triggers{}.Noted(svc, pods)
	flapping, ready := pods[n/2].DeepCopy(), pods[n/2]
	flapping.Status.Conditions[0].Status = corev1.ConditionFalse
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		pods[n/2] = []*corev1.Pod{flapping, ready}[i%2]
		groups, _ := desired(svc, pods, known)
		triggers.Since(svc, pods)
		a := slicepack.Plan(target(svc), existing, groups)
		if len(a.Create)+len(a.Remove) > 0 || len(a.Update) != 1 {
			b.Fatalf("%d created, %d updated, %d removed", len(a.Create), len(a.Update), len(a.Remove))
		}
		triggers = triggers.Noted(svc, pods)
		for j, s := range existing {
			if s.Name == a.Update[0].Name {
				existing[j] = a.Update[0]
			}
		}
	}
}
