// Package node authorizes node agents: each may read what its own pods use, write what describes itself, and nothing of
// other nodes.
//
// graph.go keeps which pod runs where and what it uses, refs.go finds that in a pod.
package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"canopus/internal/auth"
	"canopus/internal/auth/policy"
	"canopus/internal/auth/rbac"
	"canopus/internal/localvolume"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
)

// leaseNamespace is where nodes keep their heartbeats.
const leaseNamespace = "kube-node-lease"

// Config says what an Authorizer works on. Informers is required and must not have been started.
type Config struct {
	Informers informers.SharedInformerFactory
	// Volumes says that PersistentVolumes and VolumeAttachments are served: they are followed then, else nodes get none.
	Volumes bool
}

// Authorizer is an auth.Authorizer for users of group system:nodes named system:node:<name>. Until Synced it allows too little.
type Authorizer struct {
	graph  *graph
	rules  []rbacv1.PolicyRule // what is not narrowed to the node
	synced []cache.InformerSynced
}

// New makes an Authorizer that follows c's informers; somebody else runs these.
func New(c Config) (*Authorizer, error) {
	if c.Informers == nil {
		return nil, errors.New("node authorizer: informers are required")
	}
	a := &Authorizer{graph: newGraph(), rules: unnarrowed(policy.NodeRules())}
	err := a.follow(c.Informers.Core().V1().Pods().Informer(), a.graph.podHandler())
	if c.Volumes {
		err = errors.Join(err,
			a.follow(c.Informers.Core().V1().PersistentVolumes().Informer(), a.graph.volumeHandler()),
			a.follow(c.Informers.Storage().V1().VolumeAttachments().Informer(), a.graph.attachmentHandler()))
	}
	return a, err
}

func (a *Authorizer) follow(i cache.SharedIndexInformer, h cache.ResourceEventHandler) error {
	reg, err := i.AddEventHandler(h)
	if err != nil {
		return fmt.Errorf("follow what nodes use: %w", err)
	}
	a.synced = append(a.synced, reg.HasSynced)
	return nil
}

// Synced says whether everything that was there at the start has been seen.
func (a *Authorizer) Synced() bool {
	for _, synced := range a.synced {
		if !synced() {
			return false
		}
	}
	return true
}

// Name returns the node that u is the agent of. ok is false when u is no node; a node's name may still be empty.
func Name(u *auth.User) (name string, ok bool) {
	if u == nil {
		return "", false
	}
	name, ok = strings.CutPrefix(u.Name, auth.NodeUserPrefix)
	return name, ok && u.InGroup(auth.NodesGroup)
}

// unnarrowed drops the rules on resources that decide treats by itself.
func unnarrowed(rules []rbacv1.PolicyRule) []rbacv1.PolicyRule {
	var rest []rbacv1.PolicyRule
	for _, r := range rules {
		var resources []string
		for _, name := range r.Resources {
			parent, _, _ := strings.Cut(name, "/")
			if !narrowed(r.APIGroups[0], parent) {
				resources = append(resources, name)
			}
		}
		if len(resources) > 0 {
			r.Resources = resources
			rest = append(rest, r)
		}
	}
	return rest
}

func narrowed(group, resource string) bool {
	switch group + "/" + resource {
	case "/secrets", "/configmaps", "/persistentvolumeclaims", "/persistentvolumes", "/serviceaccounts", "/pods", "/nodes",
		"storage.k8s.io/volumeattachments", "storage.k8s.io/csinodes", "coordination.k8s.io/leases",
		"resource.k8s.io/resourceclaims", "resource.k8s.io/resourceslices":
		return true
	}
	return false
}

// patience is how long a node that asks for what its pods do not use waits for the pod that does: its own watch may have shown the
// pod before the graph's did.
const patience = 300 * time.Millisecond

