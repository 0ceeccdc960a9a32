package patch

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// mutations change a pod in one way each; some of them change nothing for some pods.
func mutations() map[string]func(*corev1.Pod, *rand.Rand) {
	pick := func(r *rand.Rand, values ...string) string { return values[r.IntN(len(values))] }
	at := func(r *rand.Rand) metav1.Time {
		return metav1.NewTime(time.Unix(1_780_000_000+int64(r.IntN(3)), int64(r.IntN(2))*1000).UTC())
	}
	return map[string]func(*corev1.Pod, *rand.Rand){
		"label":       func(p *corev1.Pod, r *rand.Rand) { p.Labels["tier"] = pick(r, "front", "back", "") },
		"new label":   func(p *corev1.Pod, r *rand.Rand) { p.Labels[pick(r, "x", "y")] = "1" },
		"less labels": func(p *corev1.Pod, _ *rand.Rand) { delete(p.Labels, "x") },
		"annotation":  func(p *corev1.Pod, r *rand.Rand) { p.Annotations = map[string]string{"a": pick(r, "1", "2")} },
		"finalizer":   func(p *corev1.Pod, r *rand.Rand) { p.Finalizers = []string{pick(r, "a/b", "c/d")} },
		"version":     func(p *corev1.Pod, r *rand.Rand) { p.ResourceVersion = pick(r, "", "7", "8") },
		"generation":  func(p *corev1.Pod, r *rand.Rand) { p.Generation = int64(r.IntN(2)) },
		"image":       func(p *corev1.Pod, r *rand.Rand) { p.Spec.Containers[0].Image = pick(r, "demo:1", "demo:2", "") },
		"env":         func(p *corev1.Pod, r *rand.Rand) { p.Spec.Containers[0].Env[0].Value = pick(r, "1", "9", "") },
		"env order": func(p *corev1.Pod, _ *rand.Rand) {
			e := p.Spec.Containers[0].Env
			e[0], e[len(e)-1] = e[len(e)-1], e[0]
		},
		"env twice": func(p *corev1.Pod, _ *rand.Rand) {
			p.Spec.Containers[0].Env = append(p.Spec.Containers[0].Env, corev1.EnvVar{Name: "A", Value: "again"})
		},
		"less env": func(p *corev1.Pod, _ *rand.Rand) { p.Spec.Containers[0].Env = p.Spec.Containers[0].Env[:1] },
		"command":  func(p *corev1.Pod, r *rand.Rand) { p.Spec.Containers[0].Command = []string{pick(r, "a", "b")} },
		"port": func(p *corev1.Pod, r *rand.Rand) {
			p.Spec.Containers[0].Ports[0].ContainerPort = int32(8080 + r.IntN(2))
		},
		"port name": func(p *corev1.Pod, r *rand.Rand) {
			p.Spec.Containers[0].Ports[0].Name = pick(r, "http", "web", "")
		},
		"probe": func(p *corev1.Pod, r *rand.Rand) {
			p.Spec.Containers[0].LivenessProbe = &corev1.Probe{PeriodSeconds: int32(r.IntN(3)), ProbeHandler: corev1.ProbeHandler{
				HTTPGet: &corev1.HTTPGetAction{Path: pick(r, "/a", "/b"), Port: intstr.FromInt32(int32(r.IntN(2) + 1))},
			}}
		},
		"selector": func(p *corev1.Pod, r *rand.Rand) { p.Spec.NodeSelector = map[string]string{"zone": pick(r, "a", "b")} },
		"node":     func(p *corev1.Pod, r *rand.Rand) { p.Spec.NodeName = pick(r, "n1", "n2") },
		"phase":    func(p *corev1.Pod, r *rand.Rand) { p.Status.Phase = corev1.PodPhase(pick(r, "Running", "Pending", "")) },
		"restarts": func(p *corev1.Pod, r *rand.Rand) { p.Status.ContainerStatuses[0].RestartCount = int32(r.IntN(3)) },
		"ip":       func(p *corev1.Pod, r *rand.Rand) { p.Status.PodIP = pick(r, "10.244.1.5", "10.244.1.6", "") },
		"ips":      func(p *corev1.Pod, r *rand.Rand) { p.Status.PodIPs[0].IP = pick(r, "10.244.1.5", "10.244.1.6") },
		"start":    func(p *corev1.Pod, r *rand.Rand) { t := at(r); p.Status.StartTime = &t },
		"ready": func(p *corev1.Pod, r *rand.Rand) {
			p.Status.Conditions[0].Status = corev1.ConditionStatus(pick(r, "True", "False"))
		},
		"reason":    func(p *corev1.Pod, r *rand.Rand) { p.Status.Conditions[0].Reason = pick(r, "A", "B", "") },
		"when":      func(p *corev1.Pod, r *rand.Rand) { p.Status.Conditions[1].LastTransitionTime = at(r) },
		"condition": func(p *corev1.Pod, _ *rand.Rand) { p.Status.Conditions = p.Status.Conditions[:2] },
		"more conditions": func(p *corev1.Pod, _ *rand.Rand) {
			p.Status.Conditions = append(p.Status.Conditions[:2], corev1.PodCondition{Type: "Extra", Status: "True"})
		},
		"managers kept":  func(p *corev1.Pod, _ *rand.Rand) { p.ManagedFields = nil },
		"managers reset": func(p *corev1.Pod, _ *rand.Rand) { p.ManagedFields = []metav1.ManagedFieldsEntry{} },
		"managers empty": func(p *corev1.Pod, _ *rand.Rand) { p.ManagedFields = []metav1.ManagedFieldsEntry{{}} },
		"manager renamed": func(p *corev1.Pod, _ *rand.Rand) {
			if len(p.ManagedFields) > 0 {
				p.ManagedFields[0].Manager = "other"
			}
		},
	}
}

