package podautoscaler

import (
	"math/rand/v2"
	"testing"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
)

func rules(window int32, choose autoscalingv2.ScalingPolicySelect, policies ...autoscalingv2.HPAScalingPolicy) *autoscalingv2.HPAScalingRules {
	return &autoscalingv2.HPAScalingRules{StabilizationWindowSeconds: &window, SelectPolicy: &choose, Policies: policies}
}

func percent(n, period int32) autoscalingv2.HPAScalingPolicy {
	return autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PercentScalingPolicy, Value: n, PeriodSeconds: period}
}

func podsPolicy(n, period int32) autoscalingv2.HPAScalingPolicy {
	return autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PodsScalingPolicy, Value: n, PeriodSeconds: period}
}

func TestSteps(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		current, wanted, want int32
		reason                string
	}{
		"within":                  {5, 7, 7, "DesiredWithinRange"},
		"at most double":          {5, 12, 10, "ScaleUpLimit"},
		"but four at once":        {1, 9, 4, "ScaleUpLimit"},
		"the maximum":             {8, 40, 15, "TooManyReplicas"},
		"the minimum":             {5, 1, 2, "TooFewReplicas"},
		"down as far as it takes": {15, 2, 2, "DesiredWithinRange"},
	} {
		v, _ := limits{min: 2, max: 15}.settle(history{}, c.current, c.wanted, noon())
		if v.replicas != c.want || v.limited.reason != c.reason || v.cut != (c.want != c.wanted) {
			t.Errorf("%s: %+v", name, v)
		}
	}
}

func TestPolicies(t *testing.T) {
	t.Parallel()
	const most, least, off = autoscalingv2.MaxChangePolicySelect, autoscalingv2.MinChangePolicySelect, autoscalingv2.DisabledPolicySelect
	ago := func(s int, n int32) timed { return timed{noon().Add(-time.Duration(s) * time.Second), n} }
	both := []autoscalingv2.HPAScalingPolicy{percent(10, 60), podsPolicy(4, 60)}
	for name, c := range map[string]struct {
		up, down        *autoscalingv2.HPAScalingRules
		h               history
		current, wanted int32
		want            int32
		reason          string
	}{
		"percent, exactly":            {up: rules(0, most, percent(10, 60)), current: 10, wanted: 99, want: 11, reason: "ScaleUpLimit"},
		"percent rounds up":           {up: rules(0, most, percent(10, 60)), current: 11, wanted: 99, want: 13, reason: "ScaleUpLimit"},
		"the larger change":           {up: rules(0, most, both...), current: 10, wanted: 99, want: 14, reason: "ScaleUpLimit"},
		"the smaller change":          {up: rules(0, least, both...), current: 10, wanted: 99, want: 11, reason: "ScaleUpLimit"},
		"no change":                   {up: rules(0, off, both...), current: 10, wanted: 99, want: 10, reason: "ScaleUpLimit"},
		"part was used":               {up: rules(0, most, podsPolicy(4, 60)), h: history{ups: []timed{ago(30, 3)}}, current: 10, wanted: 99, want: 11, reason: "ScaleUpLimit"},
		"what is older is free":       {up: rules(0, most, podsPolicy(4, 60)), h: history{ups: []timed{ago(61, 3)}}, current: 10, wanted: 99, want: 14, reason: "ScaleUpLimit"},
		"what went down may go up":    {up: rules(0, most, podsPolicy(1, 60)), h: history{downs: []timed{ago(30, 5)}}, current: 5, wanted: 99, want: 11, reason: "ScaleUpLimit"},
		"more was used than there is": {up: rules(0, most, podsPolicy(1, 60)), h: history{ups: []timed{ago(30, 5)}}, current: 10, wanted: 99, want: 10, reason: "ScaleUpLimit"},
		"up to the maximum":           {up: rules(0, most, percent(900, 60)), current: 60, wanted: 300, want: 100, reason: "TooManyReplicas"},
		"down by percent":             {down: rules(0, most, percent(10, 60)), current: 20, wanted: 1, want: 18, reason: "ScaleDownLimit"},
		"down by the larger":          {down: rules(0, most, both...), current: 20, wanted: 1, want: 16, reason: "ScaleDownLimit"},
		"down by the smaller":         {down: rules(0, least, both...), current: 20, wanted: 1, want: 18, reason: "ScaleDownLimit"},
		"never down":                  {down: rules(0, off, both...), current: 20, wanted: 1, want: 20, reason: "ScaleDownLimit"},
		"down, part was used":         {down: rules(0, most, podsPolicy(4, 60)), h: history{downs: []timed{ago(30, 3)}}, current: 20, wanted: 1, want: 19, reason: "ScaleDownLimit"},
		"down to the minimum":         {down: rules(0, most, percent(100, 60)), current: 20, wanted: 1, want: 2, reason: "TooFewReplicas"},
		"within":                      {down: rules(0, most, percent(100, 60)), current: 20, wanted: 5, want: 5, reason: "DesiredWithinRange"},
	} {
		l := limits{min: 2, max: 100, behavior: &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: c.up, ScaleDown: c.down}}
		v, _ := l.settle(c.h, c.current, c.wanted, noon())
		if v.replicas != c.want || v.limited.reason != c.reason {
			t.Errorf("%s: %+v, want %d (%s)", name, v, c.want, c.reason)
		}
	}
}

