package statefulset

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// claimName is the claim that the set's pod with an ordinal gets from a template. It never changes: that is how a pod
// finds its data again.
func claimName(template, set string, ordinal int) string {
	return template + "-" + set + "-" + strconv.Itoa(ordinal)
}

// newClaim is template as the claim of the set's pod with an ordinal.
func newClaim(set *appsv1.StatefulSet, template *corev1.PersistentVolumeClaim, ordinal int) *corev1.PersistentVolumeClaim {
	t := template.DeepCopy()
	labels := t.Labels
	if labels == nil {
		labels = map[string]string{}
	}
	maps.Copy(labels, set.Spec.Selector.MatchLabels)
	c := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: set.Namespace, Name: claimName(t.Name, set.Name, ordinal),
			Labels: labels, Annotations: t.Annotations, Finalizers: t.Finalizers,
		},
		Spec: t.Spec,
	}
	if deletes(set).whenDeleted {
		c.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(set, gvk())}
	}
	return c
}

// useClaims gives a pod the claims of its ordinal: each takes the place of a volume of the same name.
func useClaims(set *appsv1.StatefulSet, spec *corev1.PodSpec, ordinal int) {
	var volumes []corev1.Volume
	own := map[string]bool{}
	for i := range set.Spec.VolumeClaimTemplates {
		name := set.Spec.VolumeClaimTemplates[i].Name
		own[name] = true
		volumes = append(volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claimName(name, set.Name, ordinal)},
		}})
	}
	for _, v := range spec.Volumes {
		if !own[v.Name] {
			volumes = append(volumes, v)
		}
	}
	spec.Volumes = volumes
}

// retention says when claims go with what used them.
type retention struct{ whenDeleted, whenScaled bool }

func deletes(set *appsv1.StatefulSet) retention {
	p := set.Spec.PersistentVolumeClaimRetentionPolicy
	if p == nil {
		return retention{}
	}
	const gone = appsv1.DeletePersistentVolumeClaimRetentionPolicyType
	return retention{whenDeleted: p.WhenDeleted == gone, whenScaled: p.WhenScaled == gone}
}

// podRef is pod as the controller of its claims: the garbage collector takes them when it is gone.
func podRef(pod *corev1.Pod) *metav1.OwnerReference {
	return metav1.NewControllerRef(pod, corev1.SchemeGroupVersion.WithKind("Pod"))
}

// owners returns who should own a claim of pod, and whether that differs from who does. A claim that somebody else
// controls, a former pod or set of the same name among them, is left alone: foreign says so.
func owners(set *appsv1.StatefulSet, pod *corev1.Pod, condemned bool, claim *corev1.PersistentVolumeClaim) (refs []metav1.OwnerReference, changed, foreign bool) {
	policy := deletes(set)
	if policy != (retention{}) && slices.ContainsFunc(claim.OwnerReferences, func(r metav1.OwnerReference) bool {
		return r.UID != set.UID && r.UID != pod.UID && (r.Controller != nil && *r.Controller || namesPod(r, pod.Name) || namesSet(r, set.Name))
	}) {
		return nil, false, true
	}
	var want *metav1.OwnerReference
	switch {
	case condemned && policy.whenScaled:
		want = podRef(pod)
	case policy.whenDeleted:
		want = metav1.NewControllerRef(set, gvk())
	}
	for _, r := range claim.OwnerReferences {
		switch {
		case want != nil && r.UID == want.UID:
			refs = append(refs, *want)
			want = nil
		case r.UID != set.UID && r.UID != pod.UID:
			refs = append(refs, r)
		}
	}
	if want != nil {
		refs = append(refs, *want)
	}
	return refs, !equality.Semantic.DeepEqual(refs, claim.OwnerReferences), false
}

func namesPod(r metav1.OwnerReference, name string) bool {
	return r.APIVersion == "v1" && r.Kind == "Pod" && r.Name == name
}

func namesSet(r metav1.OwnerReference, name string) bool {
	return r.APIVersion == appsv1.SchemeGroupVersion.String() && r.Kind == kind && r.Name == name
}

// unusable says why a pod that is to be made must wait for a claim of its name to be gone, or "".
func unusable(set *appsv1.StatefulSet, pod string, claim *corev1.PersistentVolumeClaim) string {
	switch {
	case claim.DeletionTimestamp != nil:
		return fmt.Sprintf("pvc %s is being deleted", claim.Name)
	case deletes(set).whenScaled && slices.ContainsFunc(claim.OwnerReferences, func(r metav1.OwnerReference) bool { return namesPod(r, pod) }):
		return fmt.Sprintf("pvc %s still belongs to the pod that was scaled down, it goes with that", claim.Name)
	}
	return ""
}

// ownClaims makes the claims of pods that stay and of those that go belong to whom the retention policy says. It comes
// before the removal of pods: a claim goes with its pod only if it belongs to it by then.
func (p *planner) ownClaims() {
	for i, pod := range p.replicas {
		if pod != nil && pod.DeletionTimestamp == nil {
			p.own(pod, p.start+i, false)
		}
	}
	for _, pod := range p.condemned {
		if n, ok := ordinalOf(p.set.Name, pod.Name); ok {
			p.own(pod, n, true)
		}
	}
}

func (p *planner) own(pod *corev1.Pod, ordinal int, condemned bool) {
	for i := range p.set.Spec.VolumeClaimTemplates {
		t := &p.set.Spec.VolumeClaimTemplates[i]
		claim := p.claims[claimName(t.Name, p.set.Name, ordinal)]
		if claim == nil {
			// A pod that waits for a claim which somebody deleted would wait for ever.
			if !condemned && pod.Status.Phase == corev1.PodPending {
				p.a.claim = append(p.a.claim, wanted{pod.Name, newClaim(p.set, t, ordinal)})
			}
			continue
		}
		refs, changed, foreign := owners(p.set, pod, condemned, claim)
		switch {
		case foreign:
			p.a.events = append(p.a.events, event{corev1.EventTypeWarning, "ConflictingController", fmt.Sprintf(
				"PersistentVolumeClaim %s has a conflicting OwnerReference that acts as a managing controller, the retention policy is ignored for this claim", claim.Name)})
		case changed:
			own := claim.DeepCopy()
			own.OwnerReferences = refs
			p.a.own = append(p.a.own, own)
		}
	}
}

// birth asks for the i-th replica, with the claims that it misses, unless a claim of its name must go first.
func (p *planner) birth(i int) {
	b := birth{ordinal: p.start + i, revision: p.revisionFor(i)}
	name := p.set.Name + "-" + strconv.Itoa(b.ordinal)
	for j := range p.set.Spec.VolumeClaimTemplates {
		t := &p.set.Spec.VolumeClaimTemplates[j]
		claim := p.claims[claimName(t.Name, p.set.Name, b.ordinal)]
		if claim == nil {
			b.claims = append(b.claims, newClaim(p.set, t, b.ordinal))
			continue
		}
		if why := unusable(p.set, name, claim); why != "" {
			p.a.events = append(p.a.events, event{corev1.EventTypeWarning, "FailedCreate",
				fmt.Sprintf("create Pod %s in StatefulSet %s failed error: %s", name, p.set.Name, why)})
			return
		}
	}
	p.a.create = append(p.a.create, b)
}
