package resource

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	quantity "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
)

func testClaim() *resourcev1.ResourceClaim {
	c := &resourcev1.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Name: "c", Namespace: "ns"}}
	c.Spec.Devices = resourcev1.DeviceClaim{
		Requests: []resourcev1.DeviceRequest{
			{Name: "r", Exactly: &resourcev1.ExactDeviceRequest{DeviceClassName: "gpu"}},
			{Name: "q", FirstAvailable: []resourcev1.DeviceSubRequest{{Name: "big", DeviceClassName: "gpu"}, {Name: "small", DeviceClassName: "gpu", Count: 2}}},
		},
		Constraints: []resourcev1.DeviceConstraint{{Requests: []string{"r", "q/big"}, MatchAttribute: ptr.To(resourcev1.FullyQualifiedName("x.io/numa"))}},
		Config: []resourcev1.DeviceClaimConfiguration{{Requests: []string{"q"}, DeviceConfiguration: resourcev1.DeviceConfiguration{
			Opaque: &resourcev1.OpaqueDeviceConfiguration{Driver: "gpu.x.io", Parameters: runtime.RawExtension{Raw: []byte(`{"a":1}`)}}}}},
	}
	defaultClaim(&c.Spec)
	return c
}

// expect compares errors by their texts, of which want has the beginnings.
func expect(t *testing.T, errs field.ErrorList, want ...string) {
	t.Helper()
	var got []string
	for _, e := range errs {
		got = append(got, e.Error())
	}
	if len(got) != len(want) {
		t.Fatalf("got %q\nwant %q", got, want)
	}
	for i := range got {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("got %s\nwant %s", got[i], want[i])
		}
	}
}

func TestDefaultClaim(t *testing.T) {
	t.Parallel()
	c := testClaim()
	if e := c.Spec.Devices.Requests[0].Exactly; e.AllocationMode != resourcev1.DeviceAllocationModeExactCount || e.Count != 1 {
		t.Errorf("a request: %+v", e)
	}
	if s := c.Spec.Devices.Requests[1].FirstAvailable; s[0].Count != 1 || s[1].Count != 2 {
		t.Errorf("alternatives: %+v", s)
	}
	all := &resourcev1.ResourceClaimSpec{Devices: resourcev1.DeviceClaim{Requests: []resourcev1.DeviceRequest{{Exactly: &resourcev1.ExactDeviceRequest{AllocationMode: resourcev1.DeviceAllocationModeAll}}}}}
	defaultClaim(all)
	if e := all.Devices.Requests[0].Exactly; e.Count != 0 {
		t.Errorf("all devices: %+v", e)
	}
}

