package conformance

import (
	"fmt"
	"testing"

	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

func disruptionBudgets() []behaviour {
	return []behaviour{
		{"PodDisruptionBudget: create, update, patch, and delete object", budgetOperations},
		{"PodDisruptionBudget: list and delete collection", budgetCollection},
		{"PodDisruptionBudget: Status updates", budgetCounts},
		{"PodDisruptionBudget: update and patch status", budgetStatus},
		{"PodDisruptionBudget: block an eviction until the PDB is updated to allow it", budgetBlocks},
	}
}

func budget(name string, minimum int32) *policyv1.PodDisruptionBudget {
	return &policyv1.PodDisruptionBudget{
		ObjectMeta: meta(name),
		Spec:       policyv1.PodDisruptionBudgetSpec{MinAvailable: ptr.To(intstr.FromInt32(minimum)), Selector: selector(app(name))},
	}
}

func (s *space) createBudget(t testing.TB, b *policyv1.PodDisruptionBudget) {
	t.Helper()
	must(s.Client.PolicyV1().PodDisruptionBudgets(s.ns).Create(t.Context(), b, metav1.CreateOptions{}))(t)
}

// allows waits until a budget's status, for its present spec, has so many healthy pods of those wanted, and allows so many disruptions.
func (s *space) allows(t testing.TB, name string, healthy, desired, allowed int32) {
	t.Helper()
	until(t, fmt.Sprintf("a budget with %d of %d pods that allows %d disruptions", healthy, desired, allowed), func() error {
		b, err := s.Client.PolicyV1().PodDisruptionBudgets(s.ns).Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		st := b.Status
		if st.ObservedGeneration != b.Generation || st.CurrentHealthy != healthy || st.DesiredHealthy != desired || st.DisruptionsAllowed != allowed {
			return fmt.Errorf("generation %d, status %+v", b.Generation, st)
		}
		return nil
	})
}

func budgetOperations(t *testing.T, s *space) {
	r := s.resource(policyv1.SchemeGroupVersion, "poddisruptionbudgets")
	r.operations(t, budget("all", 1))
	s.createBudget(t, budget("spec", 1))
	change(t, s.Client.PolicyV1().PodDisruptionBudgets(s.ns), "spec", func(b *policyv1.PodDisruptionBudget) {
		b.Spec.MinAvailable = ptr.To(intstr.FromString("50%"))
	})
	if b := must(s.Client.PolicyV1().PodDisruptionBudgets(s.ns).Get(t.Context(), "spec", metav1.GetOptions{}))(t); b.Spec.MinAvailable.String() != "50%" || b.Generation != 2 {
		t.Errorf("after an update: %v, generation %d", b.Spec.MinAvailable, b.Generation)
	}
	r.merge(t, "spec", map[string]any{"spec": map[string]any{"minAvailable": nil, "maxUnavailable": 2}})
	if b := must(s.Client.PolicyV1().PodDisruptionBudgets(s.ns).Get(t.Context(), "spec", metav1.GetOptions{}))(t); b.Spec.MinAvailable != nil || b.Spec.MaxUnavailable.IntValue() != 2 {
		t.Errorf("after a patch: %+v", b.Spec)
	}
}

// budgetCollection also lists those of all namespaces.
func budgetCollection(t *testing.T, s *space) {
	other := newSpace(t, s.Cluster, s.dynamic)
	mark := map[string]string{"everywhere": s.ns}
	for _, x := range []*space{s, other} {
		b := budget("everywhere", 1)
		b.Labels = mark
		x.createBudget(t, b)
	}
	all := must(s.Client.PolicyV1().PodDisruptionBudgets("").List(t.Context(), metav1.ListOptions{LabelSelector: "everywhere=" + s.ns}))(t)
	if len(all.Items) != 2 || all.Items[0].Namespace == all.Items[1].Namespace {
		t.Errorf("the list of all namespaces has %d", len(all.Items))
	}
	s.resource(policyv1.SchemeGroupVersion, "poddisruptionbudgets").collection(t, func(name string) runtime.Object { return budget(name, 1) })
	other.resource(policyv1.SchemeGroupVersion, "poddisruptionbudgets").expect(t, "everywhere="+s.ns, 1)
}

// budgetCounts: the status follows the pods.
func budgetCounts(t *testing.T, s *space) {
	s.createBudget(t, budget("counted", 1))
	s.allows(t, "counted", 0, 1, 0)
	s.createSet(t, replicaSet("counted", 3, gated()))
	s.allows(t, "counted", 0, 1, 0)
	until(t, "three pods", func() error {
		if n := len(s.pods(t, app("counted"))); n != 3 {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
	pods := s.pods(t, app("counted"))
	for i, p := range pods {
		s.heal(t, p.Name)
		s.allows(t, "counted", int32(i+1), 1, int32(i))
	}
	s.fallIll(t, pods[0].Name)
	s.allows(t, "counted", 2, 1, 1)
}

func budgetStatus(t *testing.T, s *space) {
	s.createBudget(t, budget("status", 1))
	s.allows(t, "status", 0, 1, 0)
	s.resource(policyv1.SchemeGroupVersion, "poddisruptionbudgets").status(t, "status")
}

// budgetBlocks: an eviction that the budget forbids is refused and does nothing; it passes once the budget allows it.
func budgetBlocks(t *testing.T, s *space) {
	s.createSet(t, replicaSet("guarded", 2, sleeps()))
	victim := s.ready(t, app("guarded"), 2)[0]
	s.createBudget(t, budget("guarded", 2))
	s.allows(t, "guarded", 2, 2, 0)
	evict := func() error {
		return s.Client.CoreV1().Pods(s.ns).EvictV1(t.Context(), &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: victim.Name, Namespace: s.ns}})
	}
	err := evict()
	if !apierrors.IsTooManyRequests(err) || !apierrors.HasStatusCause(err, policyv1.DisruptionBudgetCause) {
		t.Errorf("a forbidden eviction: %v", err)
	}
	if p := s.pod(t, victim.Name); p.UID != victim.UID || p.DeletionTimestamp != nil {
		t.Error("the pod is going though its eviction was refused")
	}
	change(t, s.Client.PolicyV1().PodDisruptionBudgets(s.ns), "guarded", func(b *policyv1.PodDisruptionBudget) {
		b.Spec.MinAvailable = ptr.To(intstr.FromInt32(1))
	})
	s.allows(t, "guarded", 2, 1, 1)
	check(t, evict())
	until(t, "the pod to go", func() error {
		for _, p := range s.pods(t, app("guarded")) {
			if p.UID == victim.UID && p.DeletionTimestamp == nil {
				return fmt.Errorf("it stays")
			}
		}
		return nil
	})
	s.allows(t, "guarded", 2, 1, 1) // the set has made another
}
