package devices

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

const driver = "gpu.x.io"

// testSlice is the only slice of a pool named as itself, with devices of node "n" unless changed.
func testSlice(name string, list ...resourcev1.Device) *resourcev1.ResourceSlice {
	return &resourcev1.ResourceSlice{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: resourcev1.ResourceSliceSpec{
		Driver: driver, Pool: resourcev1.ResourcePool{Name: name, ResourceSliceCount: 1}, NodeName: ptr.To("n"), Devices: list,
	}}
}

func withSlice(s *resourcev1.ResourceSlice, change func(*resourcev1.ResourceSliceSpec)) *resourcev1.ResourceSlice {
	change(&s.Spec)
	return s
}

func testDevice(name string, changes ...func(*resourcev1.Device)) resourcev1.Device {
	d := resourcev1.Device{Name: name}
	for _, change := range changes {
		change(&d)
	}
	return d
}

func attribute(name, value string) func(*resourcev1.Device) {
	return func(d *resourcev1.Device) {
		if d.Attributes == nil {
			d.Attributes = map[resourcev1.QualifiedName]resourcev1.DeviceAttribute{}
		}
		d.Attributes[resourcev1.QualifiedName(name)] = resourcev1.DeviceAttribute{StringValue: &value}
	}
}

func memory(amount string) func(*resourcev1.Device) {
	return func(d *resourcev1.Device) {
		d.Capacity = map[resourcev1.QualifiedName]resourcev1.DeviceCapacity{"memory": {Value: resource.MustParse(amount)}}
	}
}

func shared(d *resourcev1.Device) { d.AllowMultipleAllocations = ptr.To(true) }

func tainted(effect resourcev1.DeviceTaintEffect) func(*resourcev1.Device) {
	return func(d *resourcev1.Device) {
		d.Taints = []resourcev1.DeviceTaint{{Key: "k", Value: "v", Effect: effect}}
	}
}

func counts(set, counter, amount string) func(*resourcev1.Device) {
	return func(d *resourcev1.Device) {
		d.ConsumesCounters = append(d.ConsumesCounters, resourcev1.DeviceCounterConsumption{CounterSet: set, Counters: map[string]resourcev1.Counter{counter: {Value: resource.MustParse(amount)}}})
	}
}

// exactly is a request for one device of class "c".
func exactly(name string, changes ...func(*resourcev1.ExactDeviceRequest)) resourcev1.DeviceRequest {
	e := &resourcev1.ExactDeviceRequest{DeviceClassName: "c", AllocationMode: resourcev1.DeviceAllocationModeExactCount, Count: 1}
	for _, change := range changes {
		change(e)
	}
	return resourcev1.DeviceRequest{Name: name, Exactly: e}
}

func count(n int64) func(*resourcev1.ExactDeviceRequest) {
	return func(e *resourcev1.ExactDeviceRequest) { e.Count = n }
}

func all(e *resourcev1.ExactDeviceRequest) {
	e.AllocationMode, e.Count = resourcev1.DeviceAllocationModeAll, 0
}

func admin(e *resourcev1.ExactDeviceRequest) { e.AdminAccess = ptr.To(true) }

func where(expression string) func(*resourcev1.ExactDeviceRequest) {
	return func(e *resourcev1.ExactDeviceRequest) {
		e.Selectors = append(e.Selectors, resourcev1.DeviceSelector{CEL: &resourcev1.CELDeviceSelector{Expression: expression}})
	}
}

func tolerating(t resourcev1.DeviceToleration) func(*resourcev1.ExactDeviceRequest) {
	return func(e *resourcev1.ExactDeviceRequest) { e.Tolerations = append(e.Tolerations, t) }
}

func atLeast(amount string) func(*resourcev1.ExactDeviceRequest) {
	return func(e *resourcev1.ExactDeviceRequest) {
		e.Capacity = &resourcev1.CapacityRequirements{Requests: map[resourcev1.QualifiedName]resource.Quantity{"memory": resource.MustParse(amount)}}
	}
}

// first is a request that takes the first of several that can be had; they are named s0, s1 and so on.
func first(name string, of ...resourcev1.DeviceRequest) resourcev1.DeviceRequest {
	out := resourcev1.DeviceRequest{Name: name}
	for i := range of {
		e := of[i].Exactly
		out.FirstAvailable = append(out.FirstAvailable, resourcev1.DeviceSubRequest{Name: fmt.Sprintf("s%d", i), DeviceClassName: e.DeviceClassName,
			Selectors: e.Selectors, AllocationMode: e.AllocationMode, Count: e.Count, Tolerations: e.Tolerations, Capacity: e.Capacity})
	}
	return out
}

