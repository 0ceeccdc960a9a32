package plugins

import (
	"context"
	"fmt"
	"slices"

	"canopus/internal/admission"
	"canopus/internal/auth/node"
	"canopus/internal/localvolume"

	authenticationv1 "k8s.io/api/authentication/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
)

// NodeRestriction limits what node agents write: where the node authorizer cannot decide because it does not see the object.
type NodeRestriction struct {
	client   kubernetes.Interface
	pods     corelisters.PodLister
	nodes    corelisters.NodeLister
	accounts corelisters.ServiceAccountLister
}

// NewNodeRestriction makes the plugin.
func NewNodeRestriction(c Config) *NodeRestriction {
	core := c.Informers.Core().V1()
	core.Pods().Informer()
	core.Nodes().Informer()
	core.ServiceAccounts().Informer()
	return &NodeRestriction{client: c.Client, pods: core.Pods().Lister(), nodes: core.Nodes().Lister(), accounts: core.ServiceAccounts().Lister()}
}

// Name implements admission.Plugin.
func (n *NodeRestriction) Name() string { return "NodeRestriction" }

// Handles implements admission.Plugin: it is about requests by nodes only.
func (n *NodeRestriction) Handles(r *admission.Request) bool {
	if r.Operation == admission.Connect {
		return false
	}
	_, ok := node.Name(r.User)
	return ok
}

// Admit implements admission.Mutator. Upstream checks in this phase, before later plugins can change anything.
func (n *NodeRestriction) Admit(ctx context.Context, r *admission.Request) error {
	self, _ := node.Name(r.User)
	if self == "" {
		return forbidden(r, fmt.Sprintf("could not determine node from user %q", r.User.Name))
	}
	switch r.Resource.Group + "/" + r.Resource.Resource {
	case "/pods":
		return n.pod(ctx, r, self)
	case "/nodes":
		return restrictNode(r, self)
	case "/persistentvolumes":
		return restrictVolume(r, self)
	case "/persistentvolumeclaims":
		return restrictClaim(r, self)
	case "/serviceaccounts":
		if r.Subresource == "token" {
			return n.token(ctx, r, self)
		}
	case "coordination.k8s.io/leases":
		return restrictLease(r, self)
	case "resource.k8s.io/resourceslices":
		return restrictSlice(r, self)
	case "certificates.k8s.io/podcertificaterequests":
		return n.certificate(ctx, r, self)
	case "storage.k8s.io/csinodes":
		if r.Name != self {
			return forbidden(r, "can only access CSINode with the same name as the requesting node")
		}
	}
	return nil
}

func (n *NodeRestriction) pod(ctx context.Context, r *admission.Request, self string) error {
	switch r.Subresource {
	case "":
		switch r.Operation {
		case admission.Create:
			return n.createPod(r, self)
		case admission.Delete:
			return n.bound(ctx, r, self, "delete pods")
		}
		return forbidden(r, fmt.Sprintf("unexpected operation %q, node %q can only create and delete mirror pods", r.Operation, self))
	case "status":
		return restrictPodStatus(r, self)
	case "eviction":
		if e, ok := r.Object.(*policyv1.Eviction); ok && r.Name == "" {
			r.Name = e.Name
		}
		return n.bound(ctx, r, self, "evict pods")
	}
	return forbidden(r, fmt.Sprintf("unexpected pod subresource %q, only 'status' and 'eviction' are allowed", r.Subresource))
}

// createPod allows the mirror of a pod that the node runs from a file, naming no object of the API.
func (n *NodeRestriction) createPod(r *admission.Request, self string) error {
	pod, ok := r.Object.(*corev1.Pod)
	if !ok {
		return forbidden(r, fmt.Sprintf("unexpected type %T", r.Object))
	}
	if !isMirror(pod) {
		return forbidden(r, fmt.Sprintf("pod does not have %q annotation, node %q can only create mirror pods", corev1.MirrorPodAnnotationKey, self))
	}
	if pod.Spec.NodeName != self {
		return forbidden(r, fmt.Sprintf("node %q can only create pods with spec.nodeName set to itself", self))
	}
	if err := n.owner(r, pod, self); err != nil {
		return err
	}
	if pod.Spec.ServiceAccountName != "" {
		return forbidden(r, fmt.Sprintf("node %q can not create pods that reference a service account", self))
	}
	if what := node.References(pod); what != "" {
		return forbidden(r, fmt.Sprintf("node %q can not create pods that reference %s", self, what))
	}
	for _, v := range pod.Spec.Volumes {
		if v.Projected == nil {
			continue
		}
		for _, s := range v.Projected.Sources {
			if s.ServiceAccountToken != nil || s.ClusterTrustBundle != nil || s.PodCertificate != nil {
				return forbidden(r, fmt.Sprintf("node %q can not create pods that project tokens, trust bundles or certificates", self))
			}
		}
	}
	return nil
}

