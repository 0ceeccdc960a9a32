package revision

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestPick(t *testing.T) {
	t.Parallel()
	ds := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Name: "ds", Namespace: "a", UID: "u"}}
	var history []*appsv1.ControllerRevision
	pick := func(image string, collisions *int32) *appsv1.ControllerRevision {
		t.Helper()
		template := &corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{Image: image}}}}
		r, err := Pick(Owner{Object: ds, Template: template, Collisions: collisions}, history)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	one := pick("v1", nil)
	history = append(history, one)
	two := pick("v2", nil)
	history = append(history, two)
	if one.Revision != 1 || two.Revision != 2 || one.Name == two.Name || one.Name != "ds-"+Hash(one) {
		t.Errorf("%s %d, %s %d", one.Name, one.Revision, two.Name, two.Revision)
	}
	if again := pick("v2", nil); again != two {
		t.Errorf("the present template made revision %d", again.Revision)
	}
	back := pick("v1", nil)
	if back.Name != one.Name || back.Revision != 3 || one.Revision != 1 {
		t.Errorf("back to %s %d", back.Name, back.Revision)
	}
	once := int32(1)
	if pick("v3", nil).Name == pick("v3", &once).Name {
		t.Error("a collision does not change the name")
	}
	if stale := Stale(history, map[string]bool{Hash(two): true}, 0); len(stale) != 1 || stale[0] != one {
		t.Errorf("stale %v", stale)
	}
	for _, limit := range []int{5, -1} {
		if stale := Stale(history, nil, limit); len(stale) != 0 {
			t.Errorf("stale with limit %d: %v", limit, stale)
		}
	}
}
