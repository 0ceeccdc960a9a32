package scheduler

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
)

// extended has a container ask for an extended resource.
func extended(name, amount string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		r := &p.Spec.Containers[0].Resources
		if r.Limits == nil {
			r.Limits = corev1.ResourceList{}
		}
		r.Limits[corev1.ResourceName(name)], r.Requests[corev1.ResourceName(name)] = resource.MustParse(amount), resource.MustParse(amount)
	}
}

func standsFor(resource string) *resourcev1.DeviceClass {
	c := testDeviceClass()
	c.Spec.ExtendedResourceName = &resource
	return c
}

// TestExtendedResourceRule asks where a pod may go that asks for an extended resource, and with what claim.
func TestExtendedResourceRule(t *testing.T) {
	t.Parallel()
	const gpu = "x.io/gpu"
	advertises := func(amount string) func(*corev1.Node) {
		return func(n *corev1.Node) { n.Status.Allocatable[gpu] = resource.MustParse(amount) }
	}
	earlier := func(changes ...func(*resourcev1.ResourceClaim)) *resourcev1.ResourceClaim {
		c := newCluster()
		c.devices.stock.SetClass(standsFor(gpu))
		c.setNode(testNode("a", nil))
		out := c.devices.special(newPodInfo(testPod("p", extended(gpu, "1"))), c.nodes["a"])
		out.UID = "s"
		for _, change := range changes {
			change(out)
		}
		return out
	}
	for name, tt := range map[string]struct {
		nodes   map[string]func(*corev1.Node)
		objects []any
		pod     func(*corev1.Pod)
		want    string // node and requests of the claim
	}{
		"no class": {nil, []any{testDeviceClass(), testSlice("a", "g")}, extended(gpu, "1"), "0/2 nodes are available: 2 Insufficient x.io/gpu."},
		"devices":  {nil, []any{standsFor(gpu), testSlice("a", "g")}, extended(gpu, "1"), "a container-0-request-1=1"},
		"by the class's name": {nil, []any{testDeviceClass(), testSlice("b", "g", "h")}, extended(resourcev1.ResourceDeviceClassPrefix+"gpu", "2"),
			"b container-0-request-1=2"},
		"too few":                         {nil, []any{standsFor(gpu), testSlice("a", "g"), testSlice("b", "g")}, extended(gpu, "2"), "0/2 nodes are available: 2 cannot allocate all claims."},
		"a node that has the resource":    {map[string]func(*corev1.Node){"b": advertises("4")}, []any{standsFor(gpu)}, extended(gpu, "1"), "b"},
		"and has too little of it":        {map[string]func(*corev1.Node){"b": advertises("1")}, []any{standsFor(gpu), testSlice("b", "g", "h")}, extended(gpu, "2"), "0/2 nodes are available: 1 Insufficient x.io/gpu, 1 cannot allocate all claims."},
		"a node that had the resource":    {map[string]func(*corev1.Node){"a": advertises("0")}, []any{standsFor(gpu), testSlice("a", "g")}, extended(gpu, "1"), "a container-0-request-1=1"},
		"beside a claim of its own":       {nil, []any{standsFor(gpu), testSlice("a", "g"), testSlice("b", "g", "h"), testDeviceClaim("x")}, with(extended(gpu, "1"), usesClaims("x")), "b container-0-request-1=1"},
		"two resources, one by devices":   {map[string]func(*corev1.Node){"a": func(n *corev1.Node) { n.Status.Allocatable["y.io/z"] = resource.MustParse("1") }}, []any{standsFor(gpu), testSlice("", "g")}, with(extended("y.io/z", "1"), extended(gpu, "1")), "a container-0-request-1=1"},
		"what an earlier attempt got":     {nil, []any{standsFor(gpu), testSlice("a", "g"), testSlice("b", "g"), earlier(givenOn("b", "g"))}, extended(gpu, "1"), "b"},
		"the earlier attempt got nothing": {nil, []any{standsFor(gpu), testSlice("a", "g"), earlier()}, extended(gpu, "1"), "a container-0-request-1=1"},
		"what the earlier asked for does not do": {nil, []any{standsFor(gpu), testSlice("b", "g", "h"), earlier(givenOn("b", "g"))}, extended(gpu, "2"),
			"0/2 nodes are available: 2 resourceclaim not available on the node."},
		"the earlier is being deleted": {nil, []any{standsFor(gpu), testSlice("a", "g"), earlier(func(c *resourcev1.ResourceClaim) { c.DeletionTimestamp = &metav1.Time{} })}, extended(gpu, "1"),
			`0/2 nodes are available: resourceclaim "` + specialName(testPod("p", nil)) + `" is being deleted.`},
		"another's claim has the name": {nil, []any{standsFor(gpu), testSlice("a", "g"), earlier(func(c *resourcev1.ResourceClaim) { c.OwnerReferences = nil })}, extended(gpu, "1"),
			"0/2 nodes are available: ResourceClaim ns/" + specialName(testPod("p", nil)) + " was not created for Pod ns/p (Pod is not owner)."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := devicesOn(tt.objects...)
			for n, change := range tt.nodes {
				c.setNode(testNode(n, change))
			}
			p := newPending(testPod("p", tt.pod))
			d := decide(c, p, testOptions())
			got := d.node
			if got == "" {
				got, _, _ = strings.Cut(d.message(), " preemption: ")
			} else if w, why := c.devices.claimsOf(p); why.refuses() {
				t.Fatal(why.text)
			} else if special := c.devices.special(p, c.nodes[d.node]); special != nil && w.special == nil {
				for _, r := range special.Spec.Devices.Requests {
					got += fmt.Sprintf(" %s=%d", r.Name, r.Exactly.Count)
				}
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// TestClassesAndResources: what a resource means follows the classes, for pods whose kind was looked at before, too.
func TestClassesAndResources(t *testing.T) {
	t.Parallel()
	r := newBenchRig(t, 1)
	class := func(name, resource string, minute int) *resourcev1.DeviceClass {
		return &resourcev1.DeviceClass{ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.Date(2026, 1, 1, 0, minute, 0, 0, time.UTC)},
			Spec: resourcev1.DeviceClassSpec{ExtendedResourceName: ptr.To(resource)}}
	}
	for i, step := range []struct {
		do   func()
		want string
	}{
		{func() {}, ""},
		{func() { r.s.observeDeviceClass(class("b", "x.io/gpu", 1)) }, "b"},
		{func() { r.s.observeDeviceClass(class("c", "x.io/gpu", 1)) }, "b"},
		{func() { r.s.observeDeviceClass(class("a", "x.io/gpu", 0)) }, "b"},
		{func() { r.s.observeDeviceClass(class("d", "x.io/gpu", 2)) }, "d"},
		{func() { r.s.observeDeviceClass(class("d", "x.io/fpga", 2)) }, "b"},
		{func() { r.s.forgetDeviceClass(class("b", "x.io/gpu", 1)) }, "c"},
		{func() {
			r.s.forgetDeviceClass(class("c", "x.io/gpu", 1))
			r.s.forgetDeviceClass(class("a", "x.io/gpu", 0))
		}, ""},
	} {
		step.do()
		got := ""
		if c := r.s.cluster.devices.stock.ClassFor("x.io/gpu"); c != nil {
			got = c.Name
		}
		p := r.s.cluster.pending(testPod(fmt.Sprintf("p%d", i), extended("x.io/gpu", "1")))
		d := decide(r.s.cluster, p, testOptions())
		if lacks := strings.Contains(d.message(), "Insufficient x.io/gpu"); got != step.want || lacks != (step.want == "") {
			t.Errorf("step %d: class %q, want %q; %s", i, got, step.want, d.message())
		}
	}
}

func TestSpecialNames(t *testing.T) {
	t.Parallel()
	long := testPod(strings.Repeat("x.", 126)+"x", nil)
	other := testPod("p", nil)
	other.UID = "another"
	for _, p := range []*corev1.Pod{testPod("p", nil), long} {
		name := specialName(p)
		if wrong := validation.IsDNS1123Subdomain(name); len(wrong) > 0 || name != specialName(p.DeepCopy()) || name == specialName(other) {
			t.Errorf("%s: %v", name, wrong)
		}
	}
}

// TestExtendedResourcesGetDevices follows a pod from its wish to its node, with a binding that fails on the way, and shows what is
// written: one claim, which the pod owns, and its name in the pod's status.
func TestExtendedResourcesGetDevices(t *testing.T) {
	t.Parallel()
	var refused atomic.Int32
	r := start(t, func(_ *Config, writes *rest.Config) {
		writes.Wrap(func(next http.RoundTripper) http.RoundTripper {
			return roundTripper(func(q *http.Request) (*http.Response, error) {
				if strings.HasSuffix(q.URL.Path, "/binding") && refused.Add(1) == 1 {
					return nil, http.ErrHandlerTimeout
				}
				return next.RoundTrip(q)
			})
		})
	})
	r.node("a", nil)
	r.slice("a", "g0", "g1")
	r.pod("p", with(extended("x.io/gpu", "2"), func(p *corev1.Pod) {
		p.Spec.InitContainers = []corev1.Container{{Name: "init", Image: "img"}}
	}))
	r.waits("p", "0/1 nodes are available: 1 Insufficient x.io/gpu. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.")
	if _, err := r.ResourceV1().DeviceClasses().Create(t.Context(), standsFor("x.io/gpu"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	r.bound("p", "a")
	p, err := r.CoreV1().Pods("ns").Get(t.Context(), "p", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	x := p.Status.ExtendedResourceClaimStatus
	if x == nil || len(x.RequestMappings) != 1 || x.RequestMappings[0] != (corev1.ContainerExtendedResourceRequest{ContainerName: "c", ResourceName: "x.io/gpu", RequestName: "container-1-request-1"}) {
		t.Fatalf("the pod's status says %+v", x)
	}
	list, err := r.ResourceV1().ResourceClaims("ns").List(t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) != 1 {
		t.Fatalf("%v, %d claims", err, len(list.Items))
	}
	c := &list.Items[0]
	if c.Name != x.ResourceClaimName || c.Annotations["resource.kubernetes.io/extended-resource-claim"] != "true" || !metav1.IsControlledBy(c, p) ||
		c.Status.Allocation == nil || len(c.Status.Allocation.Devices.Results) != 2 || len(c.Status.ReservedFor) != 1 || c.Status.ReservedFor[0].UID != p.UID {
		t.Errorf("the claim: %+v", c)
	}
	if refused.Load() != 2 {
		t.Errorf("%d bindings were sent, want 2", refused.Load())
	}

	// The devices are taken: the next pod waits until the first has gone and its claim with it.
	r.pod("q", extended("x.io/gpu", "1"))
	r.waits("q", "0/1 nodes are available: 1 cannot allocate all claims. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.")
	r.gone("p")
	r.giveBack(c.Name)
	if err := r.ResourceV1().ResourceClaims("ns").Delete(t.Context(), c.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
		t.Fatal(err)
	}
	r.bound("q", "a")
	r.eventually("q's claim has one device", func(ctx context.Context) (string, error) {
		q, err := r.CoreV1().Pods("ns").Get(ctx, "q", metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		claim, err := r.ResourceV1().ResourceClaims("ns").Get(ctx, specialName(q), metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		if claim.Status.Allocation != nil && len(claim.Status.Allocation.Devices.Results) == 1 {
			return "", nil
		}
		return fmt.Sprintf("%+v", claim.Status), nil
	})
}
