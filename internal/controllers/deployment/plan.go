package deployment

import (
	"math"
	"slices"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
)

// observed is what a decision about one Deployment rests on. All of it is shared and read only.
type observed struct {
	d    *appsv1.Deployment
	sets []*appsv1.ReplicaSet // that it controls
	// oldPods reports whether a pod of a ReplicaSet with another template still runs or terminates (asked for Recreate only).
	oldPods bool
}

// actions is what a Deployment needs now.
type actions struct {
	write    []*set // ReplicaSets to create (first) or update
	remove   []*set
	revision string // of the Deployment's annotation; "" when it stays
	status   appsv1.DeploymentStatus
	after    time.Duration // look again then, because time alone can change the status; 0: no need
}

// rollout is a plan in the making.
type rollout struct {
	bounds
	d       *appsv1.Deployment
	now     time.Time
	current *set   // has d's present template; nil if there is none yet
	old     []*set // all others, oldest first
	remove  []*set
	oldPods bool
}

// plan decides the next step of a Deployment. One call takes one step: the change that the step makes in the world leads
// to the next call. It changes nothing.
func plan(o observed, now time.Time) actions {
	r := begin(o, now)
	switch {
	case o.d.DeletionTimestamp != nil:
	case o.d.Spec.Paused:
		r.adoptCurrent()
		r.rescale()
		r.prune()
	case r.resized():
		r.adoptCurrent()
		r.rescale()
	case o.d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType:
		r.recreate()
	default:
		r.roll()
	}
	return r.finish()
}

func begin(o observed, now time.Time) *rollout {
	r := &rollout{bounds: boundsOf(o.d), d: o.d, now: now, oldPods: o.oldPods}
	all := make([]*set, 0, len(o.sets))
	for _, rs := range o.sets {
		all = append(all, working(rs))
	}
	slices.SortStableFunc(all, byAge)
	for _, s := range all {
		// The oldest match wins: hash collisions may have left several with the same template.
		if r.current == nil && sameTemplate(&s.Spec.Template, &o.d.Spec.Template) {
			r.current = s
			continue
		}
		r.old = append(r.old, s)
	}
	return r
}

func (r *rollout) all() []*set {
	if r.current == nil {
		return r.old
	}
	return append(slices.Clone(r.old), r.current)
}

// total is the wanted number of pods over all sets.
func (r *rollout) total() int32 { return total(r.all(), (*set).size) }

// available never counts more pods than the set is to keep: its status may not show yet that it shrank.
func available(s *set) int32 { return min(s.Status.AvailableReplicas, s.size()) }

// adoptCurrent brings the metadata of the current set up to date, if there is one.
func (r *rollout) adoptCurrent() {
	if r.current == nil {
		return
	}
	r.current.inherit(r.d, r.nextRevision())
	r.current.Spec.MinReadySeconds = r.d.Spec.MinReadySeconds
}

// ensureCurrent also makes the set when there is none, with as many pods as fit now.
func (r *rollout) ensureCurrent() {
	if r.current != nil {
		r.adoptCurrent()
		return
	}
	r.current = newSet(r.d)
	r.current.inherit(r.d, r.nextRevision())
	r.current.resize(r.grown(), r.bounds)
}

func (r *rollout) nextRevision() int64 {
	var newest int64
	for _, s := range r.old {
		newest = max(newest, revision(s.Annotations))
	}
	return newest + 1
}

// grown is the size that the current set may have without the total going over replicas + surge.
func (r *rollout) grown() int32 {
	size := r.current.size()
	if r.d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
		return r.replicas
	}
	room := int64(r.replicas) + int64(r.surge) - int64(r.total())
	if room <= 0 {
		return size
	}
	return size + int32(min(room, max(int64(r.replicas)-int64(size), 0)))
}

// roll takes one step of a rolling update: grow the current set, or else shrink old ones, or else tidy up.
func (r *rollout) roll() {
	r.ensureCurrent()
	if r.current.was == nil {
		return
	}
	size := r.current.size()
	if size > r.replicas {
		r.current.resize(r.replicas, r.bounds)
		return
	}
	if size < r.replicas && r.current.resize(r.grown(), r.bounds) {
		return
	}
	if r.shrinkOld() {
		return
	}
	if complete(r.d, r.d.Status) {
		r.prune()
	}
}

// shrinkOld takes pods from old sets as long as replicas - unavailable stay available: first those that are not
// available anyway, so that a broken rollout is never what keeps a new one from going on.
func (r *rollout) shrinkOld() bool {
	if total(r.old, (*set).size) == 0 {
		return false
	}
	least := r.replicas - r.unavailable
	missing := r.current.size() - available(r.current)
	budget := r.total() - least - missing
	if budget <= 0 {
		return false
	}
	shrunk := false
	for _, s := range r.old {
		if n := min(budget, s.size()-available(s)); n > 0 {
			shrunk = s.resize(s.size()-n, r.bounds) || shrunk
			budget -= n
		}
	}
	spare := min(budget, total(r.all(), available)-least)
	for _, s := range r.old {
		if n := min(spare, s.size()); n > 0 {
			shrunk = s.resize(s.size()-n, r.bounds) || shrunk
			spare -= n
		}
	}
	return shrunk
}

