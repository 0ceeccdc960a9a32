// Package bell wakes the goroutine that owns a pod. Whoever notices that something about a pod changed (the API, the
// runtime, a probe, a referenced Secret) rings; the owner then looks at everything afresh. A ring carries no data and many
// rings before the owner wakes are one.
package bell

import (
	"sync"

	"k8s.io/apimachinery/pkg/types"
)

// Bells holds one bell per pod UID. The zero value is not usable; call New.
type Bells struct {
	mu     sync.Mutex
	owners map[types.UID]chan struct{}
	// strays holds rings for pods that nobody listens to, until Strays takes them.
	strays map[types.UID]struct{}
	stray  chan struct{}
}

// New returns an empty set of bells.
func New() *Bells {
	return &Bells{
		owners: map[types.UID]chan struct{}{},
		strays: map[types.UID]struct{}{},
		stray:  make(chan struct{}, 1),
	}
}

// Listen returns the channel that receives one value after one or more rings for uid. A pod has one listener.
func (b *Bells) Listen(uid types.UID) <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	ch := make(chan struct{}, 1)
	b.owners[uid] = ch
	delete(b.strays, uid)
	return ch
}

// Forget ends the listening for uid.
func (b *Bells) Forget(uid types.UID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.owners, uid)
}

// Ring wakes the owner of uid; it never blocks.
func (b *Bells) Ring(uid types.UID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	ch, owned := b.owners[uid]
	if !owned {
		b.strays[uid] = struct{}{}
		ch = b.stray
	}
	select {
	case ch <- struct{}{}:
	default:
	}
}

// RingAll wakes every owner.
func (b *Bells) RingAll() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, ch := range b.owners {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

// StrayRings receives a value after a ring for a pod without an owner; Strays then names those pods.
func (b *Bells) StrayRings() <-chan struct{} { return b.stray }

// Strays returns and forgets the pods without an owner that were rung for.
func (b *Bells) Strays() []types.UID {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]types.UID, 0, len(b.strays))
	for uid := range b.strays {
		out = append(out, uid)
	}
	clear(b.strays)
	return out
}
