package store

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// segment is a stretch of a resource's history read back from etcd: every change after from, up to and with to. Immutable.
// It lets watches resume that began before this process, or before what the ring still holds.
type segment struct {
	from, to int64
	records  []*record
}

// after is the part newer than rev.
func (s *segment) after(rev int64) []*record {
	i := sort.Search(len(s.records), func(i int) bool { return s.records[i].rev > rev })
	return s.records[i:]
}

// historyTimeout bounds reading one segment.
const historyTimeout = 30 * time.Second

// streams numbers the etcd streams that read history.
type streams struct{ last atomic.Int64 }

func (s *streams) name() string { return fmt.Sprintf("past-%d", s.last.Add(1)) }

// history returns a segment that begins at rev or before and goes on after it. One is read at a time and the latest is
// kept for a while: after a restart many watchers come back at nearly the same revision. *Expired when rev is compacted.
func (r *Resource) history(ctx context.Context, rev int64) (*segment, error) {
	if seg := r.past.Load(); seg != nil && seg.from <= rev && rev < seg.to {
		return seg, nil
	}
	select {
	case r.filling <- struct{}{}:
		defer func() { <-r.filling }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if seg := r.past.Load(); seg != nil && seg.from <= rev && rev < seg.to {
		return seg, nil
	}
	seg, err := r.readHistory(ctx, rev)
	if err != nil {
		return nil, err
	}
	r.past.Store(seg)
	return seg, nil
}

// readHistory replays etcd's events after from until what is applied now, or until a quarter of the history budget is full.
func (r *Resource) readHistory(ctx context.Context, from int64) (*segment, error) {
	ctx, cancel := context.WithTimeout(ctx, historyTimeout)
	defer cancel()
	ctx = streamContext(clientv3.WithRequireLeader(ctx), r.store.streams.name())
	watch := r.store.c.Etcd.Watch(ctx, r.prefix, clientv3.WithPrefix(), clientv3.WithRev(from+1), clientv3.WithPrevKV())
	p := replay{r: r, seg: &segment{from: from, to: from}, until: r.store.Applied(), known: map[string]*Entry{}, live: r.state.Load().tree}
	nudge := time.NewTicker(nudgeAfter) // the stretch may end without an event
	defer nudge.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("read the history of %s after revision %d from etcd: %w", r.c.Name, from, ctx.Err())
		case <-nudge.C:
			if err := r.store.c.Etcd.RequestProgress(ctx); err != nil {
				return nil, fmt.Errorf("read the history of %s from etcd: %w", r.c.Name, err)
			}
		case resp, ok := <-watch:
			if !ok {
				return nil, errWatchEnded
			}
			if done, err := p.take(ctx, resp); err != nil || done {
				return p.seg, err
			}
		}
	}
}

// replay turns etcd's events back into records.
type replay struct {
	r     *Resource
	seg   *segment
	until int64
	bytes int64
	known map[string]*Entry // the latest state of keys seen; nil: gone
	live  tree              // entries that need not be decoded again
}

// take works in one response; done says that the segment is complete.
func (p *replay) take(ctx context.Context, resp clientv3.WatchResponse) (done bool, err error) {
	if err := resp.Err(); err != nil {
		if errors.Is(err, rpctypes.ErrCompacted) {
			return false, &Expired{Revision: p.seg.from}
		}
		return false, fmt.Errorf("read the history of %s from etcd: %w", p.r.c.Name, err)
	}
	for _, ev := range resp.Events {
		rev := ev.Kv.ModRevision
		if rev > p.seg.to && (rev > p.until || p.bytes > p.r.store.c.HistoryByte/4) { // between revisions, never within one
			if rev > p.until {
				p.seg.to = p.until
			}
			return true, nil
		}
		p.event(ctx, ev)
		p.seg.to = rev
	}
	if resp.IsProgressNotify() && resp.Header.Revision >= p.until {
		p.seg.to = p.until
	}
	return p.seg.to >= p.until, nil
}

func (p *replay) event(ctx context.Context, ev *clientv3.Event) {
	rev := ev.Kv.ModRevision
	key := string(ev.Kv.Key[len(p.r.prefix):])
	prev, seen := p.known[key]
	if !seen && ev.PrevKv != nil {
		prev = p.entry(ctx, change{key: key, rev: ev.PrevKv.ModRevision, value: ev.PrevKv.Value})
	}
	var now *Entry
	if ev.Type != mvccpb.DELETE {
		now = p.entry(ctx, change{key: key, rev: rev, value: ev.Kv.Value})
	}
	p.known[key] = now
	if prev == nil && now == nil {
		return
	}
	rec := &record{rev: rev, prev: prev, now: now}
	p.seg.records = append(p.seg.records, rec)
	p.bytes += rec.size()
}

// entry is the state a key had; nil when its value cannot be read: then it was not in lists either.
func (p *replay) entry(ctx context.Context, c change) *Entry {
	if e := p.live.get(c.key); e != nil && e.Revision == c.rev {
		return e
	}
	e, err := p.r.decode(ctx, c)
	if err != nil {
		p.r.unreadable(c, err)
		return nil
	}
	return e
}