func testClaim(requests ...resourcev1.DeviceRequest) *resourcev1.ResourceClaim {
	return &resourcev1.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "x"}, Spec: resourcev1.ResourceClaimSpec{Devices: resourcev1.DeviceClaim{Requests: requests}}}
}

func constrained(c *resourcev1.ResourceClaim, constraints ...resourcev1.DeviceConstraint) *resourcev1.ResourceClaim {
	c.Spec.Devices.Constraints = append(c.Spec.Devices.Constraints, constraints...)
	return c
}

func same(attribute string, requests ...string) resourcev1.DeviceConstraint {
	return resourcev1.DeviceConstraint{Requests: requests, MatchAttribute: ptr.To(resourcev1.FullyQualifiedName(attribute))}
}

func distinct(attribute string, requests ...string) resourcev1.DeviceConstraint {
	return resourcev1.DeviceConstraint{Requests: requests, DistinctAttribute: ptr.To(resourcev1.FullyQualifiedName(attribute))}
}

// holding is a claim that has devices, each "pool/device" or "pool/device=memory".
func holding(list ...string) *resourcev1.ResourceClaim {
	c := testClaim()
	c.Status.Allocation = &resourcev1.AllocationResult{}
	for _, text := range list {
		name, amount, isShare := strings.Cut(text, "=")
		pool, device, _ := strings.Cut(name, "/")
		r := resourcev1.DeviceRequestAllocationResult{Driver: driver, Pool: pool, Device: device}
		if isShare {
			r.ConsumedCapacity = map[resourcev1.QualifiedName]resource.Quantity{"memory": resource.MustParse(amount)}
		}
		c.Status.Allocation.Devices.Results = append(c.Status.Allocation.Devices.Results, r)
	}
	return c
}

func testNode(labels map[string]string) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", Labels: labels}}
}

// told is an allocation in one line: claims separated by semicolons, "request=pool/device" within, with what is consumed.
func told(results []*resourcev1.AllocationResult, err error) string {
	if err != nil {
		return "error: " + err.Error()
	}
	if results == nil {
		return "none"
	}
	var claims []string
	for _, a := range results {
		var list []string
		for _, r := range a.Devices.Results {
			text := fmt.Sprintf("%s=%s/%s", r.Request, r.Pool, r.Device)
			if q, ok := r.ConsumedCapacity["memory"]; ok {
				text += ":" + q.String()
			}
			if ptr.Deref(r.AdminAccess, false) {
				text += " as admin"
			}
			list = append(list, text)
		}
		claims = append(claims, strings.Join(list, " "))
	}
	return strings.Join(claims, "; ")
}

// situation is what there is, what is held, and what is asked for on node "n".
type situation struct {
	slices  []*resourcev1.ResourceSlice
	classes map[string]*resourcev1.DeviceClass
	rules   []*resourcev1.DeviceTaintRule
	held    []*resourcev1.ResourceClaim
	claims  []*resourcev1.ResourceClaim
	node    map[string]string
	budget  int
}

func (s *situation) allocate() ([]*resourcev1.AllocationResult, error) {
	if s.classes == nil {
		s.classes = map[string]*resourcev1.DeviceClass{"c": {}}
	}
	if s.budget == 0 {
		s.budget = 1_000_000
	}
	held := NewHeld()
	for _, c := range s.held {
		held.Take(c)
	}
	v := NewInventory()
	for _, o := range s.slices {
		v.SetSlice(o)
	}
	for name, o := range s.classes {
		o.Name = name
		v.SetClass(o)
	}
	for _, o := range s.rules {
		v.SetRule(o)
	}
	return v.Allocate(testNode(s.node), s.claims, held, s.budget)
}

type allocation struct {
	name string
	situation
	want string
}

