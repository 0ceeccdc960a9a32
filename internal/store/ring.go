package store

import "sync/atomic"

// record is one change of one object in a resource's history.
type record struct {
	rev  int64
	prev *Entry // nil: created
	now  *Entry // nil: deleted
	gone atomic.Pointer[Entry]
	bare bool // prev has lost its decoded object; owned by the applier
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
	switch {
	case rec.prev == nil:
		return 128
	case rec.bare:
		return 128 + rec.prev.bareSize()
	}
	return 128 + rec.prev.size()
}

// strip lets go of the decoded form of what the change superseded: those who still want it decode it anew.
func (rec *record) strip() {
	if rec.prev == nil {
		return
	}
	rec.prev.object.Store(nil)
	if gone := rec.gone.Load(); gone != nil {
		gone.object.Store(nil)
	}
	rec.bare = true
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

// keepDecoded is how many of the latest records of all rings keep the decoded form of what they superseded, for watchers that are
// a little behind. Decoded objects are what the garbage collector has to walk through; bytes are not.
const keepDecoded = 1024

// history bounds all rings together by bytes: the oldest record of all goes first. Owned by the applier.
type history struct {
	limit int64
	bytes int64
	order []placed // order[head:] is in use
	head  int
	warm  int // order[warm:] have not been stripped
}

// placed is a record, and the resource whose ring it is in.
type placed struct {
	in  *Resource
	rec *record
}

// add accounts for a record just pushed to r's ring.
func (h *history) add(r *Resource, rec *record) {
	h.bytes += rec.size()
	if h.head > 1024 && h.head > len(h.order)/2 {
		n := copy(h.order, h.order[h.head:])
		clear(h.order[n:])
		h.order, h.head, h.warm = h.order[:n], 0, h.warm-h.head
	}
	h.order = append(h.order, placed{r, rec})
	for ; len(h.order)-h.warm > keepDecoded; h.warm++ {
		old := h.order[h.warm].rec
		h.bytes -= old.size()
		old.strip()
		h.bytes += old.size()
	}
}

// trim drops the oldest records until the rest fits the limit.
func (h *history) trim() {
	for h.bytes > h.limit && h.head < len(h.order) {
		r := h.order[h.head].in
		h.order[h.head] = placed{}
		h.head++
		r.mu.Lock()
		rec := r.ring.pop()
		r.floor = max(r.floor, rec.rev)
		r.roots.forget(r.floor)
		r.mu.Unlock()
		h.bytes -= rec.size()
	}
	h.warm = max(h.warm, h.head)
}
