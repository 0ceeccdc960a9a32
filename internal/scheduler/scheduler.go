package scheduler

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"

	"canopus/internal/scheduler/config"

	"canopus/internal/verdict"
)

// Config is what a Scheduler needs. Client, Informers, Clock and Log are required.
type Config struct {
	Client    kubernetes.Interface
	Informers informers.SharedInformerFactory // started by the Scheduler
	Clock     clock.WithTicker
	Log       *slog.Logger
	// Configuration says how pods of which scheduler names are scheduled; config.Default() unless set.
	Configuration *config.Configuration
	PodGroups     bool                  // the API server serves PodGroups
	Seed          uint64                // of the choice among equal nodes; 0: from the clock
	Binders       int                   // requests under way at once; 64 unless set
	Metrics       prometheus.Registerer // sees the scheduler's metrics while it runs; optional
	Verdicts      *verdict.Book         // is told how decisions came about; optional
}

// Scheduler assigns nodes to pods. Its cluster and queue belong to the Run goroutine.
type Scheduler struct {
	Config
	inbox     *inbox
	cluster   *cluster
	queue     *queue
	options   options // of pods with a name that no profile has: there are none in the queue
	profiles  map[string]*profile
	gangs     *gangs
	extenders []*extender
	consulted map[types.UID]*consultation
	outbox    *outbox
	announcer *announcer
	handlers  []handler
	metrics   *metrics
}

// handler is where an informer reports to us.
type handler struct {
	informer cache.SharedIndexInformer
	cache.ResourceEventHandlerRegistration
}

// New checks c and registers the Scheduler's informers; nothing runs before Run.
func New(c Config) (*Scheduler, error) {
	if c.Client == nil || c.Informers == nil || c.Clock == nil || c.Log == nil {
		return nil, errors.New("scheduler: Client, Informers, Clock and Log are required")
	}
	if c.Configuration == nil {
		c.Configuration = config.Default()
	}
	if c.Seed == 0 {
		c.Seed = uint64(c.Clock.Now().UnixNano())
	}
	if c.Binders == 0 {
		c.Binders = 64
	}
	s := &Scheduler{
		Config:    c,
		inbox:     newInbox(),
		cluster:   newCluster(),
		queue:     newQueue(),
		outbox:    newOutbox(),
		announcer: newAnnouncer(&c),
		metrics:   newMetrics(c.Configuration.Profiles[0].Name),
		profiles:  map[string]*profile{},
		gangs:     newGangs(),
		consulted: map[types.UID]*consultation{},
	}
	if err := s.makeProfiles(c.Configuration); err != nil {
		return nil, err
	}
	var err error
	if s.extenders, err = newExtenders(c.Configuration.Extenders); err != nil {
		return nil, err
	}
	s.options = s.profiles[c.Configuration.Profiles[0].Name].options
	s.queue.first, s.queue.last = c.Configuration.FirstBackoff, c.Configuration.LastBackoff
	s.queue.watch = s.metrics
	for _, r := range append([]source{
		{c.Informers.Core().V1().Nodes().Informer(), handle(s.inbox, (*Scheduler).observeNode, (*Scheduler).forgetNode)},
		{c.Informers.Core().V1().Namespaces().Informer(), handle(s.inbox, (*Scheduler).observeNamespace, (*Scheduler).forgetNamespace)},
		{c.Informers.Policy().V1().PodDisruptionBudgets().Informer(), handle(s.inbox, (*Scheduler).observeBudget, (*Scheduler).forgetBudget)},
		{c.Informers.Core().V1().Services().Informer(), handle(s.inbox, (*Scheduler).observeService, (*Scheduler).forgetService)},
		{c.Informers.Apps().V1().ReplicaSets().Informer(), handle(s.inbox, (*Scheduler).observeReplicaSet, (*Scheduler).forgetReplicaSet)},
		{c.Informers.Core().V1().ReplicationControllers().Informer(), handle(s.inbox, (*Scheduler).observeReplicationController, (*Scheduler).forgetReplicationController)},
		{c.Informers.Apps().V1().StatefulSets().Informer(), handle(s.inbox, (*Scheduler).observeStatefulSet, (*Scheduler).forgetStatefulSet)},
		{c.Informers.Core().V1().Pods().Informer(), s.podHandler()},
	}, slices.Concat(volumeSources(c.Informers, s.inbox), deviceSources(c.Informers, s.inbox), s.groupSources())...) {
		registration, err := r.informer.AddEventHandler(r.handler)
		if err != nil {
			return nil, err
		}
		s.handlers = append(s.handlers, handler{r.informer, registration})
	}
	return s, nil
}

