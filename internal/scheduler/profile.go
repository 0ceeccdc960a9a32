package scheduler

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/tools/events"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	configv1 "k8s.io/kube-scheduler/config/v1"

	"canopus/internal/scheduler/config"
)

// profile is what works for the pods of one scheduler name.
type profile struct {
	name     string
	options  options
	recorder events.EventRecorder // made by Run
}

// preemption bounds the search for what to evict. The zero value searches as upstream's defaults do.
type preemption struct {
	off               bool
	ask               bool // others choose among the plans
	percent, absolute int  // candidates to compare before the best of them is good enough
}

func (p preemption) enough(nodes int) int {
	if p.percent == 0 && p.absolute == 0 {
		p.percent, p.absolute = 10, 100
	}
	return max(nodes*p.percent/100, p.absolute)
}

// optionsOf are those of a pod's profile.
func (s *Scheduler) optionsOf(pod *corev1.Pod) options {
	if p := s.profiles[pod.Spec.SchedulerName]; p != nil {
		return p.options
	}
	return s.options
}

// optionsFor are those, with regard to extenders.
func (s *Scheduler) optionsFor(pod *corev1.Pod) options {
	o := s.optionsOf(pod)
	o.preemption.ask = len(s.arbiters(pod)) > 0
	return o
}

// recorderOf records events in the name of a pod's scheduler.
func (s *Scheduler) recorderOf(pod *corev1.Pod) events.EventRecorder {
	return s.profiles[pod.Spec.SchedulerName].recorder
}

// makeProfiles turns the configuration into rules.
func (s *Scheduler) makeProfiles(c *config.Configuration) error {
	ignored := ignoredByExtenders(c.Extenders)
	for i := range c.Profiles {
		from := &c.Profiles[i]
		rules, err := profileRules(from, ignored)
		if err != nil {
			return fmt.Errorf("scheduler: profile %s: %w", from.Name, err)
		}
		if len(c.Extenders) > 0 { // what extenders refuse may be turned by anything
			rules = append(rules, rule{name: "Extenders", turns: ^change(0)})
		}
		for j := range rules {
			if rules[j].name == "VolumeBinding" && rules[j].filter != nil {
				binder := &volumeBinder{client: s.Client, clock: s.Clock, inbox: s.inbox, timeout: seconds(*from.Args.VolumeBinding.BindTimeoutSeconds)}
				rules[j].reserve = binder.reserve
			}
			if rules[j].name == dynamicResources && rules[j].filter != nil {
				rules[j].reserve = s.deviceBinder(from.Args.DynamicResources.BindingTimeout.Duration).reserve
			}
		}
		args := from.Args.DefaultPreemption
		s.profiles[from.Name] = &profile{name: from.Name, options: options{
			rules: rules, percent: from.Percent, rand: rand.New(rand.NewPCG(s.Seed, uint64(i))), now: s.Clock.Now,
			preemption: preemption{
				off:     !from.Enabled("DefaultPreemption", config.PostFilter),
				percent: int(*args.MinCandidateNodesPercentage), absolute: int(*args.MinCandidateNodesAbsolute),
			},
		}}
	}
	return nil
}

// profileRules are the rules of a profile, in its order: those that filter as filters are ordered, then those that only score.
func profileRules(p *config.Profile, ignored []string) ([]rule, error) {
	known := map[string]rule{}
	for _, r := range defaultRules() {
		known[r.name] = r
	}
	if err := adjust(known, p.Args, ignored); err != nil {
		return nil, err
	}
	var out []rule
	done := sets.Set[string]{}
	take := func(name string, weight int64) {
		r, ok := known[name]
		if !ok || done.Has(name) {
			return
		}
		done.Insert(name)
		if !p.Enabled(name, config.PreFilter, config.Filter, config.Reserve, config.PreBind) {
			r.refuse, r.filter, r.reserve, r.turns, r.hint = nil, nil, nil, 0, nil
		}
		if r.weight = weight; weight == 0 || !p.Enabled(name, config.PreScore, config.Score) {
			r.score, r.normal, r.weight = nil, nil, 0
		}
		out = append(out, r)
	}
	for _, f := range p.Points[config.Filter] {
		at := slices.IndexFunc(p.Points[config.Score], func(e config.Plugin) bool { return e.Name == f.Name })
		if at < 0 {
			take(f.Name, 0)
		} else {
			take(f.Name, p.Points[config.Score][at].Weight)
		}
	}
	for _, e := range p.Points[config.Score] {
		take(e.Name, e.Weight)
	}
	if len(out) == 0 {
		return nil, errors.New("no plugin filters or scores: enable one")
	}
	return out, nil
}

