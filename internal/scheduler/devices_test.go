package scheduler

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/retry"
	"k8s.io/utils/ptr"

	"canopus/internal/scheduler/config"
)

func testDeviceClass() *resourcev1.DeviceClass {
	return &resourcev1.DeviceClass{ObjectMeta: metav1.ObjectMeta{Name: "gpu"}, Spec: resourcev1.DeviceClassSpec{
		Selectors: []resourcev1.DeviceSelector{{CEL: &resourcev1.CELDeviceSelector{Expression: `device.driver == "gpu.x.io"`}}}}}
}

// testSlice has devices of a node, or of all nodes.
func testSlice(node string, list ...string) *resourcev1.ResourceSlice {
	s := &resourcev1.ResourceSlice{ObjectMeta: metav1.ObjectMeta{Name: "gpus-" + node}, Spec: resourcev1.ResourceSliceSpec{
		Driver: "gpu.x.io", Pool: resourcev1.ResourcePool{Name: "pool" + node, ResourceSliceCount: 1}, NodeName: &node}}
	if node == "" {
		s.Name, s.Spec.Pool.Name, s.Spec.NodeName, s.Spec.AllNodes = "gpus", "pool", nil, ptr.To(true)
	}
	for _, name := range list {
		s.Spec.Devices = append(s.Spec.Devices, resourcev1.Device{Name: name})
	}
	return s
}

// testDeviceClaim asks for one device of class gpu.
func testDeviceClaim(name string, changes ...func(*resourcev1.ResourceClaim)) *resourcev1.ResourceClaim {
	c := &resourcev1.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(name)}}
	c.Spec.Devices.Requests = []resourcev1.DeviceRequest{{Name: "r", Exactly: &resourcev1.ExactDeviceRequest{
		DeviceClassName: "gpu", AllocationMode: resourcev1.DeviceAllocationModeExactCount, Count: 1}}}
	for _, change := range changes {
		change(c)
	}
	return c
}

// givenOn gives a claim a device of a node.
func givenOn(node, device string) func(*resourcev1.ResourceClaim) {
	return func(c *resourcev1.ResourceClaim) {
		c.Finalizers = []string{resourcev1.Finalizer}
		c.Status.Allocation = &resourcev1.AllocationResult{
			Devices: resourcev1.DeviceAllocationResult{Results: []resourcev1.DeviceRequestAllocationResult{{Request: "r", Driver: "gpu.x.io", Pool: "pool" + node, Device: device}}},
			NodeSelector: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchFields: []corev1.NodeSelectorRequirement{{
				Key: metav1.ObjectNameField, Operator: corev1.NodeSelectorOpIn, Values: []string{node}}}}}},
		}
	}
}

func usesClaims(names ...string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		for _, name := range names {
			p.Spec.ResourceClaims = append(p.Spec.ResourceClaims, corev1.PodResourceClaim{Name: name, ResourceClaimName: &name})
		}
	}
}

func onNode(name string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{corev1.LabelHostname: name} }
}

func fromTemplate(p *corev1.Pod) {
	p.Spec.ResourceClaims = []corev1.PodResourceClaim{{Name: "gpu", ResourceClaimTemplateName: ptr.To("t")}}
}

func generated(claim *string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		fromTemplate(p)
		p.Status.ResourceClaimStatuses = []corev1.PodResourceClaimStatus{{Name: "gpu", ResourceClaimName: claim}}
	}
}

func devicesOn(objects ...any) *cluster {
	c := newCluster()
	c.setNode(testNode("a", nil))
	c.setNode(testNode("b", nil))
	for _, o := range objects {
		switch o := o.(type) {
		case *resourcev1.ResourceClaim:
			c.devices.setClaim(o)
		case *resourcev1.ResourceSlice:
			c.devices.stock.SetSlice(o)
		case *resourcev1.DeviceClass:
			c.devices.stock.SetClass(o)
		}
	}
	return c
}

