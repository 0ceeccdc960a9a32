package podautoscaler

import (
	"math"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
)

// downWindow is how long the highest recommendation holds against scaling down, where a behavior says nothing else.
const downWindow = 5 * time.Minute

// A workload without a behavior may at most be doubled at once, but always reach four pods.
const (
	stepFactor  = 2
	stepMinimum = 4
)

// timed is a number of replicas, or a change of it, and when.
type timed struct {
	at time.Time
	n  int32
}

// history is what is remembered of one autoscaler. A value: nothing that hangs off it is ever changed.
type history struct {
	recommended []timed // what metrics asked for
	ups, downs  []timed // by how much it was scaled
}

// limits is the range that an autoscaler stays in, and its rules.
type limits struct {
	min, max int32
	behavior *autoscalingv2.HorizontalPodAutoscalerBehavior
}

// verdict is what remains of a recommendation, with the conditions that tell why.
type verdict struct {
	replicas int32
	able     reason // of AbleToScale, which is True
	limited  reason // of ScalingLimited
	cut      bool   // ScalingLimited is True
}

// reason is a condition's reason and message.
type reason struct{ reason, message string }

// settle turns what metrics ask for into what is done: steadied by what they asked for before, and within the rates and
// the range that are set. It returns the history with this recommendation in it.
func (l limits) settle(h history, current, wanted int32, now time.Time) (verdict, history) {
	h.recommended = append(fresh(h.recommended, now.Add(-l.longest())), timed{now, wanted})
	steady, able := l.steady(h.recommended, current, wanted, now)
	v := verdict{able: able}
	if l.behavior == nil {
		v.replicas, v.limited = l.step(current, steady)
	} else {
		v.replicas, v.limited = l.rate(h, current, steady, now)
	}
	v.cut = v.replicas != steady
	return v, h
}

// window is for how long recommendations hold in one direction.
func window(r *autoscalingv2.HPAScalingRules, otherwise time.Duration) time.Duration {
	if r == nil || r.StabilizationWindowSeconds == nil {
		return otherwise
	}
	return time.Duration(*r.StabilizationWindowSeconds) * time.Second
}

func (l limits) windows() (up, down time.Duration) {
	if l.behavior == nil {
		return 0, downWindow
	}
	return window(l.behavior.ScaleUp, 0), window(l.behavior.ScaleDown, downWindow)
}

// longest is how far back any recommendation matters.
func (l limits) longest() time.Duration {
	up, down := l.windows()
	return max(up, down)
}

// fresh is what is not older than since.
func fresh(all []timed, since time.Time) []timed {
	var out []timed
	for _, t := range all {
		if t.at.After(since) {
			out = append(out, t)
		}
	}
	return out
}

// steady keeps wanted from going above the lowest recommendation of the window for scaling up, and below the highest of the
// one for scaling down.
func (l limits) steady(all []timed, current, wanted int32, now time.Time) (int32, reason) {
	up, down := l.windows()
	lowest, highest := wanted, wanted
	for _, t := range all {
		if t.at.After(now.Add(-up)) {
			lowest = min(lowest, t.n)
		}
		if t.at.After(now.Add(-down)) {
			highest = max(highest, t.n)
		}
	}
	out := current
	if l.behavior == nil {
		out = highest
	} else {
		out = min(max(out, lowest), highest)
	}
	switch {
	case out == wanted:
		return out, reason{"ReadyForNewScale", "recommended size matches current size"}
	case l.behavior != nil && wanted >= current:
		return out, reason{"ScaleUpStabilized", "recent recommendations were lower than current one, applying the lowest recent recommendation"}
	}
	return out, reason{"ScaleDownStabilized", "recent recommendations were higher than current one, applying the highest recent recommendation"}
}

// The reasons of ScalingLimited.
const (
	increasing = "the desired replica count is increasing faster than the maximum scale rate"
	decreasing = "the desired replica count is decreasing faster than the maximum scale rate"
	tooMany    = "the desired replica count is more than the maximum replica count"
	tooFew     = "the desired replica count is less than the minimum replica count"
	within     = "the desired count is within the acceptable range"
)

