package deployment

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Annotations of ReplicaSets; kubectl rollout reads the first two, the others carry proportional scaling over restarts.
const (
	revisionAnnotation = "deployment.kubernetes.io/revision"
	historyAnnotation  = "deployment.kubernetes.io/revision-history"
	desiredAnnotation  = "deployment.kubernetes.io/desired-replicas"
	maxAnnotation      = "deployment.kubernetes.io/max-replicas"
	rollbackAnnotation = "deprecated.deployment.rollback.to"
)

const longestHistory = 2000 // characters in historyAnnotation

// set is a ReplicaSet as the plan wants it. Its annotations, replicas and minReadySeconds are the plan's own to change;
// everything else is shared with the cache.
type set struct {
	appsv1.ReplicaSet
	was *appsv1.ReplicaSet // as observed; nil: to be created
}

func working(rs *appsv1.ReplicaSet) *set {
	s := &set{ReplicaSet: *rs, was: rs}
	s.Annotations = maps.Clone(rs.Annotations)
	n := replicasOf(rs)
	s.Spec.Replicas = &n
	return s
}

func replicasOf(rs *appsv1.ReplicaSet) int32 {
	if rs.Spec.Replicas == nil {
		return 1
	}
	return *rs.Spec.Replicas
}

func (s *set) size() int32 { return *s.Spec.Replicas }

func (s *set) changed() bool {
	return s.was == nil || s.size() != replicasOf(s.was) || s.Spec.MinReadySeconds != s.was.Spec.MinReadySeconds ||
		!maps.Equal(s.Annotations, s.was.Annotations)
}

// resize wants n replicas, and notes on the set for which size of the whole Deployment that was.
func (s *set) resize(n int32, b bounds) bool {
	differs := s.size() != n
	*s.Spec.Replicas = n
	s.note(b)
	return differs
}

func (s *set) note(b bounds) {
	s.annotate(desiredAnnotation, strconv.Itoa(int(b.replicas)))
	s.annotate(maxAnnotation, strconv.Itoa(int(b.replicas+b.surge)))
}

func (s *set) annotate(key, value string) {
	if s.Annotations == nil {
		s.Annotations = map[string]string{}
	}
	s.Annotations[key] = value
}

// number reads an annotation that holds a count.
func (s *set) number(key string) (int32, bool) {
	n, err := strconv.ParseInt(s.Annotations[key], 10, 32)
	return int32(n), err == nil
}

// revision is 0 when there is none or it is no number.
func revision(annotations map[string]string) int64 {
	n, err := strconv.ParseInt(annotations[revisionAnnotation], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// inherit copies the Deployment's annotations, but for those that describe the Deployment alone, and raises the revision.
func (s *set) inherit(d *appsv1.Deployment, newest int64) {
	for k, v := range d.Annotations {
		if !ownAnnotation(k) {
			s.annotate(k, v)
		}
	}
	old, has := s.Annotations[revisionAnnotation]
	if has && revision(s.Annotations) >= newest {
		return
	}
	s.annotate(revisionAnnotation, strconv.FormatInt(newest, 10))
	if has {
		s.annotate(historyAnnotation, history(s.Annotations[historyAnnotation], old))
	}
}

func ownAnnotation(key string) bool {
	switch key {
	case corev1.LastAppliedConfigAnnotation, revisionAnnotation, historyAnnotation, desiredAnnotation, maxAnnotation, rollbackAnnotation:
		return true
	}
	return false
}

// history appends a revision that the set had before, dropping the oldest when the text grows too long.
func history(text, old string) string {
	if text == "" {
		return old
	}
	parts := append(strings.Split(text, ","), old)
	for len(parts) > 1 && len(strings.Join(parts, ",")) > longestHistory {
		parts = parts[1:]
	}
	return strings.Join(parts, ",")
}

// newSet is the ReplicaSet for d's present template, of size 0.
func newSet(d *appsv1.Deployment) *set {
	hash := templateHash(&d.Spec.Template, d.Status.CollisionCount)
	template := d.Spec.Template.DeepCopy()
	if template.Labels == nil {
		template.Labels = map[string]string{}
	}
	template.Labels[appsv1.DefaultDeploymentUniqueLabelKey] = hash
	selector := d.Spec.Selector.DeepCopy()
	if selector.MatchLabels == nil {
		selector.MatchLabels = map[string]string{}
	}
	selector.MatchLabels[appsv1.DefaultDeploymentUniqueLabelKey] = hash
	return &set{ReplicaSet: appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{
			Name: setName(d.Name, hash), Namespace: d.Namespace, Labels: maps.Clone(template.Labels),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(d, appsv1.SchemeGroupVersion.WithKind("Deployment"))},
		},
		Spec: appsv1.ReplicaSetSpec{
			Replicas: new(int32), MinReadySeconds: d.Spec.MinReadySeconds, Selector: selector, Template: *template,
		},
	}}
}

// byAge orders oldest first.
func byAge(a, b *set) int {
	return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
}

// bySize orders the largest first; of equals the newer first, or the older if older is asked for.
func bySize(older bool) func(a, b *set) int {
	return func(a, b *set) int {
		age := byAge(a, b)
		if !older {
			age = -age
		}
		return cmp.Or(cmp.Compare(b.size(), a.size()), age)
	}
}

func byRevision(a, b *set) int {
	return cmp.Or(cmp.Compare(revision(a.Annotations), revision(b.Annotations)), byAge(a, b))
}

func sorted(sets []*set, order func(a, b *set) int) []*set {
	out := slices.Clone(sets)
	slices.SortStableFunc(out, order)
	return out
}

func active(sets []*set) []*set {
	var out []*set
	for _, s := range sets {
		if s != nil && s.size() > 0 {
			out = append(out, s)
		}
	}
	return out
}

func total(sets []*set, count func(*set) int32) int32 {
	var n int32
	for _, s := range sets {
		n += count(s)
	}
	return n
}