func TestValidateClaim(t *testing.T) {
	t.Parallel()
	cel := func(text string) []resourcev1.DeviceSelector {
		return []resourcev1.DeviceSelector{{CEL: &resourcev1.CELDeviceSelector{Expression: text}}}
	}
	for name, tt := range map[string]struct {
		change func(d *resourcev1.DeviceClaim, r *resourcev1.ExactDeviceRequest)
		want   []string
	}{
		"good": {func(*resourcev1.DeviceClaim, *resourcev1.ExactDeviceRequest) {}, nil},
		"nothing asked for": {func(d *resourcev1.DeviceClaim, _ *resourcev1.ExactDeviceRequest) {
			*d = resourcev1.DeviceClaim{}
		}, nil},
		"one name twice": {func(d *resourcev1.DeviceClaim, _ *resourcev1.ExactDeviceRequest) {
			d.Requests[1].Name, d.Config = "r", nil
		},
			[]string{`spec.devices.requests[1].name: Duplicate value: "r"`, `spec.devices.constraints[0].requests[1]: Invalid value: "q/big": must be the name of a request`}},
		"neither": {func(d *resourcev1.DeviceClaim, _ *resourcev1.ExactDeviceRequest) { d.Requests[0].Exactly = nil },
			[]string{"spec.devices.requests[0]: Required value: exactly one of `exactly`, `firstAvailable` is required"}},
		"both": {func(d *resourcev1.DeviceClaim, _ *resourcev1.ExactDeviceRequest) {
			d.Requests[0].FirstAvailable = d.Requests[1].FirstAvailable
		}, []string{"spec.devices.requests[0]: Invalid value:"}},
		"no class":       {func(_ *resourcev1.DeviceClaim, r *resourcev1.ExactDeviceRequest) { r.DeviceClassName = "" }, []string{"spec.devices.requests[0].exactly.deviceClassName: Required value"}},
		"less than none": {func(_ *resourcev1.DeviceClaim, r *resourcev1.ExactDeviceRequest) { r.Count = -1 }, []string{"spec.devices.requests[0].exactly.count: Invalid value: -1: must be greater than zero"}},
		"some of all":    {func(_ *resourcev1.DeviceClaim, r *resourcev1.ExactDeviceRequest) { r.AllocationMode = "All" }, []string{"spec.devices.requests[0].exactly.count: Invalid value: 1: must not be specified when allocationMode is 'All'"}},
		"unknown mode":   {func(_ *resourcev1.DeviceClaim, r *resourcev1.ExactDeviceRequest) { r.AllocationMode = "Any" }, []string{`spec.devices.requests[0].exactly.allocationMode: Unsupported value: "Any"`}},
		"no expression":  {func(_ *resourcev1.DeviceClaim, r *resourcev1.ExactDeviceRequest) { r.Selectors = cel("") }, []string{"spec.devices.requests[0].exactly.selectors[0].cel.expression: Required value"}},
		"not a boolean":  {func(_ *resourcev1.DeviceClaim, r *resourcev1.ExactDeviceRequest) { r.Selectors = cel("device.driver") }, []string{`spec.devices.requests[0].exactly.selectors[0].cel.expression: Invalid value: "device.driver": must evaluate to bool or the unknown type, not string`}},
		"not CEL":        {func(_ *resourcev1.DeviceClaim, r *resourcev1.ExactDeviceRequest) { r.Selectors = cel("what?") }, []string{`spec.devices.requests[0].exactly.selectors[0].cel.expression: Invalid value: "what?": compilation failed`}},
		"no selector": {func(_ *resourcev1.DeviceClaim, r *resourcev1.ExactDeviceRequest) {
			r.Selectors = make([]resourcev1.DeviceSelector, 1)
		}, []string{"spec.devices.requests[0].exactly.selectors[0].cel: Required value"}},
		"long selector": {func(_ *resourcev1.DeviceClaim, r *resourcev1.ExactDeviceRequest) {
			r.Selectors = cel(strings.Repeat(" ", 10241))
		}, []string{"spec.devices.requests[0].exactly.selectors[0].cel.expression: Too long"}},
		"bad toleration": {func(_ *resourcev1.DeviceClaim, r *resourcev1.ExactDeviceRequest) {
			r.Tolerations = []resourcev1.DeviceToleration{{Operator: "Exists", Value: "v"}}
		}, []string{"spec.devices.requests[0].exactly.tolerations[0].value: Invalid value"}},
		"unknown request": {func(d *resourcev1.DeviceClaim, _ *resourcev1.ExactDeviceRequest) {
			d.Config[0].Requests = []string{"z"}
		}, []string{`spec.devices.config[0].requests[0]: Invalid value: "z"`}},
		"config of nobody": {func(d *resourcev1.DeviceClaim, _ *resourcev1.ExactDeviceRequest) { d.Config[0].Opaque = nil }, []string{"spec.devices.config[0].opaque: Required value"}},
		"config is a list": {func(d *resourcev1.DeviceClaim, _ *resourcev1.ExactDeviceRequest) {
			d.Config[0].Opaque.Parameters.Raw = []byte("[]")
		}, []string{"spec.devices.config[0].opaque.parameters: Invalid value: \"<value omitted>\": parsed data is not a JSON object"}},
		"no domain": {func(d *resourcev1.DeviceClaim, _ *resourcev1.ExactDeviceRequest) {
			d.Constraints[0].MatchAttribute = ptr.To(resourcev1.FullyQualifiedName("numa"))
		}, []string{`spec.devices.constraints[0].matchAttribute: Invalid value: "numa": must include a domain`}},
		"two constraints in one": {func(d *resourcev1.DeviceClaim, _ *resourcev1.ExactDeviceRequest) {
			d.Constraints[0].DistinctAttribute = d.Constraints[0].MatchAttribute
		}, []string{"spec.devices.constraints[0]: Invalid value"}},
		"too many": {func(d *resourcev1.DeviceClaim, _ *resourcev1.ExactDeviceRequest) {
			d.Constraints, d.Config = nil, nil
			d.Requests = nil
			for i := range 33 {
				d.Requests = append(d.Requests, resourcev1.DeviceRequest{Name: "r" + strings.Repeat("x", i), Exactly: &resourcev1.ExactDeviceRequest{DeviceClassName: "gpu", AllocationMode: "All"}})
			}
		}, []string{"spec.devices.requests: Too many: 33: must have at most 32 items"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := testClaim()
			tt.change(&c.Spec.Devices, c.Spec.Devices.Requests[0].Exactly)
			expect(t, ResourceClaim().Validate(c), tt.want...)
		})
	}
	old, now := testClaim(), testClaim()
	old.ResourceVersion, now.ResourceVersion = "1", "1"
	now.Spec.Devices.Requests[0].Exactly.Count = 2
	expect(t, ResourceClaim().ValidateUpdate(now, old), "spec: Invalid value")
}