func checkAll(t *testing.T, tests []allocation) {
	t.Helper()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := told(tt.allocate()); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func claims(list ...*resourcev1.ResourceClaim) []*resourcev1.ResourceClaim    { return list }
func published(list ...*resourcev1.ResourceSlice) []*resourcev1.ResourceSlice { return list }

func TestCounts(t *testing.T) {
	t.Parallel()
	two := published(testSlice("p", testDevice("a"), testDevice("b")))
	checkAll(t, []allocation{
		{"one", situation{slices: two, claims: claims(testClaim(exactly("r")))}, "r=p/a"},
		{"two of one request", situation{slices: two, claims: claims(testClaim(exactly("r", count(2))))}, "r=p/a r=p/b"},
		{"two requests", situation{slices: two, claims: claims(testClaim(exactly("r"), exactly("q")))}, "r=p/a q=p/b"},
		{"two claims", situation{slices: two, claims: claims(testClaim(exactly("r")), testClaim(exactly("q")))}, "r=p/a; q=p/b"},
		{"too many", situation{slices: two, claims: claims(testClaim(exactly("r", count(3))))}, "none"},
		{"too many together", situation{slices: two, claims: claims(testClaim(exactly("r", count(2))), testClaim(exactly("q")))}, "none"},
		{"the one that is left", situation{slices: two, held: claims(holding("p/a")), claims: claims(testClaim(exactly("r")))}, "r=p/b"},
		{"nothing left", situation{slices: two, held: claims(holding("p/a", "p/b")), claims: claims(testClaim(exactly("r")))}, "none"},
		{"all", situation{slices: two, claims: claims(testClaim(exactly("r", all)))}, "r=p/a r=p/b"},
		{"all but one is held", situation{slices: two, held: claims(holding("p/a")), claims: claims(testClaim(exactly("r", all)))}, "none"},
		{"all of none", situation{slices: published(testSlice("p")), claims: claims(testClaim(exactly("r", all)))}, "none"},
		{"all of a kind", situation{slices: two, held: claims(holding("p/a")), claims: claims(testClaim(exactly("r", all, where(`device.driver == "gpu.x.io" && false`)), exactly("q")))}, "none"},
		{"admin looks at what others hold", situation{slices: two, held: claims(holding("p/a", "p/b")), claims: claims(testClaim(exactly("r", all, admin)))}, "r=p/a as admin r=p/b as admin"},
		{"admin takes nothing", situation{slices: two, claims: claims(testClaim(exactly("r", all, admin)), testClaim(exactly("q", count(2))))}, "r=p/a as admin r=p/b as admin; q=p/a q=p/b"},
		{"admin looks at what is about to be held", situation{slices: two, claims: claims(testClaim(exactly("q")), testClaim(exactly("r", admin)))}, "q=p/a; r=p/a as admin"},
		{"a claim names a device once", situation{slices: two, claims: claims(testClaim(exactly("r", admin), exactly("q", all, admin)))}, "none"},
		{"more than a claim can name", situation{slices: two, claims: claims(testClaim(exactly("r", count(20)), exactly("q", count(20))))}, "error: claim ns/x, request q: the number of devices exceeds the claim limit of 32"},
		{"more than a claim can name in one of several", situation{slices: two, claims: claims(testClaim(first("r", exactly("", count(500)), exactly(""))))}, "r/s1=p/a"},
		{"no requests", situation{slices: two, claims: claims(testClaim())}, ""},
		{"budget", situation{slices: two, budget: 1, claims: claims(testClaim(exactly("r", count(2))))}, "error: " + ErrBudget.Error()},
	})
}

// TestBacktracking: what is taken first may have to be given up for what comes later.
func TestBacktracking(t *testing.T) {
	t.Parallel()
	kind := func(k string) func(*resourcev1.ExactDeviceRequest) {
		return where(`device.attributes["gpu.x.io"].kind == "` + k + `"`)
	}
	mixed := published(testSlice("p", testDevice("a", attribute("kind", "big")), testDevice("b", attribute("kind", "small"))))
	checkAll(t, []allocation{
		{"within a claim", situation{slices: mixed, claims: claims(testClaim(exactly("any"), exactly("big", kind("big"))))}, "any=p/b big=p/a"},
		{"between claims", situation{slices: mixed, claims: claims(testClaim(exactly("any")), testClaim(exactly("big", kind("big"))))}, "any=p/b; big=p/a"},
		{"first of several", situation{slices: mixed, claims: claims(testClaim(first("r", exactly("", kind("big")), exactly("", kind("small")))))}, "r/s0=p/a"},
		{"second of several", situation{slices: mixed, held: claims(holding("p/a")), claims: claims(testClaim(first("r", exactly("", kind("big")), exactly("", kind("small")))))}, "r/s1=p/b"},
		{"second for the sake of another", situation{slices: mixed, claims: claims(testClaim(first("r", exactly("", kind("big")), exactly("", kind("small"))), exactly("q", kind("big"))))}, "r/s1=p/b q=p/a"},
		{"none of several", situation{slices: mixed, claims: claims(testClaim(first("r", exactly("", count(3)), exactly("", kind("none")))))}, "none"},
		{"fewer rather than none", situation{slices: mixed, claims: claims(testClaim(first("r", exactly("", count(3)), exactly("", all))))}, "r/s1=p/a r/s1=p/b"},
	})
}

func TestSelectors(t *testing.T) {
	t.Parallel()
	class := func(expression string) map[string]*resourcev1.DeviceClass {
		return map[string]*resourcev1.DeviceClass{"c": {Spec: resourcev1.DeviceClassSpec{Selectors: []resourcev1.DeviceSelector{{CEL: &resourcev1.CELDeviceSelector{Expression: expression}}}}}}
	}
	list := published(testSlice("p", testDevice("a", memory("1Gi")), testDevice("b", memory("4Gi"), attribute("other.io/model", "m"))))
	checkAll(t, []allocation{
		{"by capacity", situation{slices: list, claims: claims(testClaim(exactly("r", where(`device.capacity["gpu.x.io"].memory.compareTo(quantity("2Gi")) >= 0`))))}, "r=p/b"},
		{"by another's attribute", situation{slices: list, claims: claims(testClaim(exactly("r", where(`"model" in device.attributes["other.io"] && device.attributes["other.io"].model == "m"`))))}, "r=p/b"},
		{"all must agree", situation{slices: list, claims: claims(testClaim(exactly("r", where("true"), where("false"))))}, "none"},
		{"class says no", situation{slices: list, classes: class("false"), claims: claims(testClaim(exactly("r")))}, "none"},
		{"class and request", situation{slices: list, classes: class(`device.driver == "gpu.x.io"`), claims: claims(testClaim(exactly("r", count(2))))}, "r=p/a r=p/b"},
		{"other driver", situation{slices: list, classes: class(`device.driver == "nic.x.io"`), claims: claims(testClaim(exactly("r")))}, "none"},
		{"the class is gone", situation{slices: list, classes: map[string]*resourcev1.DeviceClass{}, claims: claims(testClaim(exactly("r")))}, "none"},
		{"asked for capacity", situation{slices: list, claims: claims(testClaim(exactly("r", atLeast("2Gi"))))}, "r=p/b"},
	})
	_, err := (&situation{slices: list, claims: claims(testClaim(exactly("r", where(`device.attributes["other.io"].model == "m"`))))}).allocate()
	if err == nil || !strings.HasPrefix(err.Error(), "claim ns/x: request r: device gpu.x.io/p/a: selector #0: CEL runtime error: no such key: model") {
		t.Errorf("an attribute that is not there: %v", err)
	}
}

func TestConstraints(t *testing.T) {
	t.Parallel()
	list := published(testSlice("p",
		testDevice("a", attribute("numa", "0")), testDevice("b", attribute("numa", "1")),
		testDevice("c", attribute("gpu.x.io/numa", "1")), testDevice("d")))
	const numa = driver + "/numa"
	checkAll(t, []allocation{
		{"the same", situation{slices: list, claims: claims(constrained(testClaim(exactly("r", count(2))), same(numa)))}, "r=p/b r=p/c"},
		{"different", situation{slices: list, claims: claims(constrained(testClaim(exactly("r", count(2))), distinct(numa)))}, "r=p/a r=p/b"},
		{"no three differ", situation{slices: list, claims: claims(constrained(testClaim(exactly("r", count(3))), distinct(numa)))}, "none"},
		{"across requests", situation{slices: list, claims: claims(constrained(testClaim(exactly("r"), exactly("q")), same(numa)))}, "r=p/b q=p/c"},
		{"of some requests", situation{slices: list, claims: claims(constrained(testClaim(exactly("r"), exactly("q"), exactly("s")), same(numa, "r", "s")))}, "r=p/b q=p/a s=p/c"},
		{"not across claims", situation{slices: list, claims: claims(constrained(testClaim(exactly("r")), same(numa)), testClaim(exactly("q")))}, "r=p/a; q=p/b"},
		{"both", situation{slices: list, claims: claims(constrained(testClaim(exactly("r", count(2))), same(numa), distinct(numa)))}, "none"},
		{"all of them", situation{slices: list, claims: claims(constrained(testClaim(exactly("r", all)), same(numa)))}, "none"},
		{"of a request with alternatives", situation{slices: list, claims: claims(constrained(testClaim(exactly("r"), first("q", exactly("", where(`!("numa" in device.attributes["gpu.x.io"])`)), exactly(""))), same(numa, "r", "q")))}, "r=p/b q/s1=p/c"},
		{"of one alternative", situation{slices: list, claims: claims(constrained(testClaim(exactly("r"), first("q", exactly("", count(3)), exactly(""))), same(numa, "r", "q/s0")))}, "r=p/a q/s1=p/b"},
		{"an attribute that is nowhere", situation{slices: list, claims: claims(constrained(testClaim(exactly("r")), same("x.io/none")))}, "none"},
	})
}

func TestTaints(t *testing.T) {
	t.Parallel()
	equal := resourcev1.DeviceToleration{Key: "k", Operator: resourcev1.DeviceTolerationOpEqual, Value: "v", Effect: resourcev1.DeviceTaintEffectNoSchedule}
	exists := resourcev1.DeviceToleration{Operator: resourcev1.DeviceTolerationOpExists}
	on := func(effect resourcev1.DeviceTaintEffect) []*resourcev1.ResourceSlice {
		return published(testSlice("p", testDevice("a", tainted(effect)), testDevice("b")))
	}
	rule := func(s *resourcev1.DeviceTaintSelector) []*resourcev1.DeviceTaintRule {
		return []*resourcev1.DeviceTaintRule{{Spec: resourcev1.DeviceTaintRuleSpec{DeviceSelector: s, Taint: resourcev1.DeviceTaint{Key: "k", Value: "v", Effect: resourcev1.DeviceTaintEffectNoSchedule}}}}
	}
	one := claims(testClaim(exactly("r")))
	checkAll(t, []allocation{
		{"kept away", situation{slices: on(resourcev1.DeviceTaintEffectNoSchedule), claims: one}, "r=p/b"},
		{"kept away, to be evicted", situation{slices: on(resourcev1.DeviceTaintEffectNoExecute), claims: one}, "r=p/b"},
		{"without effect", situation{slices: on(resourcev1.DeviceTaintEffectNone), claims: one}, "r=p/a"},
		{"tolerated", situation{slices: on(resourcev1.DeviceTaintEffectNoSchedule), claims: claims(testClaim(exactly("r", tolerating(equal))))}, "r=p/a"},
		{"tolerated whatever", situation{slices: on(resourcev1.DeviceTaintEffectNoExecute), claims: claims(testClaim(exactly("r", tolerating(exists))))}, "r=p/a"},
		{"another effect", situation{slices: on(resourcev1.DeviceTaintEffectNoExecute), claims: claims(testClaim(exactly("r", tolerating(equal))))}, "r=p/b"},
		{"all of them", situation{slices: on(resourcev1.DeviceTaintEffectNoSchedule), claims: claims(testClaim(exactly("r", all)))}, "none"},
		{"by a rule", situation{slices: on(""), rules: rule(&resourcev1.DeviceTaintSelector{Device: ptr.To("a")}), claims: one}, "r=p/b"},
		{"by a rule for a driver", situation{slices: on(""), rules: rule(&resourcev1.DeviceTaintSelector{Driver: ptr.To(driver)}), claims: one}, "none"},
		{"by a rule for another pool", situation{slices: on(""), rules: rule(&resourcev1.DeviceTaintSelector{Driver: ptr.To(driver), Pool: ptr.To("q")}), claims: one}, "r=p/a"},
		{"by a rule for nothing", situation{slices: on(""), rules: rule(nil), claims: one}, "r=p/a"},
		{"by a rule for everything", situation{slices: on(""), rules: rule(&resourcev1.DeviceTaintSelector{}), claims: one}, "none"},
	})
}

// TestNodes: devices are only for the nodes that can reach them, and the claim says which those are.
func TestNodes(t *testing.T) {
	t.Parallel()
	zone := func(z string) *corev1.NodeSelector {
		return &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "zone", Operator: corev1.NodeSelectorOpIn, Values: []string{z}}}}}}
	}
	elsewhere := func(s *resourcev1.ResourceSliceSpec) { s.NodeName = ptr.To("m") }
	network := func(s *resourcev1.ResourceSliceSpec) { s.NodeName, s.AllNodes = nil, ptr.To(true) }
	zonal := func(z string) func(*resourcev1.ResourceSliceSpec) {
		return func(s *resourcev1.ResourceSliceSpec) { s.NodeName, s.NodeSelector = nil, zone(z) }
	}
	each := func(s *resourcev1.ResourceSliceSpec) { s.NodeName, s.PerDeviceNodeSelection = nil, ptr.To(true) }
	onlyN := "metadata.name in [n]"
	for _, tt := range []struct {
		name   string
		slices []*resourcev1.ResourceSlice
		want   string
		nodes  string
	}{
		{"the node's", published(testSlice("p", testDevice("a"))), "r=p/a", onlyN},
		{"another node's", published(withSlice(testSlice("p", testDevice("a")), elsewhere)), "none", ""},
		{"everybody's", published(withSlice(testSlice("p", testDevice("a")), network)), "r=p/a", ""},
		{"the zone's", published(withSlice(testSlice("p", testDevice("a")), zonal("1"))), "r=p/a", "zone in [1]"},
		{"another zone's", published(withSlice(testSlice("p", testDevice("a")), zonal("2"))), "none", ""},
		{"each device its own", published(withSlice(testSlice("p",
			testDevice("a", func(d *resourcev1.Device) { d.NodeName = ptr.To("m") }),
			testDevice("b", func(d *resourcev1.Device) { d.NodeSelector = zone("2") }),
			testDevice("c", func(d *resourcev1.Device) { d.AllNodes = ptr.To(true) })), each)), "r=p/c", ""},
		{"bound to the node once used", published(withSlice(testSlice("p", testDevice("a", func(d *resourcev1.Device) { d.BindsToNode = ptr.To(true) })), network)), "r=p/a", onlyN},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := situation{slices: tt.slices, claims: claims(testClaim(exactly("r"))), node: map[string]string{"zone": "1"}}
			out, err := s.allocate()
			if got := told(out, err); got != tt.want {
				t.Fatalf("got %s, want %s", got, tt.want)
			}
			if out != nil && selectorText(out[0].NodeSelector) != tt.nodes {
				t.Errorf("usable on %q, want %q", selectorText(out[0].NodeSelector), tt.nodes)
			}
		})
	}
}