// adjust makes rules do what their arguments say.
func adjust(known map[string]rule, args config.Args, ignored []string) error {
	change := func(name string, f func(*rule)) {
		r := known[name]
		f(&r)
		known[name] = r
	}
	if a := args.InterPodAffinity; *a.HardPodAffinityWeight != hardAffinityWeight || a.IgnorePreferredTermsOfExistingPods {
		return fmt.Errorf("InterPodAffinityArgs: only hardPodAffinityWeight: %d and ignorePreferredTermsOfExistingPods: false are available", hardAffinityWeight)
	}
	if a := args.NodeAffinity.AddedAffinity; a != nil {
		change("NodeAffinity", addAffinity(a))
	}
	fit := args.NodeResourcesFit
	if names, groups := append(slices.Clone(ignored), fit.IgnoredResources...), fit.IgnoredResourceGroups; len(names)+len(groups) > 0 {
		change("NodeResourcesFit", ignoreResources(names, groups))
	}
	change("NodeResourcesFit", func(r *rule) { r.score = strategy(fit.ScoringStrategy) })
	if list := args.BalancedAllocation.Resources; !cpuAndMemory(list) {
		change("NodeResourcesBalancedAllocation", func(r *rule) { r.score = balance(list) })
	}
	if args.PodTopologySpread.DefaultingType == configv1.ListDefaulting {
		change("PodTopologySpread", spreadByList(args.PodTopologySpread.DefaultConstraints))
	}
	return nil
}

const notEnforced = "node(s) didn't match scheduler-enforced node affinity"

// addAffinity has all pods want what a says, besides what they want themselves.
func addAffinity(a *corev1.NodeAffinity) func(*rule) {
	return func(r *rule) {
		if s := a.RequiredDuringSchedulingIgnoredDuringExecution; s != nil {
			// The configuration was checked to parse.
			required, err := nodeaffinity.NewNodeSelector(s)
			r.filter = func(c *cluster, p *podInfo) check {
				own := filterAffinity(c, p)
				return func(n *node) reason {
					if err != nil || !required.Match(n.object) {
						return final(notEnforced)
					}
					if own == nil {
						return reason{}
					}
					return own(n)
				}
			}
			r.hint = admits(r.filter)
		}
		if len(a.PreferredDuringSchedulingIgnoredDuringExecution) == 0 {
			return
		}
		preferred, err := nodeaffinity.NewPreferredSchedulingTerms(a.PreferredDuringSchedulingIgnoredDuringExecution)
		r.score = func(c *cluster, p *podInfo) scorer {
			own := scoreAffinity(c, p)
			return func(n *node) int64 {
				var sum int64
				if err == nil {
					sum = preferred.Score(n.object)
				}
				if own != nil {
					sum += own(n)
				}
				return sum
			}
		}
	}
}

// ignoreResources has the filter not look at some resources: somebody else sees to them.
func ignoreResources(names, groups []string) func(*rule) {
	ignored := func(name corev1.ResourceName) bool {
		group, _, _ := strings.Cut(string(name), "/")
		return slices.Contains(names, string(name)) || slices.Contains(groups, group)
	}
	without := func(p *podInfo) *podInfo {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(p.asked.other)), ignored) {
			return p
		}
		q := *p
		q.asked.other = map[corev1.ResourceName]int64{}
		for name, amount := range p.asked.other {
			if !ignored(name) {
				q.asked.other[name] = amount
			}
		}
		return &q
	}
	return func(r *rule) {
		filter, hint := r.filter, r.hint
		r.filter = func(c *cluster, p *podInfo) check { return filter(c, without(p)) }
		r.hint = func(c *cluster, p *podInfo, e *event) bool { return hint(c, without(p), e) }
	}
}

// spreadByList has pods without constraints of their own obey those of a list, over the pods they belong with.
func spreadByList(list []corev1.TopologySpreadConstraint) func(*rule) {
	with := func(c *cluster, p *podInfo) *podInfo {
		if len(p.pod.Spec.TopologySpreadConstraints) > 0 {
			return p
		}
		q := *p
		q.spread = spreadConstraints{given: true}
		selector := c.workloads.selector(p.pod)
		if selector.Empty() {
			return &q
		}
		labels := map[corev1.UnsatisfiableConstraintAction][]string{}
		for _, d := range list {
			labels[d.WhenUnsatisfiable] = append(labels[d.WhenUnsatisfiable], d.TopologyKey)
		}
		for _, d := range list {
			one := spreadConstraint{TopologySpreadConstraint: d, selector: selector, labels: labels[d.WhenUnsatisfiable]}.identified(p.pod)
			if d.WhenUnsatisfiable == corev1.DoNotSchedule {
				q.spread.hard = append(q.spread.hard, one)
			} else {
				q.spread.soft = append(q.spread.soft, one)
			}
		}
		return &q
	}
	return func(r *rule) {
		r.filter = func(c *cluster, p *podInfo) check { return filterSpread(c, with(c, p)) }
		r.score = func(c *cluster, p *podInfo) scorer { return scoreSpread(c, with(c, p)) }
		r.hint = func(c *cluster, p *podInfo, e *event) bool { return hintSpread(c, with(c, p), e) }
	}
}
