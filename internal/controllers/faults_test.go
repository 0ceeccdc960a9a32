package controllers

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"

	"canopus/internal/apiserver/apitest"
	"canopus/internal/controllers/reconcile"
)

var update = flag.Bool("update", false, "write what undisturbed controllers make of the scenarios into testdata/faults")

const (
	// lanes is how many API servers share the scenarios. A run has a server to itself, which is emptied after it.
	lanes = 3
	// mostWrites is more than any scenario needs: one that goes on so long does not converge.
	mostWrites = 60
	// calm is how long nothing must change before a state is written down (-update).
	calm = 2 * time.Second
)

// scenario is a piece of a controller's life: what users and others do, step by step, and what there must be after each.
// It is run undisturbed, and then once for every write that the controller makes in it: with that write the controller's
// process ends, either before the server got the write or after, and a new one takes over with nothing but what it reads.
// The states that the steps must lead to are in testdata/faults, one file per scenario.
type scenario struct {
	controller string        // its name in All
	variant    string        // tells several scenarios of one controller apart
	beside     []string      // other controllers, which nothing happens to
	kubelet    bool          // pods are bound to node-1 and run, or end, as cluster.hollow has it
	unqueued   bool          // the controller has no work queue that tells when it has settled
	later      time.Duration // how far ahead the controller's clock is
	faster     int           // how many times as fast that clock is; 0: as fast as others
	tune       func(*Config)
	looks      []look
	steps      []func(*cluster) // what others do
}

func (s *scenario) name() string { return strings.TrimSuffix(s.controller+"-"+s.variant, "-") }

func (s *scenario) file() string { return filepath.Join("testdata", "faults", s.name()+".txt") }

// scenarios are all of them.
func scenarios(t *testing.T) []*scenario {
	t.Helper()
	return slices.Concat(workloadScenarios(), batchScenarios(), trafficScenarios(), nodeScenarios(), storageScenarios(), clusterScenarios(), deviceScenarios(), credentialScenarios(t))
}

// TestFaults ends every controller between any two of its writes.
func TestFaults(t *testing.T) {
	t.Parallel()
	servers := make(chan *apitest.Server, lanes)
	for range lanes {
		servers <- apitest.Start(t)
	}
	for _, s := range scenarios(t) {
		t.Run(s.name(), func(t *testing.T) {
			t.Parallel()
			server := <-servers
			defer func() { servers <- server }()
			if *update {
				t.Run("written", func(t *testing.T) { s.write(t, server) })
			}
			wants := s.read(t)
			t.Run("undisturbed", func(t *testing.T) { s.run(t, server, fault{}, wants) })
			for _, landed := range []bool{false, true} {
				more := !t.Failed()
				ran := 0 // fewer than n where -run leaves some out
				for n := 1; more && n <= mostWrites; n++ {
					f := fault{at: n, landed: landed}
					more = t.Run(f.String(), func(t *testing.T) { ran, more = n, s.run(t, server, f, wants) }) && more
				}
				if more && ran == mostWrites {
					t.Errorf("%d writes, and no end", ran)
				}
			}
		})
	}
}

// TestEveryControllerIsFaulted: a controller that is added is stopped too.
func TestEveryControllerIsFaulted(t *testing.T) {
	t.Parallel()
	faulted := map[string]bool{}
	for _, s := range scenarios(t) {
		faulted[s.controller] = true
	}
	for _, c := range All() {
		if !faulted[c.Name] {
			t.Errorf("%s has no scenario in TestFaults", c.Name)
		}
	}
}

// read returns the states that the steps must lead to.
func (s *scenario) read(t *testing.T) [][]string {
	t.Helper()
	text, err := os.ReadFile(s.file())
	if err != nil {
		t.Fatalf("%v: run with -update and read what it writes", err)
	}
	var wants [][]string
	for block := range strings.SplitSeq(strings.TrimSpace(string(text)), "\n\n") {
		wants = append(wants, strings.Split(strings.TrimSpace(block), "\n")[1:])
	}
	if len(wants) != len(s.steps) {
		t.Fatalf("%s has %d states, want %d: run with -update and read the difference", s.file(), len(wants), len(s.steps))
	}
	return wants
}