// recreate empties the old sets, waits for their pods to be gone, then fills the current one.
func (r *rollout) recreate() {
	r.adoptCurrent()
	if old := active(r.old); len(old) > 0 {
		for _, s := range old {
			s.resize(0, r.bounds)
		}
		return
	}
	if r.oldPods || total(r.old, func(s *set) int32 { return s.Status.Replicas }) > 0 {
		return
	}
	r.ensureCurrent()
	if r.current.size() != r.replicas {
		r.current.resize(r.replicas, r.bounds)
	}
	if complete(r.d, r.d.Status) {
		r.prune()
	}
}

// resized reports whether spec.replicas changed since the sets were last sized: then they are scaled before a rollout goes on.
func (r *rollout) resized() bool {
	for _, s := range active(r.all()) {
		if desired, ok := s.number(desiredAnnotation); ok && desired != r.replicas {
			return true
		}
	}
	return false
}

// rescale brings the sets to a new spec.replicas. A lone active set takes all; during a rollout each takes its share.
func (r *rollout) rescale() {
	live := active(r.all())
	if len(live) <= 1 {
		if s := r.activeOrLatest(live); s != nil && (s.size() != r.replicas || len(live) == 1) {
			s.resize(r.replicas, r.bounds)
		}
		return
	}
	if r.saturated() {
		for _, s := range active(r.old) {
			s.resize(0, r.bounds)
		}
		r.current.note(r.bounds)
		return
	}
	if !r.resized() {
		return // paused in the middle of a rollout: the shares are right
	}
	if r.d.Spec.Strategy.Type != appsv1.RecreateDeploymentStrategyType {
		r.share(live)
		return
	}
	for _, s := range live {
		s.note(r.bounds) // Recreate empties and fills sets in its own steps
	}
}

func (r *rollout) activeOrLatest(live []*set) *set {
	switch {
	case len(live) == 1:
		return live[0]
	case r.current != nil:
		return r.current
	case len(r.old) > 0:
		return r.old[len(r.old)-1]
	}
	return nil
}

// saturated reports whether the current set carries the whole Deployment already.
func (r *rollout) saturated() bool {
	if r.current == nil {
		return false
	}
	desired, ok := r.current.number(desiredAnnotation)
	return ok && desired == r.replicas && r.current.size() == r.replicas && available(r.current) == r.replicas
}

// share spreads the change in size over the live sets in proportion to their sizes; the largest takes what rounding leaves.
func (r *rollout) share(live []*set) {
	var allowed int32
	if r.replicas > 0 {
		allowed = r.replicas + r.surge
	}
	toAdd := allowed - total(live, (*set).size)
	live = sorted(live, bySize(toAdd < 0))
	left := toAdd
	sizes := make([]int32, len(live))
	for i, s := range live {
		part := r.fraction(s)
		if toAdd > 0 {
			part = max(0, min(part, left))
		} else {
			part = min(0, max(part, left))
		}
		sizes[i] = s.size() + part
		left -= part
	}
	sizes[0] = max(0, sizes[0]+left)
	for i, s := range live {
		s.resize(sizes[i], r.bounds)
	}
}

// fraction is by how much s grows or shrinks when the Deployment's largest size goes from what it was to what it is.
func (r *rollout) fraction(s *set) int32 {
	if r.replicas == 0 {
		return -s.size()
	}
	before, ok := s.number(maxAnnotation)
	if !ok {
		before = r.d.Status.Replicas
	}
	if before == 0 {
		return 0
	}
	after := float64(s.size()) * float64(r.replicas+r.surge) / float64(before)
	return int32(math.Round(after)) - s.size()
}

// prune removes the oldest sets beyond the history limit, but only empty ones that nobody is resizing.
func (r *rollout) prune() {
	if r.d.Spec.RevisionHistoryLimit == nil || *r.d.Spec.RevisionHistoryLimit == math.MaxInt32 {
		return
	}
	var alive []*set
	for _, s := range r.old {
		if s.DeletionTimestamp == nil {
			alive = append(alive, s)
		}
	}
	excess := len(alive) - int(*r.d.Spec.RevisionHistoryLimit)
	for _, s := range sorted(alive, byRevision)[:max(excess, 0)] {
		if s.size() == 0 && s.Status.Replicas == 0 && s.Generation <= s.Status.ObservedGeneration {
			r.remove = append(r.remove, s)
		}
	}
}

func (r *rollout) finish() actions {
	a := actions{remove: r.remove}
	if r.current != nil && r.current.changed() {
		a.write = append(a.write, r.current)
	}
	for _, s := range r.old {
		if s.changed() {
			a.write = append(a.write, s)
		}
	}
	if r.current != nil && r.d.DeletionTimestamp == nil {
		rev := strconv.FormatInt(revision(r.current.Annotations), 10)
		if r.d.Annotations[revisionAnnotation] != rev {
			a.revision = rev
		}
	}
	a.status, a.after = r.status()
	return a
}
