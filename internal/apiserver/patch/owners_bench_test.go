package patch

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func BenchmarkCreateConfigMap(b *testing.B) {
	o := owners(b, configMapGVK, "")
	obj := testConfigMap()
	for b.Loop() {
		obj.ManagedFields = nil
		if err := o.Create(obj, "bench"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCreatePod(b *testing.B) {
	o := owners(b, podGVK, "")
	obj := testPod()
	for b.Loop() {
		obj.ManagedFields = nil
		if err := o.Create(obj, "bench"); err != nil {
			b.Fatal(err)
		}
	}
}

// statusChange is a pod and the same pod after its node has found it ready.
func statusChange(b testing.TB) (o *Owners, live, next *corev1.Pod) {
	main, o := owners(b, podGVK, ""), owners(b, podGVK, "status")
	live = stored(b, main, testPod(), "kube-controller-manager")
	reported := withStatus(live.DeepCopy())
	if err := o.slowUpdate(live, reported, "canopus"); err != nil {
		b.Fatal(err)
	}
	next = reported.DeepCopy()
	next.Status.Conditions[0].Reason = "Ready"
	next.Status.Conditions[0].Status = corev1.ConditionTrue
	next.Status.ContainerStatuses[0].RestartCount = 1
	return o, reported, next
}

func BenchmarkUpdatePodStatus(b *testing.B) {
	o, live, next := statusChange(b)
	for b.Loop() {
		next.ManagedFields = live.ManagedFields
		if err := o.Update(live, next, "canopus"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUpdatePodStatusSlow(b *testing.B) {
	o, live, next := statusChange(b)
	for b.Loop() {
		next.ManagedFields = live.ManagedFields
		if err := o.slowUpdate(live, next, "canopus"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUpdateNothing(b *testing.B) {
	o, live, _ := statusChange(b)
	next := live.DeepCopy()
	for b.Loop() {
		next.ManagedFields = live.ManagedFields
		if err := o.Update(live, next, "canopus"); err != nil {
			b.Fatal(err)
		}
	}
}
