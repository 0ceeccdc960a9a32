package plugins

import (
	"context"
	"testing"

	"canopus/internal/admission"
	"canopus/internal/auth"
	"canopus/internal/auth/token"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"
)

// deviceReq is a write in resource.k8s.io.
func deviceReq(op admission.Operation, kind, resource string, o, old runtime.Object) *admission.Request {
	r := req(op, kind, resource, o, old)
	r.Kind, r.Resource = resourcev1.SchemeGroupVersion.WithKind(kind), resourcev1.SchemeGroupVersion.WithResource(resource)
	return r
}

func judge(t *testing.T, p admission.Plugin, r *admission.Request) error {
	t.Helper()
	if !p.Handles(r) {
		return nil
	}
	return p.(admission.Validator).Validate(t.Context(), r)
}

func claimAsking(admin bool) *resourcev1.ResourceClaim {
	c := &resourcev1.ResourceClaim{ObjectMeta: meta("apps", "c")}
	c.Spec.Devices.Requests = []resourcev1.DeviceRequest{{Name: "r", Exactly: &resourcev1.ExactDeviceRequest{AdminAccess: ptr.To(admin)}}}
	return c
}

func claimGiven(results ...resourcev1.DeviceRequestAllocationResult) *resourcev1.ResourceClaim {
	c := claimAsking(false)
	c.Status.Allocation = &resourcev1.AllocationResult{Devices: resourcev1.DeviceAllocationResult{Results: results}}
	return c
}

func TestDeviceAdminAccess(t *testing.T) {
	t.Parallel()
	marked := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "apps", Labels: map[string]string{"resource.kubernetes.io/admin-access": "true"}}}
	plain := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "apps", Labels: map[string]string{"resource.kubernetes.io/admin-access": "yes"}}}
	template := &resourcev1.ResourceClaimTemplate{ObjectMeta: meta("apps", "t"), Spec: resourcev1.ResourceClaimTemplateSpec{Spec: claimAsking(true).Spec}}
	given := claimGiven(resourcev1.DeviceRequestAllocationResult{}, resourcev1.DeviceRequestAllocationResult{AdminAccess: ptr.To(true)})
	status := func(now, old *resourcev1.ResourceClaim) *admission.Request {
		r := deviceReq(admission.Update, "ResourceClaim", "resourceclaims", now, old)
		r.Subresource = "status"
		return r
	}
	const why = "Forbidden: admin access to devices requires the `resource.kubernetes.io/admin-access: true` label on the containing namespace"
	for name, tt := range map[string]struct {
		r    *admission.Request
		want string
	}{
		"claim":          {deviceReq(admission.Create, "ResourceClaim", "resourceclaims", claimAsking(true), nil), "spec.devices.requests[0].exactly.adminAccess: " + why},
		"ordinary claim": {deviceReq(admission.Create, "ResourceClaim", "resourceclaims", claimAsking(false), nil), ""},
		"template":       {deviceReq(admission.Create, "ResourceClaimTemplate", "resourceclaimtemplates", template, nil), "spec.spec.devices.requests[0].exactly.adminAccess: " + why},
		"given":          {status(given, claimAsking(true)), "status.allocation.devices.results[1].adminAccess: " + why},
		"given before":   {status(given, given), ""},
	} {
		expect(t, name, judge(t, NewDeviceAdminAccess(testConfig(t, plain)), tt.r), tt.want)
		expect(t, name+", marked", judge(t, NewDeviceAdminAccess(testConfig(t, marked)), tt.r), "")
	}
}

// holder allows verbs on what rights lists as "user verb subresource name".
type holder map[string]bool

func (h holder) Authorize(_ context.Context, a *auth.Attributes) (auth.Decision, string, error) {
	if a.Group == "resource.k8s.io" && a.Resource == "resourceclaims" && a.Namespace == "apps" && h[a.User.Name+" "+a.Verb+" "+a.Subresource+" "+a.Name] {
		return auth.Allow, "", nil
	}
	return auth.NoOpinion, "", nil
}

