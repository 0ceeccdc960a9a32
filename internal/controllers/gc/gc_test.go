package gc

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

func refs(uids ...types.UID) []metav1.OwnerReference {
	var out []metav1.OwnerReference
	for _, uid := range uids {
		yes := true
		out = append(out, metav1.OwnerReference{APIVersion: "v1", Kind: "Thing", Name: string(uid), UID: uid, BlockOwnerDeletion: &yes})
	}
	return out
}

func thing(name string, owners ...types.UID) *node {
	return &node{
		kind:      &kind{schema.GroupVersionResource{Version: "v1", Resource: "things"}, schema.GroupVersionKind{Version: "v1", Kind: "Thing"}},
		namespace: "a", name: name, uid: types.UID(name), owners: refs(owners...),
	}
}

func TestPlan(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		o    observed
		want string
	}{
		{"no owner", observed{}, "nothing"},
		{"owner stays", observed{owners: refs("a"), fates: map[types.UID]fate{"a": solid}}, "nothing"},
		{"only owner is gone", observed{owners: refs("a"), fates: map[types.UID]fate{"a": absent}}, "delete"},
		{"one of two is gone", observed{owners: refs("a", "b"), fates: map[types.UID]fate{"a": absent, "b": solid}}, "drop [a]"},
		{"one waits, one stays", observed{owners: refs("a", "b"), fates: map[types.UID]fate{"a": waiting, "b": solid}}, "drop [a]"},
		{"owner waits", observed{owners: refs("a"), fates: map[types.UID]fate{"a": waiting}}, "delete"},
		{"owner waits, has dependents", observed{owners: refs("a"), fates: map[types.UID]fate{"a": waiting}, dependents: 2}, "delete Foreground"},
		{"a circle that waits", observed{owners: refs("a"), fates: map[types.UID]fate{"a": waiting}, dependents: 1, cycle: true}, "delete Foreground unblocked"},
		{"being deleted", observed{deleting: true, owners: refs("a"), fates: map[types.UID]fate{"a": absent}}, "nothing"},
		{"foreground, blocked", observed{deleting: true, foreground: true, dependents: 3, blocking: 1}, "children"},
		{"foreground, free", observed{deleting: true, foreground: true, dependents: 2}, "finish"},
		{"orphaning", observed{deleting: true, orphaning: true, dependents: 2}, "release"},
	} {
		if got := plan(tc.o).text(); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}

func (a actions) text() string {
	switch a.step {
	case deleteSelf:
		s := strings.TrimSpace("delete " + string(a.propagation))
		if a.unblock {
			s += " unblocked"
		}
		return s
	case dropOwners:
		return fmt.Sprint("drop ", a.drop)
	case releaseChildren:
		return "release"
	case finish:
		return "finish"
	case collectChildren:
		return "children"
	case nothing:
	}
	return "nothing"
}

// TestWhoIsLookedAt: the graph names every object whose fate may have changed.
func TestWhoIsLookedAt(t *testing.T) {
	t.Parallel()
	g := newGraph()
	expect := func(what string, got []types.UID, want ...types.UID) {
		t.Helper()
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	expect("a dependent before its owner", g.observe(thing("pod", "set")), "pod")
	expect("its owner", g.observe(thing("set", "deployment")), "set")
	expect("the owner's owner", g.observe(thing("deployment")))
	expect("nothing new", g.observe(thing("pod", "set")))
	expect("the owner goes", g.forget("set"), "pod")
	expect("an unknown object goes", g.forget("set"))
	elsewhere := thing("set", "deployment")
	elsewhere.namespace = "b"
	expect("the owner's UID in another namespace", g.observe(elsewhere), "pod", "set")
	g.forget("set")
	waits := thing("deployment")
	waits.deleting, waits.foreground = true, true
	g.observe(thing("set", "deployment"))
	expect("foreground deletion", g.observe(waits), "deployment")
	expect("the last dependent goes", g.forget("set"), "deployment", "pod")
	expect("the reference is given up", g.observe(thing("pod")), "set")
}

// TestGraphIsTheSameInAnyOrder: events of different kinds come in any order; what is left is who owns whom.
func TestGraphIsTheSameInAnyOrder(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 4))
		objects := map[string]*node{}
		for i := range 12 {
			var owners []types.UID
			for range r.IntN(3) {
				owners = append(owners, types.UID(fmt.Sprint("o", r.IntN(14))))
			}
			slices.Sort(owners)
			name := fmt.Sprint("o", i)
			objects[name] = thing(name, slices.Compact(owners)...)
		}
		g := newGraph()
		for range 60 {
			name := fmt.Sprint("o", r.IntN(12))
			if r.IntN(3) == 0 {
				g.forget(types.UID(name))
			} else {
				g.observe(thing(name, types.UID(fmt.Sprint("o", r.IntN(14)))))
			}
		}
		for _, o := range objects {
			c := *o
			g.observe(&c)
		}
		for uid, n := range g.byUID {
			for owner := range objects {
				_, has := g.byUID[types.UID(owner)].dependents[uid]
				if want := n.reference(types.UID(owner)) != nil; has != want {
					t.Fatalf("seed %d: %s among the dependents of %s: %v, want %v", seed, uid, owner, has, want)
				}
			}
		}
		for owner := range g.waiting {
			if g.byUID[owner] != nil {
				t.Fatalf("seed %d: %s is there and waited for", seed, owner)
			}
		}
	}
}
