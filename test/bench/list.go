package main

import (
	"context"
	"sync"
	"time"

	"canopus/test/plane"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
)

// listTimes is how often each list is asked for.
const listTimes = 12

// measureLists is pods: made, changed, and listed in all the ways that matter.
func measureLists(ctx context.Context, b *bench) error {
	s, err := b.controlPlane(ctx)
	if err != nil {
		return err
	}
	defer s.Down()
	ns, err := plane.Namespace(ctx, s.Proto)
	if err != nil {
		return err
	}
	steps, err := podSteps(s.Proto, ns)
	if err != nil {
		return err
	}
	for _, step := range steps {
		rate, took, err := plane.Parallel(ctx, b.objects, b.clients, step.do)
		if err != nil {
			return err
		}
		b.say(step.name+".rate", rate, "op/s", 0)
		b.say(step.name+".p50", took.Quantile(.5), "ms", 0)
	}
	for _, l := range []struct {
		name    string
		client  kubernetes.Interface
		options metav1.ListOptions
	}{
		{"list.pods.proto", s.Proto, metav1.ListOptions{}},
		{"list.pods.proto.rv0", s.Proto, metav1.ListOptions{ResourceVersion: "0"}},
		{"list.pods.json", s.JSON, metav1.ListOptions{}},
		{"list.pods.selector", s.Proto, metav1.ListOptions{LabelSelector: "app=none"}},
	} {
		if err := b.sayList(ctx, l.name, listPods(l.client, ns, l.options)); err != nil {
			return err
		}
	}
	if err := b.sayListsAtOnce(ctx, listPods(s.Proto, ns, metav1.ListOptions{})); err != nil {
		return err
	}
	return b.sayMemory(s, "rss.after-list")
}

// lister gets a list and returns its size; what it costs the client to decode it is left out.
type lister func(ctx context.Context) (int, error)

func listPods(k kubernetes.Interface, ns string, o metav1.ListOptions) lister {
	return func(ctx context.Context) (int, error) {
		body, err := k.CoreV1().RESTClient().Get().Namespace(ns).Resource("pods").VersionedParams(&o, scheme.ParameterCodec).Do(ctx).Raw()
		return len(body), err
	}
}

func (b *bench) sayList(ctx context.Context, name string, list lister) error {
	var took plane.Latencies
	var size int
	for range listTimes {
		t := time.Now()
		var err error
		if size, err = list(ctx); err != nil {
			return err
		}
		took = append(took, time.Since(t))
	}
	b.say(name+".p50", took.Quantile(.5), "ms", 0)
	if size > 100_000 {
		b.say(name+".size", float64(size)/1e6, "MB", 0)
	}
	return nil
}

// sayListsAtOnce records how long 16 lists take that begin together, as after a restart of many informers: the median of three.
func (b *bench) sayListsAtOnce(ctx context.Context, list lister) error {
	var rounds plane.Latencies
	for range 3 {
		began := time.Now()
		g, ctx := errgroup.WithContext(ctx)
		for range 16 {
			g.Go(func() error { _, err := list(ctx); return err })
		}
		if err := g.Wait(); err != nil {
			return err
		}
		rounds = append(rounds, time.Since(began))
	}
	b.say("list.pods.proto.x16", rounds.Quantile(.5), "ms", 0)
	return nil
}

// collector gathers latencies from many goroutines.
type collector struct {
	mu   sync.Mutex
	took plane.Latencies
}

func (c *collector) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.took = append(c.took, d)
}
