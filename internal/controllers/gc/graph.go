package gc

import (
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// kind is what the objects of one resource share.
type kind struct {
	resource schema.GroupVersionResource
	gvk      schema.GroupVersionKind
}

// node is an object as the graph knows it. Owned by the graph; copies leave it.
type node struct {
	*kind
	namespace string // "" for cluster-scoped objects
	name      string
	uid       types.UID

	owners     []metav1.OwnerReference
	dependents map[types.UID]*node // nil: none, as most objects have

	deleting   bool // has a deletionTimestamp
	foreground bool // … and waits for its dependents (finalizer foregroundDeletion)
	orphaning  bool // … and lets its dependents go first (finalizer orphan)
}

// graph is who owns whom, over all watched resources. Owned by the Collector, which locks.
type graph struct {
	byUID map[types.UID]*node
	// waiting are the dependents whose owner is not in the graph, by the owner's UID. The owners themselves are unknown
	// objects: whether they exist is asked from the server.
	waiting map[types.UID]map[types.UID]*node
}

func newGraph() *graph {
	return &graph{byUID: map[types.UID]*node{}, waiting: map[types.UID]map[types.UID]*node{}}
}

// observe puts an object's present state into the graph and returns the UIDs that must be looked at.
func (g *graph) observe(n *node) []types.UID {
	look := map[types.UID]bool{}
	old := g.byUID[n.uid]
	if old != nil {
		n.dependents = old.dependents
		for _, ref := range old.owners {
			if !slices.ContainsFunc(n.owners, func(r metav1.OwnerReference) bool { return r.UID == ref.UID }) {
				g.detach(n.uid, ref.UID)
				look[ref.UID] = true // it may have waited for this one
			}
		}
	} else {
		n.dependents = g.waiting[n.uid]
		delete(g.waiting, n.uid)
		// A reference with the right UID but another name, kind or namespace is as good as none: look at who holds it.
		for uid, d := range n.dependents {
			if !d.mayBeOwnedBy(n) {
				look[uid] = true
			}
		}
	}
	g.byUID[n.uid] = n
	for _, ref := range n.owners {
		g.attach(n, ref.UID)
		owner := g.byUID[ref.UID]
		switch {
		case owner == nil, owner.deleting, !n.mayBeOwnedBy(owner):
			look[n.uid] = true
		}
		if owner != nil && owner.foreground {
			look[owner.uid] = true // blockOwnerDeletion may have been taken back
		}
	}
	if n.foreground || n.orphaning {
		look[n.uid] = true
	}
	return slices.Collect(maps.Keys(look))
}

// forget takes an object that was deleted out of the graph and returns the UIDs that must be looked at.
func (g *graph) forget(uid types.UID) []types.UID {
	n := g.byUID[uid]
	if n == nil {
		return nil
	}
	delete(g.byUID, uid)
	delete(n.dependents, uid) // an object may own itself, of all things
	var look []types.UID
	for _, ref := range n.owners {
		g.detach(uid, ref.UID)
		if owner := g.byUID[ref.UID]; owner != nil && (owner.foreground || owner.orphaning) {
			look = append(look, owner.uid)
		}
	}
	if len(n.dependents) > 0 {
		g.waiting[uid] = n.dependents
		look = slices.AppendSeq(look, maps.Keys(n.dependents))
	}
	return look
}

func (g *graph) attach(n *node, owner types.UID) {
	if o := g.byUID[owner]; o != nil {
		if o.dependents == nil {
			o.dependents = map[types.UID]*node{}
		}
		o.dependents[n.uid] = n
		return
	}
	if g.waiting[owner] == nil {
		g.waiting[owner] = map[types.UID]*node{}
	}
	g.waiting[owner][n.uid] = n
}

func (g *graph) detach(uid, owner types.UID) {
	if o := g.byUID[owner]; o != nil {
		delete(o.dependents, uid)
		return
	}
	if w := g.waiting[owner]; w != nil {
		delete(w, uid)
		if len(w) == 0 {
			delete(g.waiting, owner)
		}
	}
}

// mayBeOwnedBy reports whether n's reference to o means o: the same name, kind and group, and a namespace that n may refer to.
func (n *node) mayBeOwnedBy(o *node) bool {
	for _, ref := range n.owners {
		if ref.UID == o.uid {
			return o.matches(ref) && (o.namespace == "" || o.namespace == n.namespace)
		}
	}
	return false
}

// matches reports whether ref names this object. Versions do not matter: the same object has several.
func (n *node) matches(ref metav1.OwnerReference) bool {
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	return err == nil && gv.Group == n.gvk.Group && ref.Kind == n.gvk.Kind && ref.Name == n.name
}

func (n *node) reference(owner types.UID) *metav1.OwnerReference {
	for i := range n.owners {
		if n.owners[i].UID == owner {
			return &n.owners[i]
		}
	}
	return nil
}

// blocks reports whether n holds back the foreground deletion of owner.
func (n *node) blocks(owner types.UID) bool {
	ref := n.reference(owner)
	return ref != nil && ref.BlockOwnerDeletion != nil && *ref.BlockOwnerDeletion
}
