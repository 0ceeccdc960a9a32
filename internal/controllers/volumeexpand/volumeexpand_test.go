package volumeexpand

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func claimOf(phase corev1.PersistentVolumeClaimPhase, asked, has string) *corev1.PersistentVolumeClaim {
	storage := func(size string) corev1.ResourceList {
		return corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)}
	}
	return &corev1.PersistentVolumeClaim{
		Spec:   corev1.PersistentVolumeClaimSpec{Resources: corev1.VolumeResourceRequirements{Requests: storage(asked)}},
		Status: corev1.PersistentVolumeClaimStatus{Phase: phase, Capacity: storage(has)},
	}
}

func TestChanged(t *testing.T) {
	t.Parallel()
	small, more, most := claimOf(corev1.ClaimBound, "1Gi", "1Gi"), claimOf(corev1.ClaimBound, "2Gi", "1Gi"), claimOf(corev1.ClaimBound, "3Gi", "1Gi")
	for name, tc := range map[string]struct {
		old, claim *corev1.PersistentVolumeClaim
		want       bool
	}{
		"new and content":   {nil, small, false},
		"found wanting":     {nil, more, true},
		"asks for more":     {small, more, true},
		"and more":          {more, most, true},
		"asks no more":      {more, more, false},
		"has grown":         {more, claimOf(corev1.ClaimBound, "2Gi", "2Gi"), false},
		"became bound":      {claimOf(corev1.ClaimPending, "2Gi", "1Gi"), more, true},
		"has no volume yet": {nil, claimOf(corev1.ClaimPending, "2Gi", "0"), false},
		"gone":              {more, nil, false},
	} {
		if got := len(changed(tc.old, tc.claim)) > 0; got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
