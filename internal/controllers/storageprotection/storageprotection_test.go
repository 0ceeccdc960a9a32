package storageprotection

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

func TestDecide(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		finalizers    []string
		deleted, used bool
		want          action
		left          []string
	}{
		"new":                  {nil, false, false, add, []string{claimFinalizer}},
		"new, others hold it":  {[]string{"x"}, false, true, add, []string{"x", claimFinalizer}},
		"protected":            {[]string{claimFinalizer}, false, true, nothing, []string{claimFinalizer}},
		"deleted, used":        {[]string{claimFinalizer}, true, true, nothing, []string{claimFinalizer}},
		"deleted, unused":      {[]string{"x", claimFinalizer}, true, false, remove, []string{"x"}},
		"deleted, not by us":   {[]string{"x"}, true, false, nothing, []string{"x"}},
		"deleted, unprotected": {nil, true, true, nothing, nil},
	} {
		claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Finalizers: tc.finalizers}}
		if tc.deleted {
			claim.DeletionTimestamp = &metav1.Time{}
		}
		a := decide(claim, claimFinalizer, tc.used)
		got, changed := applied(claim.DeepCopy(), claimFinalizer, a)
		if a != tc.want || changed != (tc.want != nothing) || !slices.Equal(got.Finalizers, tc.left) {
			t.Errorf("%s: action %v, left %v", name, a, got.Finalizers)
		}
	}
}

func TestUsesClaim(t *testing.T) {
	t.Parallel()
	pod := func(node string, edit func(*corev1.Pod)) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web", UID: "u"}, Spec: corev1.PodSpec{NodeName: node}}
		edit(p)
		return p
	}
	mounts := func(name string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{{Name: "a"}, {Name: "b", VolumeSource: corev1.VolumeSource{
				PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name},
			}}}
		}
	}
	own := func(p *corev1.Pod) {
		p.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}}}
	}
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "web-data"}}
	made := claim.DeepCopy()
	made.OwnerReferences = []metav1.OwnerReference{{Kind: "Pod", UID: "u", Controller: ptr.To(true)}}
	for name, tc := range map[string]struct {
		pod   *corev1.Pod
		claim *corev1.PersistentVolumeClaim
		want  bool
	}{
		"mounts it":                {pod("n", mounts("web-data")), claim, true},
		"mounts another":           {pod("n", mounts("data")), claim, false},
		"has no node":              {pod("", mounts("web-data")), claim, false},
		"made for it":              {pod("n", own), made, true},
		"only called like its own": {pod("n", own), claim, false},
	} {
		if got := usesClaim(tc.pod, tc.claim); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestAttributes(t *testing.T) {
	t.Parallel()
	claim := &corev1.PersistentVolumeClaim{
		Spec: corev1.PersistentVolumeClaimSpec{VolumeAttributesClassName: ptr.To("new")},
		Status: corev1.PersistentVolumeClaimStatus{
			CurrentVolumeAttributesClassName: ptr.To("old"), ModifyVolumeStatus: &corev1.ModifyVolumeStatus{TargetVolumeAttributesClassName: "new"},
		},
	}
	if got := attributesOf(claim); !slices.Equal(got, []string{"new", "old"}) {
		t.Errorf("claim names %v", got)
	}
	done := claim.DeepCopy()
	done.Status.CurrentVolumeAttributesClassName, done.Status.ModifyVolumeStatus = ptr.To("new"), nil
	if got := letGo(claim, done); !slices.Equal(got, []string{"old"}) {
		t.Errorf("let go of %v", got)
	}
	if got := letGo(done, nil); !slices.Equal(got, []string{"new"}) {
		t.Errorf("a deleted claim lets go of %v", got)
	}
}