func selectorText(s *corev1.NodeSelector) string {
	if s == nil {
		return ""
	}
	var out []string
	for _, term := range s.NodeSelectorTerms {
		for _, r := range append(term.MatchExpressions, term.MatchFields...) {
			out = append(out, fmt.Sprintf("%s %s %v", r.Key, strings.ToLower(string(r.Operator)), r.Values))
		}
	}
	return strings.Join(out, " and ")
}

// TestPools: only the newest generation counts, and a pool counts when all of it has been seen.
func TestPools(t *testing.T) {
	t.Parallel()
	generation := func(g, slices int64) func(*resourcev1.ResourceSliceSpec) {
		return func(s *resourcev1.ResourceSliceSpec) {
			s.Pool = resourcev1.ResourcePool{Name: "p", Generation: g, ResourceSliceCount: slices}
		}
	}
	old := withSlice(testSlice("old", testDevice("a")), generation(1, 1))
	now := withSlice(testSlice("new", testDevice("b")), generation(2, 1))
	half := withSlice(testSlice("half", testDevice("b")), generation(2, 2))
	rest := withSlice(testSlice("rest", testDevice("c")), generation(2, 2))
	twice := withSlice(testSlice("twice", testDevice("b")), generation(2, 2))
	one, every := claims(testClaim(exactly("r"))), claims(testClaim(exactly("r", all)))
	checkAll(t, []allocation{
		{"newest", situation{slices: published(old, now), claims: every}, "r=p/b"},
		{"whichever is seen first", situation{slices: published(now, old), claims: every}, "r=p/b"},
		{"half", situation{slices: published(old, half), claims: one}, "none"},
		{"both halves", situation{slices: published(old, half, rest), claims: every}, "r=p/b r=p/c"},
		{"all, with half of a pool unseen", situation{slices: published(half, testSlice("q", testDevice("z"))), claims: every},
			"error: claim ns/x, request r: asks for all devices, but resource pool gpu.x.io/p is currently being updated"},
		{"one, with half of a pool unseen", situation{slices: published(half, testSlice("q", testDevice("z"))), claims: one}, "r=q/z"},
		{"two devices of one name", situation{slices: published(half, twice), claims: one}, "error: invalid resource pools were encountered: gpu.x.io/p: duplicate device name b"},
		{"two devices of one name, and another pool", situation{slices: published(half, twice, testSlice("q", testDevice("z"))), claims: one}, "r=q/z"},
		{"all, with two devices of one name", situation{slices: published(half, twice, testSlice("q", testDevice("z"))), claims: every},
			"error: claim ns/x, request r: asks for all devices, but resource pool gpu.x.io/p is invalid: duplicate device name b"},
	})
}