func TestDeviceClaimStatus(t *testing.T) {
	t.Parallel()
	const account = "system:serviceaccount:drivers:gpu"
	p := DeviceClaimStatus{holder{
		"scheduler update binding c": true, "patcher patch binding c": true,
		account + " associated-node:update driver gpu.x.io": true, "network arbitrary-node:patch driver nic.x.io": true,
	}}
	onNode := claimGiven(resourcev1.DeviceRequestAllocationResult{Driver: "gpu.x.io"}, resourcev1.DeviceRequestAllocationResult{Driver: "nic.x.io"})
	onNode.Status.Allocation.NodeSelector = &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchFields: []corev1.NodeSelectorRequirement{{
		Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{"n1"}}}}}}
	told := func(c *resourcev1.ResourceClaim, drivers ...string) *resourcev1.ResourceClaim {
		c = c.DeepCopy()
		for _, d := range drivers {
			c.Status.Devices = append(c.Status.Devices, resourcev1.AllocatedDeviceStatus{Driver: d})
		}
		return c
	}
	reserved := onNode.DeepCopy()
	reserved.Status.ReservedFor = make([]resourcev1.ResourceClaimConsumerReference, 1)
	user := func(name, node string) *auth.User {
		u := &auth.User{Name: name}
		if node != "" {
			u.Extra = map[string][]string{token.NodeNameKey: {node}}
		}
		return u
	}
	const binding, gpu, nic = "requires update or patch on resourceclaims/binding", "changing status.devices of driver gpu.x.io requires", "changing status.devices of driver nic.x.io requires"
	for name, tt := range map[string]struct {
		user     *auth.User
		old, now *resourcev1.ResourceClaim
		want     string
	}{
		"a scheduler gives":                    {user("scheduler", ""), claimAsking(false), onNode, ""},
		"a scheduler reserves":                 {user("scheduler", ""), onNode, reserved, ""},
		"one who patches":                      {user("patcher", ""), onNode, reserved, ""},
		"somebody gives":                       {user("alice", ""), claimAsking(false), onNode, binding},
		"somebody takes back":                  {user("alice", ""), onNode, claimAsking(false), binding},
		"somebody reserves":                    {user("alice", ""), onNode, reserved, binding},
		"somebody changes nothing":             {user("alice", ""), onNode, onNode, ""},
		"a scheduler takes back what was told": {user("scheduler", ""), told(onNode, "gpu.x.io"), claimAsking(false), ""},
		"a driver tells":                       {user(account, "n1"), onNode, told(onNode, "gpu.x.io"), ""},
		"a driver on another node tells":       {user(account, "n2"), onNode, told(onNode, "gpu.x.io"), gpu},
		"a driver of no known node tells":      {user(account, ""), onNode, told(onNode, "gpu.x.io"), gpu},
		"a driver tells of another's":          {user(account, "n1"), onNode, told(onNode, "gpu.x.io", "nic.x.io"), nic},
		"a driver drops another's":             {user(account, "n1"), told(onNode, "nic.x.io"), told(onNode, "gpu.x.io"), nic},
		"a driver leaves another's alone":      {user(account, "n1"), told(onNode, "nic.x.io"), told(onNode, "gpu.x.io", "nic.x.io"), ""},
		"one for all nodes tells":              {user("network", ""), onNode, told(onNode, "nic.x.io"), ""},
		"a driver gives":                       {user(account, "n1"), claimAsking(false), onNode, binding},
	} {
		r := deviceReq(admission.Update, "ResourceClaim", "resourceclaims", tt.now, tt.old)
		r.Subresource, r.User = "status", tt.user
		expect(t, name, judge(t, p, r), tt.want)
	}
}

func TestNodesWriteTheirSlicesOnly(t *testing.T) {
	t.Parallel()
	p := NewNodeRestriction(testConfig(t))
	slice := func(node *string) *resourcev1.ResourceSlice {
		return &resourcev1.ResourceSlice{ObjectMeta: meta("", "s"), Spec: resourcev1.ResourceSliceSpec{NodeName: node}}
	}
	own, other, nowhere := slice(ptr.To("n1")), slice(ptr.To("n2")), slice(nil)
	for name, tt := range map[string]struct {
		r    *admission.Request
		want string
	}{
		"its own":         {deviceReq(admission.Create, "ResourceSlice", "resourceslices", own, nil), ""},
		"another's":       {deviceReq(admission.Create, "ResourceSlice", "resourceslices", other, nil), "can only create ResourceSlice with the same NodeName as the requesting node"},
		"of no node":      {deviceReq(admission.Create, "ResourceSlice", "resourceslices", nowhere, nil), "can only create ResourceSlice with the same NodeName as the requesting node"},
		"drops its own":   {deviceReq(admission.Delete, "ResourceSlice", "resourceslices", nil, own), ""},
		"drops a other":   {deviceReq(admission.Delete, "ResourceSlice", "resourceslices", nil, other), "can only delete ResourceSlice with the same NodeName as the requesting node"},
		"changes its own": {deviceReq(admission.Update, "ResourceSlice", "resourceslices", own, own), ""},
		"changes a other": {deviceReq(admission.Update, "ResourceSlice", "resourceslices", other, other), "can only update ResourceSlice with the same NodeName as the requesting node"},
	} {
		tt.r.User = &auth.User{Name: "system:node:n1", Groups: []string{"system:nodes"}}
		expect(t, name, admit(t, p, tt.r), tt.want)
	}
}