// step applies the rule of workloads without a behavior.
func (l limits) step(current, wanted int32) (int32, reason) {
	most, why := l.max, reason{"TooManyReplicas", tooMany}
	if reach := max(ceil(stepFactor*float64(current)), stepMinimum); l.max > reach {
		most, why = reach, reason{"ScaleUpLimit", increasing}
	}
	switch {
	case wanted < l.min:
		return l.min, reason{"TooFewReplicas", tooFew}
	case wanted > most:
		return most, why
	}
	return wanted, reason{"DesiredWithinRange", within}
}

// rate applies the policies of a behavior.
func (l limits) rate(h history, current, wanted int32, now time.Time) (int32, reason) {
	switch {
	case wanted > current:
		most, why := l.max, reason{"TooManyReplicas", tooMany}
		if reach := max(l.reachUp(h, current, now), current); l.max > reach {
			most, why = reach, reason{"ScaleUpLimit", increasing}
		}
		if wanted > most {
			return most, why
		}
	case wanted < current:
		least, why := l.min, reason{"TooFewReplicas", tooFew}
		if reach := min(l.reachDown(h, current, now), current); l.min < reach {
			least, why = reach, reason{"ScaleDownLimit", decreasing}
		}
		if wanted < least {
			return least, why
		}
	}
	return wanted, reason{"DesiredWithinRange", within}
}

// reachUp is how far the policies let a workload be scaled up now.
func (l limits) reachUp(h history, current int32, now time.Time) int32 {
	return reach(l.behavior.ScaleUp, current, now, h, func(start float64, p autoscalingv2.HPAScalingPolicy) int32 {
		if p.Type == autoscalingv2.PercentScalingPolicy {
			return ceil(start * (100 + float64(p.Value)) / 100)
		}
		return ceil(start + float64(p.Value))
	}, true)
}

// reachDown is how far the policies let it be scaled down.
func (l limits) reachDown(h history, current int32, now time.Time) int32 {
	return reach(l.behavior.ScaleDown, current, now, h, func(start float64, p autoscalingv2.HPAScalingPolicy) int32 {
		if p.Type == autoscalingv2.PercentScalingPolicy {
			return int32(max(start*(100-float64(p.Value))/100, 0))
		}
		return int32(max(start-float64(p.Value), 0))
	}, false)
}

// reach asks every policy how far it lets the workload go from where it was when the policy's period began, and picks the
// farthest, or the nearest if the rules say Min.
func reach(r *autoscalingv2.HPAScalingRules, current int32, now time.Time, h history, apply func(float64, autoscalingv2.HPAScalingPolicy) int32, up bool) int32 {
	if r == nil || r.SelectPolicy != nil && *r.SelectPolicy == autoscalingv2.DisabledPolicySelect {
		return current
	}
	nearest := r.SelectPolicy != nil && *r.SelectPolicy == autoscalingv2.MinChangePolicySelect
	pickMax := up != nearest
	out := int32(math.MaxInt32)
	if pickMax {
		out = 0
	}
	for _, p := range r.Policies {
		since := now.Add(-time.Duration(p.PeriodSeconds) * time.Second)
		start := float64(current) - total(h.ups, since) + total(h.downs, since)
		if n := apply(start, p); pickMax {
			out = max(out, n)
		} else {
			out = min(out, n)
		}
	}
	return out
}

func total(changes []timed, since time.Time) float64 {
	sum := 0.0
	for _, c := range changes {
		if c.at.After(since) {
			sum += float64(c.n)
		}
	}
	return sum
}

// done notes that the workload was scaled. Without a behavior nobody asks.
func (l limits) done(h history, from, to int32, now time.Time) history {
	if l.behavior == nil {
		h.ups, h.downs = nil, nil
		return h
	}
	h.ups, h.downs = fresh(h.ups, now.Add(-period(l.behavior))), fresh(h.downs, now.Add(-period(l.behavior)))
	if to > from {
		h.ups = append(h.ups, timed{now, to - from})
	} else if to < from {
		h.downs = append(h.downs, timed{now, from - to})
	}
	return h
}

// period is the longest that any policy looks back.
func period(b *autoscalingv2.HorizontalPodAutoscalerBehavior) time.Duration {
	longest := int32(0)
	for _, r := range []*autoscalingv2.HPAScalingRules{b.ScaleUp, b.ScaleDown} {
		if r == nil {
			continue
		}
		for _, p := range r.Policies {
			longest = max(longest, p.PeriodSeconds)
		}
	}
	return time.Duration(longest) * time.Second
}
