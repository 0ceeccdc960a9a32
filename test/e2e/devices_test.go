package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"canopus/test/harness"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/dynamic-resource-allocation/kubeletplugin"
	"k8s.io/dynamic-resource-allocation/resourceslice"
)

// vendor is a driver of devices as its vendor writes it, on the published helper for drivers. It has two devices on the node, which
// tell a container their name in the variable GPU, and one of another model, which nobody is to be given.
type vendor struct {
	name, kind string // of the driver, and of its devices as the container runtime calls them

	mu       sync.Mutex
	prepared map[types.UID]int // claims: how often
	released map[types.UID]int // likewise
	refuse   error             // what the driver says to claims that are to be prepared
	ill      string            // the device that does not work
	again    chan struct{}     // a token: report the health of the devices again
}

func (v *vendor) PrepareResourceClaims(_ context.Context, claims []*resourcev1.ResourceClaim) (map[types.UID]kubeletplugin.PrepareResult, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	out := map[types.UID]kubeletplugin.PrepareResult{}
	for _, c := range claims {
		v.prepared[c.UID]++
		one := kubeletplugin.PrepareResult{Err: v.refuse}
		for _, r := range c.Status.Allocation.Devices.Results {
			one.Devices = append(one.Devices, kubeletplugin.Device{Requests: []string{r.Request}, PoolName: r.Pool, DeviceName: r.Device, CDIDeviceIDs: []string{v.kind + "=" + r.Device}})
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
		out[c.UID] = nil
	}
	return out, nil
}

func (v *vendor) HandleError(context.Context, error, string) {}

// WatchHealthStatus tells how the devices are, at once and whenever that changes.
func (v *vendor) WatchHealthStatus(ctx context.Context, out chan<- kubeletplugin.DeviceHealthReport) error {
	for {
		report := kubeletplugin.DeviceHealthReport{}
		v.mu.Lock()
		for _, name := range []string{"g0", "g1"} {
			d := kubeletplugin.DeviceHealth{PoolName: harness.NodeName, DeviceName: name, Health: kubeletplugin.HealthStatusHealthy, HealthCheckTimeout: time.Hour}
			if name == v.ill {
				d.Health, d.Message = kubeletplugin.HealthStatusUnhealthy, "it smokes"
			}
			report.Devices = append(report.Devices, d)
		}
		v.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil
		case out <- report:
		}
		select {
		case <-ctx.Done():
			return nil
		case <-v.again:
		}
	}
}

// set changes what the driver says.
func (v *vendor) set(change func()) {
	v.mu.Lock()
	change()
	v.mu.Unlock()
	select {
	case v.again <- struct{}{}:
	default:
	}
}

// uses are how often claims were prepared and released, in all.
func (v *vendor) uses() (prepared, released int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, n := range v.prepared {
		prepared += n
	}
	for _, n := range v.released {
		released += n
	}
	return prepared, released
}

// driver installs the driver on the node. It stays until the test ends.
func (s *scenario) driver(t *testing.T) *vendor {
	t.Helper()
	v := &vendor{name: s.ns + ".x.io", prepared: map[types.UID]int{}, released: map[types.UID]int{}, again: make(chan struct{}, 1)}
	v.kind = describeDevices(t, string(s.Topology)+"-"+s.ns)
	sockets, err := os.MkdirTemp("/run", "dv") // short, because paths of sockets have 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(sockets) })
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	t.Cleanup(cancel)
	h, err := kubeletplugin.Start(ctx, v, kubeletplugin.DriverName(v.name), kubeletplugin.NodeName(harness.NodeName), kubeletplugin.KubeClient(s.Client),
		kubeletplugin.RegistrarDirectoryPath(filepath.Join(s.Node.Dir, "kubelet", "plugins_registry")), kubeletplugin.RegistrarSocketFilename("driver.sock"),
		kubeletplugin.PluginDataDirectoryPath(sockets))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Stop)
	device := func(name, model string) resourcev1.Device {
		return resourcev1.Device{Name: name, Attributes: map[resourcev1.QualifiedName]resourcev1.DeviceAttribute{"model": {StringValue: &model}}}
	}
	resources := resourceslice.DriverResources{Pools: map[string]resourceslice.Pool{harness.NodeName: {
		Slices: []resourceslice.Slice{{Devices: []resourcev1.Device{device("g0", "fast"), device("g1", "fast"), device("old", "slow")}}}}}}
	if err := h.PublishResources(ctx, resources); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // a driver that goes for good takes along what it published
		where := metav1.ListOptions{FieldSelector: resourcev1.ResourceSliceSelectorDriver + "=" + v.name}
		_ = s.Client.ResourceV1().ResourceSlices().DeleteCollection(ctx, metav1.DeleteOptions{}, where)
	})
	return v
}

