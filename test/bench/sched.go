package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"canopus/test/plane"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// measureScheduling is pods per second from the first create until the last pod has a node.
func measureScheduling(ctx context.Context, b *bench) error {
	s, err := b.controlPlane(ctx)
	if err != nil {
		return err
	}
	defer s.Down()
	ns, err := plane.Namespace(ctx, s.Proto)
	if err != nil {
		return err
	}
	rate, _, err := plane.Parallel(ctx, b.nodes, b.clients, makeNode(s, nil))
	if err != nil {
		return err
	}
	b.say("node.create.rate", rate, "op/s", 0)
	if err := plane.Until(ctx, patience, nodesSettled(s, b.nodes)); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	w, err := s.Proto.CoreV1().Pods(ns).Watch(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return distinct(w, b.pods, func(p *corev1.Pod) bool { return p.Spec.NodeName != "" }) })
	began := time.Now()
	rate, _, err = plane.Parallel(ctx, b.pods, b.clients, func(ctx context.Context, i int) error {
		_, err := s.Proto.CoreV1().Pods(ns).Create(ctx, spreadPod(i), metav1.CreateOptions{})
		return err
	})
	if err != nil {
		return err
	}
	if err := g.Wait(); err != nil {
		return err
	}
	b.say("sched.create.rate", rate, "op/s", 0)
	b.say("sched.rate", float64(b.pods)/time.Since(began).Seconds(), "pod/s", 0)
	return b.sayMemory(s, "rss.after-sched")
}

// nodesSettled waits until controllers have done with n new nodes: they all have addresses for pods and no taint, or, where
// making them took long, the one of nodes that have not been heard of since. The pods of benchmarks tolerate it.
func nodesSettled(s *plane.Server, n int) func(context.Context) error {
	return func(ctx context.Context) error {
		nodes, err := s.Proto.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		done := 0
		for i := range nodes.Items {
			spec := &nodes.Items[i].Spec
			lost := slices.ContainsFunc(spec.Taints, func(t corev1.Taint) bool { return t.Key == corev1.TaintNodeUnreachable })
			if spec.PodCIDR != "" && (len(spec.Taints) == 0 || lost) {
				done++
			}
		}
		if done < n {
			return fmt.Errorf("%d of %d nodes are ready for pods", done, n)
		}
		return nil
	}
}

func spreadPod(i int) *corev1.Pod {
	p := pod(fmt.Sprintf("s-%06d", i), corev1.DefaultSchedulerName)
	p.Spec.NodeSelector = map[string]string{"bench": "hollow"}
	p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{
		MaxSkew: 50, TopologyKey: corev1.LabelTopologyZone, WhenUnsatisfiable: corev1.DoNotSchedule,
		LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "bench"}},
	}}
	return p
}

// distinct reads w until n pods for which is holds have been seen.
func distinct(w watch.Interface, n int, is func(*corev1.Pod) bool) error {
	defer w.Stop()
	seen := map[string]bool{}
	for e := range w.ResultChan() {
		p, ok := e.Object.(*corev1.Pod)
		if !ok {
			return fmt.Errorf("the watch brings a %T: %v", e.Object, e.Object)
		}
		if is(p) {
			seen[p.Name] = true
		}
		if len(seen) == n {
			return nil
		}
	}
	return fmt.Errorf("%d of %d pods: %w", len(seen), n, errGone)
}

// measureDeployment is pods per second that controllers make for one Deployment.
func measureDeployment(ctx context.Context, b *bench) error {
	s, err := b.controlPlane(ctx)
	if err != nil {
		return err
	}
	defer s.Down()
	ns, err := plane.Namespace(ctx, s.Proto)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	w, err := s.Proto.CoreV1().Pods(ns).Watch(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	replicas := int32(b.objects / 5)
	labels := map[string]string{"app": "bench"}
	spec := pod("", nobody).Spec
	spec.TerminationGracePeriodSeconds = nil
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "d"}, Spec: appsv1.DeploymentSpec{
		Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: spec},
	}}
	began := time.Now()
	if _, err := s.Proto.AppsV1().Deployments(ns).Create(ctx, d, metav1.CreateOptions{}); err != nil {
		return err
	}
	if err := distinct(w, int(replicas), func(p *corev1.Pod) bool { return strings.HasPrefix(p.Name, "d-") }); err != nil {
		return err
	}
	b.say("deploy.rate", float64(replicas)/time.Since(began).Seconds(), "pod/s", 0)
	return b.sayMemory(s, "rss.after-deploy")
}