// Run schedules until ctx ends. It returns nil then. A Scheduler runs once.
func (s *Scheduler) Run(ctx context.Context) error {
	defer s.unregister()
	hide, err := s.metrics.register(s.Metrics)
	if err != nil {
		return err
	}
	defer hide()
	broadcaster := events.NewBroadcaster(&events.EventSinkImpl{Interface: s.Client.EventsV1()})
	if err := broadcaster.StartRecordingToSinkWithContext(ctx); err != nil {
		return err
	}
	defer broadcaster.Shutdown()
	for _, p := range s.profiles {
		p.recorder = broadcaster.NewRecorder(scheme.Scheme, p.name)
	}

	s.Informers.StartWithContext(ctx)
	defer s.Informers.Shutdown()
	for _, h := range s.handlers {
		if !cache.WaitForCacheSync(ctx.Done(), h.HasSynced) {
			return nil
		}
	}
	s.Log.Info("scheduler is ready", "names", slices.Sorted(maps.Keys(s.profiles)))
	defer func() {
		s.outbox.slow.Wait()
		for _, e := range s.extenders {
			e.client.CloseIdleConnections()
		}
	}()
	g, ctx := errgroup.WithContext(ctx)
	for range s.Binders {
		g.Go(func() error { s.outbox.run(ctx); return nil })
	}
	for range announcers {
		g.Go(func() error { s.announcer.run(ctx); return nil })
	}
	g.Go(func() error { s.loop(ctx); return nil })
	return g.Wait()
}

// unregister leaves the informers, which others may go on using.
func (s *Scheduler) unregister() {
	for _, h := range s.handlers {
		if err := h.informer.RemoveEventHandler(h.ResourceEventHandlerRegistration); err != nil {
			s.Log.Warn("an informer keeps reporting to a scheduler that has ended", "error", err)
		}
	}
}

// loop applies what arrived, tries the next pod, and sleeps when there is neither.
func (s *Scheduler) loop(ctx context.Context) {
	for ctx.Err() == nil {
		for _, item := range s.inbox.take() {
			item(s)
		}
		now := s.Clock.Now()
		s.tellHeld(now)
		w := s.queue.pop(now)
		s.metrics.queued(s.queue)
		if w != nil {
			s.schedule(w)
			continue
		}
		s.sleep(ctx)
	}
}

func (s *Scheduler) sleep(ctx context.Context) {
	var alarm <-chan time.Time
	at, ok := s.queue.next()
	if held := s.gangs.unsaid; len(held) > 0 && (!ok || held[0].at.Before(at)) {
		at, ok = held[0].at, true
	}
	if ok {
		timer := s.Clock.NewTimer(at.Sub(s.Clock.Now()))
		defer timer.Stop()
		alarm = timer.C()
	}
	select {
	case <-ctx.Done():
	case <-s.inbox.signal:
	case <-alarm:
		s.queue.expire(s.Clock.Now())
	}
}

// schedule decides on one pod and hands the outcome to the binders.
func (s *Scheduler) schedule(w *queued) {
	if g := s.gangOf(w.info.pod); g != nil {
		s.scheduleGang(w, g)
		return
	}
	if advisers := s.advisers(w.info.pod); advisers != nil {
		s.consult(w, advisers)
		return
	}
	w.tried = s.Clock.Now()
	o := s.optionsFor(w.info.pod)
	d := decide(s.cluster, w.info, o)
	s.metrics.decided(&d, o.rules)
	if d.node == "" {
		s.settle(w, &d)
		return
	}
	set, why := s.reserve(w, &d)
	if why.refuses() {
		s.refuse(w, &d)
		return
	}
	s.cluster.place(w.info, d.node, true)
	s.release(w.info.pod.UID)
	s.note(w, &d, o.rules)
	send := s.outbox.send
	if set.waits() {
		send = s.outbox.sendSlow
	}
	send(func(ctx context.Context) { s.bind(ctx, w, d.node, set) })
}

// reserve has every rule set aside what the pod needs on its node. When one says no, d becomes its refusal.
func (s *Scheduler) reserve(w *queued, d *decision) (reservations, reason) {
	var set reservations
	n := s.cluster.nodes[d.node]
	rules := s.optionsOf(w.info.pod).rules
	for i := range rules {
		r := &rules[i]
		if r.reserve == nil {
			continue
		}
		one, why := r.reserve(s.cluster, w.info, n)
		if why.refuses() {
			set.undo(s.cluster)
			d.node = ""
			d.tally.add(why, i)
			d.blockers.add(i)
			return nil, why
		}
		set = append(set, one)
	}
	return set, reason{}
}

// release ends a pod's nomination, and wakes whom the room helps that was kept for it.
func (s *Scheduler) release(uid types.UID) {
	nominee := s.cluster.nominations[uid]
	if nominee == nil {
		return
	}
	s.cluster.dismiss(uid)
	if at := s.cluster.placed[uid]; at != nil && at.node.name == nominee.node {
		return // it has taken the room
	}
	if n := s.cluster.nodes[nominee.node]; n != nil {
		s.changed(&event{what: podGone, node: n, pod: nominee.info})
	}
}

