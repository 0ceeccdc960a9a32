package node_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/dynamic-resource-allocation/kubeletplugin"
	"k8s.io/utils/ptr"
)

// gpus is a driver that gives every claim the same device, on the published helper for drivers.
type gpus struct {
	device             string
	prepared, released atomic.Int32
}

func (g *gpus) PrepareResourceClaims(_ context.Context, claims []*resourcev1.ResourceClaim) (map[types.UID]kubeletplugin.PrepareResult, error) {
	out := map[types.UID]kubeletplugin.PrepareResult{}
	for _, c := range claims {
		g.prepared.Add(1)
		out[c.UID] = kubeletplugin.PrepareResult{Devices: []kubeletplugin.Device{{PoolName: nodeName, DeviceName: "g0", CDIDeviceIDs: []string{g.device}}}}
	}
	return out, nil
}

func (g *gpus) UnprepareResourceClaims(_ context.Context, claims []kubeletplugin.NamespacedObject) (map[types.UID]error, error) {
	out := map[types.UID]error{}
	for _, c := range claims {
		g.released.Add(1)
		out[c.UID] = nil
	}
	return out, nil
}

func (g *gpus) HandleError(context.Context, error, string) {}

func (g *gpus) WatchHealthStatus(ctx context.Context, _ chan<- kubeletplugin.DeviceHealthReport) error {
	<-ctx.Done()
	return nil
}

// TestClaimedDevices runs a driver beside the agent: the pod waits for it, gets what its device brings into containers, and the
// device is released when the pod is gone.
func TestClaimedDevices(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	g := &gpus{device: describeDevice(t)}
	r.run(t)
	claims := r.client.ResourceV1().ResourceClaims("default")
	claim, err := claims.Create(t.Context(), &resourcev1.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Name: "gpu"}, Spec: resourcev1.ResourceClaimSpec{
		Devices: resourcev1.DeviceClaim{Requests: []resourcev1.DeviceRequest{{Name: "r", Exactly: &resourcev1.ExactDeviceRequest{DeviceClassName: "gpu"}}}}}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pod := shellPod("train", `echo -n "$GPU" >/dev/termination-log`)
	pod.Spec.RestartPolicy = corev1.RestartPolicyNever
	pod.Spec.ResourceClaims = []corev1.PodResourceClaim{{Name: "gpu", ResourceClaimName: ptr.To("gpu")}}
	pod.Spec.Containers[0].Resources.Claims = []corev1.ResourceClaim{{Name: "gpu"}}
	plain := shell("plain", `echo -n "none: $GPU" >/dev/termination-log`)
	pod.Spec.Containers = append(pod.Spec.Containers, plain)
	if pod, err = r.client.CoreV1().Pods("default").Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	claim.Status = resourcev1.ResourceClaimStatus{
		Allocation: &resourcev1.AllocationResult{Devices: resourcev1.DeviceAllocationResult{Results: []resourcev1.DeviceRequestAllocationResult{
			{Request: "r", Driver: "gpu.x.io", Pool: nodeName, Device: "g0"}}}},
		ReservedFor: []resourcev1.ResourceClaimConsumerReference{{Resource: "pods", Name: pod.Name, UID: pod.UID}},
	}
	if _, err := claims.UpdateStatus(t.Context(), claim, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	r.until(t, "train", "an event says that the driver is missing", func(*corev1.Pod) bool {
		list, err := r.client.CoreV1().Events("default").List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list.Items {
			if e.Reason == "FailedPrepareDynamicResources" && strings.HasSuffix(e.Message, "DRA driver gpu.x.io is not registered on this node") {
				return true
			}
		}
		return false
	})
	data := filepath.Join(r.config.Root, "plugins", "gpu.x.io")
	if err := os.MkdirAll(data, 0o750); err != nil {
		t.Fatal(err)
	}
	helper, err := kubeletplugin.Start(t.Context(), g, kubeletplugin.DriverName("gpu.x.io"), kubeletplugin.NodeName(nodeName), kubeletplugin.KubeClient(r.client),
		kubeletplugin.RegistrarDirectoryPath(filepath.Join(r.config.Root, "plugins_registry")), kubeletplugin.PluginDataDirectoryPath(data))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(helper.Stop)
	p := r.until(t, "train", "it has ended", func(p *corev1.Pod) bool {
		return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
	})
	for _, s := range p.Status.ContainerStatuses {
		want := map[string]string{"main": "given", "plain": "none: "}[s.Name]
		if s.State.Terminated == nil || s.State.Terminated.Message != want {
			t.Errorf("container %s: %+v, want message %q", s.Name, s.State, want)
		}
	}
	if err := r.client.CoreV1().Pods("default").Delete(t.Context(), "train", metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
		t.Fatal(err)
	}
	r.until(t, "train", "the device is released", func(*corev1.Pod) bool { return g.released.Load() == 1 })
	if n := g.prepared.Load(); n != 1 {
		t.Errorf("the device was prepared %d times", n)
	}
}

// describeDevice tells the container runtime of a device that sets a variable, and returns its name.
func describeDevice(t *testing.T) string {
	t.Helper()
	const dir = "/var/run/cdi" // where runtimes look
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	file, err := os.CreateTemp(dir, "canopus-test-*.json")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(file.Name()) })
	kind := strings.TrimSuffix(filepath.Base(file.Name()), ".json") + ".x.io/gpu"
	spec := `{"cdiVersion":"0.6.0","kind":"` + kind + `","devices":[{"name":"g0","containerEdits":{"env":["GPU=given"]}}]}`
	if _, err := file.WriteString(spec); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	return kind + "=g0"
}
