package podautoscaler

import (
	"fmt"
	"slices"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// observed is everything that a decision depends on, besides the time.
type observed struct {
	hpa       *autoscalingv2.HorizontalPodAutoscaler
	scale     *autoscalingv1.Scale
	scaleErr  error // why there is no scale
	selectErr *failure
	pods      []*corev1.Pod
	measures  []measure // one per metric; nil when none are needed
	history   history
}

// event is what people are told.
type event struct{ kind, reason, message string }

// decision is what is to be done: scale, if scaled, then write status.
type decision struct {
	status  autoscalingv2.HorizontalPodAutoscalerStatus
	scaled  bool
	from    int32
	to      int32
	why     string // of scaling
	events  []event
	history history
	// For the figures: whether it was scaled, the first error, and what came of each metric.
	done     bool
	err      error
	computed []computed
}

// limitsOf is the range and the rules of an autoscaler.
func limitsOf(h *autoscalingv2.HorizontalPodAutoscaler) limits {
	return limits{min: ptr.Deref(h.Spec.MinReplicas, 1), max: h.Spec.MaxReplicas, behavior: h.Spec.Behavior}
}

// disabled says whether somebody turned autoscaling off by scaling to zero; what the autoscaler scaled to zero itself is on.
func disabled(h *autoscalingv2.HorizontalPodAutoscaler, current int32) bool {
	if current != 0 || limitsOf(h).min == 0 {
		return false
	}
	return !slices.ContainsFunc(h.Status.Conditions, func(c autoscalingv2.HorizontalPodAutoscalerCondition) bool {
		return c.Type == autoscalingv2.ScaledToZero && c.Status == corev1.ConditionTrue
	})
}

// byMetrics says whether metrics matter: replicas outside the range are brought back into it whatever they say.
func byMetrics(h *autoscalingv2.HorizontalPodAutoscaler, current int32) bool {
	l := limitsOf(h)
	return !disabled(h, current) && l.min <= current && current <= l.max
}

// decide returns what to do about an autoscaler. It reads and changes nothing outside its arguments.
func decide(o observed, now time.Time) decision {
	d := decision{history: o.history, status: *o.hpa.Status.DeepCopy()}
	c := conditions{&d.status, o.hpa.Generation, now}
	d.status.ObservedGeneration = &o.hpa.Generation
	if o.scaleErr != nil {
		d.err = o.scaleErr
		d.tell(corev1.EventTypeWarning, "FailedGetScale", o.scaleErr.Error())
		c.set(autoscalingv2.AbleToScale, corev1.ConditionFalse, reason{"FailedGetScale", "the HPA controller was unable to get the target's current scale: " + o.scaleErr.Error()})
		return d
	}
	c.set(autoscalingv2.AbleToScale, corev1.ConditionTrue, reason{"SucceededGetScale", "the HPA controller was able to get the target's current scale"})
	current, l := o.scale.Spec.Replicas, limitsOf(o.hpa)
	d.from, d.to, d.status.CurrentReplicas = current, current, current
	if len(d.history.recommended) == 0 {
		d.history.recommended = []timed{{now, current}} // what runs now was asked for once
	}
	switch {
	case disabled(o.hpa, current):
		c.set(autoscalingv2.ScalingActive, corev1.ConditionFalse, reason{"ScalingDisabled", "scaling is disabled since the replica count of the target is zero"})
		d.status.CurrentMetrics = nil
	case current > l.max:
		d.to, d.why, d.status.CurrentMetrics = l.max, "Current number of replicas above Spec.MaxReplicas", nil
	case current < l.min:
		d.to, d.why, d.status.CurrentMetrics = l.min, "Current number of replicas below Spec.MinReplicas", nil
	default:
		if !d.byMetrics(o, c, now) {
			return d
		}
	}
	d.scaled = d.to != current
	d.status.DesiredReplicas = d.to
	return d
}

// byMetrics lets the metrics decide; false: they cannot.
func (d *decision) byMetrics(o observed, c conditions, now time.Time) bool {
	wanted, name, ok := d.evaluate(o, c, now)
	if !ok {
		return false
	}
	switch {
	case wanted > d.from:
		d.why = name + " above target"
	case wanted < d.from:
		d.why = "All metrics below target"
	}
	var v verdict
	v, d.history = limitsOf(o.hpa).settle(d.history, d.from, wanted, now)
	d.to = v.replicas
	c.set(autoscalingv2.AbleToScale, corev1.ConditionTrue, v.able)
	limited := corev1.ConditionFalse
	if v.cut {
		limited = corev1.ConditionTrue
	}
	c.set(autoscalingv2.ScalingLimited, limited, v.limited)
	return true
}

// evaluate returns the most that any metric asks for. When some metric says nothing, the others may scale up, but not down.
func (d *decision) evaluate(o observed, c conditions, now time.Time) (int32, string, bool) {
	if f := o.selectErr; f != nil {
		d.err = specError{f}
		d.tell(corev1.EventTypeWarning, f.event, f.text)
		c.set(autoscalingv2.ScalingActive, corev1.ConditionFalse, reason{f.reason, f.err.Error()})
		d.tell(corev1.EventTypeWarning, "FailedComputeMetricsReplicas", f.text)
		return 0, "", false
	}
	w := workload{pods: o.pods, wanted: d.from, there: o.scale.Status.Replicas, tolerance: toleranceOf(o.hpa.Spec.Behavior), now: now}
	var best proposal
	var first *failure
	failures := 0
	statuses := make([]autoscalingv2.MetricStatus, len(o.hpa.Spec.Metrics))
	for i := range o.hpa.Spec.Metrics {
		p, f := w.evaluate(&o.hpa.Spec.Metrics[i], o.measures[i])
		d.note(&o.hpa.Spec.Metrics[i], o.measures[i], p, f)
		if f != nil {
			d.tell(corev1.EventTypeWarning, f.event, f.err.Error())
			if failures++; first == nil {
				first, d.err = f, f
			}
			continue
		}
		statuses[i] = p.status
		if best.name == "" || p.replicas > best.replicas {
			best = p
		}
	}
	if failures > 0 && (failures == len(statuses) || best.replicas < d.from) {
		d.tell(corev1.EventTypeWarning, "FailedComputeMetricsReplicas",
			fmt.Sprintf("invalid metrics (%d invalid out of %d), first error is: %v", failures, len(statuses), first))
		c.set(autoscalingv2.ScalingActive, corev1.ConditionFalse, reason{first.reason, "the HPA was unable to compute the replica count: " + first.err.Error()})
		return 0, "", false
	}
	d.status.CurrentMetrics = statuses
	c.set(autoscalingv2.ScalingActive, corev1.ConditionTrue,
		reason{"ValidMetricFound", "the HPA was able to successfully calculate a replica count from " + best.name})
	return best.replicas, best.name, true
}

// note keeps what came of a metric.
func (d *decision) note(m *autoscalingv2.MetricSpec, got measure, p proposal, f *failure) {
	c := computed{kind: m.Type, action: none, took: got.took}
	if f != nil {
		c.err = f
	} else {
		c.action = actionOf(d.from, p.replicas)
	}
	d.computed = append(d.computed, c)
}

func (d *decision) tell(kind, why, message string) {
	d.events = append(d.events, event{kind, why, message})
}

// finish takes in how the scaling went.
func (d *decision) finish(h *autoscalingv2.HorizontalPodAutoscaler, err error, now time.Time) {
	if !d.scaled {
		return
	}
	c, l := conditions{&d.status, h.Generation, now}, limitsOf(h)
	if err != nil {
		d.tell(corev1.EventTypeWarning, "FailedRescale", fmt.Sprintf("New size: %d; reason: %s; error: %v", d.to, d.why, err))
		c.set(autoscalingv2.AbleToScale, corev1.ConditionFalse, reason{"FailedUpdateScale", "the HPA controller was unable to update the target scale: " + err.Error()})
		d.status.DesiredReplicas = h.Status.DesiredReplicas
		if d.err == nil {
			d.err = err
		}
		return
	}
	d.done = true
	d.tell(corev1.EventTypeNormal, "SuccessfulRescale", fmt.Sprintf("New size: %d; reason: %s", d.to, d.why))
	c.set(autoscalingv2.AbleToScale, corev1.ConditionTrue, reason{"SucceededRescale", fmt.Sprintf("the HPA controller was able to update the target scale to %d", d.to)})
	d.history = l.done(d.history, d.from, d.to, now)
	d.status.LastScaleTime = &metav1.Time{Time: now}
	switch {
	case d.to == 0:
		c.set(autoscalingv2.ScaledToZero, corev1.ConditionTrue, reason{"ScaledToZero", "the HPA controller scaled the target to zero"})
	case d.from == 0:
		c.set(autoscalingv2.ScaledToZero, corev1.ConditionFalse, reason{"NotScaledToZero", "the HPA controller scaled the target up from zero"})
	}
}

// conditions sets conditions of a status.
type conditions struct {
	status     *autoscalingv2.HorizontalPodAutoscalerStatus
	generation int64
	now        time.Time
}

func (c conditions) set(of autoscalingv2.HorizontalPodAutoscalerConditionType, status corev1.ConditionStatus, why reason) {
	i := slices.IndexFunc(c.status.Conditions, func(x autoscalingv2.HorizontalPodAutoscalerCondition) bool { return x.Type == of })
	if i < 0 {
		i = len(c.status.Conditions)
		c.status.Conditions = append(c.status.Conditions, autoscalingv2.HorizontalPodAutoscalerCondition{Type: of})
	}
	x := &c.status.Conditions[i]
	if x.Status != status {
		x.Status, x.LastTransitionTime = status, metav1.NewTime(c.now)
	}
	x.Reason, x.Message, x.ObservedGeneration = why.reason, why.message, &c.generation
}