// TestDeviceRule asks where a pod may go, or what is said of the nodes.
func TestDeviceRule(t *testing.T) {
	t.Parallel()
	going := func(c *resourcev1.ResourceClaim) { c.DeletionTimestamp = &metav1.Time{} }
	of := func(pod string) func(*resourcev1.ResourceClaim) {
		return func(c *resourcev1.ResourceClaim) {
			c.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: pod, UID: types.UID(pod), Controller: ptr.To(true)}}
		}
	}
	crowded := func(c *resourcev1.ResourceClaim) {
		for i := range resourcev1.ResourceClaimReservedForMaxSize {
			c.Status.ReservedFor = append(c.Status.ReservedFor, resourcev1.ResourceClaimConsumerReference{Resource: "pods", Name: fmt.Sprint(i), UID: types.UID(fmt.Sprint(i))})
		}
	}
	class, none := testDeviceClass(), " preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
	for name, tt := range map[string]struct {
		have []any
		pod  func(*corev1.Pod)
		want string // node, "a or b", or message
	}{
		"no such claim":         {[]any{class}, usesClaims("x"), `0/2 nodes are available: resourceclaim.resource.k8s.io "x" not found.` + none},
		"the claim is going":    {[]any{class, testDeviceClaim("x", going)}, usesClaims("x"), `0/2 nodes are available: resourceclaim "x" is being deleted.` + none},
		"not generated yet":     {[]any{class}, fromTemplate, `0/2 nodes are available: pod "ns/p": ResourceClaim not created yet.` + none},
		"none is needed":        {nil, generated(nil), "a or b"},
		"generated":             {[]any{class, testSlice("b", "g"), testDeviceClaim("p-gpu", of("p"))}, generated(ptr.To("p-gpu")), "b"},
		"generated for another": {[]any{class, testSlice("b", "g"), testDeviceClaim("p-gpu", of("q"))}, generated(ptr.To("p-gpu")), "0/2 nodes are available: ResourceClaim ns/p-gpu was not created for Pod ns/p (Pod is not owner)." + none},
		"no such class":         {[]any{testDeviceClaim("x")}, usesClaims("x"), "0/2 nodes are available: request r: device class gpu does not exist." + none},
		"where devices are":     {[]any{class, testSlice("b", "g"), testDeviceClaim("x")}, usesClaims("x"), "b"},
		"anywhere":              {[]any{class, testSlice("", "g"), testDeviceClaim("x")}, usesClaims("x"), "a or b"},
		"no devices":            {[]any{class, testDeviceClaim("x")}, usesClaims("x"), "0/2 nodes are available: 2 cannot allocate all claims." + none},
		"devices are taken":     {[]any{class, testSlice("b", "g"), testDeviceClaim("x"), testDeviceClaim("y", givenOn("b", "g"))}, usesClaims("x"), "0/2 nodes are available: 2 cannot allocate all claims." + none},
		"two claims, two nodes": {[]any{class, testSlice("a", "g"), testSlice("b", "g"), testDeviceClaim("x"), testDeviceClaim("y")}, usesClaims("x", "y"), "0/2 nodes are available: 2 cannot allocate all claims." + none},
		"two claims, one node":  {[]any{class, testSlice("a", "g"), testSlice("b", "g", "h"), testDeviceClaim("x"), testDeviceClaim("y")}, usesClaims("x", "y"), "b"},
		"beside what is given":  {[]any{class, testSlice("a", "g"), testSlice("b", "h"), testDeviceClaim("x", givenOn("a", "f")), testDeviceClaim("y")}, usesClaims("x", "y"), "a"},
		"given here":            {[]any{class, testDeviceClaim("x", givenOn("b", "g"))}, usesClaims("x"), "b"},
		"given elsewhere":       {[]any{class, testDeviceClaim("x", givenOn("z", "g"))}, usesClaims("x"), "0/2 nodes are available: 2 resourceclaim not available on the node."},
		"too many users":        {[]any{class, testDeviceClaim("x", givenOn("b", "g"), crowded)}, usesClaims("x"), "0/2 nodes are available: resourceclaim in use." + none},
		"one claim twice":       {[]any{class, testSlice("b", "g"), testDeviceClaim("x")}, usesClaims("x", "x"), "b"},
	} {
		c := devicesOn(tt.have...)
		d := decide(c, newPending(testPod("p", tt.pod)), testOptions())
		got := d.node
		if got == "" {
			got = d.message()
		} else if tt.want == "a or b" {
			got = tt.want
		}
		if got != tt.want {
			t.Errorf("%s: %s\nwant %s", name, got, tt.want)
		}
	}
}