func TestWindows(t *testing.T) {
	t.Parallel()
	at := func(s int, n int32) timed { return timed{noon().Add(-time.Duration(s) * time.Second), n} }
	behavior := func(up, down int32) *autoscalingv2.HorizontalPodAutoscalerBehavior {
		all := []autoscalingv2.HPAScalingPolicy{percent(1000, 15)}
		return &autoscalingv2.HorizontalPodAutoscalerBehavior{
			ScaleUp: rules(up, autoscalingv2.MaxChangePolicySelect, all...), ScaleDown: rules(down, autoscalingv2.MaxChangePolicySelect, percent(100, 15)),
		}
	}
	for name, c := range map[string]struct {
		behavior        *autoscalingv2.HorizontalPodAutoscalerBehavior
		past            []timed
		current, wanted int32
		want            int32
		able            string
	}{
		"down waits five minutes":     {nil, []timed{at(299, 8)}, 8, 3, 8, "ScaleDownStabilized"},
		"and no longer":               {nil, []timed{at(301, 8)}, 8, 3, 3, "ReadyForNewScale"},
		"the highest of the window":   {nil, []timed{at(200, 6), at(100, 4)}, 8, 3, 6, "ScaleDownStabilized"},
		"up does not wait":            {nil, []timed{at(1, 4)}, 4, 8, 8, "ReadyForNewScale"},
		"unless it is to":             {behavior(60, 0), []timed{at(30, 5)}, 4, 8, 5, "ScaleUpStabilized"},
		"below what is there already": {behavior(60, 0), []timed{at(30, 2)}, 4, 8, 4, "ScaleUpStabilized"},
		"down at once":                {behavior(0, 0), []timed{at(30, 9)}, 9, 2, 2, "ReadyForNewScale"},
		"down waits as long as asked": {behavior(0, 60), []timed{at(30, 7), at(90, 9)}, 9, 2, 7, "ScaleDownStabilized"},
	} {
		v, _ := limits{min: 1, max: 100, behavior: c.behavior}.settle(history{recommended: c.past}, c.current, c.wanted, noon())
		if v.replicas != c.want || v.able.reason != c.able {
			t.Errorf("%s: %+v, want %d (%s)", name, v, c.want, c.able)
		}
	}
}

// TestRatesAreNeverExceeded plays random wishes against random rules: within any period of a policy, no more changes than
// the rules allow; the range is kept; the history does not grow.
func TestRatesAreNeverExceeded(t *testing.T) {
	t.Parallel()
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 2))
		step, span := 1+r.Int32N(5), 15+r.Int32N(120)
		l := limits{min: 1, max: 30, behavior: &autoscalingv2.HorizontalPodAutoscalerBehavior{
			ScaleUp:   rules(r.Int32N(60), autoscalingv2.MaxChangePolicySelect, podsPolicy(step, span)),
			ScaleDown: rules(r.Int32N(60), autoscalingv2.MaxChangePolicySelect, podsPolicy(step, span)),
		}}
		h, now, current := history{}, noon(), int32(1+r.IntN(30))
		past := []timed{{time.Time{}, current}} // replicas over time
		for range 200 {
			now = now.Add(time.Duration(1+r.IntN(30)) * time.Second)
			began := current // replicas when the period began
			for _, p := range past {
				if !p.at.After(now.Add(-time.Duration(span) * time.Second)) {
					began = p.n
				}
			}
			var v verdict
			v, h = l.settle(h, current, r.Int32N(40), now)
			switch {
			case v.replicas < l.min, v.replicas > l.max:
				t.Fatalf("seed %d: %d replicas", seed, v.replicas)
			case v.replicas > current && v.replicas > began+step, v.replicas < current && v.replicas < began-step:
				t.Fatalf("seed %d: from %d to %d within %ds, policy %d", seed, began, v.replicas, span, step)
			}
			if v.replicas != current {
				h = l.done(h, current, v.replicas, now)
				past = append(past, timed{now, v.replicas})
			}
			current = v.replicas
			if len(h.recommended) > 100 || len(h.ups)+len(h.downs) > 200 {
				t.Fatalf("seed %d: history grows: %d %d", seed, len(h.recommended), len(h.ups)+len(h.downs))
			}
		}
	}
}

// TestSettleDoesNotShareMemory: a decision that is not acted on leaves the history as it was.
func TestSettleDoesNotShareMemory(t *testing.T) {
	t.Parallel()
	h := history{recommended: make([]timed, 0, 8)}
	h.recommended = append(h.recommended, timed{noon(), 3})
	l := limits{min: 1, max: 9, behavior: nil}
	_, a := l.settle(h, 3, 5, noon().Add(time.Second))
	_, b := l.settle(h, 3, 7, noon().Add(time.Second))
	if a.recommended[1].n != 5 || b.recommended[1].n != 7 || h.recommended[0].n != 3 {
		t.Errorf("%v %v %v", h, a, b)
	}
}
