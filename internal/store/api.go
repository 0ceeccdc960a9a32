package store

import (
	"context"
	"log/slog"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/utils/clock"
)

// Config says what a Store works on. Etcd, Log and Clock are required.
type Config struct {
	Etcd        *clientv3.Client
	Prefix      string // root of all keys in etcd; "/registry/" unless set
	Log         *slog.Logger
	Clock       clock.Clock
	HistoryByte int64         // budget of all event rings and old tree roots; 32 MiB unless set
	JSONByte    int64         // budget of cached JSON encodings; 16 MiB unless set
	Compact     time.Duration // history older than this is compacted away; 5 min unless set, 0 < d
	// FreeSpace returns the bytes free where etcd writes; nil: not checked (external etcd).
	FreeSpace func() (uint64, error)
	Reserve   uint64 // writes other than deletes are refused below this many free bytes; 256 MiB unless set
}

// ResourceConfig says how one resource is stored, read back and selected.
type ResourceConfig struct {
	Name        schema.GroupResource
	Prefix      string // below Config.Prefix, with trailing slash: "pods/", "minions/"
	Namespaced  bool
	Codec       Codec
	Transformer Transformer                        // nil: stored in plain
	Fields      func(runtime.Object) fields.Set    // selectable fields besides metadata.name and metadata.namespace; may be nil
	Indexed     []string                           // names in Fields whose equality watchers are woken by value: "spec.nodeName"
	KeepDecoded bool                               // an in-process informer reads it: keep the decoded object
	TTL         func(runtime.Object) time.Duration // nil: never expires
}

// Codec converts between an object in its hub version, its stored form and its served form. Safe for concurrent use.
type Codec interface {
	// Encode returns the stored form, before encryption, and what Serve returns, which may be a part of it. obj's
	// resourceVersion must be empty.
	Encode(obj runtime.Object) (stored, served []byte, err error)
	// Decode returns a fresh, defaulted object; its resourceVersion is empty.
	Decode(stored []byte) (runtime.Object, error)
	// Serve returns obj as an element of a list response: hub version, without kind and apiVersion. Protobuf message
	// without envelope for built-in kinds, JSON for custom resources.
	Serve(obj runtime.Object) ([]byte, error)
	// WithRevision returns a copy of served whose resourceVersion is revision, whatever it was before.
	WithRevision(served []byte, revision int64) ([]byte, error)
	// Same says whether two served forms are of objects that differ in nothing but resourceVersion.
	Same(a, b []byte) bool
	// Parse is the inverse of Serve: a fresh object, resourceVersion included.
	Parse(served []byte) (runtime.Object, error)
	// JSON returns obj as JSON without kind and apiVersion.
	JSON(obj runtime.Object) ([]byte, error)
}

// Transformer encrypts and decrypts values on their way to and from etcd; key is the full etcd key (authenticated data).
type Transformer interface {
	ToStorage(ctx context.Context, plain []byte, key string) ([]byte, error)
	// FromStorage also says whether the value should be written again under the present key.
	FromStorage(ctx context.Context, stored []byte, key string) (plain []byte, stale bool, err error)
}

// Selector picks entries; zero fields pick everything.
type Selector struct {
	Namespace string
	Labels    labels.Selector
	Fields    fields.Selector
}

// Match is how ListOptions.Revision is meant.
type Match int

// The read rules of metav1.ListOptions: see design.md, "How the store works".
const (
	Consistent   Match = iota // at least as new as every write acknowledged before the read began; Revision is ignored
	Any                       // whatever is applied now
	NotOlderThan              // wait up to 3 s until Revision is applied
	Exact                     // the state at Revision
)

// ListOptions says what to list, how fresh, and which page.
type ListOptions struct {
	Selector
	Match    Match
	Revision int64
	Limit    int64  // 0: no limit
	Continue string // token of the page before
}

// List is one page.
type List struct {
	Entries   []*Entry
	Revision  int64
	Continue  string // "" on the last page
	Remaining *int64 // entries after this page; nil when unknown (a selector is set) or zero
}

// WatchOptions says what to watch and from where. Revision 0: synthetic ADDED events for the present state, then what follows.
type WatchOptions struct {
	Selector
	Revision      int64
	InitialEvents bool // sendInitialEvents: the state at least as new as Revision as ADDED events, then a bookmark with k8s.io/initial-events-end
	Consistent    bool // with InitialEvents and no revision given: the state must be consistent
	Bookmarks     bool // send Bookmark events about once a minute and before the watch ends
}

// Event is one change as a watcher sees it: after its selector (an object that leaves it is Deleted).
type Event struct {
	Type     watch.EventType
	Entry    *Entry // Deleted: last state that matched, carrying the revision of the change. nil for Bookmark
	Revision int64
	Initial  bool // Bookmark only: the one that closes the initial events
}

// Change is one key's part of a transaction.
type Change struct {
	Resource  *Resource
	Namespace string // "" for cluster-scoped
	Name      string
	Was       *Entry         // the state the change was computed from; nil: the key must be absent
	Now       runtime.Object // the state to store, owned by the store from here on and never mutated again; nil: delete
}