func (n *NodeRestriction) owner(r *admission.Request, pod *corev1.Pod, self string) error {
	if len(pod.OwnerReferences) == 0 {
		return forbidden(r, fmt.Sprintf("node %q can only create pods with an owner reference set to itself", self))
	}
	if len(pod.OwnerReferences) > 1 {
		return forbidden(r, fmt.Sprintf("node %q can only create pods with a single owner reference set to itself", self))
	}
	o := pod.OwnerReferences[0]
	switch {
	case o.APIVersion != "v1" || o.Kind != "Node" || o.Name != self:
		return forbidden(r, fmt.Sprintf("node %q can only create pods with an owner reference set to itself", self))
	case o.Controller == nil || !*o.Controller:
		return forbidden(r, fmt.Sprintf("node %q can only create pods with a controller owner reference set to itself", self))
	case o.BlockOwnerDeletion != nil && *o.BlockOwnerDeletion:
		return forbidden(r, fmt.Sprintf("node %q must not set blockOwnerDeletion on an owner reference", self))
	}
	me, err := n.nodes.Get(self)
	if err != nil {
		return forbidden(r, fmt.Sprintf("error looking up node %s to verify uid: %v", self, err))
	}
	if o.UID != me.UID {
		return forbidden(r, fmt.Sprintf("node %s UID mismatch: expected %s got %s", self, o.UID, me.UID))
	}
	return nil
}

// bound allows what only concerns a pod of the node.
func (n *NodeRestriction) bound(ctx context.Context, r *admission.Request, self, what string) error {
	pod, ok := r.Old.(*corev1.Pod)
	if !ok {
		var err error
		pod, err = n.pods.Pods(r.Namespace).Get(r.Name)
		if apierrors.IsNotFound(err) {
			pod, err = n.client.CoreV1().Pods(r.Namespace).Get(ctx, r.Name, metav1.GetOptions{})
		}
		if err != nil {
			return err
		}
	}
	if pod.Spec.NodeName != self {
		return forbidden(r, fmt.Sprintf("node %q can only %s with spec.nodeName set to itself", self, what))
	}
	return nil
}

func restrictPodStatus(r *admission.Request, self string) error {
	if r.Operation != admission.Update {
		return forbidden(r, fmt.Sprintf("unexpected operation %q", r.Operation))
	}
	old, ok := r.Old.(*corev1.Pod)
	if !ok {
		return forbidden(r, fmt.Sprintf("unexpected type %T", r.Old))
	}
	if old.Spec.NodeName != self {
		return forbidden(r, fmt.Sprintf("node %q can only update pod status for pods with spec.nodeName set to itself", self))
	}
	pod, ok := r.Object.(*corev1.Pod)
	if !ok {
		return forbidden(r, fmt.Sprintf("unexpected type %T", r.Object))
	}
	if !equality.Semantic.DeepEqual(old.Labels, pod.Labels) {
		return forbidden(r, fmt.Sprintf("node %q cannot update labels through pod status", self))
	}
	if !equality.Semantic.DeepEqual(old.Status.ResourceClaimStatuses, pod.Status.ResourceClaimStatuses) {
		return forbidden(r, fmt.Sprintf("node %q cannot update resource claim statuses", self))
	}
	return nil
}

// restrictClaim lets a node grow the recorded size of a claim, nothing else of it.
func restrictClaim(r *admission.Request, self string) error {
	if r.Subresource != "status" || r.Operation != admission.Update {
		return forbidden(r, fmt.Sprintf("unexpected operation %q on subresource %q of a claim by node %q", r.Operation, r.Subresource, self))
	}
	old, ok := r.Old.(*corev1.PersistentVolumeClaim)
	if !ok {
		return forbidden(r, fmt.Sprintf("unexpected type %T", r.Old))
	}
	now, ok := r.Object.(*corev1.PersistentVolumeClaim)
	if !ok {
		return forbidden(r, fmt.Sprintf("unexpected type %T", r.Object))
	}
	a, b := old.DeepCopy(), now.DeepCopy()
	for _, c := range []*corev1.PersistentVolumeClaim{a, b} {
		c.Status.Capacity, c.Status.Conditions, c.Status.AllocatedResources, c.Status.AllocatedResourceStatuses = nil, nil, nil, nil
		c.ManagedFields = nil
	}
	if !equality.Semantic.DeepEqual(a, b) {
		return forbidden(r, fmt.Sprintf("node %q is not allowed to update fields other than status.quantity and status.conditions", self))
	}
	return nil
}

