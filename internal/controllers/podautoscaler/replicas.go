package podautoscaler

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
)

const (
	// youth is how long a pod is young: use of CPU while it starts says nothing about its load.
	youth = 5 * time.Minute
	// firstReady is how soon after its start a pod that was not ready since has never been ready.
	firstReady = 30 * time.Second
	// defaultTolerance is how far a metric may be off its target before anything is done.
	defaultTolerance = 0.1
)

// podUse is what one pod shows of a metric, in thousandths.
type podUse struct {
	at     time.Time
	window time.Duration
	milli  int64
}

// tolerance says how far below and above its target a metric may be, as shares of it.
type tolerance struct{ down, up float64 }

func toleranceOf(b *autoscalingv2.HorizontalPodAutoscalerBehavior) tolerance {
	t := tolerance{defaultTolerance, defaultTolerance}
	if b != nil && b.ScaleDown != nil && b.ScaleDown.Tolerance != nil {
		t.down = b.ScaleDown.Tolerance.AsApproximateFloat64()
	}
	if b != nil && b.ScaleUp != nil && b.ScaleUp.Tolerance != nil {
		t.up = b.ScaleUp.Tolerance.AsApproximateFloat64()
	}
	return t
}

func (t tolerance) holds(ratio float64) bool { return 1-t.down <= ratio && ratio <= 1+t.up }

// workload is what is scaled, with its pods.
type workload struct {
	pods      []*corev1.Pod
	wanted    int32 // replicas that its spec asks for
	there     int32 // replicas that its status tells of
	tolerance tolerance
	now       time.Time
}

// census sorts pods by what their metrics are worth. Pods on their way out are in none of it.
type census struct {
	ready   int
	unready []string // their metrics do not count
	missing []string // they have none
}

// group takes the uses that do not count out of uses.
func (w *workload) group(uses map[string]podUse, resource corev1.ResourceName) census {
	var c census
	for _, p := range w.pods {
		if p.DeletionTimestamp != nil || p.Status.Phase == corev1.PodFailed {
			delete(uses, p.Name)
			continue
		}
		use, measured := uses[p.Name]
		switch {
		case p.Status.Phase == corev1.PodPending, measured && resource == corev1.ResourceCPU && w.immature(p, use):
			c.unready = append(c.unready, p.Name)
			delete(uses, p.Name)
		case !measured:
			c.missing = append(c.missing, p.Name)
		default:
			c.ready++
		}
	}
	return c
}

// immature says whether a pod's use of CPU may come from its start: a young pod that is not ready, or was not for a part of
// the measured window; an older one that never was ready.
func (w *workload) immature(p *corev1.Pod, use podUse) bool {
	ready := readiness(p)
	if ready == nil || p.Status.StartTime == nil {
		return true
	}
	start, since := p.Status.StartTime.Time, ready.LastTransitionTime.Time
	if start.Add(youth).After(w.now) {
		return ready.Status == corev1.ConditionFalse || use.at.Before(since.Add(use.window))
	}
	return ready.Status == corev1.ConditionFalse && start.Add(firstReady).After(since)
}

func readiness(p *corev1.Pod) *corev1.PodCondition {
	for i := range p.Status.Conditions {
		if p.Status.Conditions[i].Type == corev1.PodReady {
			return &p.Status.Conditions[i]
		}
	}
	return nil
}

var errNoPods = errors.New("no pods returned by selector while calculating replica count")

// scaled is a proposal with the mean it comes from.
type scaled struct {
	replicas    int32
	average     int64 // thousandths
	utilization int32 // percent of what is requested
}

// byUtilization proposes by the use of a resource as a share of what pods request. container "" stands for all.
func (w *workload) byUtilization(uses map[string]podUse, resource corev1.ResourceName, container string, target int32) (scaled, error) {
	if len(w.pods) == 0 {
		return scaled{}, errNoPods
	}
	uses = maps.Clone(uses)
	c := w.group(uses, resource)
	if len(uses) == 0 {
		return scaled{}, errUnready
	}
	requests, err := requestsOf(w.pods, resource, container)
	if err != nil {
		return scaled{}, err
	}
	var out scaled
	first := true
	ratio := func(uses map[string]podUse) (float64, error) {
		utilization, average, err := utilizationOf(uses, requests)
		if first {
			out.utilization, out.average, first = utilization, average, false
		}
		return float64(utilization) / float64(target), err
	}
	full := int64(max(100, target)) // a pod without metrics might be fully used, or as much as it should be
	out.replicas, err = w.propose(uses, c, ratio, func(pod string) int64 { return requests[pod] * full / 100 })
	return out, err
}

// byAverage proposes by the mean of a metric over pods. resource is "" for metrics that are none.
func (w *workload) byAverage(uses map[string]podUse, resource corev1.ResourceName, target int64) (scaled, error) {
	if len(w.pods) == 0 {
		return scaled{}, errNoPods
	}
	uses = maps.Clone(uses)
	c := w.group(uses, resource)
	if len(uses) == 0 {
		return scaled{}, errUnready
	}
	var out scaled
	first := true
	ratio := func(uses map[string]podUse) (float64, error) {
		sum := int64(0)
		for _, u := range uses {
			sum += u.milli
		}
		average := sum / int64(len(uses))
		if first {
			out.average, first = average, false
		}
		return float64(average) / float64(target), nil
	}
	var err error
	out.replicas, err = w.propose(uses, c, ratio, func(string) int64 { return target })
	return out, err
}

