package plugins

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"canopus/internal/admission"
	"canopus/internal/auth"
	"canopus/internal/auth/token"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/utils/ptr"
)

func isDeviceClaim(r *admission.Request, subresource string) bool {
	return r.Resource.Group == resourcev1.GroupName && r.Resource.Resource == "resourceclaims" && r.Subresource == subresource
}

// DeviceAdminAccess keeps administrators' access to devices in use to namespaces that are marked for it. Upstream checks the same
// where it stores claims.
type DeviceAdminAccess struct{ namespaces corelisters.NamespaceLister }

// NewDeviceAdminAccess makes the plugin.
func NewDeviceAdminAccess(c Config) *DeviceAdminAccess {
	namespaces := c.Informers.Core().V1().Namespaces()
	namespaces.Informer()
	return &DeviceAdminAccess{namespaces.Lister()}
}

// Name implements admission.Plugin.
func (*DeviceAdminAccess) Name() string { return "DeviceAdminAccess" }

// Handles implements admission.Plugin.
func (*DeviceAdminAccess) Handles(r *admission.Request) bool {
	switch {
	case isDeviceClaim(r, "status"):
		return r.Operation == admission.Update
	case r.Resource.Group == resourcev1.GroupName && r.Resource.Resource == "resourceclaimtemplates":
		return r.Operation == admission.Create
	}
	return isDeviceClaim(r, "") && r.Operation == admission.Create
}

// Validate implements admission.Validator.
func (p *DeviceAdminAccess) Validate(_ context.Context, r *admission.Request) error {
	where := adminAccess(r)
	if len(where) == 0 {
		return nil
	}
	namespace, err := p.namespaces.Get(r.Namespace)
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	if err == nil && namespace.Labels[resourcev1.DRAAdminNamespaceLabelKey] == "true" {
		return nil
	}
	var errs field.ErrorList
	for _, path := range where {
		errs = append(errs, field.Forbidden(path, "admin access to devices requires the `"+resourcev1.DRAAdminNamespaceLabelKey+": true` label on the containing namespace"))
	}
	return apierrors.NewInvalid(r.Kind.GroupKind(), r.Called(), errs)
}

// adminAccess is where the object that r writes asks for administrators' access, or is given it.
func adminAccess(r *admission.Request) []*field.Path {
	switch o := r.Object.(type) {
	case *resourcev1.ResourceClaimTemplate:
		return adminRequests(&o.Spec.Spec, field.NewPath("spec", "spec"))
	case *resourcev1.ResourceClaim:
		if r.Subresource == "" {
			return adminRequests(&o.Spec, field.NewPath("spec"))
		}
		old, ok := r.Old.(*resourcev1.ResourceClaim)
		if !ok || old.Status.Allocation != nil || o.Status.Allocation == nil {
			return nil // nothing is given
		}
		var out []*field.Path
		for i := range o.Status.Allocation.Devices.Results {
			if ptr.Deref(o.Status.Allocation.Devices.Results[i].AdminAccess, false) {
				out = append(out, field.NewPath("status", "allocation", "devices", "results").Index(i).Child("adminAccess"))
			}
		}
		return out
	}
	return nil
}

func adminRequests(spec *resourcev1.ResourceClaimSpec, path *field.Path) []*field.Path {
	var out []*field.Path
	for i := range spec.Devices.Requests {
		if e := spec.Devices.Requests[i].Exactly; e != nil && ptr.Deref(e.AdminAccess, false) {
			out = append(out, path.Child("devices", "requests").Index(i).Child("exactly", "adminAccess"))
		}
	}
	return out
}

// DeviceClaimStatus asks who writes the status of a claim for the right to the very part that is written: who has which devices is
// for schedulers (resourceclaims/binding), how the devices are for their drivers (resourceclaims/driver), those on nodes being
// confined to devices of their node. Upstream checks the same where it stores claims.
type DeviceClaimStatus struct{ authorizer auth.Authorizer }

// Name implements admission.Plugin.
func (DeviceClaimStatus) Name() string { return "DeviceClaimStatus" }

// Handles implements admission.Plugin.
func (DeviceClaimStatus) Handles(r *admission.Request) bool {
	return r.Operation == admission.Update && isDeviceClaim(r, "status")
}

