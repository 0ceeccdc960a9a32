package statefulset

import (
	"slices"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// vacated knows which ordinals sets were scaled away from while their policy deletes the claims of such ordinals. The claim of a
// pod goes with the pod; the one of an ordinal that has no pod at that moment, because a rollout has just taken it, would stay
// for ever. Only what was seen to happen counts: a claim that lay there before may hold what somebody means to keep. Safe for
// concurrent use.
type vacated struct {
	mu    sync.Mutex
	spans map[types.UID]span
}

// span is a range of ordinals; to is the first one beyond it.
type span struct{ from, to int }

func (s span) has(ordinal int) bool { return ordinal >= s.from && ordinal < s.to }

func spanOf(set *appsv1.StatefulSet) span {
	start, size := ordinals(set)
	return span{start, start + size}
}

// note takes down that a set has changed; set is nil when it is gone.
func (v *vacated) note(old, set *appsv1.StatefulSet) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if set == nil || !deletes(set).whenScaled {
		if old != nil {
			delete(v.spans, old.UID)
		}
		return
	}
	if old == nil || old.UID != set.UID {
		return
	}
	was, is := spanOf(old), spanOf(set)
	if was.from >= is.from && was.to <= is.to {
		return
	}
	known, ok := v.spans[set.UID]
	if !ok {
		known = was
	}
	v.spans[set.UID] = span{min(known.from, was.from), max(known.to, was.to)}
}

// of returns the ordinals that a set may have been scaled away from, some of which may be its own again; ok is false if there
// are none.
func (v *vacated) of(set types.UID) (s span, ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	s, ok = v.spans[set]
	return s, ok
}

// settle forgets what was found for a set, unless more has been noted since.
func (v *vacated) settle(set types.UID, found span) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.spans[set] == found {
		delete(v.spans, set)
	}
}

// discards asks for the removal of claims whose ordinals the set was scaled away from when they had no pod.
func (p *planner) discards() {
	has := map[int]bool{}
	for _, pod := range p.condemned {
		if n, ok := ordinalOf(p.set.Name, pod.Name); ok {
			has[n] = true
		}
	}
	own := spanOf(p.set)
	for _, v := range p.vacant {
		if !own.has(v.ordinal) && !has[v.ordinal] && v.claim.DeletionTimestamp == nil && !owned(p.set, v.claim) {
			p.a.discard = append(p.a.discard, v.claim)
		}
	}
}

// vacancy is a claim of an ordinal that the set was scaled away from.
type vacancy struct {
	ordinal int
	claim   *corev1.PersistentVolumeClaim
}

// owned reports whether somebody but the set has a say in what becomes of a claim: a pod, with which it goes, among them.
func owned(set *appsv1.StatefulSet, claim *corev1.PersistentVolumeClaim) bool {
	return slices.ContainsFunc(claim.OwnerReferences, func(r metav1.OwnerReference) bool { return r.UID != set.UID })
}
