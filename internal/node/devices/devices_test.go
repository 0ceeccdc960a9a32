package devices_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/dynamic-resource-allocation/kubeletplugin"
	registerapi "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"

	"canopus/internal/apiserver/apitest"
	"canopus/internal/node/devices"
)

const (
	driverName = "gpu.x.io"
	patience   = time.Minute
)

// vendor is a driver as its vendor writes it, on the published helper for drivers.
type vendor struct {
	mu       sync.Mutex
	prepared map[types.UID]int // how often
	released map[types.UID]int
	refuse   error
	told     *registerapi.RegistrationStatus // by the node

	reports chan kubeletplugin.DeviceHealthReport // nil: it reports nothing
}

// listen notes what the node says of the registration: the helper's own note of it is not for other goroutines.
func (v *vendor) listen(ctx context.Context, request any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	answer, err := next(ctx, request)
	if status, ok := request.(*registerapi.RegistrationStatus); ok {
		v.mu.Lock()
		v.told = status
		v.mu.Unlock()
	}
	return answer, err
}

// standing is what the node said of the registration: "registered", why not, or "".
func (v *vendor) standing() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.told.GetPluginRegistered() {
		return "registered"
	}
	return v.told.GetError()
}

func (v *vendor) PrepareResourceClaims(_ context.Context, claims []*resourcev1.ResourceClaim) (map[types.UID]kubeletplugin.PrepareResult, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	out := map[types.UID]kubeletplugin.PrepareResult{}
	for _, c := range claims {
		v.prepared[c.UID]++
		one := kubeletplugin.PrepareResult{Err: v.refuse}
		for _, r := range c.Status.Allocation.Devices.Results {
			one.Devices = append(one.Devices, kubeletplugin.Device{Requests: []string{r.Request}, PoolName: r.Pool, DeviceName: r.Device, CDIDeviceIDs: []string{"x.io/gpu=" + r.Device, "x.io/gpu=all"}})
		}
		out[c.UID] = one
	}
	return out, nil
}

func (v *vendor) UnprepareResourceClaims(_ context.Context, claims []kubeletplugin.NamespacedObject) (map[types.UID]error, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	out := map[types.UID]error{}
	for _, c := range claims {
		v.released[c.UID]++
		out[c.UID] = v.refuse
	}
	return out, nil
}

func (v *vendor) HandleError(context.Context, error, string) {}

func (v *vendor) WatchHealthStatus(ctx context.Context, out chan<- kubeletplugin.DeviceHealthReport) error {
	if v.reports == nil {
		return kubeletplugin.ErrHealthNotSupported
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case report, ok := <-v.reports:
			if !ok {
				return errors.New("the monitor broke down")
			}
			out <- report
		}
	}
}

func newVendor() *vendor {
	return &vendor{prepared: map[types.UID]int{}, released: map[types.UID]int{}}
}

func (v *vendor) saying(err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.refuse = err
}

// counts is how often the driver prepared and released a claim.
func (v *vendor) counts(uid types.UID) [2]int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return [2]int{v.prepared[uid], v.released[uid]}
}

// rig is a node's directory, an API server, and what prepares devices.
type rig struct {
	t      *testing.T
	client kubernetes.Interface
	root   string
	news   chan struct{} // a token when a device's health has changed
	*devices.Registry
	*devices.Host
}

