package store

import (
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Only the latest records keep decoded objects of what they superseded, the accounts stay right through it, and nothing that is
// still current loses anything.
func TestHistoryStripsOldRecords(t *testing.T) {
	t.Parallel()
	r := &Resource{c: ResourceConfig{KeepDecoded: true}}
	entry := func() *Entry {
		e := &Entry{resource: r, body: make([]byte, 1000)}
		var obj runtime.Object = &corev1.Pod{}
		e.object.Store(&obj)
		return e
	}
	h := &history{limit: 8_000_000}
	var records []*record
	prev := entry()
	for i := range 4 * keepDecoded {
		rec := &record{rev: int64(i), prev: prev, now: entry()}
		prev = rec.now
		records = append(records, rec)
		r.ring.push(rec)
		h.add(r, rec)
		h.trim()

		var bytes int64
		for j := h.head; j < len(h.order); j++ {
			bytes += h.order[j].rec.size()
		}
		if bytes != h.bytes || h.bytes > h.limit {
			t.Fatalf("after %d records the history accounts for %d bytes of %d, and holds %d", i+1, h.bytes, h.limit, bytes)
		}
	}
	if n := r.ring.len(); n < 2*keepDecoded || n == len(records) {
		t.Errorf("the ring holds %d records: stripping should have let it keep more than are decoded, the limit fewer than all", n)
	}
	for i, rec := range records {
		if decoded, want := rec.prev.object.Load() != nil, i >= len(records)-keepDecoded; decoded != want {
			t.Fatalf("record %d of %d: superseded object is decoded: %v, want %v", i, len(records), decoded, want)
		}
	}
	if prev.object.Load() == nil {
		t.Error("the current object has lost its decoded form")
	}
}

// parsing is a codec that reads a pod out of anything.
type parsing struct{ Codec }

func (parsing) Parse([]byte) (runtime.Object, error) { return &corev1.Pod{}, nil }

// TestObjectWhileItIsStripped reads an entry's object while the history lets go of it again and again.
func TestObjectWhileItIsStripped(t *testing.T) {
	t.Parallel()
	e := &Entry{resource: &Resource{c: ResourceConfig{KeepDecoded: true, Codec: parsing{}}}}
	rec := &record{prev: e}
	read := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-read:
				return
			default:
				rec.strip()
			}
		}
	})
	for range 50_000 {
		if obj, err := e.Object(); obj == nil || err != nil {
			t.Errorf("%v, %v", obj, err)
		}
	}
	close(read)
	wg.Wait()
}
