package statefulset

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

// keeping is a set with one claim per pod; policy is two letters, when deleted and when scaled: r retain, d delete.
func keeping(replicas int32, policy string) *appsv1.StatefulSet {
	set := setOf(replicas)
	set.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}
	set.Spec.VolumeClaimTemplates = []corev1.PersistentVolumeClaim{{ObjectMeta: metav1.ObjectMeta{Name: "data", Labels: map[string]string{"tier": "db"}}}}
	word := map[byte]appsv1.PersistentVolumeClaimRetentionPolicyType{
		'r': appsv1.RetainPersistentVolumeClaimRetentionPolicyType, 'd': appsv1.DeletePersistentVolumeClaimRetentionPolicyType,
	}
	set.Spec.PersistentVolumeClaimRetentionPolicy = &appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{WhenDeleted: word[policy[0]], WhenScaled: word[policy[1]]}
	return set
}

// claimOf is the claim of an ordinal with these owners: set, pod (the one of podOf's UID), old (a former pod), other.
func claimOf(ordinal int, podUID types.UID, owners ...string) *corev1.PersistentVolumeClaim {
	c := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("data-web-%d", ordinal)}}
	pod := fmt.Sprintf("web-%d", ordinal)
	for _, o := range owners {
		c.OwnerReferences = append(c.OwnerReferences, map[string]metav1.OwnerReference{
			"set":    {APIVersion: "apps/v1", Kind: "StatefulSet", Name: "web", UID: "set", Controller: ptr.To(true), BlockOwnerDeletion: ptr.To(true)},
			"weak":   {APIVersion: "apps/v1", Kind: "StatefulSet", Name: "web", UID: "set"},
			"oldset": {APIVersion: "apps/v1", Kind: "StatefulSet", Name: "web", UID: "before"},
			"pod":    {APIVersion: "v1", Kind: "Pod", Name: pod, UID: podUID, Controller: ptr.To(true), BlockOwnerDeletion: ptr.To(true)},
			"old":    {APIVersion: "v1", Kind: "Pod", Name: pod, UID: "before"},
			"boss":   {APIVersion: "example.com/v1", Kind: "Keeper", Name: "k", UID: "k", Controller: ptr.To(true)},
			"friend": {APIVersion: "v1", Kind: "ConfigMap", Name: "m", UID: "m"},
		}[o])
	}
	return c
}

func ownerNames(refs []metav1.OwnerReference) string {
	var out []string
	for _, r := range refs {
		word := strings.ToLower(r.Kind)
		if r.Controller != nil && *r.Controller {
			word += "!"
		}
		out = append(out, word)
	}
	return strings.Join(out, " ")
}

// TestOwners goes through the four retention policies, for a pod that stays and one that is scaled down.
func TestOwners(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		policy    string
		condemned bool
		owners    string
		want      string // "=": unchanged; "x": foreign
	}{
		{"rr", false, "", "="}, {"rr", true, "", "="}, {"rr", false, "set", ""}, {"rr", true, "pod friend", "configmap"}, {"rr", false, "boss", "="},
		{"rr", false, "old", "="},
		{"dr", false, "", "statefulset!"}, {"dr", true, "", "statefulset!"}, {"dr", false, "set", "="}, {"dr", false, "weak", "statefulset!"},
		{"dr", false, "friend pod", "configmap statefulset!"}, {"dr", false, "boss", "x"}, {"dr", false, "oldset", "x"},
		{"rd", false, "", "="}, {"rd", true, "", "pod!"}, {"rd", false, "pod", ""}, {"rd", true, "set", "pod!"}, {"rd", true, "pod", "="}, {"rd", true, "old", "x"},
		{"dd", false, "", "statefulset!"}, {"dd", true, "set", "pod!"}, {"dd", false, "pod", "statefulset!"}, {"dd", true, "boss", "x"}, {"dd", false, "set friend", "="},
	} {
		pod := podOf("2+r")
		refs, changed, foreign := owners(keeping(3, c.policy), pod, c.condemned, claimOf(2, pod.UID, strings.Fields(c.owners)...))
		got := ownerNames(refs)
		switch {
		case foreign:
			got = "x"
		case !changed:
			got = "="
		}
		if got != c.want {
			t.Errorf("%s condemned=%v owners %q: %q, want %q", c.policy, c.condemned, c.owners, got, c.want)
		}
	}
}

