package controllers

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// BenchmarkDeploymentOf1000 measures from the creation of a Deployment of 1,000 replicas until its last pod exists.
func BenchmarkDeploymentOf1000(b *testing.B) {
	for range b.N {
		b.StopTimer()
		c := start(b, nil)
		w, err := c.CoreV1().Pods("default").Watch(b.Context(), metav1.ListOptions{})
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		began := time.Now()
		if _, err := c.AppsV1().Deployments("default").Create(b.Context(), web(1000), metav1.CreateOptions{}); err != nil {
			b.Fatal(err)
		}
		seen := map[string]bool{}
		for e := range w.ResultChan() {
			if pod, ok := e.Object.(*corev1.Pod); ok {
				seen[pod.Name] = true
			}
			if len(seen) == 1000 {
				break
			}
		}
		b.ReportMetric(1000/time.Since(began).Seconds(), "pods/s")
		w.Stop()
	}
}
