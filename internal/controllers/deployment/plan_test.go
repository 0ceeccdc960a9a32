package deployment

import (
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// deploymentOf parses "image replicas surge unavailable".
func deploymentOf(t *testing.T, text string) *appsv1.Deployment {
	t.Helper()
	var image, surge, unavailable string
	var replicas int32
	if _, err := fmt.Sscan(text, &image, &replicas, &surge, &unavailable); err != nil {
		t.Fatal(err)
	}
	s, u, deadline := intstr.Parse(surge), intstr.Parse(unavailable), int32(600)
	l := map[string]string{"app": "web"}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web", UID: "d", Generation: 1},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: l}, ProgressDeadlineSeconds: &deadline,
			Strategy: appsv1.DeploymentStrategy{
				Type: appsv1.RollingUpdateDeploymentStrategyType, RollingUpdate: &appsv1.RollingUpdateDeployment{MaxSurge: &s, MaxUnavailable: &u},
			},
			Template: template(image),
		},
	}
}

func template(image string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: image}}},
	}
}

// setsOf parses "image size available" separated by commas, oldest first; desired and max go into their annotations.
func setsOf(t *testing.T, text string, desired, most int32) []*appsv1.ReplicaSet {
	t.Helper()
	var out []*appsv1.ReplicaSet
	for i, part := range strings.Split(text, ",") {
		if strings.TrimSpace(part) == "" {
			continue
		}
		var image string
		var size, available int32
		if _, err := fmt.Sscan(part, &image, &size, &available); err != nil {
			t.Fatal(err)
		}
		out = append(out, &appsv1.ReplicaSet{
			ObjectMeta: metav1.ObjectMeta{
				Name: "web-" + image, UID: types.UID(image), CreationTimestamp: metav1.NewTime(epoch.Add(time.Duration(i) * time.Minute)),
				Annotations: map[string]string{
					desiredAnnotation: fmt.Sprint(desired), maxAnnotation: fmt.Sprint(most), revisionAnnotation: fmt.Sprint(i + 1),
				},
			},
			Spec:   appsv1.ReplicaSetSpec{Replicas: &size, Template: template(image)},
			Status: appsv1.ReplicaSetStatus{Replicas: size, ReadyReplicas: available, AvailableReplicas: available},
		})
	}
	return out
}

