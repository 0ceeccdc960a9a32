package resourceclaim

import (
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	claims "k8s.io/dynamic-resource-allocation/resourceclaim"

	"canopus/internal/controllers/podstate"
)

const (
	// sharedNames is how many names are tried for a claim whose name somebody else has.
	sharedNames = 5

	// longestBase leaves room for what makes a name unique.
	longestBase = 57
)

// done reports whether pod does not need its claims any more: it has ended, or goes without having had a node.
func done(pod *corev1.Pod) bool {
	return podstate.Finished(pod) || pod.DeletionTimestamp != nil && pod.Spec.NodeName == ""
}

// claiming reports whether pod has to do with claims. One may have been made for extended resources that it asks for.
func claiming(pod *corev1.Pod) bool {
	return len(pod.Spec.ResourceClaims) > 0 || pod.Status.ExtendedResourceClaimStatus != nil
}

// claimNames are the claims that pod is known to use.
func claimNames(pod *corev1.Pod) []string {
	if !claiming(pod) {
		return nil
	}
	var out []string
	for name := range claims.PodClaims(pod) {
		if !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// templateNames are the templates from which pod gets claims.
func templateNames(pod *corev1.Pod) []string {
	var out []string
	for i := range pod.Spec.ResourceClaims {
		if name := pod.Spec.ResourceClaims[i].ResourceClaimTemplateName; name != nil && !slices.Contains(out, *name) {
			out = append(out, *name)
		}
	}
	return out
}

// missing are the references of pod for which a claim is to be made. known are the claims made for it, by what the pod calls them.
func missing(pod *corev1.Pod, known map[string]string) []*corev1.PodResourceClaim {
	var out []*corev1.PodResourceClaim
	for i := range pod.Spec.ResourceClaims {
		ref := &pod.Spec.ResourceClaims[i]
		if ref.ResourceClaimTemplateName == nil || known[ref.Name] != "" || unneeded(pod, ref.Name) {
			continue
		}
		out = append(out, ref)
	}
	return out
}

// unneeded reports whether it was decided that pod does without one of its claims.
func unneeded(pod *corev1.Pod, name string) bool {
	return slices.ContainsFunc(pod.Status.ResourceClaimStatuses, func(s corev1.PodResourceClaimStatus) bool { return s.Name == name && s.ResourceClaimName == nil })
}

// statuses is what pod's status is to say of its claims; nil: it says so already.
func statuses(pod *corev1.Pod, known map[string]string) []corev1.PodResourceClaimStatus {
	var out []corev1.PodResourceClaimStatus
	changed := false
	for i := range pod.Spec.ResourceClaims {
		ref := &pod.Spec.ResourceClaims[i]
		claim := known[ref.Name]
		if ref.ResourceClaimTemplateName == nil || claim == "" || unneeded(pod, ref.Name) {
			continue
		}
		out = append(out, corev1.PodResourceClaimStatus{Name: ref.Name, ResourceClaimName: &claim})
		changed = changed || !slices.ContainsFunc(pod.Status.ResourceClaimStatuses, func(s corev1.PodResourceClaimStatus) bool {
			return s.Name == ref.Name && *s.ResourceClaimName == claim
		})
	}
	if !changed {
		return nil
	}
	return out
}

// generate is the claim for one of pod's references. Its name follows from the pod and the reference, so that making it twice
// makes one; attempt leads to another where somebody else has it.
func generate(pod *corev1.Pod, ref *corev1.PodResourceClaim, template *resourcev1.ResourceClaimTemplate, attempt int) *resourcev1.ResourceClaim {
	annotations := maps.Clone(template.Spec.Annotations)
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[resourcev1.PodResourceClaimAnnotation] = ref.Name
	owner := metav1.NewControllerRef(pod, corev1.SchemeGroupVersion.WithKind("Pod"))
	return &resourcev1.ResourceClaim{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: pod.Namespace, Name: nameFor(pod, ref.Name, attempt), Annotations: annotations, Labels: maps.Clone(template.Spec.Labels),
			OwnerReferences: []metav1.OwnerReference{*owner},
		},
		Spec: *template.Spec.Spec.DeepCopy(),
	}
}

// nameFor is pod-reference-suffix. What is cut when that gets too long is the pod's part.
func nameFor(pod *corev1.Pod, ref string, attempt int) string {
	h := fnv.New32a()
	fmt.Fprintf(h, "%s/%s/%d", pod.UID, ref, attempt)
	base := pod.Name
	if most := max(longestBase-len(ref)-2, 1); len(base) > most {
		base = strings.TrimRight(base[:most], "-.")
	}
	return fmt.Sprintf("%s-%s-%s", base, ref, rand.SafeEncodeString(fmt.Sprint(h.Sum32())))
}

// reservable reports whether claim has devices that pod, which has a node, has yet to reserve.
func reservable(pod *corev1.Pod, claim *resourcev1.ResourceClaim) bool {
	owner := metav1.GetControllerOfNoCopy(claim)
	forOther := owner != nil && owner.Kind == "Pod" && owner.UID != pod.UID
	return claim.Status.Allocation != nil && claim.DeletionTimestamp == nil && !forOther &&
		len(claim.Status.ReservedFor) < resourcev1.ResourceClaimReservedForMaxSize && !claims.IsReservedForPod(pod, claim, false)
}
