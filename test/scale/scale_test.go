package scale

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"canopus/test/plane"

	"k8s.io/apimachinery/pkg/types"
)

var (
	binary = flag.String("binary", filepath.Join("..", "..", "bin", "canopus"), "the canopus to try")
	nodes  = flag.Int("nodes", 300, "hollow nodes")
	pods   = flag.Int("pods", 4500, "pods on them")
)

// trial is the one cluster of a run and what is noted of it.
type trial struct {
	*testing.T
	*Cluster
	began time.Time
}

// TestCluster takes a cluster through its life. What it asserts holds on any machine; what it took is printed beside it.
func TestCluster(t *testing.T) {
	t.Parallel()
	path, err := filepath.Abs(*binary)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: run `make build` first, or name another with -binary", err)
	}
	c, err := New(Config{
		Binary: path, Dir: t.TempDir(), Nodes: *nodes, Rack: min(250, (*nodes+3)/4), Pods: *pods, Deployments: max(1, *pods/30), Slack: 30, Backlog: *pods,
	})
	if err != nil {
		t.Fatal(err)
	}
	life := &trial{t, c, time.Now()}
	if err := c.Run(t.Context(), life.live); err != nil {
		t.Fatal(err)
	}
	if err := c.Faults(); err != nil {
		t.Error(err)
	}
}

// note prints what a phase took.
func (l *trial) note(phase, format string, args ...any) {
	l.Attr(phase, fmt.Sprintf("%.1f s: ", time.Since(l.began).Seconds())+fmt.Sprintf(format, args...))
	l.began = time.Now()
}

func (l *trial) live(ctx context.Context) error {
	if err := l.Populate(ctx); err != nil {
		return err
	}
	l.note("nodes-ready", "%d nodes, %d of them in a rack", l.Nodes, l.Config.Rack)
	for _, step := range []func(context.Context) error{l.load, l.rollTenth, l.loseRack, l.deleteAll} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (l *trial) load(ctx context.Context) error {
	if err := l.Apply(ctx, time.Hour); err != nil {
		return err
	}
	s := l.Ledger.Starts()
	if c := l.Ledger.Counts(); c.Removed != 0 || c.Bound != l.Pods || c.Ready != l.Nodes || len(s) != l.Pods {
		l.Errorf("%d pods should be bound, none removed, all nodes ready: %+v, %d starts", l.Pods, c, len(s))
	}
	m, err := plane.MemoryOf(l.Server.PID())
	if err != nil {
		return err
	}
	l.note("pods-running", "%d pods, created to Ready p50 %.1f s, p99 %.1f s; server takes %.0f MiB",
		l.Pods, s.Quantile(.5)/1000, s.Quantile(.99)/1000, m.RSS)
	return nil
}

// rollTenth replaces the pods of some Deployments and no other.
func (l *trial) rollTenth(ctx context.Context) error {
	before, n, replaced := l.Ledger.UIDs(), max(1, len(l.Load)/10), 0
	if err := l.Roll(ctx, n, "2"); err != nil {
		return err
	}
	for _, d := range l.Load[:n] {
		replaced += int(d.Replicas)
	}
	kept := l.Ledger.UIDs()
	maps.DeleteFunc(kept, func(uid types.UID, _ bool) bool { return !before[uid] })
	if len(kept) != l.Pods-replaced {
		l.Errorf("%d of %d pods are those from before an update of %d", len(kept), l.Pods, replaced)
	}
	l.note("rolled", "%d Deployments, %d pods", n, replaced)
	return nil
}

// loseRack asserts that pods of an unreachable rack stay: nobody may know that they do not run, before they are evicted.
func (l *trial) loseRack(ctx context.Context) error {
	before, on := l.Ledger.UIDs(), l.Ledger.Rack(l.Rack).Pods
	if on == 0 {
		l.Error("no pod is on the rack: its loss would be none")
	}
	if err := l.Unplug(ctx); err != nil {
		return err
	}
	if c := l.Ledger.Counts(); c.Running != l.Pods-on || c.Ready != l.Nodes-l.Config.Rack {
		l.Errorf("with a rack of %d nodes and %d pods lost: %+v", l.Config.Rack, on, c)
	}
	l.note("rack-lost", "%d nodes with %d pods unreachable, the others untouched", l.Config.Rack, on)
	if err := l.Replug(ctx); err != nil {
		return err
	}
	if !maps.Equal(before, l.Ledger.UIDs()) {
		l.Error("the pods are not those from before the rack was lost")
	}
	l.note("rack-back", "all pods Ready, the same as before")
	return nil
}

func (l *trial) deleteAll(ctx context.Context) error {
	names := l.Namespaces()
	if remains, err := l.Remains(ctx, names[0]); err != nil || len(remains) < l.Pods/len(names) {
		l.Errorf("%d objects before the end of namespace %s, %v", len(remains), names[0], err)
	}
	if err := l.Delete(ctx, names...); err != nil {
		return err
	}
	for _, name := range names {
		if remains, err := l.Remains(ctx, name); err != nil || len(remains) > 0 {
			l.Errorf("of namespace %s remain %v, %v", name, remains, err)
		}
	}
	if c := l.Ledger.Counts(); c.Pods != 0 || c.Bound != 0 || c.Ready != l.Nodes {
		l.Errorf("after all namespaces were deleted: %+v", c)
	}
	l.note("deleted", "%d namespaces, nothing remains", len(names))
	return nil
}
