package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"time"

	"canopus/test/plane"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"
)

const (
	jobs        = 1000
	flaps       = 100
	hollowNodes = 60
	hollowPods  = 110 // room on each
)

// measureControllers is what the control loops do with a hollow node agent behind every pod.
func measureControllers(ctx context.Context, b *bench) error {
	return errors.Join(b.withNodes(ctx, finishJobs), b.withNodes(ctx, flapEndpoint))
}

// populated is a control plane with hollow nodes, and a namespace in it.
type populated struct {
	*bench
	server *plane.Server
	rack   *plane.Rack
	ns     string
}

// withNodes calls do once all hollow nodes are open for pods. Their pods start at once and, if they may end, end at once: what
// is left is our own work.
func (b *bench) withNodes(ctx context.Context, do func(context.Context, *populated) error) error {
	s, err := b.controlPlane(ctx)
	if err != nil {
		return err
	}
	defer s.Down()
	rack := &plane.Rack{Prefix: "hollow", Nodes: hollowNodes, Zones: 3, CPU: 64, Pods: hollowPods, Flags: []string{"--start-after", "0s", "--stop-after", "0s", "--run-for", "0s"}}
	if err := rack.Plug(s); err != nil {
		return err
	}
	defer rack.Down()
	if err := plane.Until(ctx, patience, nodesSettled(s, hollowNodes)); err != nil {
		return fmt.Errorf("%w\nthe nodes' log ends with:\n%s", err, rack.LastWords())
	}
	p := &populated{bench: b, server: s, rack: rack}
	if p.ns, err = plane.Namespace(ctx, s.Proto); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	defer cancel()
	return do(ctx, p)
}

// finishJobs is Jobs of one pod per second, from the first create until the last is complete: each is made, its pod is made,
// scheduled, run and counted.
func finishJobs(ctx context.Context, p *populated) error {
	w, err := p.server.Proto.BatchV1().Jobs(p.ns).Watch(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- completed(w, jobs) }()
	cpu, err := plane.CPUOf(p.server.PID())
	if err != nil {
		return err
	}
	began := time.Now()
	if _, _, err := plane.Parallel(ctx, jobs, p.clients, func(ctx context.Context, i int) error {
		spec := pod("", corev1.DefaultSchedulerName).Spec
		spec.RestartPolicy = corev1.RestartPolicyNever
		j := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("j-%06d", i)}, Spec: batchv1.JobSpec{Template: corev1.PodTemplateSpec{Spec: spec}}}
		_, err := p.server.Proto.BatchV1().Jobs(p.ns).Create(ctx, j, metav1.CreateOptions{})
		return err
	}); err != nil {
		w.Stop()
		<-done
		return err
	}
	if err := <-done; err != nil {
		return err
	}
	took := time.Since(began)
	after, err := plane.CPUOf(p.server.PID())
	if err != nil {
		return err
	}
	p.say(fmt.Sprintf("jobs.%d", jobs), jobs/took.Seconds(), "job/s", 0)
	p.say(fmt.Sprintf("jobs.%d.cpu", jobs), float64((after-cpu).Microseconds())/jobs, "µs/job", 0) // of the server, all in
	return nil
}

// completed reads w until n Jobs have been seen complete.
func completed(w watch.Interface, n int) error {
	defer w.Stop()
	seen := map[string]bool{}
	for e := range w.ResultChan() {
		j, ok := e.Object.(*batchv1.Job)
		if !ok {
			return fmt.Errorf("the watch brings a %T: %v", e.Object, e.Object)
		}
		for _, c := range j.Status.Conditions {
			if c.Type == batchv1.JobComplete && c.Status == corev1.ConditionTrue {
				seen[j.Name] = true
			}
		}
		if len(seen) == n {
			return nil
		}
	}
	return fmt.Errorf("%d of %d jobs: %w", len(seen), n, errGone)
}

// flapEndpoint is what it takes to write when one of many endpoints of a Service stops being ready and is ready again.
func flapEndpoint(ctx context.Context, p *populated) error {
	k := p.server.Proto
	n := int32(p.objects)
	labels := map[string]string{"app": "bench"}
	spec := pod("", corev1.DefaultSchedulerName).Spec
	spec.TerminationGracePeriodSeconds = nil
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: corev1.ServiceSpec{Selector: labels, Ports: []corev1.ServicePort{{Port: 80}}}}
	if _, err := k.CoreV1().Services(p.ns).Create(ctx, service, metav1.CreateOptions{}); err != nil {
		return err
	}
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: appsv1.DeploymentSpec{
		Replicas: ptr.To(n), Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: spec},
	}}
	began := time.Now()
	if _, err := k.AppsV1().Deployments(p.ns).Create(ctx, d, metav1.CreateOptions{}); err != nil {
		return err
	}
	if err := plane.Until(ctx, patience, allServe(k, p.ns, int(n))); err != nil {
		return err
	}
	p.say("endpoints.fill", float64(n)/time.Since(began).Seconds(), "endpoint/s", 0) // from the Deployment's create to the last in a slice
	pods, err := k.CoreV1().Pods(p.ns).List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return err
	}
	return p.flap(ctx, pods.Items[0].Name)
}

