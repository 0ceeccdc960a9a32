package controllers

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
)

func stateful(name string, replicas int32) *appsv1.StatefulSet {
	l := map[string]string{"app": name}
	return &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"},
		Spec: appsv1.StatefulSetSpec{
			Replicas: &replicas, ServiceName: "peers", Selector: &metav1.LabelSelector{MatchLabels: l},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: l},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "v1"}}},
			},
		},
	}
}

func (c *cluster) patchSet(name, body string) {
	c.t.Helper()
	if _, err := c.AppsV1().StatefulSets("default").Patch(c.t.Context(), name, types.StrategicMergePatchType, []byte(body), metav1.PatchOptions{}); err != nil {
		c.t.Fatal(err)
	}
}

// images waits until the set has settled on pods 0, 1, … with these images, and a status that says so. It returns them.
func (c *cluster) images(name string, want ...string) []corev1.Pod {
	c.t.Helper()
	var pods []corev1.Pod
	c.eventually(fmt.Sprintf("%s runs %v", name, want), func(ctx context.Context) (string, error) {
		set, err := c.AppsV1().StatefulSets("default").Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err.Error(), err
		}
		pods = slices.DeleteFunc(c.pods(ctx), func(p corev1.Pod) bool { return p.Labels["app"] != name })
		var got []string
		for i, p := range pods {
			if p.Name != fmt.Sprintf("%s-%d", name, i) {
				return "there is a pod " + p.Name, nil
			}
			got = append(got, p.Spec.Containers[0].Image)
		}
		n, s := int32(len(want)), set.Status
		if !slices.Equal(got, want) || s.ObservedGeneration != set.Generation || s.Replicas != n || s.ReadyReplicas != n || s.AvailableReplicas != n {
			return fmt.Sprintf("%v, %+v", got, s), nil
		}
		return "", nil
	})
	return pods
}

