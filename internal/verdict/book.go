package verdict

import (
	"container/list"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"

	"k8s.io/apimachinery/pkg/types"
)

// How many verdicts a Book keeps, for pods that wait and for pods that have a node.
const (
	maxWaiting = 1024
	maxPlaced  = 256
)

// Book keeps the last verdict of each pod. Its methods may be called by several goroutines at once. It serves Path.
type Book struct {
	mu    sync.Mutex
	pages map[types.NamespacedName]*list.Element
	kept  [2]list.List // of *page, the oldest first: waiting and placed
	news  map[types.NamespacedName]bool
	told  chan struct{} // one token while there are news; nil: nobody asks
}

type page struct {
	key    types.NamespacedName
	render func() Verdict
	placed int // index into kept
}

// NewBook returns an empty Book.
func NewBook() *Book { return &Book{pages: map[types.NamespacedName]*list.Element{}} }

// Put notes a verdict in place of the pod's last one. It is rendered when somebody asks; what render reads must not change.
func (b *Book) Put(key types.NamespacedName, placed bool, render func() Verdict) {
	p := &page{key: key, render: render}
	limit := maxWaiting
	if placed {
		p.placed, limit = 1, maxPlaced
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.forget(key)
	b.pages[key] = b.kept[p.placed].PushBack(p)
	if b.kept[p.placed].Len() > limit {
		b.forget(b.kept[p.placed].Front().Value.(*page).key)
	}
	if b.told == nil {
		return
	}
	b.news[key] = true
	select {
	case b.told <- struct{}{}:
	default:
	}
}

func (b *Book) forget(key types.NamespacedName) {
	if e := b.pages[key]; e != nil {
		b.kept[e.Value.(*page).placed].Remove(e)
		delete(b.pages, key)
		delete(b.news, key)
	}
}

// Get returns the last verdict of a pod, if it is still known.
func (b *Book) Get(key types.NamespacedName) (Verdict, bool) {
	b.mu.Lock()
	e := b.pages[key]
	b.mu.Unlock()
	if e == nil {
		return Verdict{}, false
	}
	return e.Value.(*page).render(), true
}

// maxPush is how many bytes one push may have.
const maxPush = 8 << 20

// ServeHTTP answers GET with a verdict, and takes PUT of a list of them from a scheduler elsewhere.
func (b *Book) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodGet:
		b.show(w, r)
	case http.MethodPut:
		var list []Verdict
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxPush)).Decode(&list); err != nil {
			http.Error(w, fmt.Sprintf("a list of verdicts is expected: %v", err), http.StatusBadRequest)
			return
		}
		for _, v := range list {
			b.Put(types.NamespacedName{Namespace: v.Namespace, Name: v.Name}, v.Node != "", func() Verdict { return v })
		}
		w.WriteHeader(http.StatusNoContent)
	default:
		w.Header().Set("Allow", "GET, PUT")
		http.Error(w, "verdicts are read with GET", http.StatusMethodNotAllowed)
	}
}

func (b *Book) show(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	key := types.NamespacedName{Namespace: q.Get("namespace"), Name: q.Get("name")}
	v, ok := b.Get(key)
	if !ok {
		http.Error(w, fmt.Sprintf("no decision about pod %s is known here: it was not tried yet, its scheduler is not Canopus, or it was too long ago; the pod's events may say more", key), http.StatusNotFound)
		return
	}
	body, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body) // the reader went away
}
