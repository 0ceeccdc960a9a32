package store

import (
	"sync/atomic"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
)

// Entry is one object at one revision. Immutable and shared by every list, watch and informer: change nothing that
// hangs off it.
type Entry struct {
	Namespace string // "" for cluster-scoped
	Name      string
	Revision  int64      // etcd's mod revision: the object's resourceVersion
	Labels    labels.Set // of the object; never changed, and shared with objects that have equal ones
	Stale     bool       // stored under an old encryption key: an update should write it again even when nothing changed

	resource *Resource
	key      string // "namespace/name" or "name": the key below the resource's prefix
	shared   *labelSet
	body     []byte
	values   []fieldValue                   // what ResourceConfig.Fields returned, sorted by name
	object   atomic.Pointer[runtime.Object] // decoded form; set when the resource keeps decoded objects
	json     atomic.Pointer[jsonCell]
}

type fieldValue struct{ name, value string }

// Body returns the served encoding (see Codec.Serve), resourceVersion included. Shared: never change it.
func (e *Entry) Body() []byte { return e.body }

// Object returns the decoded object, resourceVersion included. It may be shared by everybody: never change it; DeepCopy first.
func (e *Entry) Object() (runtime.Object, error) {
	if o := e.object.Load(); o != nil {
		return *o, nil
	}
	obj, err := e.resource.c.Codec.Parse(e.body)
	if err != nil {
		return nil, e.resource.corrupt(e, err)
	}
	if e.resource.c.KeepDecoded {
		shareLabels(obj, e.shared)
		if !e.object.CompareAndSwap(nil, &obj) {
			if first := e.object.Load(); first != nil { // nil: the history has let go of it in between
				return *first, nil
			}
		}
	}
	return obj, nil
}

// JSON returns the object as JSON without kind and apiVersion. It is made on first use and kept within the store's byte budget.
func (e *Entry) JSON() ([]byte, error) {
	if c := e.json.Load(); c != nil {
		if b := c.load(); b != nil {
			return b, nil
		}
	}
	obj, err := e.Object()
	if err != nil {
		return nil, err
	}
	b, err := e.resource.c.Codec.JSON(obj)
	if err != nil {
		return nil, e.resource.corrupt(e, err)
	}
	e.json.Store(e.resource.store.json.keep(b))
	return b, nil
}

// Fields returns the selectable fields, metadata.name and metadata.namespace included.
func (e *Entry) Fields() fields.Fields { return fieldView{e} }

// fieldView shows an entry to a field selector without building a map.
type fieldView struct{ e *Entry }

func (f fieldView) Has(name string) bool {
	_, ok := f.e.field(name)
	return ok
}

func (f fieldView) Get(name string) string {
	v, _ := f.e.field(name)
	return v
}

func (e *Entry) field(name string) (string, bool) {
	switch name {
	case nameField:
		return e.Name, true
	case namespaceField:
		return e.Namespace, true
	}
	for i := range e.values {
		if e.values[i].name == name {
			return e.values[i].value, true
		}
	}
	return "", false
}

// The fields every resource can be selected by.
const (
	nameField      = "metadata.name"
	namespaceField = "metadata.namespace"
)