func (c *cluster) setStatus(name string) appsv1.StatefulSetStatus {
	c.t.Helper()
	set, err := c.AppsV1().StatefulSets("default").Get(c.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	return set.Status
}

// watchOrder watches an ordered set from before its creation. What it returns reads on until three pods have appeared,
// checks that none did before those below it were ready, and returns their names in the order of their appearance.
func (c *cluster) watchOrder(name string) func() []string {
	c.t.Helper()
	w, err := c.CoreV1().Pods("default").Watch(c.t.Context(), metav1.ListOptions{LabelSelector: "app=" + name})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(w.Stop)
	return func() []string {
		ready, appeared := map[string]bool{}, []string(nil)
		for len(appeared) < 3 {
			e, open := <-w.ResultChan()
			p, ok := e.Object.(*corev1.Pod)
			if !open || !ok {
				c.t.Fatalf("the watch ended after %v: %+v", appeared, e)
			}
			if e.Type == "ADDED" {
				for _, before := range appeared {
					if !ready[before] {
						c.t.Errorf("%s appeared before %s was ready", p.Name, before)
					}
				}
				appeared = append(appeared, p.Name)
			}
			for _, condition := range p.Status.Conditions {
				ready[p.Name] = ready[p.Name] || condition.Type == corev1.PodReady && condition.Status == corev1.ConditionTrue
			}
		}
		return appeared
	}
}

func TestStatefulSet(t *testing.T) {
	t.Parallel()
	c := start(t, nil)
	c.hollow("node-1")
	ctx := t.Context()
	order := c.watchOrder("web")
	if _, err := c.AppsV1().StatefulSets("default").Create(ctx, stateful("web", 3), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := order(); !slices.Equal(got, []string{"web-0", "web-1", "web-2"}) {
		t.Errorf("pods appeared as %v", got)
	}
	first := c.images("web", "v1", "v1", "v1")
	for i, p := range first {
		if p.Labels["statefulset.kubernetes.io/pod-name"] != p.Name || p.Labels["apps.kubernetes.io/pod-index"] != fmt.Sprint(i) ||
			p.Spec.Hostname != p.Name || p.Spec.Subdomain != "peers" || p.Labels["controller-revision-hash"] != c.setStatus("web").CurrentRevision {
			t.Errorf("%s: labels %v, hostname %s.%s", p.Name, p.Labels, p.Spec.Hostname, p.Spec.Subdomain)
		}
	}

	t.Log("3 to 1 to 2")
	c.patchSet("web", `{"spec":{"replicas":1}}`)
	if left := c.images("web", "v1"); left[0].UID != first[0].UID {
		t.Error("web-0 has been replaced")
	}
	c.patchSet("web", `{"spec":{"replicas":2}}`)
	c.images("web", "v1", "v1")
	c.patchSet("web", `{"spec":{"replicas":3}}`)
	c.images("web", "v1", "v1", "v1")

	t.Log("a rollout stops at its partition, and lost pods come back as they were")
	c.patchSet("web", `{"spec":{"updateStrategy":{"rollingUpdate":{"partition":2}},"template":{"spec":{"containers":[{"name":"main","image":"v2"}]}}}}`)
	c.images("web", "v1", "v1", "v2")
	c.eventually("a status of two revisions", func(context.Context) (string, error) {
		if s := c.setStatus("web"); s.CurrentReplicas != 2 || s.UpdatedReplicas != 1 || s.CurrentRevision == s.UpdateRevision {
			return fmt.Sprintf("%+v", s), nil
		}
		return "", nil
	})
	lost := c.images("web", "v1", "v1", "v2")[1].UID
	if err := c.CoreV1().Pods("default").Delete(ctx, "web-1", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventually("web-1 is another", func(ctx context.Context) (string, error) {
		p, err := c.CoreV1().Pods("default").Get(ctx, "web-1", metav1.GetOptions{})
		if err != nil || p.UID == lost {
			return "still the old one, or none", err
		}
		return "", nil
	})
	c.images("web", "v1", "v1", "v2")
	c.patchSet("web", `{"spec":{"updateStrategy":{"rollingUpdate":{"partition":0}}}}`)
	c.images("web", "v2", "v2", "v2")
	c.eventually("the update is the current revision", func(context.Context) (string, error) {
		if s := c.setStatus("web"); s.CurrentRevision != s.UpdateRevision || s.CurrentReplicas != 3 {
			return fmt.Sprintf("%+v", s), nil
		}
		return "", nil
	})

	t.Log("a set that takes over from one of the same name keeps its pods and its history")
	kept := c.images("web", "v2", "v2", "v2")
	was := c.setStatus("web").UpdateRevision
	if err := c.AppsV1().StatefulSets("default").Delete(ctx, "web", metav1.DeleteOptions{PropagationPolicy: ptr.To(metav1.DeletePropagationOrphan)}); err != nil {
		t.Fatal(err)
	}
	c.eventually("the set is gone, its pods are orphans", func(ctx context.Context) (string, error) {
		list, err := c.AppsV1().StatefulSets("default").List(ctx, metav1.ListOptions{})
		if err != nil || len(list.Items) > 0 {
			return fmt.Sprint(len(list.Items), " sets"), err
		}
		return "", nil
	})
	heir := stateful("web", 3)
	heir.Spec.Template.Spec.Containers[0].Image = "v2"
	if _, err := c.AppsV1().StatefulSets("default").Create(ctx, heir, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for i, p := range c.images("web", "v2", "v2", "v2") {
		if p.UID != kept[i].UID {
			t.Errorf("%s has been replaced", p.Name)
		}
	}
	if s := c.setStatus("web"); s.UpdateRevision != was || s.UpdatedReplicas != 3 {
		t.Errorf("revision %s was not taken over: %+v", was, s)
	}
	c.event("Normal", "SuccessfulCreate", "create Pod web-0 in StatefulSet web successful")
	c.event("Normal", "SuccessfulDelete", "delete Pod web-2 in StatefulSet web successful")
	for _, r := range c.revisionsOf("web") {
		if r.Labels["controller.kubernetes.io/hash"] == "" || r.Name != "web-"+r.Labels["controller.kubernetes.io/hash"] {
			t.Errorf("revision %s has labels %v", r.Name, r.Labels)
		}
	}
}

func (c *cluster) revisionsOf(app string) []appsv1.ControllerRevision {
	c.t.Helper()
	list, err := c.AppsV1().ControllerRevisions("default").List(c.t.Context(), metav1.ListOptions{LabelSelector: "app=" + app})
	if err != nil || len(list.Items) == 0 {
		c.t.Fatalf("%d revisions of %s: %v", len(list.Items), app, err)
	}
	return list.Items
}

// claims waits until the claims that are not on their way out, with the kind of their controller, are these.
func (c *cluster) claims(what string, want ...string) {
	c.t.Helper()
	c.eventually(what, func(ctx context.Context) (string, error) {
		list, err := c.CoreV1().PersistentVolumeClaims("default").List(ctx, metav1.ListOptions{})
		if err != nil {
			return err.Error(), err
		}
		var got []string
		for i := range list.Items {
			p := &list.Items[i]
			word := p.Name
			if ref := metav1.GetControllerOf(p); ref != nil {
				word += " of " + ref.Kind
			}
			if p.DeletionTimestamp == nil {
				got = append(got, word)
			}
		}
		if !slices.Equal(got, want) {
			return fmt.Sprint(got), nil
		}
		return "", nil
	})
}

// keeping is a set whose pods have a claim each.
func keeping(name string, replicas int32) *appsv1.StatefulSet {
	set := stateful(name, replicas)
	set.Spec.VolumeClaimTemplates = []corev1.PersistentVolumeClaim{{
		ObjectMeta: metav1.ObjectMeta{Name: "data"},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, StorageClassName: ptr.To("none"),
			Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Mi")}},
		},
	}}
	return set
}

// TestStatefulSetClaimsSurviveAnyWrite loses the n-th write, for every n that making, scaling and removing a set with
// claims is made of: no claim is lost, left over or collected too early.
func TestStatefulSetClaimsSurviveAnyWrite(t *testing.T) {
	t.Parallel()
	for n := 1; n <= 12; n++ {
		t.Run(fmt.Sprintf("write %d", n), func(t *testing.T) {
			var mu sync.Mutex
			left := n
			c := start(t, func(_ *Config, writer *rest.Config) {
				writer.Wrap(func(next http.RoundTripper) http.RoundTripper { return statefulFaults{faults{next, &mu, &left}} })
			})
			c.hollow("node-1")
			set := keeping("db", 2)
			set.Spec.PersistentVolumeClaimRetentionPolicy = &appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{
				WhenDeleted: appsv1.DeletePersistentVolumeClaimRetentionPolicyType, WhenScaled: appsv1.DeletePersistentVolumeClaimRetentionPolicyType,
			}
			if _, err := c.AppsV1().StatefulSets("default").Create(t.Context(), set, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			c.images("db", "v1", "v1")
			c.claims("two claims", "data-db-0 of StatefulSet", "data-db-1 of StatefulSet")
			c.patchSet("db", `{"spec":{"replicas":1}}`)
			c.images("db", "v1")
			c.claims("one claim goes with its pod", "data-db-0 of StatefulSet")
			c.patchSet("db", `{"spec":{"replicas":2}}`)
			c.images("db", "v1", "v1")
			c.claims("a new claim comes with a new pod", "data-db-0 of StatefulSet", "data-db-1 of StatefulSet")
			if err := c.AppsV1().StatefulSets("default").Delete(t.Context(), "db", metav1.DeleteOptions{PropagationPolicy: ptr.To(metav1.DeletePropagationBackground)}); err != nil {
				t.Fatal(err)
			}
			c.claims("no claim stays")
		})
	}
}

// statefulFaults counts writes of sets, their pods and claims only.
type statefulFaults struct{ faults }

func (f statefulFaults) RoundTrip(r *http.Request) (*http.Response, error) {
	for _, part := range []string{"/statefulsets", "/pods", "/controllerrevisions", "/persistentvolumeclaims"} {
		if strings.Contains(r.URL.Path, part) {
			return f.faults.RoundTrip(r)
		}
	}
	return f.next.RoundTrip(r)
}

func TestStatefulSetClaims(t *testing.T) {
	t.Parallel()
	c := start(t, nil)
	c.hollow("node-1")
	set := keeping("db", 3)
	if _, err := c.AppsV1().StatefulSets("default").Create(t.Context(), set, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for i, p := range c.images("db", "v1", "v1", "v1") {
		if v := p.Spec.Volumes[0]; v.Name != "data" || v.PersistentVolumeClaim == nil || v.PersistentVolumeClaim.ClaimName != fmt.Sprintf("data-db-%d", i) {
			t.Errorf("%s has volumes %+v", p.Name, p.Spec.Volumes)
		}
	}
	c.claims("a claim for every pod", "data-db-0", "data-db-1", "data-db-2")
	c.event("Normal", "SuccessfulCreate", "create Claim data-db-0 Pod db-0 in StatefulSet db success")

	t.Log("retained claims stay and are found again")
	c.patchSet("db", `{"spec":{"replicas":2}}`)
	c.images("db", "v1", "v1")
	c.claims("claims are retained", "data-db-0", "data-db-1", "data-db-2")
	c.patchSet("db", `{"spec":{"replicas":3}}`)
	c.images("db", "v1", "v1", "v1")

	t.Log("with Delete they go with the pod that is scaled down, the others with the set")
	c.patchSet("db", `{"spec":{"persistentVolumeClaimRetentionPolicy":{"whenDeleted":"Delete","whenScaled":"Delete"}}}`)
	c.claims("the set owns the claims", "data-db-0 of StatefulSet", "data-db-1 of StatefulSet", "data-db-2 of StatefulSet")
	c.patchSet("db", `{"spec":{"replicas":1}}`)
	c.images("db", "v1")
	c.claims("two claims go", "data-db-0 of StatefulSet")
	c.patchSet("db", `{"spec":{"persistentVolumeClaimRetentionPolicy":{"whenDeleted":"Retain","whenScaled":"Delete"}}}`)
	c.claims("the set lets go", "data-db-0")
	c.patchSet("db", `{"spec":{"persistentVolumeClaimRetentionPolicy":{"whenDeleted":"Delete","whenScaled":"Retain"}}}`)
	c.claims("the set takes it back", "data-db-0 of StatefulSet")
	if err := c.AppsV1().StatefulSets("default").Delete(t.Context(), "db", metav1.DeleteOptions{PropagationPolicy: ptr.To(metav1.DeletePropagationBackground)}); err != nil {
		t.Fatal(err)
	}
	c.claims("the last claim goes with the set")
}

// TestStatefulSetScaledAwayWithoutPod is about a pod that is missing, because one below it does not serve, when its ordinal is
// scaled away: its claim goes as the others would.
func TestStatefulSetScaledAwayWithoutPod(t *testing.T) {
	t.Parallel()
	c := start(t, nil)
	c.hollow("node-1")
	set := keeping("db", 3)
	set.Spec.PersistentVolumeClaimRetentionPolicy = &appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{
		WhenDeleted: appsv1.RetainPersistentVolumeClaimRetentionPolicyType, WhenScaled: appsv1.DeletePersistentVolumeClaimRetentionPolicyType,
	}
	if _, err := c.AppsV1().StatefulSets("default").Create(t.Context(), set, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.images("db", "v1", "v1", "v1")
	older := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "data-db-3"}, Spec: set.Spec.VolumeClaimTemplates[0].Spec}
	if _, err := c.CoreV1().PersistentVolumeClaims("default").Create(t.Context(), older, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Log("nothing that is made from now on is ready")
	c.patchSet("db", `{"spec":{"updateStrategy":{"type":"OnDelete","rollingUpdate":null},"template":{"spec":{"containers":[{"name":"main","image":"bad"}]}}}}`)
	c.eventually("the controller knows", func(ctx context.Context) (string, error) {
		s, err := c.AppsV1().StatefulSets("default").Get(ctx, "db", metav1.GetOptions{})
		if err == nil && s.Status.ObservedGeneration != s.Generation {
			err = errors.New("it has not looked yet")
		}
		return "", err
	})
	pods := c.CoreV1().Pods("default")
	now := metav1.DeleteOptions{GracePeriodSeconds: ptr.To(int64(0))}
	if err := pods.Delete(t.Context(), "db-0", now); err != nil {
		t.Fatal(err)
	}
	c.eventually("db-0 waits", func(ctx context.Context) (string, error) {
		p, err := pods.Get(ctx, "db-0", metav1.GetOptions{})
		if err == nil && p.Spec.Containers[0].Image != "bad" {
			err = errors.New("it is the old one")
		}
		return "", err
	})
	if err := pods.Delete(t.Context(), "db-2", now); err != nil {
		t.Fatal(err)
	}
	c.eventually("the status tells of db-2", func(ctx context.Context) (string, error) {
		s, err := c.AppsV1().StatefulSets("default").Get(ctx, "db", metav1.GetOptions{})
		if err == nil && s.Status.Replicas != 2 {
			err = fmt.Errorf("there are %d replicas", s.Status.Replicas)
		}
		return "", err
	})
	c.claims("all claims are there", "data-db-0", "data-db-1", "data-db-2", "data-db-3")
	c.patchSet("db", `{"spec":{"replicas":2}}`)
	c.claims("the claim of db-2 goes, and what was never the set's stays", "data-db-0", "data-db-1", "data-db-3")
}

// event waits for an event of the StatefulSet controller.
func (c *cluster) event(kind, reason, message string) {
	c.t.Helper()
	c.eventually("event "+message, func(ctx context.Context) (string, error) {
		events, err := c.CoreV1().Events("default").List(ctx, metav1.ListOptions{})
		if err != nil {
			return err.Error(), err
		}
		for _, e := range events.Items {
			if e.Type == kind && e.Reason == reason && strings.Contains(e.Message, message) && e.Source.Component == "statefulset-controller" {
				return "", nil
			}
		}
		return fmt.Sprint(len(events.Items), " other events"), nil
	})
}