// TestDevicesAreSetAside: what is decided counts before it is written, and no more when it is taken back or shows.
func TestDevicesAreSetAside(t *testing.T) {
	t.Parallel()
	c := devicesOn(testDeviceClass(), testSlice("b", "g"), testDeviceClaim("x"), testDeviceClaim("y"))
	binder := &deviceBinder{inbox: newInbox(), outbox: newOutbox()}
	first, second := newPending(testPod("p", usesClaims("x"))), newPending(testPod("q", usesClaims("y")))
	says := func(p *podInfo) string {
		d := decide(c, p, testOptions())
		if d.node != "" {
			return d.node
		}
		text, _, _ := strings.Cut(d.message(), " preemption:")
		return text
	}
	set, why := binder.reserve(c, first, c.nodes["b"])
	if why.refuses() {
		t.Fatal(why)
	}
	const taken = "0/2 nodes are available: 2 cannot allocate all claims."
	if got := says(second); got != taken {
		t.Errorf("beside a decision: %s", got)
	}
	if got := says(first); got != "0/2 nodes are available: resource claim x is in the process of being allocated." {
		t.Errorf("another user of the claim meanwhile: %s", got)
	}
	c.devices.setClaim(testDeviceClaim("x", func(c *resourcev1.ResourceClaim) { c.Labels = map[string]string{"touched": "yes"} }))
	if got := says(second); got != taken {
		t.Errorf("after another's write to the claim: %s", got)
	}
	set.undo(c)
	if got := says(second); got != "b" {
		t.Errorf("after it was taken back: %s", got)
	}
	if got := says(first); got != "0/2 nodes are available: resource claim x is in the process of being released." {
		t.Errorf("while it is taken back: %s", got)
	}
	c.devices.setClaim(testDeviceClaim("x", givenOn("b", "g")))
	if got := says(second); got != taken {
		t.Errorf("once it was written after all: %s", got)
	}
	c.devices.removeClaim(types.NamespacedName{Namespace: "ns", Name: "x"})
	if got := says(second); got != "b" {
		t.Errorf("after the claim is gone: %s", got)
	}
}

func (r *rig) deviceClass() {
	r.t.Helper()
	if _, err := r.ResourceV1().DeviceClasses().Create(r.t.Context(), testDeviceClass(), metav1.CreateOptions{}); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) slice(node string, list ...string) {
	r.t.Helper()
	if _, err := r.ResourceV1().ResourceSlices().Create(r.t.Context(), testSlice(node, list...), metav1.CreateOptions{}); err != nil {
		r.t.Fatal(err)
	}
}

