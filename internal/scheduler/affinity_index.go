package scheduler

import (
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// maxAffinityCounts bounds how many different sets of pods are kept counted; the least recently used goes first.
const maxAffinityCounts = 512

// affinityIndex keeps what inter-pod affinity reads, up to date with every placed pod and node: how many pods of a set that
// waiting pods ask about each topology domain holds, and what the placed pods themselves demand of others in their domains.
type affinityIndex struct {
	namespaces map[string]labels.Set
	asked      map[string]*podCount // by key of what was asked about; some may be forgotten and counted anew
	counting   doors[*podCount]     // the same, found by the pods that count
	carried    map[string]*carriedTerm
	apart      doors[*carriedTerm] // those of carried that keep pods away, by the pods
	scores     doors[*carriedTerm] // those of carried that score, likewise
	clock      int64
}

// podCount counts the pods that all of its terms mean, by topology domain.
type podCount struct {
	terms    []podTerm
	topology string
	domains  map[string]int // by value of the topology label; no zeros
	used     int64
	behind   []door
}

// carriedTerm is a term that placed pods have: a required anti-affinity, or one that scores.
type carriedTerm struct {
	term    podTerm
	pods    int              // that carry it; without any it is forgotten
	domains map[string]int64 // sum over the domain's pods: their number, or their weight for a term that scores; no zeros
	behind  []door
}

func newAffinityIndex() *affinityIndex {
	return &affinityIndex{namespaces: map[string]labels.Set{}, asked: map[string]*podCount{}, counting: doors[*podCount]{},
		carried: map[string]*carriedTerm{}, apart: doors[*carriedTerm]{}, scores: doors[*carriedTerm]{}}
}

// get returns the counts of the pods that all terms mean, by domains of topology.
func (x *affinityIndex) get(c *cluster, topology string, terms []podTerm) *podCount {
	id := make([]string, 0, len(terms)+1)
	id = append(id, topology)
	for i := range terms {
		id = append(id, terms[i].meaning)
	}
	key := strings.Join(id, "\x01")
	x.clock++
	if a := x.asked[key]; a != nil {
		a.used = x.clock
		return a
	}
	x.evict()
	a := &podCount{terms: terms, topology: topology, domains: map[string]int{}, used: x.clock}
	for _, n := range c.nodes {
		for _, p := range n.pods {
			x.countAsked(a, n, p.pod, 1)
		}
	}
	x.asked[key] = a
	a.behind = x.counting.file(a, &a.terms[0]) // a pod that counts is meant by all
	return a
}

func (x *affinityIndex) forget(key string) {
	a := x.asked[key]
	delete(x.asked, key)
	x.counting.drop(a, a.behind)
}

func (x *affinityIndex) evict() {
	if len(x.asked) < maxAffinityCounts {
		return
	}
	oldest, at := "", x.clock
	for key, a := range x.asked {
		if a.used < at {
			oldest, at = key, a.used
		}
	}
	x.forget(oldest)
}

func (x *affinityIndex) countAsked(a *podCount, n *node, pod *corev1.Pod, sign int) {
	if n.object == nil {
		return
	}
	value, ok := n.object.Labels[a.topology]
	if !ok {
		return
	}
	for i := range a.terms {
		if !a.terms[i].matches(pod, x.namespaces) {
			return
		}
	}
	addTo(a.domains, value, sign)
}

func addTo[V int | int64](m map[string]V, key string, v V) {
	if m[key] += v; m[key] == 0 {
		delete(m, key)
	}
}

// carry counts p's own terms: sign 1 when it comes, -1 when it goes.
func (x *affinityIndex) carry(n *node, p *podInfo, sign int) {
	for _, terms := range [][]podTerm{p.terms.near, p.terms.apart, p.terms.wishes} {
		for i := range terms {
			t := &terms[i]
			k := x.carried[t.carried]
			if k == nil {
				k = &carriedTerm{term: *t, domains: map[string]int64{}}
				x.carried[t.carried] = k
				k.behind = x.sort(t).file(k, t)
			}
			k.count(n, t, sign)
			if k.pods += sign; k.pods == 0 {
				delete(x.carried, t.carried)
				x.sort(t).drop(k, k.behind)
			}
		}
	}
}

// sort is where terms of t's sort are found.
func (x *affinityIndex) sort(t *podTerm) doors[*carriedTerm] {
	if t.weight == 0 {
		return x.apart
	}
	return x.scores
}

func carriedKey(t *podTerm) string {
	kind := "score"
	if t.weight == 0 {
		kind = "apart"
	}
	return kind + "\x01" + t.topology + "\x01" + t.meaning
}

func (k *carriedTerm) count(n *node, t *podTerm, sign int) {
	if n.object == nil {
		return
	}
	if value, ok := n.object.Labels[t.topology]; ok {
		worth := t.weight
		if worth == 0 {
			worth = 1
		}
		addTo(k.domains, value, worth*int64(sign))
	}
}

// addPod takes note of a pod that came to n, or with sign -1 left it.
func (x *affinityIndex) addPod(n *node, p *podInfo, sign int) {
	for a := range x.counting.of(p.pod) {
		x.countAsked(a, n, p.pod, sign)
	}
	x.carry(n, p, sign)
}

// addNode counts the pods of a node whose labels have become known, or with sign -1 are about to change.
func (x *affinityIndex) addNode(n *node, sign int) {
	for _, p := range n.pods {
		x.addPod(n, p, sign)
	}
}

// setNamespace makes known the labels of a namespace, nil when it is gone, and reports whether they are new.
func (x *affinityIndex) setNamespace(name string, now labels.Set) bool {
	old, known := x.namespaces[name]
	if known == (now != nil) && maps.Equal(old, now) {
		return false
	}
	if now == nil {
		delete(x.namespaces, name)
	} else {
		x.namespaces[name] = now
	}
	for key, a := range x.asked {
		for i := range a.terms {
			if a.terms[i].within != nil {
				x.forget(key)
				break
			}
		}
	}
	return true
}