func newRig(t *testing.T) *rig {
	t.Helper()
	root, err := os.MkdirTemp("/tmp", "dv") // short, for the sockets in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	r := &rig{t: t, client: apitest.Start(t).Client, root: root, news: make(chan struct{}, 1)}
	if _, err := r.client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if r.Registry, err = devices.NewRegistry(devices.RegistryConfig{Dir: filepath.Join(root, "reg"), HealthChanged: func() {
		select {
		case r.news <- struct{}{}:
		default:
		}
	}, Clock: clock.RealClock{}, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := r.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	r.restart()
	return r
}

// restart makes what prepares devices anew, from what was kept.
func (r *rig) restart() {
	r.t.Helper()
	var err error
	if r.Host, err = devices.NewHost(r.client, r.Registry, r.root); err != nil {
		r.t.Fatal(err)
	}
}

// start runs v until the test ends or the helper is stopped.
func (r *rig) start(v *vendor, options ...kubeletplugin.Option) *kubeletplugin.Helper {
	r.t.Helper()
	data := filepath.Join(r.root, "data")
	for _, dir := range []string{data, filepath.Join(r.root, "reg")} {
		if err := os.MkdirAll(dir, 0o750); err != nil {
			r.t.Fatal(err)
		}
	}
	h, err := kubeletplugin.Start(r.t.Context(), v, append([]kubeletplugin.Option{
		kubeletplugin.DriverName(driverName), kubeletplugin.NodeName("n"), kubeletplugin.KubeClient(r.client),
		kubeletplugin.RegistrarDirectoryPath(filepath.Join(r.root, "reg")), kubeletplugin.PluginDataDirectoryPath(data),
		kubeletplugin.GRPCInterceptor(v.listen),
	}, options...)...)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(h.Stop)
	return h
}

func (r *rig) registered(v *vendor) {
	r.t.Helper()
	r.until("the driver is registered", func() string {
		if got := v.standing(); got != "registered" {
			return "told: " + got
		}
		return ""
	})
}

// until waits for ok to say "".
func (r *rig) until(what string, ok func() string) {
	r.t.Helper()
	last := ""
	if err := wait.PollUntilContextTimeout(r.t.Context(), 10*time.Millisecond, patience, true, func(context.Context) (bool, error) {
		last = ok()
		return last == "", nil
	}); err != nil {
		r.t.Fatalf("%s: %s", what, last)
	}
}

// claim makes a claim with two devices, reserved for pods.
func (r *rig) claim(name string, pods ...*corev1.Pod) *resourcev1.ResourceClaim {
	r.t.Helper()
	ask := func(name string) resourcev1.DeviceRequest {
		return resourcev1.DeviceRequest{Name: name, Exactly: &resourcev1.ExactDeviceRequest{DeviceClassName: "gpu"}}
	}
	claims := r.client.ResourceV1().ResourceClaims("ns")
	c, err := claims.Create(r.t.Context(), &resourcev1.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: resourcev1.ResourceClaimSpec{Devices: resourcev1.DeviceClaim{Requests: []resourcev1.DeviceRequest{ask("big"), ask("small")}}}}, metav1.CreateOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	c.Status.Allocation = &resourcev1.AllocationResult{Devices: resourcev1.DeviceAllocationResult{Results: []resourcev1.DeviceRequestAllocationResult{
		{Request: "big", Driver: driverName, Pool: "n", Device: "g0"}, {Request: "small", Driver: driverName, Pool: "n", Device: "g1"}}}}
	for _, p := range pods {
		c.Status.ReservedFor = append(c.Status.ReservedFor, resourcev1.ResourceClaimConsumerReference{Resource: "pods", Name: p.Name, UID: p.UID})
	}
	if c, err = claims.UpdateStatus(r.t.Context(), c, metav1.UpdateOptions{}); err != nil {
		r.t.Fatal(err)
	}
	return c
}

func podUsing(name, claim string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(name)},
		Spec: corev1.PodSpec{ResourceClaims: []corev1.PodResourceClaim{{Name: "gpu", ResourceClaimName: ptr.To(claim)}}}}
}

// gets are the devices of a container that uses a request of its pod's claim.
func (r *rig) gets(pod *corev1.Pod, request string) string {
	r.t.Helper()
	out, err := r.For(pod, &corev1.Container{Name: "c", Resources: corev1.ResourceRequirements{Claims: []corev1.ResourceClaim{{Name: "gpu", Request: request}}}})
	if err != nil {
		return err.Error()
	}
	return strings.Join(out, " ")
}