func given(c *resourcev1.ResourceClaim) *resourcev1.ResourceClaim {
	c.ResourceVersion = "1"
	c.Status.Allocation = &resourcev1.AllocationResult{Devices: resourcev1.DeviceAllocationResult{Results: []resourcev1.DeviceRequestAllocationResult{
		{Request: "r", Driver: "gpu.x.io", Pool: "n/gpus", Device: "gpu-0"}, {Request: "q/small", Driver: "gpu.x.io", Pool: "n/gpus", Device: "gpu-1"}}}}
	return c
}

func TestValidateClaimStatus(t *testing.T) {
	t.Parallel()
	user := func(name string) resourcev1.ResourceClaimConsumerReference {
		return resourcev1.ResourceClaimConsumerReference{Resource: "pods", Name: name, UID: types.UID(name)}
	}
	status := func(device string) resourcev1.AllocatedDeviceStatus {
		return resourcev1.AllocatedDeviceStatus{Driver: "gpu.x.io", Pool: "n/gpus", Device: device}
	}
	pending, going := testClaim(), given(testClaim())
	pending.ResourceVersion = "1"
	going.DeletionTimestamp = &metav1.Time{}
	for name, tt := range map[string]struct {
		old    *resourcev1.ResourceClaim
		change func(c *resourcev1.ResourceClaim)
		want   []string
	}{
		"given": {pending, func(c *resourcev1.ResourceClaim) { given(c) }, nil},
		"given and used": {pending, func(c *resourcev1.ResourceClaim) {
			given(c).Status.ReservedFor = append(c.Status.ReservedFor, user("p"))
		}, nil},
		"taken back":       {given(testClaim()), func(c *resourcev1.ResourceClaim) { c.Status.Allocation = nil }, nil},
		"exchanged":        {given(testClaim()), func(c *resourcev1.ResourceClaim) { c.Status.Allocation.Devices.Results[0].Device = "gpu-7" }, []string{"status.allocation: Invalid value"}},
		"of another claim": {pending, func(c *resourcev1.ResourceClaim) { given(c).Status.Allocation.Devices.Results[0].Request = "z" }, []string{`status.allocation.devices.results[0].request: Invalid value: "z"`}},
		"of several terms": {pending, func(c *resourcev1.ResourceClaim) {
			given(c).Status.Allocation.NodeSelector = &corev1.NodeSelector{NodeSelectorTerms: make([]corev1.NodeSelectorTerm, 2)}
		}, []string{"status.allocation.nodeSelector.nodeSelectorTerms: Invalid value"}},
		"used, not given": {pending, func(c *resourcev1.ResourceClaim) { c.Status.ReservedFor = append(c.Status.ReservedFor, user("p")) }, []string{"status.reservedFor: Forbidden: may not be specified when `allocated` is not set"}},
		"used twice by one": {given(testClaim()), func(c *resourcev1.ResourceClaim) {
			c.Status.ReservedFor = append(c.Status.ReservedFor, user("p"), user("p"))
		}, []string{`status.reservedFor[1].uid: Duplicate value: "p"`}},
		"used while it goes": {going, func(c *resourcev1.ResourceClaim) {
			c.Status.ReservedFor = append(c.Status.ReservedFor, user("p"))
		}, []string{"status.reservedFor: Forbidden: new entries may not be added while `deletionTimestamp` is set"}},
		"told of a device": {given(testClaim()), func(c *resourcev1.ResourceClaim) { c.Status.Devices = append(c.Status.Devices, status("gpu-1")) }, nil},
		"told of no such":  {given(testClaim()), func(c *resourcev1.ResourceClaim) { c.Status.Devices = append(c.Status.Devices, status("gpu-9")) }, []string{`status.devices[0]: Invalid value: "gpu.x.io/n/gpus/gpu-9": must be an allocated device in the claim`}},
		"told twice": {given(testClaim()), func(c *resourcev1.ResourceClaim) {
			c.Status.Devices = append(c.Status.Devices, status("gpu-1"), status("gpu-1"))
		}, []string{"status.devices[1]: Duplicate value"}},
		"told bad addresses": {given(testClaim()), func(c *resourcev1.ResourceClaim) {
			s := status("gpu-1")
			s.NetworkData = &resourcev1.NetworkDeviceData{IPs: []string{"10.0.0.1"}}
			c.Status.Devices = append(c.Status.Devices, s)
		}, []string{`status.devices[0].networkData.ips[0]: Invalid value: "10.0.0.1"`}},
		"the spec stays as it was": {pending, func(c *resourcev1.ResourceClaim) { c.Spec.Devices.Requests = nil }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			now := tt.old.DeepCopy()
			tt.change(now)
			sub := ResourceClaim().Subresources[0]
			sub.PrepareUpdate(now, tt.old)
			if len(now.Spec.Devices.Requests) != 2 {
				t.Error("the spec was changed")
			}
			expect(t, sub.ValidateUpdate(now, tt.old), tt.want...)
		})
	}
}

