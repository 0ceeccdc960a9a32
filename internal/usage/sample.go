package usage

import (
	"cmp"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// minAge is how old a container that was seen once must be for its mean since the start to mean anything.
const minAge = 10 * time.Second

// pair is the last two readings of one thing. prev.at is zero while there is only one.
type pair struct{ prev, last point }

// nodeUse is what is known of one node. Immutable.
type nodeUse struct {
	read time.Time // of the last reading, by our clock
	node pair
	pods map[types.NamespacedName][]containerUse // containers by name
}

type containerUse struct {
	name string
	pair
}

// advance adds a reading to what was known. Containers that the reading lacks are gone.
func advance(old *nodeUse, r *reading) *nodeUse {
	if old == nil {
		old = &nodeUse{}
	}
	next := &nodeUse{read: r.at, node: old.node.then(r.node), pods: make(map[types.NamespacedName][]containerUse, len(r.pods))}
	for pod, containers := range r.pods {
		was := old.pods[pod]
		list := make([]containerUse, 0, len(containers))
		for name, p := range containers {
			if !p.whole() {
				continue
			}
			var before pair
			if i, ok := slices.BinarySearchFunc(was, name, func(c containerUse, n string) int { return cmp.Compare(c.name, n) }); ok {
				before, name = was[i].pair, was[i].name // the same string as before, so that one is kept
			}
			list = append(list, containerUse{name, before.then(*p)})
		}
		slices.SortFunc(list, func(a, b containerUse) int { return cmp.Compare(a.name, b.name) })
		next.pods[pod] = list
	}
	return next
}

// then is what follows on a reading: nothing new, one more of the same run, or the first of another.
func (p pair) then(now point) pair {
	switch {
	case !now.whole():
		return p
	case !p.last.whole():
		return first(now)
	case now.at.Equal(p.last.at) && now.started.Equal(p.last.started):
		return p
	case now.at.Before(p.last.at), now.cpu < p.last.cpu, !now.started.Equal(p.last.started):
		return first(now)
	}
	return pair{prev: p.last, last: now}
}

// first is a pair of one reading: for a young container its start stands for the other one.
func first(now point) pair {
	age := now.at.Sub(now.started)
	if now.started.IsZero() || age < minAge || age >= resolution {
		return pair{last: now}
	}
	return pair{prev: point{at: now.started, started: now.started}, last: now}
}

// used is what was used between two readings.
type used struct {
	nanoCores int64
	memory    int64
	at        time.Time
	window    time.Duration
}

// use says what was used, if there are two readings to tell from.
func (p pair) use() (used, bool) {
	window := p.last.at.Sub(p.prev.at)
	if p.prev.at.IsZero() || window <= 0 {
		return used{}, false
	}
	return used{
		nanoCores: int64((p.last.cpu - p.prev.cpu) / window.Seconds() * 1e9), memory: int64(p.last.memory), at: p.last.at, window: window,
	}, true
}