func (r *rig) prepares(pod *corev1.Pod, want string) {
	r.t.Helper()
	err := r.Prepare(r.t.Context(), pod)
	if got := errorText(err); got != want {
		r.t.Fatalf("prepare for %s: %q, want %q", pod.Name, got, want)
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestPrepareAndRelease(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a, b, stranger := podUsing("a", "x"), podUsing("b", "x"), podUsing("stranger", "x")
	claim := r.claim("x", a, b)
	r.prepares(a, "prepare ResourceClaim x: DRA driver gpu.x.io is not registered on this node")
	v := newVendor()
	r.start(v)
	r.registered(v)
	v.saying(errors.New("out of order"))
	r.prepares(a, "prepare ResourceClaim x: NodePrepareResources of driver gpu.x.io: out of order")
	if got := r.gets(a, ""); got != "" {
		t.Errorf("a claim that is not prepared has %s", got)
	}
	v.saying(nil)
	r.prepares(a, "")
	r.prepares(a, "")
	r.prepares(b, "")
	r.prepares(stranger, "pod stranger (stranger) is not allowed to use ResourceClaim x ("+string(claim.UID)+")")
	if got := v.counts(claim.UID); got != [2]int{2, 0} {
		t.Errorf("prepared and released %v times", got)
	}
	for request, want := range map[string]string{"": "x.io/gpu=g0 x.io/gpu=all x.io/gpu=g1", "big": "x.io/gpu=g0 x.io/gpu=all", "small": "x.io/gpu=g1 x.io/gpu=all", "other": ""} {
		if got := r.gets(b, request); got != want {
			t.Errorf("request %q gets %s, want %s", request, got, want)
		}
	}
	if got := r.gets(stranger, ""); got != "ResourceClaim x is not prepared" {
		t.Errorf("a stranger gets %s", got)
	}

	r.restart()
	if got := r.gets(a, "big"); got != "x.io/gpu=g0 x.io/gpu=all" {
		t.Errorf("after a restart: %s", got)
	}
	if err := r.Release(t.Context(), a.UID); err != nil || v.counts(claim.UID)[1] != 0 {
		t.Errorf("one of two users is gone: %v, released %v", err, v.counts(claim.UID))
	}
	v.saying(errors.New("stuck"))
	if got := errorText(r.Release(t.Context(), b.UID)); got != "release ResourceClaim ns/x: NodeUnprepareResources of driver gpu.x.io: stuck" {
		t.Errorf("a release that fails: %s", got)
	}
	v.saying(nil)
	r.restart()
	if err := r.Keep(t.Context(), map[types.UID]bool{a.UID: true}); err != nil {
		t.Error(err)
	}
	if got := v.counts(claim.UID); got[1] != 2 {
		t.Errorf("the last user is gone: released %v", got)
	}
	if err := r.Release(t.Context(), b.UID); err != nil || v.counts(claim.UID)[1] != 2 {
		t.Errorf("released again: %v", err)
	}
}

// TestManyPodsOfOneClaim: the driver is asked once.
// TestExtendedResources: a container that asks for an extended resource gets the devices that the scheduler's claim has for it.
func TestExtendedResources(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "p"}, Status: corev1.PodStatus{
		ExtendedResourceClaimStatus: &corev1.PodExtendedResourceClaimStatus{ResourceClaimName: "x", RequestMappings: []corev1.ContainerExtendedResourceRequest{
			{ContainerName: "one", ResourceName: "x.io/gpu", RequestName: "big"}, {ContainerName: "two", ResourceName: "x.io/gpu", RequestName: "small"}}}}}
	claim := r.claim("x", pod)
	v := newVendor()
	r.start(v)
	r.registered(v)
	r.prepares(pod, "ResourceClaim ns/x was not created for Pod ns/p (Pod is not owner)")
	r.own(claim, pod)
	for name, want := range map[string]string{"one": "ResourceClaim x is not prepared", "none": ""} {
		if got := r.gives(pod, name); got != want {
			t.Errorf("container %s gets %q, want %q", name, got, want)
		}
	}
	r.prepares(pod, "")
	for name, want := range map[string]string{"one": "x.io/gpu=g0 x.io/gpu=all", "two": "x.io/gpu=g1 x.io/gpu=all", "none": ""} {
		if got := r.gives(pod, name); got != want {
			t.Errorf("container %s gets %q, want %q", name, got, want)
		}
	}
	if err := r.Release(t.Context(), pod.UID); err != nil || v.counts(claim.UID) != [2]int{1, 1} {
		t.Errorf("%v, prepared and released %v times", err, v.counts(claim.UID))
	}
}

// own makes a claim one that was made for pod.
func (r *rig) own(claim *resourcev1.ResourceClaim, pod *corev1.Pod) {
	r.t.Helper()
	claim.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(pod, corev1.SchemeGroupVersion.WithKind("Pod"))}
	if _, err := r.client.ResourceV1().ResourceClaims("ns").Update(r.t.Context(), claim, metav1.UpdateOptions{}); err != nil {
		r.t.Fatal(err)
	}
}

// gives are the devices of a container that names no claim.
func (r *rig) gives(pod *corev1.Pod, container string) string {
	r.t.Helper()
	out, err := r.For(pod, &corev1.Container{Name: container})
	if err != nil {
		return err.Error()
	}
	return strings.Join(out, " ")
}