// TestDeviceStatusGoesWithTheAllocation: nobody need clear what drivers said.
func TestDeviceStatusGoesWithTheAllocation(t *testing.T) {
	t.Parallel()
	old := given(testClaim())
	old.Status.Devices = []resourcev1.AllocatedDeviceStatus{{Driver: "gpu.x.io", Pool: "n/gpus", Device: "gpu-0"}}
	now := old.DeepCopy()
	now.Status.Allocation = nil
	ResourceClaim().Subresources[0].PrepareUpdate(now, old)
	if len(now.Status.Devices) != 0 {
		t.Errorf("left: %+v", now.Status.Devices)
	}
}

func testSlice() *resourcev1.ResourceSlice {
	q := quantity.MustParse
	s := &resourcev1.ResourceSlice{ObjectMeta: metav1.ObjectMeta{Name: "s"}}
	s.Spec = resourcev1.ResourceSliceSpec{Driver: "gpu.x.io", Pool: resourcev1.ResourcePool{Name: "n/gpus", ResourceSliceCount: 1}, NodeName: ptr.To("n"), Devices: []resourcev1.Device{{
		Name:                     "gpu-0",
		Attributes:               map[resourcev1.QualifiedName]resourcev1.DeviceAttribute{"model": {StringValue: ptr.To("m")}, "x.io/driver": {VersionValue: ptr.To("1.2.3")}},
		AllowMultipleAllocations: ptr.To(true),
		Capacity: map[resourcev1.QualifiedName]resourcev1.DeviceCapacity{"memory": {Value: q("10"), RequestPolicy: &resourcev1.CapacityRequestPolicy{
			Default: ptr.To(q("2")), ValidRange: &resourcev1.CapacityRequestPolicyRange{Min: ptr.To(q("2")), Max: ptr.To(q("8")), Step: ptr.To(q("3"))}}}},
		Taints: []resourcev1.DeviceTaint{{Key: "x.io/broken", Effect: resourcev1.DeviceTaintEffectNoExecute}},
	}}}
	return s
}