// deviceClaim makes a claim with the status that change gives it.
func (r *rig) deviceClaim(name string, change ...func(*resourcev1.ResourceClaim)) {
	r.t.Helper()
	c := testDeviceClaim(name, change...)
	c.UID = ""
	made, err := r.ResourceV1().ResourceClaims("ns").Create(r.t.Context(), c, metav1.CreateOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	if made = made.DeepCopy(); c.Status.Allocation != nil {
		made.Status = c.Status
		if _, err := r.ResourceV1().ResourceClaims("ns").UpdateStatus(r.t.Context(), made, metav1.UpdateOptions{}); err != nil {
			r.t.Fatal(err)
		}
	}
}

// has waits until a claim has a device and is reserved for pods, and nothing else.
func (r *rig) has(claim, device string, pods ...string) {
	r.t.Helper()
	r.eventually(fmt.Sprintf("claim %s has %q for %v", claim, device, pods), func(ctx context.Context) (string, error) {
		c, err := r.ResourceV1().ResourceClaims("ns").Get(ctx, claim, metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		got, users := "", []string{}
		if a := c.Status.Allocation; a != nil {
			got = a.Devices.Results[0].Pool + "/" + a.Devices.Results[0].Device
			if !slices.Contains(c.Finalizers, resourcev1.Finalizer) {
				return "it is not protected", nil
			}
		}
		for _, u := range c.Status.ReservedFor {
			users = append(users, u.Name)
		}
		slices.Sort(users)
		if got == device && slices.Equal(users, append([]string{}, pods...)) {
			return "", nil
		}
		return fmt.Sprintf("it has %q for %v", got, users), nil
	})
}

// giveBack does the part of the claims' controller when nobody uses a claim any more.
func (r *rig) giveBack(claim string) {
	r.t.Helper()
	claims := r.ResourceV1().ResourceClaims("ns")
	if err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		c, err := claims.Get(r.t.Context(), claim, metav1.GetOptions{})
		if err != nil {
			return err
		}
		c.Status = resourcev1.ResourceClaimStatus{}
		_, err = claims.UpdateStatus(r.t.Context(), c, metav1.UpdateOptions{})
		return err
	}); err != nil {
		r.t.Fatal(err)
	}
}

func TestDevicesAreGivenAndShared(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	r.node("a", nil)
	r.node("b", nil)
	r.pod("p", usesClaims("x"))
	const unhelpful = " preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
	r.waits("p", `0/2 nodes are available: resourceclaim.resource.k8s.io "x" not found.`+unhelpful)
	r.deviceClaim("x")
	r.waits("p", "0/2 nodes are available: request r: device class gpu does not exist."+unhelpful)
	r.deviceClass()
	r.waits("p", "0/2 nodes are available: 2 cannot allocate all claims."+unhelpful)
	r.slice("b", "g")
	r.bound("p", "b")
	r.has("x", "poolb/g", "p")

	r.pod("q", usesClaims("x"))
	r.bound("q", "b")
	r.has("x", "poolb/g", "p", "q")

	r.deviceClaim("y")
	r.pod("late", usesClaims("y"))
	r.waits("late", "0/2 nodes are available: 2 cannot allocate all claims."+unhelpful)
	r.giveBack("x")
	r.bound("late", "b")
	r.has("y", "poolb/g", "late")
}

// TestIdleClaimMoves: devices that a pod cannot reach and nobody uses are given back, and others taken.
func TestIdleClaimMoves(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	r.node("a", nil)
	r.node("b", nil)
	r.deviceClass()
	r.slice("a", "g")
	r.slice("b", "h")
	r.deviceClaim("x", givenOn("a", "g"))
	r.pod("p", func(p *corev1.Pod) {
		usesClaims("x")(p)
		onNode("b")(p)
	})
	r.bound("p", "b")
	r.has("x", "poolb/h", "p")
}

// TestReservationsAreTakenBack: a pod that could not be bound and then goes leaves no claim reserved.
func TestReservationsAreTakenBack(t *testing.T) {
	t.Parallel()
	var refuse atomic.Bool
	refuse.Store(true)
	r := start(t, func(_ *Config, writes *rest.Config) {
		writes.Wrap(func(next http.RoundTripper) http.RoundTripper {
			return roundTripper(func(q *http.Request) (*http.Response, error) {
				if strings.HasSuffix(q.URL.Path, "/binding") && refuse.Load() {
					return nil, http.ErrHandlerTimeout
				}
				return next.RoundTrip(q)
			})
		})
	})
	r.node("a", nil)
	r.deviceClass()
	r.slice("a", "g")
	r.deviceClaim("x")
	r.pod("p", usesClaims("x"))
	r.has("x", "poola/g")
	refuse.Store(false)
	r.bound("p", "a")
	r.has("x", "poola/g", "p")
}