// Validate implements admission.Validator.
func (p DeviceClaimStatus) Validate(ctx context.Context, r *admission.Request) error {
	now, ok := r.Object.(*resourcev1.ResourceClaim)
	old, had := r.Old.(*resourcev1.ResourceClaim)
	if !ok || !had {
		return forbidden(r, fmt.Sprintf("unexpected types %T and %T", r.Old, r.Object))
	}
	same := equality.Semantic.DeepEqual
	if (!same(now.Status.Allocation, old.Status.Allocation) || !same(now.Status.ReservedFor, old.Status.ReservedFor)) &&
		!p.may(ctx, r, resourcev1.SubresourceBinding, r.Name, "") {
		return forbidden(r, fmt.Sprintf("changing status.allocation or status.reservedFor requires update or patch on resourceclaims/%s", resourcev1.SubresourceBinding))
	}
	for _, driver := range slices.Sorted(maps.Keys(driversTold(old, now))) {
		if p.may(ctx, r, resourcev1.SubresourceDriver, driver, resourcev1.VerbPrefixArbitraryNode) ||
			onNodeOf(r.User, old, now) && p.may(ctx, r, resourcev1.SubresourceDriver, driver, resourcev1.VerbPrefixAssociatedNode) {
			continue
		}
		return forbidden(r, fmt.Sprintf("changing status.devices of driver %s requires %supdate on resourceclaims/%s, or %supdate from a pod on the claim's node",
			driver, resourcev1.VerbPrefixArbitraryNode, resourcev1.SubresourceDriver, resourcev1.VerbPrefixAssociatedNode))
	}
	return nil
}

// may asks for either verb: which of the two is used has been asked for when the request came in.
func (p DeviceClaimStatus) may(ctx context.Context, r *admission.Request, subresource, name, prefix string) bool {
	for _, verb := range []string{"update", "patch"} {
		d, _, _ := p.authorizer.Authorize(ctx, &auth.Attributes{
			User: r.User, Verb: prefix + verb, IsResource: true, Group: resourcev1.GroupName, Version: r.Resource.Version, Resource: "resourceclaims",
			Subresource: subresource, Namespace: r.Namespace, Name: name,
		})
		if d == auth.Allow {
			return true
		}
	}
	return false
}

// driversTold are the drivers of whose devices now says something else than old.
func driversTold(old, now *resourcev1.ResourceClaim) map[string]bool {
	said := func(c *resourcev1.ResourceClaim) map[string][]resourcev1.AllocatedDeviceStatus {
		out := map[string][]resourcev1.AllocatedDeviceStatus{}
		for _, d := range c.Status.Devices {
			out[d.Driver] = append(out[d.Driver], d)
		}
		return out
	}
	was, is := said(old), said(now)
	out := map[string]bool{}
	for _, drivers := range []map[string][]resourcev1.AllocatedDeviceStatus{was, is} {
		for driver := range drivers {
			if !equality.Semantic.DeepEqual(was[driver], is[driver]) {
				out[driver] = true
			}
		}
	}
	if now.Status.Allocation == nil {
		return nil // gone with the allocation
	}
	return out
}

// onNodeOf reports whether user is a service account used from the only node on which the claim's devices are.
func onNodeOf(user *auth.User, old, now *resourcev1.ResourceClaim) bool {
	from := user.Extra[token.NodeNameKey]
	if len(from) != 1 || from[0] == "" || !strings.HasPrefix(user.Name, "system:serviceaccount:") {
		return false
	}
	a := old.Status.Allocation
	if a == nil {
		a = now.Status.Allocation
	}
	return a != nil && onlyNode(a.NodeSelector) == from[0]
}

// onlyNode is the name of the one node that s selects by name, or "".
func onlyNode(s *corev1.NodeSelector) string {
	if s == nil || len(s.NodeSelectorTerms) != 1 {
		return ""
	}
	for _, r := range s.NodeSelectorTerms[0].MatchFields {
		if r.Key == metav1.ObjectNameField && r.Operator == corev1.NodeSelectorOpIn && len(r.Values) == 1 {
			return r.Values[0]
		}
	}
	return ""
}