// TestFastUpdateEqualsSlow takes pods through random lives and asks both ways at every step.
func TestFastUpdateEqualsSlow(t *testing.T) {
	t.Parallel()
	all := mutations()
	var names []string
	for name := range all {
		names = append(names, name)
	}
	writers := []struct{ manager, sub string }{{"kubectl", ""}, {"controller", ""}, {"canopus", "status"}, {"", "status"}}
	fast := map[bool]int{}
	through := map[string]*Owners{"": owners(t, podGVK, ""), "status": owners(t, podGVK, "status")} // they remember what they saw
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 1))
		live := stored(t, owners(t, podGVK, ""), testPod(), "controller")
		reported := withStatus(live.DeepCopy())
		if err := owners(t, podGVK, "status").slowUpdate(live, reported, "canopus"); err != nil {
			t.Fatal(err)
		}
		live = aged(reported)
		if seed%3 == 0 {
			live = applied(t, live)
		}
		for step := range 40 {
			w := writers[r.IntN(len(writers))]
			next, did := live.DeepCopy(), ""
			for range r.IntN(3) {
				name := names[r.IntN(len(names))]
				all[name](next, r)
				did += " " + name
			}
			o := through[w.sub]
			quick := next.DeepCopy()
			hit := o.fastUpdate(live, quick, w.manager)
			fast[hit]++
			if err := o.slowUpdate(live, next, w.manager); err != nil {
				t.Fatal(err)
			}
			if hit {
				if diff := differentManagers(next.ManagedFields, quick.ManagedFields, live.ManagedFields); diff != "" {
					t.Fatalf("seed %d step %d: %q through %q:%s: %s", seed, step, w.manager, w.sub, did, diff)
				}
			}
			live = aged(next)
		}
	}
	for sub, o := range through {
		if o.changed.used < maxChanges {
			t.Errorf("through %q: only %d changes are remembered", sub, o.changed.used)
		}
	}
	if fast[true] < 300 || fast[false] < 300 {
		t.Errorf("%d fast and %d slow updates: the test no longer tries both", fast[true], fast[false])
	}
}

// differentManagers compares what both ways made of the managers; the times are compared by whether they are new.
func differentManagers(slow, quick, before []metav1.ManagedFieldsEntry) string {
	if len(slow) != len(quick) {
		return fmt.Sprintf("slow has %d managers, fast %d", len(slow), len(quick))
	}
	old := map[int64]bool{}
	for _, e := range before {
		old[e.Time.Unix()] = true
	}
	for i := range slow {
		a, b := slow[i], quick[i]
		if old[a.Time.Unix()] != old[b.Time.Unix()] {
			return fmt.Sprintf("%s: slow says %v, fast %v", a.Manager, a.Time, b.Time)
		}
		a.Time, b.Time = nil, nil
		if !equality.Semantic.DeepEqual(a, b) {
			return fmt.Sprintf("slow %s %s, fast %s %s", a.Manager, a.FieldsV1, b.Manager, b.FieldsV1)
		}
	}
	return ""
}

// aged gives all managers one old time, so that a new one shows.
func aged(p *corev1.Pod) *corev1.Pod {
	at := metav1.NewTime(time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC))
	for i := range p.ManagedFields {
		p.ManagedFields[i].Time = &at
	}
	sortEntries(p.ManagedFields)
	return p
}

// applied returns p after someone else has applied a label and an environment variable.
func applied(t *testing.T, p *corev1.Pod) *corev1.Pod {
	t.Helper()
	const wish = `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web-1","labels":{"tier":"front"}},
"spec":{"containers":[{"name":"web","env":[{"name":"A","value":"1"}]}]}}`
	out, _, err := owners(t, podGVK, "").Apply(p, Wish{Body: []byte(wish), Manager: "gitops", Force: true})
	if err != nil {
		t.Fatal(err)
	}
	return aged(out.(*corev1.Pod))
}
