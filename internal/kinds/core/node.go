package core

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds"
	"canopus/internal/kinds/check"
	"canopus/internal/kinds/podspec"
	"canopus/internal/kinds/show"
)

const (
	nodeRolePrefix = "node-role.kubernetes.io/"
	nodeRoleLabel  = "kubernetes.io/role"
)

// Node is v1 nodes.
func Node() *kinds.Kind {
	return kinds.New(kinds.Spec[corev1.Node, *corev1.Node]{
		GVK:        corev1.SchemeGroupVersion.WithKind("Node"),
		Plural:     "nodes",
		ShortNames: []string{"no"},
		Prefix:     "minions/",
		NewList:    func() runtime.Object { return &corev1.NodeList{} },

		Default:       defaultNode,
		PrepareCreate: func(n *corev1.Node) { n.Spec.PodPreemptionPolicy = nil }, // off by default upstream
		PrepareUpdate: func(obj, old *corev1.Node) {
			obj.Status = old.Status
			if old.Spec.PodPreemptionPolicy == nil {
				obj.Spec.PodPreemptionPolicy = nil
			}
		},
		Validate:       validateNode,
		ValidateUpdate: validateNodeUpdate,
		Warnings:       nodeWarnings,
		Columns:        nodeColumns(),
		Cells:          nodeCells,
		Fields: map[string]func(*corev1.Node) string{
			"spec.unschedulable": func(n *corev1.Node) string { return fmt.Sprint(n.Spec.Unschedulable) },
		},
		Subresources: []kinds.Subresource{
			{Name: "proxy", GVK: corev1.SchemeGroupVersion.WithKind("NodeProxyOptions"), Verbs: proxyVerbs()},
			kinds.Status(func(obj, old *corev1.Node) { obj.Spec = old.Spec }, validateNodeStatus),
		},
	})
}

// defaultNode: what a node has, pods can have, unless it says otherwise.
func defaultNode(n *corev1.Node) {
	// podCIDR is the first of podCIDRs; old clients write only the one.
	if len(n.Spec.PodCIDRs) == 0 && n.Spec.PodCIDR != "" {
		n.Spec.PodCIDRs = []string{n.Spec.PodCIDR}
	}
	if len(n.Spec.PodCIDRs) > 0 {
		n.Spec.PodCIDR = n.Spec.PodCIDRs[0]
	}
	if len(n.Status.Allocatable) == 0 && len(n.Status.Capacity) > 0 {
		n.Status.Allocatable = n.Status.Capacity.DeepCopy()
	}
	for _, list := range []corev1.ResourceList{n.Status.Capacity, n.Status.Allocatable} {
		for name, q := range list {
			if !q.RoundUp(resource.Milli) {
				list[name] = q
			}
		}
	}
}

func validateNode(n *corev1.Node) field.ErrorList {
	path := field.NewPath("spec")
	errs := validateTaints(n.Spec.Taints, path.Child("taints"))
	for i, cidr := range n.Spec.PodCIDRs {
		errs = append(errs, validation.IsValidCIDRForLegacyField(path.Child("podCIDRs").Index(i), cidr, false, nil)...)
	}
	if len(n.Spec.PodCIDRs) > 2 {
		errs = append(errs, field.Invalid(path.Child("podCIDRs"), n.Spec.PodCIDRs, "may specify no more than one CIDR for each IP family"))
	}
	if s := n.Spec.ConfigSource; s != nil && s.ConfigMap != nil {
		errs = append(errs, field.Forbidden(path.Child("configSource"), "configSource may not be set"))
	}
	return append(errs, validateNodeResources(n)...)
}

func validateNodeResources(n *corev1.Node) field.ErrorList {
	var errs field.ErrorList
	for name, q := range n.Status.Capacity {
		errs = append(errs, check.QuotaQuantity(name, q, field.NewPath("status", "capacity").Key(string(name)))...)
	}
	return errs
}