// tell has the driver say of a claim's only device that a condition is true.
func (r *rig) tell(claim, condition string) {
	r.t.Helper()
	claims := r.ResourceV1().ResourceClaims("ns")
	if err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		c, err := claims.Get(r.t.Context(), claim, metav1.GetOptions{})
		if err != nil {
			return err
		}
		got := c.Status.Allocation.Devices.Results[0]
		c.Status.Devices = []resourcev1.AllocatedDeviceStatus{{Driver: got.Driver, Pool: got.Pool, Device: got.Device, Conditions: []metav1.Condition{
			{Type: condition, Status: metav1.ConditionTrue, Reason: "Told", LastTransitionTime: metav1.Now()}}}}
		_, err = claims.UpdateStatus(r.t.Context(), c, metav1.UpdateOptions{})
		return err
	}); err != nil {
		r.t.Fatal(err)
	}
}

// TestDevicesThatTakeTime: a pod is bound when the driver says that its device is ready; one that fails is given back, and
// another taken.
func TestDevicesThatTakeTime(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	r.node("a", nil)
	r.node("b", nil)
	r.deviceClass()
	slow := func(node string) *resourcev1.ResourceSlice {
		s := testSlice(node, "g")
		s.Spec.Devices[0].BindingConditions, s.Spec.Devices[0].BindingFailureConditions = []string{"x.io/ready"}, []string{"x.io/broken"}
		return s
	}
	made, err := r.ResourceV1().ResourceSlices().Create(t.Context(), slow("a"), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r.deviceClaim("x")
	r.pod("p", usesClaims("x"))
	r.has("x", "poola/g", "p")
	r.bound("p", "")
	if err := r.ResourceV1().ResourceSlices().Delete(t.Context(), made.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	r.tell("x", "x.io/broken")
	r.event("p", corev1.EventTypeWarning, "FailedScheduling", `running PreBind plugin "DynamicResources": claim x binding failed: device gpu.x.io/poola/g is x.io/broken`)
	r.has("x", "")
	if _, err := r.ResourceV1().ResourceSlices().Create(t.Context(), slow("b"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	r.has("x", "poolb/g", "p")
	r.tell("x", "x.io/ready")
	r.bound("p", "b")
}

// TestDevicesThatAreNotReadyInTime are given back, and why the pod has no node is said.
func TestDevicesThatAreNotReadyInTime(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *Config, _ *rest.Config) {
		c.Configuration = config.Default()
		c.Configuration.Profiles[0].Args.DynamicResources.BindingTimeout = &metav1.Duration{Duration: time.Second}
	})
	r.node("a", nil)
	r.deviceClass()
	s := testSlice("a", "g")
	s.Spec.Devices[0].BindingConditions, s.Spec.Devices[0].BindingFailureConditions = []string{"x.io/ready"}, []string{"x.io/broken"}
	if _, err := r.ResourceV1().ResourceSlices().Create(t.Context(), s, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	r.deviceClaim("x")
	r.pod("p", usesClaims("x"))
	r.event("p", corev1.EventTypeWarning, "FailedScheduling", `running PreBind plugin "DynamicResources": device binding timeout`)
	r.bound("p", "")
}

// TestClaimsFromTemplates: a pod is not tried, and not said to be refused, before its claims are there.
func TestClaimsFromTemplates(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	r.node("a", nil)
	r.deviceClass()
	r.slice("a", "g")
	r.pod("p", fromTemplate)
	r.pod("other", nil) // is bound after p was looked at
	r.bound("other", "a")
	p, err := r.CoreV1().Pods("ns").Get(t.Context(), "p", metav1.GetOptions{})
	if err != nil || len(p.Status.Conditions) > 0 {
		t.Errorf("%v, conditions %+v", err, p.Status.Conditions)
	}
	r.deviceClaim("p-gpu", func(c *resourcev1.ResourceClaim) {
		c.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(p, corev1.SchemeGroupVersion.WithKind("Pod"))}
	})
	if _, err := r.CoreV1().Pods("ns").Patch(t.Context(), "p", types.StrategicMergePatchType,
		[]byte(`{"status":{"resourceClaimStatuses":[{"name":"gpu","resourceClaimName":"p-gpu"}]}}`), metav1.PatchOptions{}, "status"); err != nil {
		t.Fatal(err)
	}
	r.bound("p", "a")
	r.has("p-gpu", "poola/g", "p")
}
