package controllers

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestResourceQuota: what is there is counted when a quota appears, grows or is released by deletion, ending or a smaller claim.
func TestResourceQuota(t *testing.T) {
	t.Parallel()
	c := start(t, nil)
	c.hollow("n1")
	pod := func(name, image, cpu string) {
		t.Helper()
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: image}}}}
		if cpu != "" {
			p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}
		}
		if _, err := c.CoreV1().Pods("default").Create(t.Context(), p, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	maps3 := func() {
		t.Helper()
		for i := range 3 {
			m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("m%d", i), Labels: map[string]string{"mine": "yes"}}}
			if _, err := c.CoreV1().ConfigMaps("default").Create(t.Context(), m, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	limit := func(name, hard string, scopes ...corev1.ResourceQuotaScope) {
		t.Helper()
		q := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{}, Scopes: scopes}}
		for _, n := range strings.Fields(hard) {
			q.Spec.Hard[corev1.ResourceName(n)] = resource.MustParse("20")
		}
		if _, err := c.CoreV1().ResourceQuotas("default").Create(t.Context(), q, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	uses := func(name, want string) {
		t.Helper()
		c.eventually(name+" uses "+want, func(ctx context.Context) (string, error) {
			q, err := c.CoreV1().ResourceQuotas("default").Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				return "", err
			}
			var got []string
			for _, n := range slices.Sorted(maps.Keys(q.Status.Used)) {
				used := q.Status.Used[n]
				got = append(got, fmt.Sprintf("%s=%s", n, used.String()))
			}
			if text := strings.Join(got, " "); text != want || len(q.Status.Hard) != len(q.Spec.Hard) {
				return text, nil
			}
			return "", nil
		})
	}
	pod("a", "ok", "100m")
	pod("b", "ok", "")
	maps3()
	limit("all", "pods requests.cpu count/pods configmaps count/configmaps count/deployments.apps requests.example.com/gpu")
	limit("best", "pods", corev1.ResourceQuotaScopeBestEffort)
	limit("unserved", "count/things.example.com secrets")
	all := func(configmaps, counted, pods int, cpu string) string {
		return fmt.Sprintf("configmaps=%d count/configmaps=%d count/deployments.apps=0 count/pods=%d pods=%d requests.cpu=%s requests.example.com/gpu=0",
			configmaps, configmaps, counted, pods, cpu)
	}
	uses("all", all(4, 2, 2, "100m")) // with kube-root-ca.crt
	uses("best", "pods=1")
	uses("unserved", "secrets=0")

	if err := c.CoreV1().ConfigMaps("default").DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "mine"}); err != nil {
		t.Fatal(err)
	}
	if err := c.CoreV1().Pods("default").Delete(t.Context(), "b", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	uses("best", "pods=0")
	uses("all", all(1, 1, 1, "100m"))
	// What has ended is still an object, but uses nothing more.
	a, err := c.CoreV1().Pods("default").Get(t.Context(), "a", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.exit(t.Context(), a, corev1.PodSucceeded, 0); err != nil {
		t.Fatal(err)
	}
	uses("all", all(1, 1, 0, "0"))
	q, err := c.CoreV1().ResourceQuotas("default").Get(t.Context(), "best", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	q.Spec.Hard["count/pods"] = resource.MustParse("1")
	q.ResourceVersion = "" // whatever the controller writes to its status meanwhile
	if _, err := c.CoreV1().ResourceQuotas("default").Update(t.Context(), q, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	uses("best", "count/pods=0 pods=0") // what has ended asked for cpu: it is not best effort
}
