package conformance

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
)

func limitRanges() []behaviour {
	return []behaviour{
		{"LimitRange, resources", limitRangeDefaults},
		{"LimitRange, list, patch and delete a LimitRange by collection", limitRangeCollection},
	}
}

// amounts are a container's requests or limits of CPU, memory and ephemeral storage.
func amounts(cpu, memory, storage string) corev1.ResourceList {
	return corev1.ResourceList{
		corev1.ResourceCPU: quantity(cpu), corev1.ResourceMemory: quantity(memory), corev1.ResourceEphemeralStorage: quantity(storage),
	}
}

func limitRange(name string) *corev1.LimitRange {
	return &corev1.LimitRange{ObjectMeta: meta(name), Spec: corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{{
		Type:           corev1.LimitTypeContainer,
		Min:            amounts("50m", "16Mi", "1Mi"),
		Max:            amounts("500m", "128Mi", "1Gi"),
		Default:        amounts("300m", "64Mi", "512Mi"),
		DefaultRequest: amounts("100m", "32Mi", "256Mi"),
	}}}}
}

// equalAmounts compares by value, as 1 and 1000m are one.
func equalAmounts(t testing.TB, what string, got, want corev1.ResourceList) {
	t.Helper()
	for name, q := range want {
		have := got[name]
		if have.Cmp(q) != 0 {
			t.Errorf("%s of %s: %s, want %s", what, name, have.String(), q.String())
		}
	}
	if len(got) != len(want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// limitRangeDefaults: a container gets what it does not ask for, what is out of bounds is refused, and an update changes both.
func limitRangeDefaults(t *testing.T, s *space) {
	api := s.Client.CoreV1().LimitRanges(s.ns)
	w := must(api.Watch(t.Context(), metav1.ListOptions{LabelSelector: "app=limits"}))(t)
	defer w.Stop()
	created := must(api.Create(t.Context(), limitRange("limits"), metav1.CreateOptions{}))(t)
	seen := func(what watch.EventType) {
		awaitEvent(t, w, string(what)+" limits", func(e watch.Event) bool {
			l, ok := e.Object.(*corev1.LimitRange)
			return ok && e.Type == what && l.UID == created.UID
		})
	}
	seen(watch.Added)
	read := must(api.Get(t.Context(), "limits", metav1.GetOptions{}))(t)
	equalAmounts(t, "default of the limit range", read.Spec.Limits[0].Default, limitRange("").Spec.Limits[0].Default)
	pod := s.run(t, podOf("none", sleeps())).Spec.Containers[0].Resources
	equalAmounts(t, "requests of a pod without", pod.Requests, amounts("100m", "32Mi", "256Mi"))
	equalAmounts(t, "limits of a pod without", pod.Limits, amounts("300m", "64Mi", "512Mi"))
	partial := podOf("partial", requestsOnly(sleeps(), corev1.ResourceCPU, "250m"))
	partial.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: quantity("20Mi")}
	pod = s.run(t, partial).Spec.Containers[0].Resources
	equalAmounts(t, "requests of a pod with some", pod.Requests, amounts("250m", "20Mi", "256Mi"))
	equalAmounts(t, "limits of a pod with some", pod.Limits, amounts("300m", "20Mi", "512Mi"))
	small := podOf("small", requests(sleeps(), corev1.ResourceCPU, "10m"))
	s.refused(t, small)
	large := podOf("large", requests(sleeps(), corev1.ResourceMemory, "1Gi"))
	s.refused(t, large)
	change(t, api, "limits", func(l *corev1.LimitRange) {
		l.Spec.Limits[0].Min = amounts("5m", "16Mi", "1Mi")
		l.Spec.Limits[0].DefaultRequest = amounts("20m", "32Mi", "256Mi")
	})
	seen(watch.Modified)
	until(t, "the new bounds to hold", func() error {
		_, err := s.Client.CoreV1().Pods(s.ns).Create(t.Context(), small, metav1.CreateOptions{})
		return err
	})
	equalAmounts(t, "requests after the update", s.run(t, podOf("after", sleeps())).Spec.Containers[0].Resources.Requests, amounts("20m", "32Mi", "256Mi"))
	s.refused(t, large)
	s.runs(t, "none")
	check(t, api.Delete(t.Context(), "limits", metav1.DeleteOptions{}))
	seen(watch.Deleted)
	until(t, "pods without bounds", func() error {
		_, err := s.Client.CoreV1().Pods(s.ns).Create(t.Context(), large, metav1.CreateOptions{})
		return err
	})
}

// refused tries to create a pod that the limit range forbids.
func (s *space) refused(t testing.TB, pod *corev1.Pod) {
	t.Helper()
	if _, err := s.Client.CoreV1().Pods(s.ns).Create(t.Context(), pod, metav1.CreateOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("%s, which is out of bounds: %v", pod.Name, err)
	}
}

// limitRangeCollection: two in different namespaces are listed together, one is patched, and one is deleted as a collection.
func limitRangeCollection(t *testing.T, s *space) {
	other := newSpace(t, s.Cluster, s.dynamic)
	everywhere := "everywhere=" + s.ns
	for _, x := range []*space{s, other} {
		l := limitRange("limits")
		l.Labels = map[string]string{"everywhere": s.ns}
		must(x.Client.CoreV1().LimitRanges(x.ns).Create(t.Context(), l, metav1.CreateOptions{}))(t)
	}
	all := must(s.Client.CoreV1().LimitRanges("").List(t.Context(), metav1.ListOptions{LabelSelector: everywhere}))(t)
	if len(all.Items) != 2 || all.Items[0].Namespace == all.Items[1].Namespace {
		t.Errorf("the list of all namespaces has %d", len(all.Items))
	}
	patched := object(t, limitRange("limits"))
	r := s.resource(corev1.SchemeGroupVersion, "limitranges")
	u := r.merge(t, "limits", map[string]any{
		"metadata": map[string]any{"labels": map[string]any{"stage": "patched"}},
		"spec":     map[string]any{"limits": []any{map[string]any{"type": "Container", "max": map[string]any{"cpu": "2"}}}},
	})
	if u.GetLabels()["stage"] != "patched" || sameSpec(u, patched) {
		t.Errorf("after a patch: %v", u)
	}
	now := must(s.Client.CoreV1().LimitRanges(s.ns).Get(t.Context(), "limits", metav1.GetOptions{}))(t)
	if maximum := now.Spec.Limits[0].Max[corev1.ResourceCPU]; maximum.Value() != 2 || len(now.Spec.Limits[0].Min) != 0 {
		t.Errorf("after a patch: %+v", now.Spec)
	}
	r.deleteAll(t, "stage=patched")
	r.expect(t, everywhere, 0)
	other.resource(corev1.SchemeGroupVersion, "limitranges").expect(t, everywhere, 1)
	r.collection(t, func(name string) runtime.Object { return limitRange(name) })
}