// TestSharing: a device that may be shared is given out by its capacity.
func TestSharing(t *testing.T) {
	t.Parallel()
	policy := func(p resourcev1.CapacityRequestPolicy) func(*resourcev1.Device) {
		return func(d *resourcev1.Device) {
			d.Capacity["memory"] = resourcev1.DeviceCapacity{Value: d.Capacity["memory"].Value, RequestPolicy: &p}
		}
	}
	q := func(s string) *resource.Quantity { return ptr.To(resource.MustParse(s)) }
	ten := func(more ...func(*resourcev1.Device)) []*resourcev1.ResourceSlice {
		return published(testSlice("p", testDevice("a", append([]func(*resourcev1.Device){shared, memory("10")}, more...)...)))
	}
	steps := policy(resourcev1.CapacityRequestPolicy{Default: q("2"), ValidRange: &resourcev1.CapacityRequestPolicyRange{Min: q("2"), Max: q("8"), Step: q("3")}})
	values := policy(resourcev1.CapacityRequestPolicy{Default: q("1"), ValidValues: []resource.Quantity{*q("1"), *q("4")}})
	ask := func(amount string) []*resourcev1.ResourceClaim {
		return claims(testClaim(exactly("r", atLeast(amount))))
	}
	checkAll(t, []allocation{
		{"without a word, all of it", situation{slices: ten(), claims: claims(testClaim(exactly("r")))}, "r=p/a:10"},
		{"what is asked for", situation{slices: ten(), claims: ask("3")}, "r=p/a:3"},
		{"beside others", situation{slices: ten(), held: claims(holding("p/a=4"), holding("p/a=3")), claims: ask("3")}, "r=p/a:3"},
		{"not beside more", situation{slices: ten(), held: claims(holding("p/a=4"), holding("p/a=4")), claims: ask("3")}, "none"},
		{"twice for one claim", situation{slices: ten(), claims: claims(testClaim(exactly("r", count(2), atLeast("5"))))}, "r=p/a:5 r=p/a:5"},
		{"not thrice", situation{slices: ten(), claims: claims(testClaim(exactly("r", count(3), atLeast("5"))))}, "none"},
		{"more than there is", situation{slices: ten(), claims: ask("11")}, "none"},
		{"the default", situation{slices: ten(steps), claims: claims(testClaim(exactly("r")))}, "r=p/a:2"},
		{"the least", situation{slices: ten(steps), claims: ask("1")}, "r=p/a:2"},
		{"up to a step", situation{slices: ten(steps), claims: ask("3")}, "r=p/a:5"},
		{"on a step", situation{slices: ten(steps), claims: ask("8")}, "r=p/a:8"},
		{"beyond the most", situation{slices: ten(steps), claims: ask("9")}, "none"},
		{"up to a value", situation{slices: ten(values), claims: ask("2")}, "r=p/a:4"},
		{"beyond all values", situation{slices: ten(values), claims: ask("5")}, "none"},
		{"all that are large enough", situation{slices: published(testSlice("p", testDevice("a", shared, memory("10")), testDevice("b", shared, memory("1")), testDevice("c", shared))),
			claims: claims(testClaim(exactly("r", all, atLeast("2"))))}, "r=p/a:2"},
		{"all, of which one is used up", situation{slices: published(testSlice("p", testDevice("a", shared, memory("10")), testDevice("b", shared, memory("10")))), held: claims(holding("p/a=9")),
			claims: claims(testClaim(exactly("r", all, atLeast("2"))))}, "none"},
		{"given whole before it was to be shared", situation{slices: ten(), held: claims(holding("p/a")), claims: ask("3")}, "none"},
		{"shared before it was to be given whole", situation{slices: published(testSlice("p", testDevice("a", memory("10")))), held: claims(holding("p/a=1")), claims: ask("3")}, "none"},
		{"distinct keeps one claim from sharing with itself", situation{slices: published(testSlice("p", testDevice("a", shared, memory("10"), attribute("id", "1")))),
			claims: claims(constrained(testClaim(exactly("r", count(2), atLeast("5"))), distinct(driver+"/id")))}, "none"},
	})
}