func TestValidateSlice(t *testing.T) {
	t.Parallel()
	q := quantity.MustParse
	for name, tt := range map[string]struct {
		change func(s *resourcev1.ResourceSliceSpec, d *resourcev1.Device)
		want   []string
	}{
		"good":           {func(*resourcev1.ResourceSliceSpec, *resourcev1.Device) {}, nil},
		"no driver":      {func(s *resourcev1.ResourceSliceSpec, _ *resourcev1.Device) { s.Driver = "" }, []string{"spec.driver: Required value"}},
		"bad pool":       {func(s *resourcev1.ResourceSliceSpec, _ *resourcev1.Device) { s.Pool.Name = "n//gpus" }, []string{`spec.pool.name: Invalid value: ""`}},
		"no slices":      {func(s *resourcev1.ResourceSliceSpec, _ *resourcev1.Device) { s.Pool.ResourceSliceCount = 0 }, []string{"spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero"}},
		"nowhere":        {func(s *resourcev1.ResourceSliceSpec, _ *resourcev1.Device) { s.NodeName = nil }, []string{"spec: Required value: exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"}},
		"here and there": {func(s *resourcev1.ResourceSliceSpec, _ *resourcev1.Device) { s.AllNodes = ptr.To(true) }, []string{"spec: Invalid value: \"{`allNodes`, `nodeName`}\""}},
		"not everywhere": {func(s *resourcev1.ResourceSliceSpec, _ *resourcev1.Device) {
			s.NodeName, s.AllNodes = nil, ptr.To(false)
		}, []string{"spec.allNodes: Invalid value: false: must be either unset or set to true"}},
		"device elsewhere": {func(_ *resourcev1.ResourceSliceSpec, d *resourcev1.Device) { d.NodeName = ptr.To("m") },
			[]string{"spec.devices[0]: Invalid value: null: `nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true"}},
		"device nowhere": {func(s *resourcev1.ResourceSliceSpec, _ *resourcev1.Device) {
			s.NodeName, s.PerDeviceNodeSelection = nil, ptr.To(true)
		},
			[]string{"spec.devices[0]: Required value: exactly one of `nodeName`, `nodeSelector`, `allNodes` is required"}},
		"one name twice": {func(s *resourcev1.ResourceSliceSpec, d *resourcev1.Device) { s.Devices = append(s.Devices, *d) }, []string{`spec.devices[1].name: Duplicate value: "gpu-0"`}},
		"no value": {func(_ *resourcev1.ResourceSliceSpec, d *resourcev1.Device) {
			d.Attributes["model"] = resourcev1.DeviceAttribute{}
		}, []string{"spec.devices[0].attributes[model]: Required value: exactly one value must be specified"}},
		"two values": {func(_ *resourcev1.ResourceSliceSpec, d *resourcev1.Device) {
			d.Attributes["model"] = resourcev1.DeviceAttribute{IntValue: ptr.To(int64(1)), BoolValue: ptr.To(true)}
		}, []string{"spec.devices[0].attributes[model]: Invalid value"}},
		"half a version": {func(_ *resourcev1.ResourceSliceSpec, d *resourcev1.Device) {
			d.Attributes["model"] = resourcev1.DeviceAttribute{VersionValue: ptr.To("1.2")}
		},
			[]string{`spec.devices[0].attributes[model].version: Invalid value: "1.2": must be a string compatible with semver.org spec 2.0.0`}},
		"bad attribute": {func(_ *resourcev1.ResourceSliceSpec, d *resourcev1.Device) {
			d.Attributes["a-b"] = d.Attributes["model"]
		}, []string{`spec.devices[0].attributes[a-b]: Invalid value: "a-b"`}},
		"policy of one that is not shared": {func(_ *resourcev1.ResourceSliceSpec, d *resourcev1.Device) { d.AllowMultipleAllocations = nil },
			[]string{"spec.devices[0].capacity[memory].requestPolicy: Forbidden: allowMultipleAllocations must be true"}},
		"default off the steps": {func(_ *resourcev1.ResourceSliceSpec, d *resourcev1.Device) {
			d.Capacity["memory"].RequestPolicy.Default = ptr.To(q("3"))
		},
			[]string{"spec.devices[0].capacity[memory].requestPolicy.default: Invalid value"}},
		"taint without a word": {func(_ *resourcev1.ResourceSliceSpec, d *resourcev1.Device) { d.Taints[0].Effect = "" }, []string{"spec.devices[0].taints[0].effect: Required value"}},
		"devices and counters": {func(s *resourcev1.ResourceSliceSpec, _ *resourcev1.Device) {
			s.SharedCounters = []resourcev1.CounterSet{{Name: "c", Counters: map[string]resourcev1.Counter{"x": {Value: q("1")}}}}
		}, []string{"spec: Invalid value: \"{`devices`, `sharedCounters`}\""}},
		"counters of nothing": {func(_ *resourcev1.ResourceSliceSpec, d *resourcev1.Device) {
			d.ConsumesCounters = []resourcev1.DeviceCounterConsumption{{CounterSet: "c"}}
		},
			[]string{"spec.devices[0].consumesCounters[0].counters: Required value"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testSlice()
			tt.change(&s.Spec, &s.Spec.Devices[0])
			expect(t, ResourceSlice().Validate(s), tt.want...)
		})
	}
	old, now := testSlice(), testSlice()
	old.ResourceVersion, now.ResourceVersion = "1", "1"
	now.Spec.NodeName, now.Spec.Driver, now.Spec.Pool.Name = ptr.To("m"), "nic.x.io", "other"
	expect(t, ResourceSlice().ValidateUpdate(now, old), "spec.driver: Invalid value", "spec.pool.name: Invalid value", "spec.nodeName: Invalid value")
}