// write writes down what undisturbed controllers make of s.
func (s *scenario) write(t *testing.T, server *apitest.Server) {
	t.Helper()
	var text strings.Builder
	s.play(t, server, fault{}, func(l *life, i int) {
		var got []string
		since := time.Now()
		l.c.eventually("calm", func(ctx context.Context) (string, error) {
			now, err := s.state(ctx, l.client)
			if err != nil || !slices.Equal(now, got) {
				got, since = now, time.Now()
			}
			if !l.settled() || time.Since(since) < calm {
				return "not yet: " + strings.Join(now, "\n"), err
			}
			return "", err
		})
		fmt.Fprintf(&text, "step %d\n%s\n\n", i+1, strings.Join(got, "\n"))
	})
	if err := os.WriteFile(s.file(), []byte(strings.TrimSpace(text.String())+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
}

// run plays s with a fault and reports whether it came to the fault.
func (s *scenario) run(t *testing.T, server *apitest.Server, f fault, wants [][]string) bool {
	t.Helper()
	return s.play(t, server, f, func(l *life, i int) {
		t.Helper()
		var got []string
		err := wait.PollUntilContextTimeout(t.Context(), 4*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
			for range 2 {
				now, err := s.state(ctx, l.client)
				if err != nil {
					return false, err
				}
				if got = now; !slices.Equal(got, wants[i]) || !l.settled() {
					return false, nil
				}
			}
			return true, nil
		})
		if err != nil {
			t.Fatalf("step %d: %v\ngot\n%s\nwant\n%s", i+1, err, strings.Join(got, "\n"), strings.Join(wants[i], "\n"))
		}
	})
}

// life is a run in progress.
type life struct {
	c       *cluster
	client  dynamic.Interface
	settled func() bool
}

// play takes the steps, calls reached after each, and reports whether it came to the fault.
func (s *scenario) play(t *testing.T, server *apitest.Server, f fault, reached func(l *life, step int)) bool {
	t.Helper()
	c := &cluster{Clientset: server.Client, t: t, server: server}
	client := c.dynamic()
	t.Cleanup(func() { empty(t, server.Etcd) })
	if s.kubelet {
		c.hollow("node-1")
	}
	if len(s.beside) > 0 {
		p := &process{t: t, server: server, names: s.beside, tune: s.tune, queues: reconcile.NewQueues()}
		run(t, func(ctx context.Context) error { _, err := p.run(ctx, fault{}); return err })
	}
	var stopped atomic.Bool
	var current atomic.Pointer[reconcile.Queues]
	run(t, func(ctx context.Context) error {
		for next := f; ctx.Err() == nil; next = (fault{}) {
			p := &process{t: t, server: server, names: []string{s.controller}, later: s.later, faster: s.faster, tune: s.tune, queues: reconcile.NewQueues()}
			current.Store(p.queues)
			hit, err := p.run(ctx, next)
			if err != nil {
				return err
			}
			if hit {
				current.Store(nil) // before anybody can take the old process for a settled one
				stopped.Store(true)
			}
		}
		return nil
	})
	l := &life{c: c, client: client, settled: func() bool {
		q := current.Load()
		return s.unqueued || q != nil && q.Settled()
	}}
	for i, step := range s.steps {
		step(c)
		reached(l, i)
	}
	return stopped.Load()
}

// empty deletes everything, whatever holds it, and waits for nobody: the next one who lists waits for the deletion.
func empty(t *testing.T, etcd *clientv3.Client) {
	t.Helper()
	if _, err := etcd.Delete(context.WithoutCancel(t.Context()), "/registry/", clientv3.WithPrefix()); err != nil {
		t.Error(err)
	}
}