// Authorize implements auth.Authorizer.
func (a *Authorizer) Authorize(ctx context.Context, at *auth.Attributes) (auth.Decision, string, error) {
	name, ok := Name(at.User)
	if !ok {
		return auth.NoOpinion, "", nil
	}
	if name == "" {
		return auth.NoOpinion, fmt.Sprintf("unknown node for user %q", at.User.Name), nil
	}
	if !at.IsResource {
		return auth.NoOpinion, "", nil
	}
	refused := a.decide(name, at)
	if refused == unrelated(name) && a.graph.await(ctx, name, refOf(at)) {
		refused = ""
	}
	if refused != "" {
		return auth.NoOpinion, refused, nil
	}
	return auth.Allow, "", nil
}

// decide returns why the node may not, or "".
func (a *Authorizer) decide(node string, at *auth.Attributes) string {
	switch at.Group {
	case "":
		return a.decideCore(node, at)
	case "storage.k8s.io":
		switch at.Resource {
		case "volumeattachments":
			return a.related(node, at, "get")
		case "csinodes":
			return own(node, at, at.Subresource == "", "csinode", "get create update patch delete")
		}
	case "certificates.k8s.io":
		switch at.Resource {
		case "clustertrustbundles":
			if at.Subresource == "" && among("get list watch", at.Verb) {
				return ""
			}
		case "podcertificaterequests":
			return podCertificates(node, at)
		}
	case "coordination.k8s.io":
		if at.Resource == "leases" {
			return own(node, at, at.Subresource == "" && at.Namespace == leaseNamespace, "lease", "get create update patch delete")
		}
	case "resource.k8s.io":
		switch at.Resource {
		case "resourceclaims":
			return a.related(node, at, "get")
		case "resourceslices":
			return resourceSlices(node, at)
		}
	}
	return a.general(at)
}

func (a *Authorizer) decideCore(node string, at *auth.Attributes) string {
	switch at.Resource {
	case "secrets", "configmaps":
		return a.related(node, at, "get list watch")
	case "persistentvolumes":
		return a.volumes(node, at)
	case "persistentvolumeclaims":
		if at.Subresource == "status" {
			return a.uses(node, at, "get update patch")
		}
		return a.related(node, at, "get")
	case "serviceaccounts":
		if at.Subresource == "token" {
			return a.uses(node, at, "create")
		}
		return a.related(node, at, "get")
	case "pods":
		return a.pods(node, at)
	case "nodes":
		return nodes(node, at)
	}
	return a.general(at)
}

func (a *Authorizer) general(at *auth.Attributes) string {
	if rbac.Allows(a.rules, at) {
		return ""
	}
	return "no rule for nodes covers this"
}

// related allows verbs on single objects that the node's pods use, but on none of their subresources.
func (a *Authorizer) related(node string, at *auth.Attributes, verbs string) string {
	if at.Subresource != "" {
		return "cannot access subresources of this object"
	}
	return a.uses(node, at, verbs)
}

func (a *Authorizer) uses(node string, at *auth.Attributes, verbs string) string {
	switch {
	case !among(verbs, at.Verb):
		return "can only use the verbs " + strings.ReplaceAll(verbs, " ", ", ") + " on this object"
	case at.Name == "":
		return "no object name found: name it or select it by metadata.name"
	case !a.graph.uses(node, refOf(at)):
		return unrelated(node)
	}
	return ""
}

func unrelated(node string) string {
	return fmt.Sprintf("no relationship found between node '%s' and this object", node)
}

func refOf(at *auth.Attributes) ref {
	return ref{resource: at.Resource, namespace: at.Namespace, name: at.Name}
}

// volumes: a node reads those that its pods use and those that are directories of its own, and lets the latter go. What it
// may change of them is the NodeRestriction admission's to say.
func (a *Authorizer) volumes(node string, at *auth.Attributes) string {
	switch {
	case at.Subresource == "" && at.Verb == "patch":
		return ""
	case at.Subresource == "" && among("list watch", at.Verb):
		if labelled(at, localvolume.NodeLabel, node) {
			return ""
		}
		return "can only list and watch persistent volumes with label selector " + localvolume.NodeLabel + "=" + node
	}
	return a.related(node, at, "get")
}