func TestSliceGeneration(t *testing.T) {
	t.Parallel()
	k, old := ResourceSlice(), testSlice()
	old.Generation = 3
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	k.Stamp(old, start)
	same := testSlice()
	k.PrepareUpdate(same, old)
	k.Stamp(same, start.Add(time.Hour))
	if same.Generation != 3 || !same.Spec.Devices[0].Taints[0].TimeAdded.Time.Equal(start) {
		t.Errorf("a driver that repeats itself: generation %d, taint of %v", same.Generation, same.Spec.Devices[0].Taints[0].TimeAdded)
	}
	worse := testSlice()
	worse.Spec.Devices[0].Taints = append(worse.Spec.Devices[0].Taints, resourcev1.DeviceTaint{Key: "x.io/hot", Effect: resourcev1.DeviceTaintEffectNoSchedule})
	k.PrepareUpdate(worse, old)
	k.Stamp(worse, start.Add(time.Hour))
	if taints := worse.Spec.Devices[0].Taints; worse.Generation != 4 || !taints[0].TimeAdded.Time.Equal(start) || !taints[1].TimeAdded.Time.Equal(start.Add(time.Hour)) {
		t.Errorf("another taint: generation %d, %+v", worse.Generation, taints)
	}
}

func TestTaintRuleTime(t *testing.T) {
	t.Parallel()
	k := DeviceTaintRule()
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	rule := func(effect resourcev1.DeviceTaintEffect, at *metav1.Time) *resourcev1.DeviceTaintRule {
		return &resourcev1.DeviceTaintRule{Spec: resourcev1.DeviceTaintRuleSpec{Taint: resourcev1.DeviceTaint{Key: "k", Effect: effect, TimeAdded: at}}}
	}
	old := rule(resourcev1.DeviceTaintEffectNone, nil)
	k.Stamp(old, start)
	was, later, asked := old.Spec.Taint.TimeAdded, start.Add(time.Hour), metav1.NewTime(start.Add(time.Minute))
	for name, tt := range map[string]struct {
		now  *resourcev1.DeviceTaintRule
		want time.Time
	}{
		"applied again":            {rule(resourcev1.DeviceTaintEffectNone, nil), start},
		"sent back":                {rule(resourcev1.DeviceTaintEffectNone, was), start},
		"another effect":           {rule(resourcev1.DeviceTaintEffectNoExecute, nil), later},
		"another effect, as read":  {rule(resourcev1.DeviceTaintEffectNoExecute, was), later},
		"another effect, as asked": {rule(resourcev1.DeviceTaintEffectNoExecute, &asked), asked.Time},
	} {
		k.PrepareUpdate(tt.now, old)
		k.Stamp(tt.now, later)
		if !tt.now.Spec.Taint.TimeAdded.Time.Equal(tt.want) {
			t.Errorf("%s: %v, want %v", name, tt.now.Spec.Taint.TimeAdded, tt.want)
		}
	}
}