func TestManyPodsOfOneClaim(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var pods []*corev1.Pod
	for _, name := range strings.Split("abcdefgh", "") {
		pods = append(pods, podUsing(name, "x"))
	}
	claim := r.claim("x", pods...)
	v := newVendor()
	r.start(v)
	r.until("the driver is registered", func() string { return errorText(r.Prepare(t.Context(), pods[0])) })
	each := func(do func(*corev1.Pod) error) {
		var wg sync.WaitGroup
		for _, p := range pods {
			wg.Go(func() {
				if err := do(p); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	each(func(p *corev1.Pod) error { return r.Prepare(t.Context(), p) })
	each(func(p *corev1.Pod) error { return r.Release(t.Context(), p.UID) })
	if got := v.counts(claim.UID); got != [2]int{1, 1} {
		t.Errorf("prepared and released %v times", got)
	}
}

func TestDriversComeAndGo(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	pods := []*corev1.Pod{podUsing("a", "x"), podUsing("b", "y"), podUsing("c", "z")}
	var claims []types.UID
	for i, name := range []string{"x", "y", "z"} {
		claims = append(claims, r.claim(name, pods[i]).UID)
	}
	first, second := newVendor(), newVendor()
	h := r.start(first, kubeletplugin.RollingUpdate("1"))
	r.until("the first driver is registered", func() string { return errorText(r.Prepare(t.Context(), pods[0])) })
	two := r.start(second, kubeletplugin.RollingUpdate("2"))
	r.registered(second)
	r.prepares(pods[1], "")
	if first.counts(claims[0])[0] != 1 || first.counts(claims[1])[0] != 0 || second.counts(claims[1])[0] != 1 {
		t.Errorf("the newer driver is not the one to ask: it prepared %v, the other %v", second.counts(claims[1]), first.counts(claims[1]))
	}
	h.Stop()
	r.prepares(pods[2], "")
	two.Stop()
	r.until("the drivers are gone", func() string {
		got := errorText(r.Release(t.Context(), pods[2].UID))
		if got == "release ResourceClaim ns/z: DRA driver gpu.x.io is not registered on this node" {
			return ""
		}
		return got
	})
	r.start(second)
	r.until("the driver is back", func() string { return errorText(r.Release(t.Context(), pods[1].UID)) })
}

func TestUnwantedPlugins(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	v := newVendor()
	r.start(v, kubeletplugin.NodeV1(false))
	r.until("the driver is told why it is not registered", func() string {
		got := v.standing()
		if strings.Contains(got, "driver gpu.x.io supports") && strings.Contains(got, "this node v1.DRAPlugin") {
			return ""
		}
		return "told: " + got
	})
}

// TestCleaner: what a driver published goes when it does not come back, and nothing else does.
func TestCleaner(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	slices := r.client.ResourceV1().ResourceSlices()
	publish := func(name, driver, node string) {
		s := &resourcev1.ResourceSlice{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: resourcev1.ResourceSliceSpec{
			Driver: driver, Pool: resourcev1.ResourcePool{Name: name, ResourceSliceCount: 1}, NodeName: &node}}
		if _, err := slices.Create(t.Context(), s, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	publish("ours", driverName, "n")
	publish("lost", "nic.x.io", "n")
	publish("elsewhere", "nic.x.io", "m")
	left := func(want ...string) {
		t.Helper()
		r.until("what is left", func() string {
			list, err := slices.List(t.Context(), metav1.ListOptions{})
			var names []string
			for _, s := range list.Items {
				names = append(names, s.Name)
			}
			if got := strings.Join(names, " "); err != nil || got != strings.Join(want, " ") {
				return got + " " + errorText(err)
			}
			return ""
		})
	}
	v := newVendor()
	h := r.start(v)
	r.registered(v)
	cleaner, err := devices.NewCleaner(devices.CleanerConfig{Client: r.client, Registry: r.Registry, NodeName: "n", Grace: 200 * time.Millisecond,
		Clock: clock.RealClock{}, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := cleaner.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	defer wg.Wait()
	defer cancel()
	left("elsewhere", "ours")
	h.Stop()
	left("elsewhere")
}

func TestState(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	path := filepath.Join(root, "canopus_devices.json")
	client, err := kubernetes.NewForConfig(&rest.Config{Host: "https://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	registry, err := devices.NewRegistry(devices.RegistryConfig{Dir: root, HealthChanged: func() {}, Clock: clock.RealClock{}, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"":                          "",
		`{"version":1,"claims":[]}`: "",
		`{"version":9}`:             "devices in use: " + path + " has version 9, this program knows up to 1: use the newer program, or drain the node and remove the file",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); text != "" && err != nil {
			t.Fatal(err)
		} else if text == "" {
			_ = os.Remove(path)
		}
		if _, err := devices.NewHost(client, registry, root); errorText(err) != want {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
	if err := os.WriteFile(path, []byte(`{"vers`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := devices.NewHost(client, registry, root); err != nil || !strings.Contains(log.String(), "is forgotten") {
		t.Errorf("a damaged file: %v, log %s", err, log.String())
	}
	entries, err := os.ReadDir(root)
	if err != nil || !slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.Name() == "canopus_devices.json.damaged" }) {
		t.Errorf("it is not kept aside: %v %v", entries, err)
	}
}