// allServe says that n endpoints of all slices are ready.
func allServe(k kubernetes.Interface, ns string, n int) func(context.Context) error {
	return func(ctx context.Context) error {
		slices, err := k.DiscoveryV1().EndpointSlices(ns).List(ctx, metav1.ListOptions{ResourceVersion: "0"})
		if err != nil {
			return err
		}
		ready := 0
		for i := range slices.Items {
			for _, e := range slices.Items[i].Endpoints {
				if ptr.Deref(e.Conditions.Ready, false) {
					ready++
				}
			}
		}
		if ready != n {
			return fmt.Errorf("%d of %d endpoints are ready", ready, n)
		}
		return nil
	}
}

// flap takes a pod's readiness away and gives it back, again and again, each time once all know of the last.
func (p *populated) flap(ctx context.Context, pod string) error {
	w, err := p.server.Proto.DiscoveryV1().EndpointSlices(p.ns).Watch(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	defer w.Stop()
	before, err := p.written(ctx)
	if err != nil {
		return err
	}
	cpu, err := plane.CPUOf(p.server.PID())
	if err != nil {
		return err
	}
	var took plane.Latencies
	for range flaps {
		for _, ready := range []corev1.ConditionStatus{corev1.ConditionFalse, corev1.ConditionTrue} {
			began := time.Now()
			body := fmt.Sprintf(`{"status":{"conditions":[{"type":"Ready","status":%q}]}}`, ready)
			if _, err := p.server.Proto.CoreV1().Pods(p.ns).Patch(ctx, pod, types.StrategicMergePatchType, []byte(body), metav1.PatchOptions{}, "status"); err != nil {
				return err
			}
			if err := shown(w, pod, ready == corev1.ConditionTrue); err != nil {
				return err
			}
			took = append(took, time.Since(began))
		}
	}
	used, err := plane.CPUOf(p.server.PID())
	if err != nil {
		return err
	}
	// Endpoints are written beside the slices: the last of them may still be on its way.
	after := before
	if err := plane.Until(ctx, patience, func(ctx context.Context) error {
		last := after
		if after, err = p.written(ctx); err != nil || after.endpoints != last.endpoints {
			return errors.Join(err, errors.New("endpoints are still being written"))
		}
		return plane.Pause(ctx, time.Second/2)
	}); err != nil {
		return err
	}
	p.say("endpoints.flap.seen.p50", took.Quantile(.5), "ms", 0)                  // from a pod's report to the slice
	p.say("endpoints.flap.cpu", plane.Milliseconds(used-cpu)/flaps, "ms/flap", 0) // of the server, all in
	p.say("endpoints.flap.slices", (after.slices-before.slices)/1000/flaps, "KB/flap", 0)
	p.say("endpoints.flap.endpoints", (after.endpoints-before.endpoints)/1000/flaps, "KB/flap", 0)
	p.say("endpoints.flap.disk", (after.disk-before.disk)/1000/flaps, "KB/flap", 0)
	return nil
}

// shown reads w until it shows whether the pod's endpoint is ready.
func shown(w watch.Interface, pod string, ready bool) error {
	for e := range w.ResultChan() {
		s, ok := e.Object.(*discoveryv1.EndpointSlice)
		if !ok {
			return fmt.Errorf("the watch brings a %T: %v", e.Object, e.Object)
		}
		for i := range s.Endpoints {
			if at := &s.Endpoints[i]; at.TargetRef != nil && at.TargetRef.Name == pod && ptr.Deref(at.Conditions.Ready, false) == ready {
				return nil
			}
		}
	}
	return errGone
}

// volume is bytes that were written so far: objects of two kinds, as the API server answered those who wrote them, and what the
// process had the kernel bring to the disk, with the nodes' leases, the pod itself, logs and the database's own pages.
type volume struct{ slices, endpoints, disk float64 }

var (
	answerSizes = regexp.MustCompile(`(?m)^apiserver_response_sizes_sum\{[^}]*resource="(endpointslices|endpoints)",[^}]*verb="(?:POST|PUT|PATCH)"[^}]*\} (\S+)$`)
	diskWrites  = regexp.MustCompile(`(?m)^write_bytes: (\d+)$`)
)

func (p *populated) written(ctx context.Context) (volume, error) {
	text, err := p.server.Proto.RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		return volume{}, err
	}
	var v volume
	for _, m := range answerSizes.FindAllSubmatch(text, -1) {
		bytes, err := strconv.ParseFloat(string(m[2]), 64)
		if err != nil {
			return v, fmt.Errorf("%s: %w", m[0], err)
		}
		if string(m[1]) == "endpoints" {
			v.endpoints += bytes
		} else {
			v.slices += bytes
		}
	}
	io, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", p.server.PID()))
	if err != nil {
		return v, err
	}
	m := diskWrites.FindSubmatch(io)
	if m == nil {
		return v, fmt.Errorf("/proc/%d/io does not tell write_bytes:\n%s", p.server.PID(), io)
	}
	v.disk, err = strconv.ParseFloat(string(m[1]), 64)
	return v, err
}