var errUnready = errors.New("did not receive metrics for targeted pods (pods might be unready)")

// propose turns a ratio of metrics to their target into replicas. Pods without a useful metric are taken to weaken the
// change: as idle when it would be up, as used as low says when it would be down. What they turn around is not done.
func (w *workload) propose(uses map[string]podUse, c census, ratioOf func(map[string]podUse) (float64, error), low func(pod string) int64) (int32, error) {
	ratio, err := ratioOf(uses)
	if err != nil {
		return 0, err
	}
	idle := len(c.unready) > 0 && ratio > 1
	if !idle && len(c.missing) == 0 {
		if w.tolerance.holds(ratio) {
			return w.wanted, nil
		}
		return ceil(ratio * float64(c.ready)), nil
	}
	for _, pod := range c.missing {
		switch {
		case ratio < 1:
			uses[pod] = podUse{milli: low(pod)}
		case ratio > 1:
			uses[pod] = podUse{}
		}
	}
	if idle {
		for _, pod := range c.unready {
			uses[pod] = podUse{}
		}
	}
	weak, err := ratioOf(uses)
	if err != nil {
		return 0, err
	}
	if w.tolerance.holds(weak) || ratio < 1 && weak > 1 || ratio > 1 && weak < 1 {
		return w.wanted, nil
	}
	n := ceil(weak * float64(len(uses)))
	if weak < 1 && n > w.wanted || weak > 1 && n < w.wanted {
		return w.wanted, nil
	}
	return n, nil
}

// byValue proposes by a metric that describes the whole workload: it shrinks as pods are added.
func (w *workload) byValue(value, target int64) (int32, error) {
	ratio := float64(value) / float64(target)
	if w.wanted == 0 {
		return ceil(ratio), nil
	}
	if w.tolerance.holds(ratio) {
		return w.wanted, nil
	}
	if len(w.pods) == 0 {
		return 0, fmt.Errorf("unable to calculate ready pods: %w", errNoPods)
	}
	ready := 0
	for _, p := range w.pods {
		if r := readiness(p); p.Status.Phase == corev1.PodRunning && r != nil && r.Status == corev1.ConditionTrue {
			ready++
		}
	}
	return ceil(ratio * float64(ready)), nil
}

// perPod proposes by a metric of the whole workload of which each pod is to have its share.
func (w *workload) perPod(value, target int64) scaled {
	out := scaled{replicas: w.there, average: value}
	if w.there > 0 {
		out.average = int64(math.Ceil(float64(value) / float64(w.there)))
	}
	if w.there == 0 || !w.tolerance.holds(float64(value)/(float64(target)*float64(w.there))) {
		out.replicas = ceil(float64(value) / float64(target))
	}
	return out
}

// utilizationOf returns the share of their requests that pods use, in percent, and the mean of what they use.
func utilizationOf(uses map[string]podUse, requests map[string]int64) (percent int32, average int64, err error) {
	var used, requested, n int64
	for pod, u := range uses {
		if request, ok := requests[pod]; ok { // one that is not may have gone meanwhile
			used, requested, n = used+u.milli, requested+request, n+1
		}
	}
	if requested == 0 {
		return 0, 0, errors.New("no metrics returned matched known pods")
	}
	return int32(min(used*100/requested, math.MaxInt32)), used / n, nil
}

// requestsOf returns what each pod requests of a resource, in thousandths.
func requestsOf(pods []*corev1.Pod, resource corev1.ResourceName, container string) (map[string]int64, error) {
	out := make(map[string]int64, len(pods))
	for _, p := range pods {
		if container == "" && p.Spec.Resources != nil {
			if q, ok := p.Spec.Resources.Requests[resource]; ok {
				out[p.Name] = q.MilliValue()
				continue
			}
		}
		sum := int64(0)
		for _, c := range running(p) {
			if container != "" && c.Name != container {
				continue
			}
			q, ok := c.Resources.Requests[resource]
			if !ok {
				return nil, fmt.Errorf("missing request for %s in container %s of Pod %s", resource, c.Name, p.Name)
			}
			sum += q.MilliValue()
		}
		out[p.Name] = sum
	}
	return out, nil
}

// running lists the containers that run for as long as the pod does.
func running(p *corev1.Pod) []*corev1.Container {
	var out []*corev1.Container
	for i := range p.Spec.Containers {
		out = append(out, &p.Spec.Containers[i])
	}
	for i := range p.Spec.InitContainers {
		c := &p.Spec.InitContainers[i]
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			out = append(out, c)
		}
	}
	return out
}

// ceil rounds up to a number of replicas.
func ceil(v float64) int32 {
	v = math.Ceil(v)
	switch {
	case v >= math.MaxInt32:
		return math.MaxInt32
	case v > 0:
		return int32(v)
	}
	return 0
}