// TestCounters: devices may be cut from the same whole.
func TestCounters(t *testing.T) {
	t.Parallel()
	sets := withSlice(testSlice("sets"), func(s *resourcev1.ResourceSliceSpec) {
		s.Pool = resourcev1.ResourcePool{Name: "p", ResourceSliceCount: 2}
		s.SharedCounters = []resourcev1.CounterSet{{Name: "card", Counters: map[string]resourcev1.Counter{"slots": {Value: resource.MustParse("4")}}}}
	})
	cut := withSlice(testSlice("cut", testDevice("whole", counts("card", "slots", "4")), testDevice("half-0", counts("card", "slots", "2")), testDevice("half-1", counts("card", "slots", "2"))),
		func(s *resourcev1.ResourceSliceSpec) {
			s.Pool = resourcev1.ResourcePool{Name: "p", ResourceSliceCount: 2}
		})
	strange := testSlice("q", testDevice("z", counts("nowhere", "slots", "1")))
	checkAll(t, []allocation{
		{"the whole", situation{slices: published(sets, cut), claims: claims(testClaim(exactly("r")))}, "r=p/whole"},
		{"its halves", situation{slices: published(sets, cut), claims: claims(testClaim(exactly("r", count(2))))}, "r=p/half-0 r=p/half-1"},
		{"not more", situation{slices: published(sets, cut), claims: claims(testClaim(exactly("r", count(3))))}, "none"},
		{"the other half", situation{slices: published(sets, cut), held: claims(holding("p/half-0")), claims: claims(testClaim(exactly("r")))}, "r=p/half-1"},
		{"nothing beside the whole", situation{slices: published(sets, cut), held: claims(holding("p/whole")), claims: claims(testClaim(exactly("r")))}, "none"},
		{"counters of nothing", situation{slices: published(strange), claims: claims(testClaim(exactly("r")))},
			"error: invalid resource pools were encountered: gpu.x.io/q: device z consumes of the unknown counter set nowhere"},
		{"counters of nothing, and others", situation{slices: published(strange, sets, cut), claims: claims(testClaim(exactly("r")))}, "r=p/whole"},
	})
}

