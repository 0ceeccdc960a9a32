package scheduler

import (
	"iter"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
)

// door is what a pod must have for a term behind it to mean it: a namespace ("": any) and a label (an empty key: any).
type door struct{ namespace, key, value string }

// doors finds what concerns a pod without looking at everything else: each entry stands behind the doors that a pod meant by
// its term must come through one of. A pod comes through at most one door of an entry.
type doors[E comparable] map[door]map[E]bool

// file puts e behind doors of t and returns them. Of the labels that t insists on it takes the one with fewest others.
func (d doors[E]) file(e E, t *podTerm) []door {
	requirements, selectable := t.selector.Requirements()
	if !selectable {
		return nil // t means no pod
	}
	best, crowd := t.behind("", []string{""}), -1
	for i := range requirements {
		r := &requirements[i]
		switch r.Operator() {
		case selection.In, selection.Equals, selection.DoubleEquals:
		default:
			continue
		}
		candidate, others := t.behind(r.Key(), r.ValuesUnsorted()), 0
		for _, one := range candidate {
			others += len(d[one])
		}
		if crowd < 0 || others < crowd {
			best, crowd = candidate, others
		}
	}
	for _, one := range best {
		if d[one] == nil {
			d[one] = map[E]bool{}
		}
		d[one][e] = true
	}
	return best
}

// behind lists the doors for values of a label in the namespaces of t.
func (t *podTerm) behind(key string, values []string) []door {
	namespaces := t.namespaces
	if t.within != nil {
		namespaces = []string{""}
	}
	out := make([]door, 0, len(namespaces)*len(values))
	for _, namespace := range namespaces {
		for _, value := range values {
			out = append(out, door{namespace, key, value})
		}
	}
	return out
}

// drop takes e away from behind the doors that file returned.
func (d doors[E]) drop(e E, from []door) {
	for _, one := range from {
		delete(d[one], e)
		if len(d[one]) == 0 {
			delete(d, one)
		}
	}
}

// of yields every entry whose term may mean pod, each once. Whether it does is still to be asked.
func (d doors[E]) of(pod *corev1.Pod) iter.Seq[E] {
	return func(yield func(E) bool) {
		for _, namespace := range [...]string{pod.Namespace, ""} {
			for e := range d[door{namespace: namespace}] {
				if !yield(e) {
					return
				}
			}
			for key, value := range labels.Set(pod.Labels) {
				for e := range d[door{namespace, key, value}] {
					if !yield(e) {
						return
					}
				}
			}
		}
	}
}
