package store

import (
	"context"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"k8s.io/utils/clock"
)

// leases hands out etcd leases for objects that expire. One lease serves the objects of a minute (less for short
// lives, and never more than leaseObjects): they live up to that much longer, and etcd keeps few leases.
type leases struct {
	etcd  *clientv3.Client
	clock clock.Clock
	turn  chan struct{} // semaphore: one grant at a time
	mu    sync.Mutex
	byTTL map[time.Duration]*lease
}

type lease struct {
	id    clientv3.LeaseID
	until time.Time // new objects may use it until then
	used  int
}

// leaseObjects bounds what one expiry makes etcd delete at once.
const leaseObjects = 1000

func (l *leases) init(etcd *clientv3.Client, c clock.Clock) {
	l.etcd, l.clock = etcd, c
	l.turn = make(chan struct{}, 1)
	l.byTTL = map[time.Duration]*lease{}
}

// grant returns a lease that lives at least ttl; NoLease when ttl is zero.
func (l *leases) grant(ctx context.Context, ttl time.Duration) (clientv3.LeaseID, error) {
	if ttl <= 0 {
		return clientv3.NoLease, nil
	}
	if id := l.shared(ttl); id != clientv3.NoLease {
		return id, nil
	}
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	if id := l.shared(ttl); id != clientv3.NoLease {
		return id, nil
	}
	share := min(time.Minute, ttl/20)
	resp, err := l.etcd.Grant(ctx, int64((ttl+share+time.Second-1)/time.Second))
	if err != nil {
		return 0, fmt.Errorf("get a lease of %s from etcd: %w", ttl, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.byTTL[ttl] = &lease{id: resp.ID, until: l.clock.Now().Add(share), used: 1}
	return resp.ID, nil
}

func (l *leases) shared(ttl time.Duration) clientv3.LeaseID {
	l.mu.Lock()
	defer l.mu.Unlock()
	have := l.byTTL[ttl]
	if have == nil || have.used >= leaseObjects || l.clock.Now().After(have.until) {
		return clientv3.NoLease
	}
	have.used++
	return have.id
}

// forget drops all leases, after one of them was gone when it was to be used.
func (l *leases) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.byTTL)
}