// TestBindingConditions: devices that bind at once are preferred, and what others need to be bound is told.
func TestBindingConditions(t *testing.T) {
	t.Parallel()
	slow := func(d *resourcev1.Device) {
		d.BindingConditions, d.BindingFailureConditions = []string{"Ready"}, []string{"Broken"}
	}
	s := situation{slices: published(testSlice("p", testDevice("a", slow), testDevice("b"))), claims: claims(testClaim(exactly("r", count(2))))}
	out, err := s.allocate()
	if got := told(out, err); got != "r=p/b r=p/a" {
		t.Fatalf("got %s", got)
	}
	if r := out[0].Devices.Results; r[0].BindingConditions != nil || r[1].BindingConditions[0] != "Ready" || r[1].BindingFailureConditions[0] != "Broken" {
		t.Errorf("got %+v", r)
	}
}

// TestConfig: parameters of the class come first, and only those that concern devices that were given.
func TestConfig(t *testing.T) {
	t.Parallel()
	opaque := func(name string) resourcev1.DeviceConfiguration {
		return resourcev1.DeviceConfiguration{Opaque: &resourcev1.OpaqueDeviceConfiguration{Driver: name}}
	}
	c := testClaim(first("r", exactly("", count(5)), exactly("")), exactly("q"))
	c.Spec.Devices.Config = []resourcev1.DeviceClaimConfiguration{
		{Requests: []string{"r/s0"}, DeviceConfiguration: opaque("refused")},
		{Requests: []string{"r"}, DeviceConfiguration: opaque("either")},
		{DeviceConfiguration: opaque("all")},
		{Requests: []string{"r/s1", "q"}, DeviceConfiguration: opaque("each")},
	}
	s := situation{slices: published(testSlice("p", testDevice("a"), testDevice("b"))), claims: claims(c), classes: map[string]*resourcev1.DeviceClass{
		"c": {Spec: resourcev1.DeviceClassSpec{Config: []resourcev1.DeviceClassConfiguration{{DeviceConfiguration: opaque("class")}}}},
	}}
	out, err := s.allocate()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range out[0].Devices.Config {
		got = append(got, fmt.Sprintf("%s %s %v", c.Source, c.Opaque.Driver, c.Requests))
	}
	if want := "FromClass class [], FromClaim either [r], FromClaim all [], FromClaim each []"; strings.Join(got, ", ") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(got, ", "), want)
	}
}

