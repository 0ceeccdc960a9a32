package apiserver

import (
	"fmt"
	"slices"
	"time"

	"canopus/internal/apiserver/discovery"
	"canopus/internal/apiserver/openapi"
	"canopus/internal/apiserver/patch"
	"canopus/internal/kinds"
	"canopus/internal/store"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// catalog is the served set with what the server needs at hand for each entry. Immutable; SetKinds swaps it.
type catalog struct {
	set       *kinds.Set
	paths     map[pathKey]*endpoint
	groups    map[schema.GroupVersion]bool
	stored    map[schema.GroupResource]*stored
	owners    ownersCache
	documents *discovery.Documents
	openapi   *openapi.Documents
}

// pathKey is what a path names.
type pathKey struct{ group, version, plural string }

// stored is a kind with its place in the store. res is nil for kinds that are never stored.
type stored struct {
	kind *kinds.Kind
	res  *store.Resource
}

func (s *stored) resource() *store.Resource {
	if s == nil {
		return nil
	}
	return s.res
}

// endpoint is one kind in one served version.
type endpoint struct {
	kinds.Served
	*stored
	gvr      schema.GroupVersionResource
	gr       schema.GroupResource // as errors name it: of the path, not of the hub
	head     head
	listHead head
	proto    bool // this version has a protobuf form
	raw      bool // the store's bytes are this version's: nothing needs decoding to be served
	patches  []types.PatchType
}

// SetKinds serves another set from now on: kinds that are new are registered with the store, kinds that are gone are forgotten.
func (s *Server) SetKinds(set *kinds.Set) error {
	old := s.served.Load()
	c := &catalog{set: set, paths: map[pathKey]*endpoint{}, groups: map[schema.GroupVersion]bool{}, stored: map[schema.GroupResource]*stored{}}
	for _, k := range set.Kinds() {
		st, err := s.place(old, k)
		if err != nil {
			return err
		}
		c.stored[k.GroupResource()] = st
	}
	for _, v := range set.Served() {
		ep := newEndpoint(v, c.stored[v.Kind.GroupResource()])
		c.paths[pathKey{v.GVK.Group, v.GVK.Version, v.Kind.Plural}] = ep
		c.groups[v.GVK.GroupVersion()] = true
	}
	documents, err := discovery.New(set, s.address())
	if err != nil {
		return fmt.Errorf("describe the served kinds: %w", err)
	}
	c.documents = documents
	if c.openapi, err = openapi.New(set); err != nil {
		return err
	}
	s.served.Store(c)
	s.forget(old, c)
	return nil
}

// place finds or makes a kind's place in the store.
func (s *Server) place(old *catalog, k *kinds.Kind) (*stored, error) {
	if old != nil {
		if st := old.stored[k.GroupResource()]; st != nil && st.kind == k {
			return st, nil
		}
	}
	st := &stored{kind: k}
	if k.Virtual {
		return st, nil
	}
	if old != nil && old.stored[k.GroupResource()].resource() != nil {
		s.cfg.Store.Unregister(old.stored[k.GroupResource()].res)
	}
	res, err := s.cfg.Store.Register(s.resourceConfig(k))
	if err != nil {
		return nil, fmt.Errorf("register %s with the store: %w", k.GroupResource(), err)
	}
	st.res = res
	return st, nil
}

func (s *Server) forget(old, now *catalog) {
	if old == nil {
		return
	}
	for gr, st := range old.stored {
		if now.stored[gr] == nil && st.res != nil {
			s.cfg.Store.Unregister(st.res)
		}
	}
}

func (s *Server) resourceConfig(k *kinds.Kind) store.ResourceConfig {
	gr := k.GroupResource()
	c := store.ResourceConfig{
		Name: gr, Prefix: k.Prefix, Namespaced: k.Namespaced, Codec: kinds.NewCodec(k), Indexed: k.Indexed,
	}
	if s.cfg.Transformer != nil {
		c.Transformer = s.cfg.Transformer(gr)
	}
	if s.cfg.Informed != nil {
		c.KeepDecoded = s.cfg.Informed(gr)
	}
	if len(k.Fields) > 0 {
		c.Fields = func(o runtime.Object) fields.Set {
			obj := o.(kinds.Object)
			set := make(fields.Set, len(k.Fields))
			for name, get := range k.Fields {
				set[name] = get(obj)
			}
			return set
		}
	}
	if k.TTL != nil {
		c.TTL = ttlOf(k)
	}
	return c
}

func newEndpoint(v kinds.Served, st *stored) *endpoint {
	ep := &endpoint{Served: v, stored: st, gvr: v.GVR(), gr: v.GVR().GroupResource(),
		head: newHead(v.GVK), listHead: newHead(v.GVK.GroupVersion().WithKind(v.Kind.ListKind))}
	sample := v.New()
	_, ep.proto = sample.(protoMessage)
	ep.patches = patch.Types(sample)
	ep.raw = v.Hub()
	return ep
}

// supports says whether the kind is served with a verb.
func (ep *endpoint) supports(verb string) bool { return slices.Contains(ep.Kind.Verbs, verb) }

func ttlOf(k *kinds.Kind) func(runtime.Object) time.Duration {
	return func(o runtime.Object) time.Duration { return k.TTL(o.(kinds.Object)) }
}