// describeDevices tells the container runtime of the devices g0 and g1, and returns what it calls their kind.
func describeDevices(t *testing.T, name string) string {
	t.Helper()
	const dir = "/var/run/cdi" // where runtimes look
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	kind := name + ".x.io/gpu"
	spec := fmt.Sprintf(`{"cdiVersion":"0.6.0","kind":%q,"devices":[{"name":"g0","containerEdits":{"env":["GPU=g0"]}},{"name":"g1","containerEdits":{"env":["GPU=g1"]}}]}`, kind)
	file := filepath.Join(dir, "canopus-"+name+".json")
	if err := os.WriteFile(file, []byte(spec), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(file) })
	return kind
}

// training applies devices.yaml and waits for its two pods, which it returns by the devices that they say they got.
func (s *scenario) training(t *testing.T, v *vendor) map[string]corev1.Pod {
	t.Helper()
	class := s.ns
	s.apply(t, "devices.yaml", "DRIVER", v.name, "CLASS", class)
	t.Cleanup(func() { s.Try(t, "", "delete", "deviceclass", class) })
	s.k(t, "rollout", "status", "deployment/train", "--timeout=60s")
	pods := map[string]corev1.Pod{}
	for _, p := range s.pods(t, "app=train") {
		pods[s.got(t, p.Name, "main")] = p
		if other := s.got(t, p.Name, "beside"); other != "none" {
			t.Errorf("the container without a claim got %q", other)
		}
	}
	if len(pods) != 2 || pods["g0"].Name == "" || pods["g1"].Name == "" {
		t.Fatalf("the pods got %v, want g0 and g1", pods)
	}
	return pods
}

// got waits for a container to say what it got.
func (s *scenario) got(t *testing.T, pod, container string) (what string) {
	t.Helper()
	harness.Until(t, patience, container+" of "+pod+" to say what it got", func() error {
		out := s.k(t, "logs", pod, "-c", container)
		if _, err := fmt.Sscanf(out, "got %s\n", &what); err != nil {
			return fmt.Errorf("log %q: %w", out, err)
		}
		return nil
	})
	return what
}

// held is how many claims the driver was asked to prepare and not to release.
func (v *vendor) held() (n int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for uid := range v.prepared {
		if v.released[uid] == 0 {
			n++
		}
	}
	return n
}

// released waits until the driver has released all that it prepared, and no claim is left.
func (s *scenario) released(t *testing.T, v *vendor) {
	t.Helper()
	harness.Until(t, patience, "the driver to release all that it prepared", func() error {
		left := s.k(t, "get", "resourceclaims", "-o", "name")
		if n := v.held(); n > 0 || left != "" {
			return fmt.Errorf("it has %d, left is %q", n, left)
		}
		return nil
	})
}

// claimed: pods get devices of a driver, one each; a third waits and says why, until one is free; what the driver says of a device is
// told; claims go with their pods and free the devices.
func claimed(t *testing.T, s *scenario) {
	v := s.driver(t)
	pods := s.training(t, v)
	s.well(t, "deployment/train")
	s.health(t, pods["g0"].Name, v.name+"/node-1/g0 Healthy")

	v.set(func() { v.ill = "g0" })
	s.health(t, pods["g0"].Name, v.name+"/node-1/g0 Unhealthy it smokes")
	s.explains(t, fault{target: "pod/" + pods["g0"].Name, found: "device warning Unhealthy", message: "g0 of container main does not work, says its driver: it smokes", advice: "see to the device on node node-1"})
	s.health(t, pods["g1"].Name, v.name+"/node-1/g1 Healthy")
	v.set(func() { v.ill = "" })
	s.health(t, pods["g0"].Name, v.name+"/node-1/g0 Healthy")

	t.Log("a third pod waits for a device, says so, and gets the one that is free next")
	s.k(t, "scale", "deployment/train", "--replicas=3")
	s.explains(t, fault{target: "deployment/train", found: "schedule error Unschedulable, rollout waiting RollingOut|schedule error Unschedulable", message: "cannot allocate all claims", advice: "`kubectl get resourceslices`"})
	first := pods["g0"]
	s.k(t, "delete", "pod", first.Name)
	harness.Until(t, patience, "the pod that waited to get the device", func() error {
		for _, p := range s.pods(t, "app=train") {
			if r := s.Try(t, "", s.args([]string{"logs", p.Name, "-c", "main"})...); p.Name != first.Name && p.Name != pods["g1"].Name && r.Stdout == "got g0\n" {
				return nil
			}
		}
		_, released := v.uses()
		return fmt.Errorf("%d released", released)
	})
	if prepared, released := v.uses(); prepared != 3 || released != 1 {
		t.Errorf("prepared %d, released %d, want 3 and 1", prepared, released)
	}
	s.k(t, "scale", "deployment/train", "--replicas=0")
	s.released(t, v)
	s.classic(t, v)
	s.deviceFaults(t, v)
}