// restrictVolume lets a node take the finalizer off a volume that is a directory of its own and is to be deleted.
func restrictVolume(r *admission.Request, self string) error {
	if r.Operation != admission.Update || r.Subresource != "" {
		return forbidden(r, fmt.Sprintf("unexpected operation %q on a volume by node %q", r.Operation, self))
	}
	old, ok := r.Old.(*corev1.PersistentVolume)
	if !ok {
		return forbidden(r, fmt.Sprintf("unexpected type %T", r.Old))
	}
	now, ok := r.Object.(*corev1.PersistentVolume)
	if !ok {
		return forbidden(r, fmt.Sprintf("unexpected type %T", r.Object))
	}
	if old.Labels[localvolume.NodeLabel] != self || old.DeletionTimestamp == nil {
		return forbidden(r, fmt.Sprintf("node %q can only update volumes of its own that are being deleted", self))
	}
	want, got := old.DeepCopy(), now.DeepCopy()
	want.Finalizers = slices.DeleteFunc(want.Finalizers, func(f string) bool { return f == localvolume.Finalizer })
	want.ManagedFields, got.ManagedFields = nil, nil
	if !equality.Semantic.DeepEqual(want, got) {
		return forbidden(r, fmt.Sprintf("node %q is not allowed to update fields of a volume other than its finalizer %s", self, localvolume.Finalizer))
	}
	return nil
}

func restrictLease(r *admission.Request, self string) error {
	if r.Namespace != corev1.NamespaceNodeLease {
		return forbidden(r, fmt.Sprintf("can only access leases in the %q system namespace", corev1.NamespaceNodeLease))
	}
	name := r.Name
	if l, ok := r.Object.(*coordinationv1.Lease); ok && r.Operation == admission.Create {
		name = l.Name
	}
	if name != self {
		return forbidden(r, fmt.Sprintf("can only access node lease with the same name as the requesting node %q", self))
	}
	return nil
}

// restrictSlice lets a node make and delete slices with devices of its own.
func restrictSlice(r *admission.Request, self string) error {
	obj, verb := r.Object, "create"
	switch r.Operation {
	case admission.Create:
	case admission.Delete:
		obj, verb = r.Old, "delete"
	default:
		obj, verb = r.Old, "update" // whose it is cannot change
	}
	slice, ok := obj.(*resourcev1.ResourceSlice)
	if !ok {
		return forbidden(r, fmt.Sprintf("unexpected type %T", obj))
	}
	if slice.Spec.NodeName == nil || *slice.Spec.NodeName != self {
		return forbidden(r, "can only "+verb+" ResourceSlice with the same NodeName as the requesting node")
	}
	return nil
}

// token lets a node ask for tokens of its pods only, for audiences that these mount.
func (n *NodeRestriction) token(ctx context.Context, r *admission.Request, self string) error {
	req, ok := r.Object.(*authenticationv1.TokenRequest)
	if !ok {
		return forbidden(r, fmt.Sprintf("unexpected type %T", r.Object))
	}
	to := req.Spec.BoundObjectRef
	switch {
	case to == nil || to.APIVersion != "v1" || to.Kind != "Pod" || to.Name == "":
		return forbidden(r, "node requested token not bound to a pod")
	case to.UID == "":
		return forbidden(r, "node requested token with a pod binding without a uid")
	}
	pod, err := n.pods.Pods(r.Namespace).Get(to.Name)
	if apierrors.IsNotFound(err) {
		pod, err = n.client.CoreV1().Pods(r.Namespace).Get(ctx, to.Name, metav1.GetOptions{})
	}
	switch {
	case apierrors.IsNotFound(err):
		return err
	case err != nil:
		return forbidden(r, err.Error())
	case to.UID != pod.UID:
		return forbidden(r, fmt.Sprintf("the UID in the bound object reference (%s) does not match the UID in record. The object might have been deleted and then recreated", to.UID))
	case pod.Spec.NodeName != self:
		return forbidden(r, "node requested token bound to a pod scheduled on a different node")
	}
	return restrictAudiences(r, req.Spec.Audiences, pod)
}

// restrictAudiences allows what the pod's projected volumes ask for; an empty audience is the API server's.
func restrictAudiences(r *admission.Request, audiences []string, pod *corev1.Pod) error {
	if len(audiences) == 0 {
		audiences = []string{""}
	}
	for _, want := range audiences {
		if !mounts(pod, want) {
			return forbidden(r, fmt.Sprintf("audience %q not found in pod spec volume", want))
		}
	}
	return nil
}

func mounts(pod *corev1.Pod, audience string) bool {
	for _, v := range pod.Spec.Volumes {
		if v.CSI != nil {
			return true // its driver, not the pod, says for whom: not known here
		}
		if v.Projected == nil {
			continue
		}
		for _, s := range v.Projected.Sources {
			if s.ServiceAccountToken != nil && s.ServiceAccountToken.Audience == audience {
				return true
			}
		}
	}
	return false
}