// refuse puts a pod that has no node back to wait, and has it said why.
func (s *Scheduler) refuse(w *queued, d *decision) {
	s.metrics.attempt(resultUnschedulable, s.Clock.Since(w.tried))
	if d.total > 0 {
		s.metrics.preempted(len(d.plan.victims))
	}
	switch {
	case d.plan.node != nil:
		s.preempt(w.info, d.plan)
	case !d.plan.keep:
		s.release(w.info.pod.UID)
	}
	nominee := s.cluster.nominations[w.info.pod.UID]
	w.awaiting = nominee != nil && s.cluster.vacates(nominee)
	s.queue.refuse(w, s.optionsOf(w.info.pod).rules, d.blockers, s.Clock.Now())
	s.freeClaim(w.info, d)
	s.note(w, d, s.optionsOf(w.info.pod).rules)
	v := refusalNote{pod: w.info.pod, reason: corev1.PodReasonUnschedulable, message: d.message(), nominated: s.cluster.nominated(w.info.pod.UID)}
	s.outbox.send(func(ctx context.Context) { s.explain(ctx, v) })
	s.evict(v.pod, d.plan)
}

// observePod takes a pod's present state to where it belongs: counted on its node, waiting, or forgotten.
func (s *Scheduler) observePod(pod *corev1.Pod) {
	now := s.Clock.Now()
	if finished(pod) {
		s.forgetPod(pod)
		return
	}
	s.gangs.join(pod)
	if pod.Spec.NodeName != "" {
		s.observePlaced(pod)
		return
	}
	if at := s.cluster.placed[pod.UID]; at != nil && at.assumed {
		return // its binding is under way
	}
	if s.profiles[pod.Spec.SchedulerName] == nil || pod.DeletionTimestamp != nil {
		s.forgetWaiting(pod.UID)
		return
	}
	if len(pod.Spec.SchedulingGates) > 0 || lacksClaims(pod) {
		s.forgetWaiting(pod.UID)
		s.queue.gate(pod.UID)
		return
	}
	if s.hold(pod) {
		return
	}
	if q := s.consulted[pod.UID]; q != nil {
		q.now = pod
		return
	}
	p := s.cluster.pending(pod)
	s.queue.set(p, now)
	reserved := s.cluster.nominated(pod.UID)
	if reserved == "" {
		reserved = pod.Status.NominatedNodeName // by us in an earlier life, or by somebody else
	}
	if reserved != "" {
		s.cluster.nominate(p, reserved)
	}
}

// observePlaced counts a pod on its node.
func (s *Scheduler) observePlaced(pod *corev1.Pod) {
	s.forgetWaiting(pod.UID)
	e := event{what: podPlaced}
	if at := s.cluster.placed[pod.UID]; at != nil {
		e.was = at.info
		if at.assumed && at.node.name == pod.Spec.NodeName {
			e.pod = at.info.confirmed(pod)
		}
	}
	if e.pod == nil {
		e.pod = newPodInfo(pod)
	}
	if e.was != nil && e.was.asked.exceeds(&e.pod.asked) {
		e.what |= podGone // as far as room is concerned
	}
	s.cluster.place(e.pod, pod.Spec.NodeName, false)
	e.node = s.cluster.nodes[pod.Spec.NodeName]
	s.changed(&e)
}

func (s *Scheduler) forgetWaiting(uid types.UID) {
	s.queue.remove(uid)
	s.release(uid)
	delete(s.gangs.held, uid)
	delete(s.consulted, uid)
}

func (s *Scheduler) forgetPod(pod *corev1.Pod) {
	s.forgetWaiting(pod.UID)
	s.gangs.leave(pod.UID)
	s.unplace(pod.UID)
}

// unplace uncounts a pod, and wakes whom that helps.
func (s *Scheduler) unplace(uid types.UID) {
	at := s.cluster.placed[uid]
	if at == nil {
		return
	}
	s.cluster.remove(uid)
	s.changed(&event{what: podGone, node: at.node, pod: at.info})
}

func (s *Scheduler) observeNode(n *corev1.Node) {
	if c := s.cluster.setNode(n); c != 0 {
		s.changed(&event{what: c, node: s.cluster.nodes[n.Name]})
	}
}

func (s *Scheduler) forgetNode(n *corev1.Node) {
	for uid := range s.cluster.nominees[n.Name] {
		s.queue.rethink(uid, s.Clock.Now()) // what it waited for will not be
	}
	s.cluster.removeNode(n.Name)
	s.changed(&event{what: nodeGone})
}

func (s *Scheduler) observeNamespace(n *corev1.Namespace) {
	known := labels.Set(n.Labels)
	if known == nil {
		known = labels.Set{}
	}
	if s.cluster.affinity.setNamespace(n.Name, known) {
		s.changed(&event{what: namespaceLabels})
	}
}

func (s *Scheduler) forgetNamespace(n *corev1.Namespace) {
	s.cluster.affinity.setNamespace(n.Name, nil)
}

func (s *Scheduler) observeBudget(b *policyv1.PodDisruptionBudget) { s.cluster.setBudget(b) }

func (s *Scheduler) forgetBudget(b *policyv1.PodDisruptionBudget) {
	s.cluster.removeBudget(b.Namespace, b.Name)
}
