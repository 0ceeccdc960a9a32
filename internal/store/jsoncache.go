package store

import (
	"sync"
	"sync/atomic"
)

// jsonCell holds one entry's JSON until the budget takes it away.
type jsonCell struct {
	bytes atomic.Pointer[[]byte]
	size  int64
	used  atomic.Bool // since the cache last came by
}

func (c *jsonCell) load() []byte {
	b := c.bytes.Load()
	if b == nil {
		return nil
	}
	if !c.used.Load() {
		c.used.Store(true)
	}
	return *b
}

// jsonCache bounds the JSON kept with entries: a queue in which a cell that was used since gets a second turn. It holds
// cells, not entries, so that a superseded entry is not kept alive.
type jsonCache struct {
	limit int64
	mu    sync.Mutex
	bytes int64
	queue []*jsonCell
	head  int
}

func (c *jsonCache) keep(b []byte) *jsonCell {
	cell := &jsonCell{size: int64(len(b)) + 64}
	cell.bytes.Store(&b)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.push(cell)
	c.bytes += cell.size
	for turns := len(c.queue) - c.head; c.bytes > c.limit && c.head < len(c.queue); turns-- {
		old := c.queue[c.head]
		c.queue[c.head] = nil
		c.head++
		if turns > 0 && old.used.Swap(false) {
			c.push(old)
			continue
		}
		old.bytes.Store(nil)
		c.bytes -= old.size
	}
	return cell
}

func (c *jsonCache) push(cell *jsonCell) {
	if c.head > 1024 && c.head > len(c.queue)/2 {
		n := copy(c.queue, c.queue[c.head:])
		clear(c.queue[n:])
		c.queue, c.head = c.queue[:n], 0
	}
	c.queue = append(c.queue, cell)
}