func validateTaints(taints []corev1.Taint, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := check.Duplicates[string]{}
	for i, t := range taints {
		at := path.Index(i)
		errs = append(errs, check.Qualified(t.Key, at.Child("key"))...)
		errs = append(errs, check.Messages(at.Child("value"), t.Value, validation.IsValidLabelValue(t.Value))...)
		if t.Effect == "" {
			errs = append(errs, field.Required(at.Child("effect"), ""))
		} else {
			errs = append(errs, podspec.ValidateTaintEffect(t.Effect, at.Child("effect"))...)
		}
		if again := seen.Check(t.Key+":"+string(t.Effect), at); len(again) > 0 {
			dup := field.Duplicate(at, t)
			dup.Detail = "taints must be unique by key and effect pair"
			errs = append(errs, dup)
		}
	}
	return errs
}

func validateNodeUpdate(obj, old *corev1.Node) field.ErrorList {
	errs := validateNode(obj)
	path := field.NewPath("spec")
	// The pod range and the provider's name are given once.
	if len(old.Spec.PodCIDRs) > 0 && !slices.Equal(old.Spec.PodCIDRs, obj.Spec.PodCIDRs) {
		errs = append(errs, field.Forbidden(path.Child("podCIDRs"), "node updates may not change podCIDR except from \"\" to valid"))
	}
	if old.Spec.ProviderID != "" && old.Spec.ProviderID != obj.Spec.ProviderID {
		errs = append(errs, field.Forbidden(path.Child("providerID"), "node updates may not change providerID except from \"\" to valid"))
	}
	if old.Spec.DoNotUseExternalID != obj.Spec.DoNotUseExternalID {
		errs = append(errs, field.Forbidden(path.Child("externalID"), "node updates may not change externalID"))
	}
	return errs
}

func validateNodeStatus(obj, old *corev1.Node) field.ErrorList {
	errs := validateNodeResources(obj)
	seen := map[corev1.NodeAddress]bool{}
	for i, a := range obj.Status.Addresses {
		if seen[a] {
			errs = append(errs, field.Duplicate(field.NewPath("status", "addresses").Index(i), a))
		}
		seen[a] = true
	}
	return errs
}

func nodeColumns() []metav1.TableColumnDefinition {
	info := corev1.NodeSystemInfo{}.SwaggerDoc()
	return []metav1.TableColumnDefinition{
		show.Name(),
		show.Column("Status", "string", "The status of the node"),
		show.Column("Roles", "string", "The roles of the node"),
		show.AgeColumn(),
		show.Column("Version", "string", info["kubeletVersion"]),
		show.Wide("Internal-IP", "string", corev1.NodeStatus{}.SwaggerDoc()["addresses"]),
		show.Wide("External-IP", "string", corev1.NodeStatus{}.SwaggerDoc()["addresses"]),
		show.Wide("OS-Image", "string", info["osImage"]),
		show.Wide("Kernel-Version", "string", info["kernelVersion"]),
		show.Wide("Container-Runtime", "string", info["containerRuntimeVersion"]),
	}
}

func nodeCells(n *corev1.Node, now time.Time) []any {
	unknown := func(s string) string {
		if s == "" {
			return show.Unknown
		}
		return s
	}
	info := &n.Status.NodeInfo
	return []any{
		n.Name, nodeStatus(n), nodeRoles(n), show.Age(n.CreationTimestamp, now), info.KubeletVersion,
		nodeAddress(n, corev1.NodeInternalIP), nodeAddress(n, corev1.NodeExternalIP),
		unknown(info.OSImage), unknown(info.KernelVersion), unknown(info.ContainerRuntimeVersion),
	}
}

func nodeStatus(n *corev1.Node) string {
	status := "Unknown"
	for _, c := range n.Status.Conditions {
		if c.Type != corev1.NodeReady {
			continue
		}
		status = "NotReady"
		if c.Status == corev1.ConditionTrue {
			status = "Ready"
		}
	}
	if n.Spec.Unschedulable {
		status += ",SchedulingDisabled"
	}
	return status
}

func nodeRoles(n *corev1.Node) string {
	var roles []string
	for key, value := range n.Labels {
		if role, ok := strings.CutPrefix(key, nodeRolePrefix); ok && role != "" {
			roles = append(roles, role)
		} else if key == nodeRoleLabel && value != "" {
			roles = append(roles, value)
		}
	}
	slices.Sort(roles)
	return show.List(slices.Compact(roles))
}

func nodeAddress(n *corev1.Node, t corev1.NodeAddressType) string {
	for _, a := range n.Status.Addresses {
		if a.Type == t {
			return a.Address
		}
	}
	return show.None
}
