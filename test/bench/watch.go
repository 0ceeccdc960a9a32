package main

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"canopus/test/plane"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

const (
	fanoutUpdates  = 500
	perConnection  = 10 // watchers that share a connection, as the informers of one process do
	patience       = 2 * time.Minute
	nodesPerClient = 50
)

// fanned is what a fan-out led to.
type fanned struct {
	rate float64
	took plane.Latencies
}

// measureFanout is events per second when one object changes and many watch it.
func measureFanout(ctx context.Context, b *bench) error {
	stub, err := b.startStub(ctx)
	if err != nil {
		return err
	}
	defer stub.stop()
	s, err := b.controlPlane(ctx)
	if err != nil {
		return err
	}
	defer s.Down()
	ns, err := plane.Namespace(ctx, s.Proto)
	if err != nil {
		return err
	}
	limit, err := fanOut(ctx, b.watchers, stub.config, ns)
	if err != nil {
		return fmt.Errorf("limit: %w", err)
	}
	ours, err := fanOut(ctx, b.watchers, s.Config, ns)
	if err != nil {
		return err
	}
	b.say("watch.fanout.rate", ours.rate, "ev/s", limit.rate)
	b.say("watch.fanout.p50", ours.took.Quantile(.5), "ms", limit.took.Quantile(.5))
	b.say("watch.fanout.p99", ours.took.Quantile(.99), "ms", limit.took.Quantile(.99))
	return nil
}

// fanOut changes one ConfigMap again and again until every watcher has seen the last change.
func fanOut(ctx context.Context, watchers int, config *rest.Config, ns string) (*fanned, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	k, err := plane.Client(config, plane.Protobuf, false)
	if err != nil {
		return nil, err
	}
	first, err := k.CoreV1().ConfigMaps(ns).Create(ctx, configMap(0), metav1.CreateOptions{})
	if err != nil {
		return nil, err
	}
	sent := make([]atomic.Int64, fanoutUpdates)
	seen := make([]plane.Latencies, watchers)
	g, ctx := errgroup.WithContext(ctx)
	var from kubernetes.Interface
	for i := range watchers {
		if i%perConnection == 0 {
			if from, err = plane.Client(config, plane.Protobuf, true); err != nil {
				return nil, err
			}
		}
		w, err := from.CoreV1().ConfigMaps(ns).Watch(ctx, metav1.ListOptions{ResourceVersion: first.ResourceVersion})
		if err != nil {
			return nil, err
		}
		g.Go(func() (err error) { seen[i], err = follow(w, sent); return err })
	}
	began := time.Now()
	for i := range fanoutUpdates {
		o := configMap(0)
		o.Data["seq"] = strconv.Itoa(i)
		sent[i].Store(time.Now().UnixNano())
		if _, err := k.CoreV1().ConfigMaps(ns).Update(ctx, o, metav1.UpdateOptions{}); err != nil {
			return nil, err
		}
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	took := time.Since(began)
	var all plane.Latencies
	for _, l := range seen {
		all = append(all, l...)
	}
	return &fanned{rate: float64(len(all)) / took.Seconds(), took: all}, nil
}

// follow reads changes until the last and returns how old each was.
func follow(w watch.Interface, sent []atomic.Int64) (plane.Latencies, error) {
	defer w.Stop()
	took := make(plane.Latencies, 0, len(sent))
	for e := range w.ResultChan() {
		o, ok := e.Object.(*corev1.ConfigMap)
		if !ok {
			return nil, fmt.Errorf("the watch brings a %T: %v", e.Object, e.Object)
		}
		i, err := strconv.Atoi(o.Data["seq"])
		if err != nil {
			continue // as it was before
		}
		took = append(took, time.Duration(time.Now().UnixNano()-sent[i].Load()))
		if i == len(sent)-1 {
			return took, nil
		}
	}
	return nil, errGone
}

// measureNodeWatch is what pods cost when every node watches for its own: the rate at which they are made, and how long until
// each is seen by its node.
func measureNodeWatch(ctx context.Context, b *bench) error {
	s, err := b.controlPlane(ctx)
	if err != nil {
		return err
	}
	defer s.Down()
	ns, err := plane.Namespace(ctx, s.Proto)
	if err != nil {
		return err
	}
	if _, _, err := plane.Parallel(ctx, b.nodes, b.clients, makeNode(s, nil)); err != nil {
		return err
	}
	if err := b.settle(ctx, s); err != nil { // 1,000 new nodes keep controllers busy, which is not what is measured
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	var seen collector
	var made sync.Map // name of a pod → when its create was sent
	k := s.Proto
	for i := range b.nodes {
		if i%nodesPerClient == 0 {
			if k, err = plane.Client(s.Config, plane.Protobuf, true); err != nil {
				return err
			}
		}
		w, err := k.CoreV1().Pods("").Watch(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=" + nodeName(i), ResourceVersion: "0"})
		if err != nil {
			return err
		}
		g.Go(func() error { return awaitPod(w, &made, &seen) })
	}
	rate, _, err := plane.Parallel(ctx, b.nodes, b.clients, func(ctx context.Context, i int) error {
		p := pod(fmt.Sprintf("n-%06d", i), nobody)
		p.Spec.NodeName = nodeName(i)
		made.Store(p.Name, time.Now())
		_, err := s.Proto.CoreV1().Pods(ns).Create(ctx, p, metav1.CreateOptions{})
		return err
	})
	if err != nil {
		return err
	}
	if err := g.Wait(); err != nil {
		return err
	}
	b.say("nodewatch.create.rate", rate, "op/s", 0)
	b.say("nodewatch.seen.p50", seen.took.Quantile(.5), "ms", 0)
	b.say("nodewatch.seen.p99", seen.took.Quantile(.99), "ms", 0)
	return nil
}

func awaitPod(w watch.Interface, made *sync.Map, seen *collector) error {
	defer w.Stop()
	for e := range w.ResultChan() {
		p, ok := e.Object.(*corev1.Pod)
		if !ok {
			return fmt.Errorf("the watch brings a %T: %v", e.Object, e.Object)
		}
		if t, ok := made.Load(p.Name); ok {
			seen.add(time.Since(t.(time.Time)))
			return nil
		}
	}
	return errGone
}
