package scheduler

import (
	"context"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	extenderv1 "k8s.io/kube-scheduler/extender/v1"
)

// offer is a node from which pods could be evicted, as extenders are told of it and answer. Not changed once it is made.
type offer struct {
	node       string
	victims    []*podInfo
	violations int
	there      map[types.UID]*podInfo // all pods on the node when the offer was made
	altered    bool                   // an extender has chosen other victims
}

// newOffer shows a plan to extenders.
func newOffer(to *plan) *offer {
	o := &offer{node: to.node.name, victims: to.victims, violations: to.violations, there: maps.Clone(to.node.pods)}
	for _, q := range to.victims { // those of a group may be on other nodes
		o.there[q.pod.UID] = q
	}
	return o
}

// preempt asks which of the offers e lets be taken up for p, and with which victims. A node that e does not name is out.
func (e *extender) preempt(ctx context.Context, p *podInfo, offers []*offer) ([]*offer, error) {
	var answer extenderv1.ExtenderPreemptionResult
	if err := e.call(ctx, e.PreemptVerb, e.preemptionArgs(p.pod, offers), &answer); err != nil {
		return nil, err
	}
	var out []*offer
	for _, o := range offers {
		chosen, named := answer.NodeNameToMetaVictims[o.node]
		if !named {
			continue
		}
		delete(answer.NodeNameToMetaVictims, o.node)
		if chosen == nil || len(chosen.Pods) == 0 {
			if e.Ignorable {
				continue
			}
			return nil, fmt.Errorf("expected at least one victim pod on node %q", o.node)
		}
		altered, err := o.alter(p, chosen)
		if err != nil {
			return nil, err
		}
		out = append(out, altered)
	}
	if names := slices.Sorted(maps.Keys(answer.NodeNameToMetaVictims)); len(names) > 0 {
		return nil, fmt.Errorf("claims to preempt on node %q, which is not one that it was asked about", names[0])
	}
	return out, nil
}

// preemptionArgs shows offers to e: the identities of pods to one that knows the rest.
func (e *extender) preemptionArgs(pod *corev1.Pod, offers []*offer) *extenderv1.ExtenderPreemptionArgs {
	out := &extenderv1.ExtenderPreemptionArgs{Pod: pod}
	if e.NodeCacheCapable {
		out.NodeNameToMetaVictims = make(map[string]*extenderv1.MetaVictims, len(offers))
		for _, o := range offers {
			v := &extenderv1.MetaVictims{NumPDBViolations: int64(o.violations)}
			for _, q := range o.victims {
				v.Pods = append(v.Pods, &extenderv1.MetaPod{UID: string(q.pod.UID)})
			}
			out.NodeNameToMetaVictims[o.node] = v
		}
		return out
	}
	out.NodeNameToVictims = make(map[string]*extenderv1.Victims, len(offers))
	for _, o := range offers {
		v := &extenderv1.Victims{NumPDBViolations: int64(o.violations)}
		for _, q := range o.victims {
			v.Pods = append(v.Pods, q.pod)
		}
		out.NodeNameToVictims[o.node] = v
	}
	return out
}

// alter is o with the victims that an extender chose: pods on the node, of less importance than p.
func (o *offer) alter(p *podInfo, chosen *extenderv1.MetaVictims) (*offer, error) {
	out := &offer{node: o.node, violations: int(chosen.NumPDBViolations), there: o.there}
	for _, meta := range chosen.Pods {
		if meta == nil {
			return nil, fmt.Errorf("names no pod among the victims on node %q", o.node)
		}
		q := o.there[types.UID(meta.UID)]
		switch {
		case q == nil:
			return nil, fmt.Errorf("claims to preempt pod (UID: %s) on node %q, but the pod is not found on that node", meta.UID, o.node)
		case q.priority >= p.priority:
			return nil, fmt.Errorf("claims to preempt pod %s on node %q, which is no less important than the pod that is scheduled", q.key, o.node)
		case !slices.Contains(out.victims, q):
			out.victims = append(out.victims, q)
		}
	}
	other := func(q *podInfo) bool { return !slices.Contains(o.victims, q) }
	out.altered = o.altered || len(out.victims) != len(o.victims) || slices.ContainsFunc(out.victims, other)
	return out, nil
}