// TestClaimsOfBirths: a pod is born with the claims that are missing, and not while one of its name is on its way out.
func TestClaimsOfBirths(t *testing.T) {
	t.Parallel()
	leaving := claimOf(0, "")
	leaving.DeletionTimestamp = &metav1.Time{Time: epoch}
	for name, c := range map[string]struct {
		policy string
		claim  *corev1.PersistentVolumeClaim // of ordinal 0
		want   string                        // pods and claims made
		event  string                        // part of
	}{
		"none yet":            {"rr", nil, "+0@r data-web-0", ""},
		"there":               {"rr", claimOf(0, ""), "+0@r", ""},
		"leaving":             {"rr", leaving, "", "create Pod web-0 in StatefulSet web failed error: pvc data-web-0 is being deleted"},
		"of the pod before":   {"rd", claimOf(0, "u", "pod"), "", "still belongs to the pod that was scaled down"},
		"that, but to retain": {"dr", claimOf(0, "u", "pod"), "+0@r", ""},
	} {
		o := observed{set: keeping(1, c.policy), current: "r", update: "r", claims: map[string]*corev1.PersistentVolumeClaim{}}
		if c.claim != nil {
			o.claims[c.claim.Name] = c.claim
		}
		a := plan(o, epoch)
		got := told(a)
		for _, b := range a.create {
			for _, claim := range b.claims {
				got += " " + claim.Name
				if claim.Labels["app"] != "web" || claim.Labels["tier"] != "db" {
					t.Errorf("%s: labels %v", name, claim.Labels)
				}
			}
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
		told := slices.ContainsFunc(a.events, func(e event) bool { return strings.Contains(e.message, c.event) })
		if (c.event != "") != (len(a.events) > 0) || !told && c.event != "" {
			t.Errorf("%s: events %+v", name, a.events)
		}
	}
}

// TestScaledDownClaims: a claim belongs to its condemned pod in the very decision that removes the pod, so that it is
// written first; a pod that waits for a lost claim gets it again, one that runs does not.
func TestScaledDownClaims(t *testing.T) {
	t.Parallel()
	set := keeping(1, "rd")
	gone := podOf("1+r")
	o := observed{set: set, current: "r", update: "r", pods: append(podsOf("0+r"), gone), claims: map[string]*corev1.PersistentVolumeClaim{"data-web-1": claimOf(1, gone.UID)}}
	a := plan(o, epoch)
	if told(a) != "-1" || len(a.own) != 1 || ownerNames(a.own[0].OwnerReferences) != "pod!" || a.own[0].OwnerReferences[0].UID != gone.UID {
		t.Errorf("%s, owners %+v", told(a), a.own)
	}
	if len(a.claim) > 0 {
		t.Errorf("a running pod's claim is made: %+v", a.claim)
	}
	o.pods = podsOf("0-r")
	o.pods[0].Status.Phase = corev1.PodPending
	if a := plan(o, epoch); len(a.claim) != 1 || a.claim[0].claim.Name != "data-web-0" || a.claim[0].pod != "web-0" {
		t.Errorf("a waiting pod's claim: %+v", a.claim)
	}
	if refs := newClaim(keeping(1, "dr"), &set.Spec.VolumeClaimTemplates[0], 0).OwnerReferences; ownerNames(refs) != "statefulset!" {
		t.Errorf("a new claim that goes with the set: %+v", refs)
	}
}

func TestPodUsesClaims(t *testing.T) {
	t.Parallel()
	set := keeping(1, "rr")
	set.Spec.Template.Spec.Volumes = []corev1.Volume{
		{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}, {Name: "tmp"},
	}
	var got []string
	for _, v := range newPod(set, &set.Spec.Template, birth{ordinal: 4}).Spec.Volumes {
		claim := ""
		if v.PersistentVolumeClaim != nil {
			claim = v.PersistentVolumeClaim.ClaimName
		}
		got = append(got, v.Name+"="+claim)
	}
	if want := []string{"data=data-web-4", "tmp="}; !slices.Equal(got, want) {
		t.Errorf("volumes %v, want %v", got, want)
	}
}