func TestPlanSizes(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, d, sets string
		desired, most int32
		paused        bool
		want          string // sizes that change
	}{
		{"first set takes all", "v1 3 25% 25%", "", 0, 0, false, "+3"},
		{"zero replicas", "v1 0 25% 25%", "", 0, 0, false, "+0"},
		{"second set starts with the surge", "v2 4 25% 25%", "v1 4 4", 4, 5, false, "+1"},
		{"no surge: starts empty", "v2 4 0 1", "v1 4 4", 4, 4, false, "+0"},
		{"old shrinks by what may be missing", "v2 4 25% 25%", "v1 4 4, v2 1 0", 4, 5, false, "v1=3"},
		{"new grows into the room", "v2 4 25% 25%", "v1 3 3, v2 1 1", 4, 5, false, "v2=2"},
		{"nothing until new pods are available", "v2 4 1 0", "v1 4 4, v2 1 0", 4, 5, false, ""},
		{"one for one", "v2 4 1 0", "v1 4 4, v2 1 1", 4, 5, false, "v1=3"},
		{"pods of old that do not work go first", "v3 4 1 0", "v1 3 3, v2 1 0, v3 1 0", 4, 5, false, ""},
		{"the same with room", "v3 4 1 1", "v1 3 3, v2 1 0, v3 1 0", 4, 5, false, "v2=0"},
		{"both zero means one unavailable", "v2 4 0 0", "v1 4 4, v2 0 0", 4, 4, false, "v1=3"},
		{"scaled up at rest", "v1 10 25% 25%", "v1 3 3", 3, 4, false, "v1=10"},
		{"scaled down at rest", "v1 2 25% 25%", "v1 10 10", 10, 13, false, "v1=2"},
		{"proportional growth, rest to the largest", "v2 20 50% 0", "v1 10 10, v2 5 5", 10, 15, false, "v1=20 v2=10"},
		{"proportional shrinking", "v2 5 0 1", "v1 8 8, v2 2 2", 10, 10, false, "v1=4 v2=1"},
		{"scaled to zero in a rollout", "v2 0 25% 25%", "v1 8 8, v2 4 4", 10, 13, false, "v1=0 v2=0"},
		{"paused stays", "v2 4 1 0", "v1 4 4, v2 1 1", 4, 5, true, ""},
		{"paused still scales", "v2 8 1 0", "v1 4 4, v2 1 1", 4, 5, true, "v1=7 v2=2"},
		{"paused makes no set", "v2 4 1 0", "v1 4 4", 4, 5, true, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			d := deploymentOf(t, tc.d)
			d.Spec.Paused = tc.paused
			a := plan(observed{d: d, sets: setsOf(t, tc.sets, tc.desired, tc.most)}, epoch)
			var created, sized []string
			for _, s := range a.write {
				switch {
				case s.was == nil:
					created = append(created, fmt.Sprintf("+%d", s.size()))
				case s.size() != *s.was.Spec.Replicas:
					sized = append(sized, fmt.Sprintf("%s=%d", s.UID, s.size()))
				}
			}
			// writes have the current set first; the table reads oldest first
			if len(sized) == 2 && sized[0] > sized[1] {
				sized[0], sized[1] = sized[1], sized[0]
			}
			if got := strings.Join(append(created, sized...), " "); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestRecreate(t *testing.T) {
	t.Parallel()
	d := deploymentOf(t, "v2 3 0 0")
	d.Spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}
	for _, tc := range []struct {
		sets    string
		oldPods bool
		want    int32 // size of the first write; -1: none
	}{
		{"v1 3 3", true, 0},
		{"v1 0 0", true, -1},
		{"v1 0 0", false, 3},
		{"v1 0 0, v2 0 0", false, 3},
	} {
		a := plan(observed{d: d, sets: setsOf(t, tc.sets, 3, 3), oldPods: tc.oldPods}, epoch)
		got := int32(-1)
		if len(a.write) > 0 {
			got = a.write[0].size()
		}
		if got != tc.want {
			t.Errorf("%s, old pods %v: got %d, want %d", tc.sets, tc.oldPods, got, tc.want)
		}
	}
}

func TestRevisions(t *testing.T) {
	t.Parallel()
	d := deploymentOf(t, "v1 3 1 0")
	d.Annotations = map[string]string{"note": "kept", corev1.LastAppliedConfigAnnotation: "dropped", revisionAnnotation: "2"}
	a := plan(observed{d: d, sets: setsOf(t, "v1 0 0, v2 3 3", 3, 4)}, epoch)
	s := a.write[0]
	if s.UID != "v1" || s.Annotations[revisionAnnotation] != "3" || s.Annotations[historyAnnotation] != "1" ||
		s.Annotations["note"] != "kept" || s.Annotations[corev1.LastAppliedConfigAnnotation] != "" {
		t.Errorf("a template of before gets a new revision and remembers the old: %v", s.Annotations)
	}
	if a.revision != "3" {
		t.Errorf("revision of the deployment %q, want 3", a.revision)
	}
	if got := history("1,3", "5"); got != "1,3,5" {
		t.Errorf("history %q", got)
	}
}

func TestProgress(t *testing.T) {
	t.Parallel()
	condition := func(a actions) string {
		c := (&conditionSet{list: a.status.Conditions}).get(appsv1.DeploymentProgressing)
		if c == nil {
			return ""
		}
		return string(c.Status) + " " + c.Reason
	}
	d := deploymentOf(t, "v2 3 1 0")
	look := func(sets string, at time.Duration) string {
		a := plan(observed{d: d, sets: setsOf(t, sets, 3, 4)}, epoch.Add(at))
		d.Status = a.status
		return condition(a)
	}
	for _, tc := range []struct {
		sets string
		at   time.Duration
		want string
	}{
		{"v1 3 3", 0, "True NewReplicaSetCreated"},
		{"v1 3 3, v2 1 0", time.Second, "True ReplicaSetUpdated"},
		{"v1 3 3, v2 1 0", 5 * time.Minute, "True ReplicaSetUpdated"},
		{"v1 3 3, v2 1 0", 11 * time.Minute, "False ProgressDeadlineExceeded"},
		{"v1 3 3, v2 1 0", 20 * time.Minute, "False ProgressDeadlineExceeded"},
		{"v1 2 2, v2 1 1", 21 * time.Minute, "True ReplicaSetUpdated"},
		{"v1 0 0, v2 3 3", 22 * time.Minute, "True NewReplicaSetAvailable"},
		{"v1 0 0, v2 3 1", 60 * time.Minute, "True NewReplicaSetAvailable"},
	} {
		if got := look(tc.sets, tc.at); got != tc.want {
			t.Errorf("%s after %s: %q, want %q", tc.sets, tc.at, got, tc.want)
		}
	}
	d.Spec.Paused = true
	if got := look("v1 0 0, v2 3 3", time.Hour); got != "Unknown DeploymentPaused" {
		t.Errorf("paused: %q", got)
	}
	forever := int32(noProgressDeadline)
	d.Spec.Paused, d.Spec.ProgressDeadlineSeconds = false, &forever
	if got := look("v1 0 0, v2 3 3", time.Hour); got != "" {
		t.Errorf("no deadline: %q", got)
	}
}

func TestBounds(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		d    string
		want bounds
	}{
		{"v1 10 25% 25%", bounds{10, 3, 2}},
		{"v1 1 25% 25%", bounds{1, 1, 0}},
		{"v1 3 0 1%", bounds{3, 0, 1}},
		{"v1 3 100% 200%", bounds{3, 3, 3}},
		{"v1 0 1 1", bounds{0, 1, 0}},
	} {
		if got := boundsOf(deploymentOf(t, tc.d)); got != tc.want {
			t.Errorf("%s: %+v, want %+v", tc.d, got, tc.want)
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	one := int32(1)
	v1 := template("v1")
	a, b := templateHash(&v1, nil), templateHash(&v1, &one)
	if a == b || len(a) == 0 || strings.ContainsAny(a+b, "aeiou013") {
		t.Errorf("hashes %q and %q: want two without vowels and look-alikes", a, b)
	}
	if n := setName(strings.Repeat("x", 300), a); len(n) != longestName {
		t.Errorf("a name of %d characters, want %d", len(n), longestName)
	}
	hashed := template("v1")
	hashed.Labels[appsv1.DefaultDeploymentUniqueLabelKey] = "abc"
	v2 := template("v2")
	if !sameTemplate(&v1, &hashed) || sameTemplate(&v1, &v2) {
		t.Error("templates are the same but for the hash label, and only then")
	}
}