// classic: a pod that knows nothing of claims asks for a device as people did before there were any.
func (s *scenario) classic(t *testing.T, v *vendor) {
	t.Helper()
	t.Log("a pod that asks for an extended resource gets a device of the class that stands for it")
	s.apply(t, "card.yaml", "CARD", v.name+"/card")
	s.k(t, "wait", "pod/classic", "--for=condition=Ready", "--timeout=60s")
	if device := s.got(t, "classic", "main"); device != "g0" && device != "g1" {
		t.Errorf("it got %s", device)
	}
	harness.Until(t, patience, "the health of the device of the extended resource", func() error {
		p := s.pod(t, "classic")
		x, said := p.Status.ExtendedResourceClaimStatus, p.Status.ContainerStatuses[0].AllocatedResourcesStatus
		if x == nil || len(said) != 1 || string(said[0].Name) != "claim:"+x.ResourceClaimName+"/"+x.RequestMappings[0].RequestName || said[0].Resources[0].Health != corev1.ResourceHealthStatusHealthy {
			return fmt.Errorf("%+v, %+v", x, said)
		}
		return nil
	})
	s.k(t, "delete", "pod/classic")
	s.released(t, v)
}

// health waits until the status of a pod's first container says just this of its device.
func (s *scenario) health(t *testing.T, pod, want string) {
	t.Helper()
	harness.Until(t, patience, "the health of "+pod+"'s device", func() error {
		var got []string
		for _, c := range s.pod(t, pod).Status.ContainerStatuses {
			for _, r := range c.AllocatedResourcesStatus {
				for _, d := range r.Resources {
					text := string(d.ResourceID) + " " + string(d.Health)
					if d.Message != nil {
						text += " " + *d.Message
					}
					got = append(got, text)
				}
				if c.Name != "main" || r.Name != "claim:gpu" {
					return fmt.Errorf("container %s has %s", c.Name, r.Name)
				}
			}
		}
		if !slices.Equal(got, []string{want}) {
			return fmt.Errorf("%q, want %q", got, want)
		}
		return nil
	})
}

// deviceFaults: why tells what is wrong with claims, and with a driver that refuses them.
func (s *scenario) deviceFaults(t *testing.T, v *vendor) {
	t.Helper()
	s.apply(t, "device-faults.yaml", "CLASS", s.ns)
	for _, f := range []fault{
		{target: "pod/no-template", found: "device error FailedResourceClaimCreation", message: "absent", advice: "make ResourceClaimTemplate absent"},
		{target: "pod/no-claim", found: "device error ResourceClaimNotFound, schedule error Unschedulable", message: "the resource claim absent", advice: "make ResourceClaim absent"},
		{target: "pod/no-class", found: "device error DeviceClassNotFound, schedule error Unschedulable", message: "a device of class e2e-none, which does not exist", advice: "make DeviceClass e2e-none"},
		{target: "resourceclaim/classless", found: "device error DeviceClassNotFound", message: "class e2e-none", advice: "`kubectl get deviceclasses`"},
		{target: "resourceclaim/unused", found: "device waiting WaitForPod", message: "when a pod that uses it is scheduled", advice: "start a pod that uses it"},
	} {
		s.explains(t, f)
	}
	v.set(func() { v.refuse = errors.New("out of order") })
	template := "{apiVersion: resource.k8s.io/v1, kind: ResourceClaimTemplate, metadata: {name: absent}, spec: {spec: {devices: {requests: [{name: gpu, exactly: {deviceClassName: " + s.ns + "}}]}}}}"
	s.Input(t, template, s.args([]string{"apply", "-f", "-"})...)
	s.explains(t, fault{target: "pod/no-template", found: "device error FailedPrepareDynamicResources", message: "out of order", advice: "see whether the driver of its resource claims runs on node node-1"})
	v.set(func() { v.refuse = nil })
	s.well(t, "pod/no-template")
	s.k(t, "delete", "pods", "--all")
	s.k(t, "delete", "resourceclaims", "--all")
	s.released(t, v)
}

// claimedAfterKill: Canopus dies while pods use devices. They go on with them, nothing is prepared twice, and what was in use is
// released by those who come after.
func claimedAfterKill(t *testing.T, s *scenario) {
	v := s.driver(t)
	before := s.training(t, v)
	s.health(t, before["g1"].Name, v.name+"/node-1/g1 Healthy")
	for _, p := range s.Processes {
		p.Kill(t)
	}
	s.serves(t)
	for device, p := range before {
		now := s.pod(t, p.Name)
		if now.UID != p.UID || containerRestarts(now) != 0 {
			t.Errorf("%s, which has %s, was replaced or restarted", p.Name, device)
		}
		s.health(t, p.Name, v.name+"/node-1/"+device+" Healthy")
	}
	v.set(func() { v.ill = "g1" })
	s.health(t, before["g1"].Name, v.name+"/node-1/g1 Unhealthy it smokes") // the new agent hears the driver
	if prepared, released := v.uses(); prepared != 2 || released != 0 {
		t.Errorf("prepared %d, released %d, want 2 and 0", prepared, released)
	}
	s.k(t, "delete", "deployment/train")
	for _, p := range s.Processes {
		p.Settle(t)
		p.Kill(t)
	}
	s.serves(t)
	s.released(t, v)
}
