// Package kinds describes what the server knows about each kind of object: how it is named, stored, defaulted,
// validated, reset, selected and shown. One file per kind lives below, in a package per API group; package builtin
// lists them. Nothing here does I/O.
//
// Read kind.go (the description), new.go (from a typed description to a Kind), set.go (the served kinds), codec.go
// (stored and served forms).
package kinds

import (
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Object is what every API object is: a pointer to a k8s.io/api struct or an *unstructured.Unstructured.
type Object interface {
	metav1.Object
	runtime.Object
}

// Spec describes one built-in kind in the terms of its Go struct T; P is *T. New turns it into a Kind.
// Only GVK, Plural and NewList are required. All functions are pure.
type Spec[T any, P interface {
	*T
	Object
}] struct {
	GVK        schema.GroupVersionKind // the hub: stored and held in memory in this version
	Plural     string
	Singular   string // lower-cased kind unless set
	ShortNames []string
	Categories []string
	Namespaced bool
	Prefix     string // etcd prefix with trailing slash; "<plural>/" unless set (upstream's irregular names go here)
	Versions   []Version
	NewList    func() runtime.Object
	Verbs      []string // all eight unless set
	Virtual    bool     // never stored: a create is answered by a handler (reviews, bindings), a get or list computed (metrics)
	Deprecated string   // what every request for the kind is warned with; "": nothing

	Default        func(obj P)                               // fills what the user left out
	PrepareCreate  func(obj P)                               // drops what a create may not set (status), sets what it must
	Author         func(obj P, by authenticationv1.UserInfo) // a create, after PrepareCreate: records who asks for it
	Stamp          func(obj P, now time.Time)                // a create or update, after its preparation: dates what is new in it
	PrepareUpdate  func(obj, old P)                          // restores what an update may not change (status), bumps generation
	Validate       func(obj P) field.ErrorList               // a create
	ValidateUpdate func(obj, old P) field.ErrorList          // an update; nil: Validate(obj) alone
	Warnings       func(obj, old P) []string                 // shown to the client as Warning headers; old nil on create
	Columns        []metav1.TableColumnDefinition            // nil: Name and Created At, as upstream's default table
	Cells          func(obj P, now time.Time) []any          // one value per column
	Fields         map[string]func(obj P) string             // selectable fields besides metadata.name and metadata.namespace
	Indexed        []string                                  // names in Fields that many watchers select by equality
	TTL            func(obj P) time.Duration                 // nil: never expires
	Grace          func(obj P, asked *int64) int64           // seconds of graceful deletion; nil: none, gone at once
	NameRule       func(name string, prefix bool) []string   // nil: DNS subdomain
	CreateOnUpdate bool                                      // PUT to an absent name creates it
	ReturnDeleted  bool                                      // a delete answers with the object's last state, not with a Status
	StrictUpdate   bool                                      // an update without resourceVersion is refused
	Generation     bool                                      // create sets metadata.generation to 1; PrepareUpdate bumps it
	Subresources   []Subresource
	Scale          *ScalePaths
}

// Version is another served version of a kind, converted to and from the hub.
type Version struct {
	Group   string // "" for the hub's group; set where two groups share one store (events)
	Version string
	New     func() runtime.Object
	NewList func() runtime.Object
	ToHub   func(in runtime.Object) (runtime.Object, error)
	FromHub func(hub runtime.Object) (runtime.Object, error)
	Default func(in runtime.Object) // this version's own defaults, before ToHub

	// What a write in this version has to keep to besides the hub's rules; nil: nothing.
	Validate       func(hub Object) field.ErrorList
	ValidateUpdate func(hub, old Object) field.ErrorList
}

// Subresource is a path below an object. The generic ones (status, scale) are served from what is said here; connecting ones
// (log, exec, portforward, proxy, binding, eviction, token, finalize, approval) have a handler of their own in the API server, found by Name.
type Subresource struct {
	Name           string
	GVK            schema.GroupVersionKind // kind of the body; zero: the parent's
	New            func() runtime.Object   // an empty body; nil: the parent's, or (connect options) read from the query
	Verbs          []string
	PrepareUpdate  func(obj, old Object) // keeps of old everything this subresource may not write
	ValidateUpdate func(obj, old Object) field.ErrorList
	Stamp          func(obj, old Object, now time.Time) // after PrepareUpdate: sets what tells when it was written; nil: nothing
}

// ScalePaths reads and writes what autoscaling/v1 Scale shows of a kind.
type ScalePaths struct {
	Replicas    func(obj Object) (spec, status int32)
	Selector    func(obj Object) string // label selector in query form
	SetReplicas func(obj Object, n int32)
}

// Kind is Spec with its type erased: what the server works with. Custom resources are Kinds too. Immutable.
//
// A Kind made by New has every function set except Author, Stamp, TTL and Grace. Its Validate and ValidateUpdate include the rules of
// metadata; ValidateUpdate wants obj's resourceVersion filled in (an unconditional update takes over old's).
type Kind struct {
	GVK                           schema.GroupVersionKind
	Plural, Singular, ListKind    string
	ShortNames, Categories, Verbs []string
	Namespaced                    bool
	Prefix                        string
	Versions                      []Version
	New, NewList                  func() runtime.Object
	Default                       func(Object)
	PrepareCreate                 func(Object)
	Author                        func(obj Object, by authenticationv1.UserInfo) // nil: the object does not say
	Stamp                         func(obj Object, now time.Time)                // nil: nothing in it is dated
	PrepareUpdate                 func(obj, old Object)
	Validate                      func(Object) field.ErrorList
	ValidateUpdate                func(obj, old Object) field.ErrorList
	Warnings                      func(obj, old Object) []string
	Columns                       []metav1.TableColumnDefinition
	Cells                         func(Object, time.Time) []any
	Fields                        map[string]func(Object) string
	Indexed                       []string
	TTL                           func(Object) time.Duration           // nil: never
	Grace                         func(obj Object, asked *int64) int64 // nil: none
	NameRule                      func(name string, prefix bool) []string
	CreateOnUpdate, StrictUpdate  bool
	ReturnDeleted                 bool
	Virtual                       bool
	Deprecated                    string
	Generation                    bool
	Subresources                  []Subresource
	Scale                         *ScalePaths
}