// pods: a node reads and ends the pods bound to it. What it may create or delete is the NodeRestriction admission's to say.
func (a *Authorizer) pods(node string, at *auth.Attributes) string {
	switch at.Subresource {
	case "":
	case "status":
		if among("update patch", at.Verb) {
			return ""
		}
		return "can only update and patch the status of pods"
	case "eviction":
		if at.Verb == "create" {
			return ""
		}
		return "can only create evictions"
	default:
		return "cannot access this subresource of pods"
	}
	switch at.Verb {
	case "create", "delete":
		return ""
	case "get":
		return a.uses(node, at, "get")
	case "list", "watch":
		if selects(at, "spec.nodeName", node) || at.Name != "" && a.uses(node, at, "list watch") == "" {
			return ""
		}
		return "can only list and watch pods with field selector spec.nodeName=" + node
	}
	return "can only get, list, watch, create and delete pods"
}

func nodes(node string, at *auth.Attributes) string {
	if at.Subresource == "status" {
		if !among("update patch", at.Verb) {
			return "can only update and patch the status of the own node"
		}
		return named(node, at, "node")
	}
	switch {
	case at.Subresource != "":
		return "cannot access this subresource of nodes"
	case at.Verb == "create":
		if at.Name == "" {
			return "" // the name is in the body: NodeRestriction looks at it
		}
		return named(node, at, "node")
	case among("list watch", at.Verb) && selects(at, "metadata.name", node):
		return ""
	case among("get list watch update patch", at.Verb):
		return named(node, at, "node")
	}
	return "can only create, get, list, watch, update and patch the own node"
}

// own allows verbs on the one object that is called like the node; a create may leave the name to the body.
func own(node string, at *auth.Attributes, place bool, what, verbs string) string {
	switch {
	case !place:
		return "can only access the node's own " + what
	case !among(verbs, at.Verb):
		return "can only use the verbs " + strings.ReplaceAll(verbs, " ", ", ") + " on the own " + what
	case at.Verb == "create" && at.Name == "":
		return ""
	}
	return named(node, at, what)
}

func named(node string, at *auth.Attributes, what string) string {
	if at.Name == node {
		return ""
	}
	return fmt.Sprintf("node '%s' can only access the %s with its own name", node, what)
}

// resourceSlices: these name their node in a field that lists can select by; NodeRestriction checks what is written.
func resourceSlices(node string, at *auth.Attributes) string {
	switch {
	case at.Subresource != "":
		return "cannot access subresources of resource slices"
	case among("get create update patch delete", at.Verb):
		return ""
	case among("list watch deletecollection", at.Verb) && selects(at, "spec.nodeName", node):
		return ""
	}
	return "can only list, watch and delete resource slices with field selector spec.nodeName=" + node
}

// podCertificates: as resource slices; for which pods a node asks is NodeRestriction's to check.
func podCertificates(node string, at *auth.Attributes) string {
	switch {
	case at.Subresource != "":
		return "cannot access subresources of pod certificate requests"
	case at.Verb == "create", among("list watch", at.Verb) && selects(at, "spec.nodeName", node):
		return ""
	}
	return "can only create pod certificate requests, and list and watch them with field selector spec.nodeName=" + node
}

func selects(at *auth.Attributes, field, value string) bool {
	for _, r := range at.Fields {
		if r.Field == field && r.Value == value && (r.Operator == "=" || r.Operator == "==") {
			return true
		}
	}
	return false
}

// labelled says whether a list or watch is restricted to objects whose label has this very value.
func labelled(at *auth.Attributes, label, value string) bool {
	for i := range at.Labels {
		r := &at.Labels[i]
		switch r.Operator() {
		case selection.Equals, selection.DoubleEquals, selection.In:
			if values := r.ValuesUnsorted(); r.Key() == label && len(values) == 1 && values[0] == value {
				return true
			}
		}
	}
	return false
}

func among(verbs, verb string) bool {
	for v := range strings.SplitSeq(verbs, " ") {
		if v == verb {
			return true
		}
	}
	return false
}
