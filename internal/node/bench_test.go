package node_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"canopus/internal/node/cri"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// BenchmarkStart prints how long N pods take from create to Ready when they are created at once, and how long bare CRI
// calls take for the same on the same containerd.
func BenchmarkStart(b *testing.B) {
	for _, n := range []int{1, 50, 10} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			r := newRig(b)
			r.run(b)
			var bare, ours time.Duration
			for i := range b.N {
				bare += r.bare(b, fmt.Sprintf("bare-%d-%d", n, i), n)
				ours += r.together(b, fmt.Sprintf("ours-%d-%d", n, i), n)
			}
			b.ReportMetric(float64(bare.Milliseconds())/float64(b.N), "bare-ms")
			b.ReportMetric(float64(ours.Milliseconds())/float64(b.N), "ms")
			b.ReportMetric(float64(ours)/float64(bare), "ratio")
		})
	}
}

// together starts n pods through the API and waits until all are ready.
func (r *rig) together(t testing.TB, prefix string, n int) time.Duration {
	w, err := r.client.CoreV1().Pods("default").Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	start := time.Now()
	for i := range n {
		r.create(t, shellPod(fmt.Sprintf("%s-%d", prefix, i), "sleep 3600"))
	}
	seen := map[string]bool{}
	for len(seen) < n {
		ev, ok := <-w.ResultChan()
		if !ok {
			t.Fatal("the watch ended")
		}
		if p, ok := ev.Object.(*corev1.Pod); ok && ready(p) {
			seen[p.Name] = true
		}
	}
	return time.Since(start)
}

// bare starts n pods by CRI calls alone.
func (r *rig) bare(t testing.TB, prefix string, n int) time.Duration {
	c, err := cri.Dial(r.config.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	start := time.Now()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			name := fmt.Sprintf("%s-%d", prefix, i)
			cfg := &runtimeapi.PodSandboxConfig{
				Metadata: &runtimeapi.PodSandboxMetadata{Name: name, Namespace: "bare", Uid: name}, LogDirectory: t.TempDir(),
				Linux: &runtimeapi.LinuxPodSandboxConfig{CgroupParent: "/" + r.cgroup + "/bare", SecurityContext: &runtimeapi.LinuxSandboxSecurityContext{NamespaceOptions: &runtimeapi.NamespaceOption{}}},
			}
			s, err := c.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{Config: cfg})
			if err != nil {
				t.Error(err)
				return
			}
			made, err := c.CreateContainer(t.Context(), &runtimeapi.CreateContainerRequest{PodSandboxId: s.GetPodSandboxId(), SandboxConfig: cfg, Config: &runtimeapi.ContainerConfig{
				Metadata: &runtimeapi.ContainerMetadata{Name: "main"}, Image: &runtimeapi.ImageSpec{Image: image}, Command: []string{"sleep", "3600"}, LogPath: "log"}})
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := c.StartContainer(t.Context(), &runtimeapi.StartContainerRequest{ContainerId: made.GetContainerId()}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	return time.Since(start)
}
