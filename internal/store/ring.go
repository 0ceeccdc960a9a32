package store

import "sync/atomic"

// record is one change of one object in a resource's history.
type record struct {
	rev  int64
	prev *Entry // nil: created
	now  *Entry // nil: deleted
	gone atomic.Pointer[Entry]
}

// last is the state before the change, carrying the change's revision: what a watcher is told that no longer selects the
// object. All watchers share it.
func (rec *record) last() *Entry {
	if e := rec.gone.Load(); e != nil {
		return e
	}
	rec.gone.CompareAndSwap(nil, rec.prev.at(rec.rev))
	return rec.gone.Load()
}

// size is what the history pays for a record. The superseded entry is what only the record still holds; each entry is
// superseded once.
func (rec *record) size() int64 {
	if rec.prev == nil {
		return 128
	}
	return 128 + rec.prev.size()
}

// ring holds a resource's latest records in revision order. Records are numbered from the resource's first; a watcher's
// cursor is such a number.
type ring struct {
	buf   []*record // length a power of two
	first uint64    // number of the oldest record
	end   uint64    // number of the next record
}

func (g *ring) len() int { return int(g.end - g.first) }

func (g *ring) at(i uint64) *record { return g.buf[i&uint64(len(g.buf)-1)] }

func (g *ring) push(rec *record) {
	if g.len() == len(g.buf) {
		g.resize(max(16, 2*len(g.buf)))
	}
	g.buf[g.end&uint64(len(g.buf)-1)] = rec
	g.end++
}

func (g *ring) pop() *record {
	rec := g.at(g.first)
	g.buf[g.first&uint64(len(g.buf)-1)] = nil
	g.first++
	if len(g.buf) > 64 && g.len() < len(g.buf)/4 {
		g.resize(len(g.buf) / 2)
	}
	return rec
}

func (g *ring) resize(n int) {
	buf := make([]*record, n)
	for i := g.first; i != g.end; i++ {
		buf[i&uint64(n-1)] = g.at(i)
	}
	g.buf = buf
}

// after is the number of the first record newer than rev.
func (g *ring) after(rev int64) uint64 {
	lo, hi := g.first, g.end
	for lo < hi {
		mid := lo + (hi-lo)/2
		if g.at(mid).rev > rev {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return lo
}

// history bounds all rings together by bytes: the oldest record of all goes first. Owned by the applier.
type history struct {
	limit int64
	bytes int64
	order []*Resource // whose record came when; order[head:] is in use
	head  int
}

// add accounts for a record just pushed to r's ring.
func (h *history) add(r *Resource, rec *record) {
	h.bytes += rec.size()
	if h.head > 1024 && h.head > len(h.order)/2 {
		n := copy(h.order, h.order[h.head:])
		clear(h.order[n:])
		h.order, h.head = h.order[:n], 0
	}
	h.order = append(h.order, r)
}

// trim drops the oldest records until the rest fits the limit.
func (h *history) trim() {
	for h.bytes > h.limit && h.head < len(h.order) {
		r := h.order[h.head]
		h.order[h.head] = nil
		h.head++
		r.mu.Lock()
		rec := r.ring.pop()
		r.floor = max(r.floor, rec.rev)
		r.roots.forget(r.floor)
		r.mu.Unlock()
		h.bytes -= rec.size()
	}
}