func TestClassAndTemplate(t *testing.T) {
	t.Parallel()
	class := &resourcev1.DeviceClass{ObjectMeta: metav1.ObjectMeta{Name: "gpu"}, Spec: resourcev1.DeviceClassSpec{
		Selectors: []resourcev1.DeviceSelector{{CEL: &resourcev1.CELDeviceSelector{Expression: "nonsense("}}}, ExtendedResourceName: ptr.To("cpu")}}
	expect(t, DeviceClass().Validate(class), `spec.selectors[0].cel.expression: Invalid value: "nonsense(": compilation failed`, `spec.extendedResourceName: Invalid value: "cpu"`)
	class.ResourceVersion, class.Spec.ExtendedResourceName = "1", nil
	expect(t, DeviceClass().ValidateUpdate(class.DeepCopy(), class)) // what was accepted once stays so

	template := &resourcev1.ResourceClaimTemplate{ObjectMeta: metav1.ObjectMeta{Name: "t", Namespace: "ns"}, Spec: resourcev1.ResourceClaimTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Name: "x", Labels: map[string]string{"-": ""}}, Spec: testClaim().Spec}}
	expect(t, ResourceClaimTemplate().Validate(template), `spec.metadata.labels: Invalid value: "-"`, "spec.metadata.name: Forbidden: cannot be set in this position")
	old := template.DeepCopy()
	old.ResourceVersion, template.ResourceVersion = "1", "1"
	template.Spec.Spec.Devices.Requests = nil
	expect(t, ResourceClaimTemplate().ValidateUpdate(template, old), "spec: Invalid value")
}

func TestClaimColumns(t *testing.T) {
	t.Parallel()
	going := given(testClaim())
	going.DeletionTimestamp = &metav1.Time{}
	going.Status.ReservedFor = make([]resourcev1.ResourceClaimConsumerReference, 1)
	for want, c := range map[string]*resourcev1.ResourceClaim{"pending": testClaim(), "allocated": given(testClaim()), "deleted,allocated,reserved": going} {
		if got := ResourceClaim().Cells(c, time.Time{})[1]; got != want {
			t.Errorf("got %v, want %s", got, want)
		}
	}
}