// TestInventoryIsKeptUp: after any history an inventory gives out what a new one does.
func TestInventoryIsKeptUp(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	v, slices, rules := NewInventory(), map[string]*resourcev1.ResourceSlice{}, map[string]*resourcev1.DeviceTaintRule{}
	v.SetClass(&resourcev1.DeviceClass{ObjectMeta: metav1.ObjectMeta{Name: "c"}})
	found := 0
	for step := range 3000 {
		name := fmt.Sprintf("s%d", r.IntN(5))
		switch r.IntN(8) {
		case 0:
			delete(slices, name)
			v.DropSlice(name)
		case 1:
			rule := &resourcev1.DeviceTaintRule{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: resourcev1.DeviceTaintRuleSpec{
				DeviceSelector: &resourcev1.DeviceTaintSelector{Device: ptr.To(fmt.Sprintf("d%d", r.IntN(3)))}, Taint: resourcev1.DeviceTaint{Key: "k", Effect: resourcev1.DeviceTaintEffectNoSchedule}}}
			rules[name] = rule
			v.SetRule(rule)
		case 2:
			delete(rules, name)
			v.DropRule(name)
		default:
			s := withSlice(testSlice(name, testDevice(fmt.Sprintf("d%d", r.IntN(3)))), func(s *resourcev1.ResourceSliceSpec) {
				s.Pool = resourcev1.ResourcePool{Name: fmt.Sprintf("p%d", r.IntN(2)), Generation: int64(r.IntN(2)), ResourceSliceCount: 1 + int64(r.IntN(2))}
				switch r.IntN(3) {
				case 0:
					s.NodeName = ptr.To("other")
				case 1:
					s.NodeName, s.AllNodes = nil, ptr.To(true)
				}
			})
			slices[name] = s
			v.SetSlice(s)
		}
		fresh := NewInventory()
		fresh.SetClass(v.classes["c"])
		for _, s := range slices {
			fresh.SetSlice(s)
		}
		for _, rule := range rules {
			fresh.SetRule(rule)
		}
		list := claims(testClaim(exactly("r")))
		got, want := told(v.Allocate(testNode(nil), list, NewHeld(), 1000)), told(fresh.Allocate(testNode(nil), list, NewHeld(), 1000))
		if got != want {
			t.Fatalf("step %d: %s, a new one says %s", step, got, want)
		}
		if strings.HasPrefix(got, "r=") {
			found++
		}
	}
	if found < 300 {
		t.Errorf("only %d steps found anything", found)
	}
}
