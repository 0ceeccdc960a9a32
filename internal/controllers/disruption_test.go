package controllers

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func (c *cluster) budget(name, app string, bound func(*policyv1.PodDisruptionBudgetSpec)) {
	c.t.Helper()
	b := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: policyv1.PodDisruptionBudgetSpec{
		Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}},
	}}
	bound(&b.Spec)
	if _, err := c.PolicyV1().PodDisruptionBudgets("default").Create(c.t.Context(), b, metav1.CreateOptions{}); err != nil {
		c.t.Fatal(err)
	}
}

func atLeast(n string) func(*policyv1.PodDisruptionBudgetSpec) {
	v := intstr.Parse(n)
	return func(s *policyv1.PodDisruptionBudgetSpec) { s.MinAvailable = &v }
}

func atMost(n string) func(*policyv1.PodDisruptionBudgetSpec) {
	v := intstr.Parse(n)
	return func(s *policyv1.PodDisruptionBudgetSpec) { s.MaxUnavailable = &v }
}

// counted waits for a budget's "expected/desired/healthy/allowed reason", with no eviction left that is awaited.
func (c *cluster) counted(name, want string) {
	c.t.Helper()
	c.eventually("budget "+name+" is "+want, func(ctx context.Context) (string, error) {
		b, err := c.PolicyV1().PodDisruptionBudgets("default").Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err.Error(), err
		}
		s, reason := b.Status, ""
		if allowed := meta.FindStatusCondition(s.Conditions, policyv1.DisruptionAllowedCondition); allowed != nil {
			reason = allowed.Reason + allowed.Message
		}
		got := fmt.Sprintf("%d/%d/%d/%d %s", s.ExpectedPods, s.DesiredHealthy, s.CurrentHealthy, s.DisruptionsAllowed, reason)
		if got != want || len(s.DisruptedPods) > 0 {
			return fmt.Sprintf("%s, awaits %v", got, s.DisruptedPods), nil
		}
		return "", nil
	})
}

func (c *cluster) evict(pod string) error {
	return c.PolicyV1().Evictions("default").Evict(c.t.Context(), &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: pod, Namespace: "default"}})
}

// ready makes a pod run on node-1 and be ready.
func (c *cluster) ready(name string) {
	c.t.Helper()
	if err := c.CoreV1().Pods("default").Bind(c.t.Context(), &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}, Target: corev1.ObjectReference{Kind: "Node", Name: "node-1"},
	}, metav1.CreateOptions{}); err != nil {
		c.t.Fatal(err)
	}
	c.podStatus(name, map[string]any{"phase": corev1.PodRunning, "conditions": []corev1.PodCondition{{
		Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now(),
	}}})
}

func (c *cluster) podStatus(name string, status map[string]any) {
	c.t.Helper()
	patch, err := json.Marshal(map[string]any{"status": status})
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := c.CoreV1().Pods("default").Patch(c.t.Context(), name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status"); err != nil {
		c.t.Fatal(err)
	}
}

// pending waits for n pods that do not run yet, and names them.
func (c *cluster) pending(n int) []string {
	c.t.Helper()
	var names []string
	c.eventually(fmt.Sprint(n, " new pods"), func(ctx context.Context) (string, error) {
		names = nil
		for _, p := range c.pods(ctx) {
			if p.Status.Phase == corev1.PodPending {
				names = append(names, p.Name)
			}
		}
		if len(names) != n {
			return fmt.Sprint(names), nil
		}
		return "", nil
	})
	return names
}

// TestPDBOfDeployment evicts one pod of three: the next may go when there is another instead, and not before.
func TestPDBOfDeployment(t *testing.T) {
	t.Parallel()
	c := start(t, nil)
	c.node("node-1")
	if _, err := c.AppsV1().Deployments("default").Create(t.Context(), web(3), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.budget("web", "web", atMost("1"))
	pods := c.pending(3)
	c.counted("web", "3/2/0/0 InsufficientPods")
	for _, p := range pods {
		c.ready(p)
	}
	c.counted("web", "3/2/3/1 SufficientPods")

	if err := c.evict(pods[0]); err != nil {
		t.Fatalf("the budget allows one eviction: %v", err)
	}
	refused := func() {
		t.Helper()
		if err := c.evict(pods[1]); !apierrors.IsTooManyRequests(err) || !apierrors.HasStatusCause(err, policyv1.DisruptionBudgetCause) {
			t.Fatalf("a second eviction, want 429: %v", err)
		}
	}
	refused()
	c.counted("web", "3/2/2/0 InsufficientPods")
	refused()
	if err := c.CoreV1().Pods("default").Delete(t.Context(), pods[0], *metav1.NewDeleteOptions(0)); err != nil {
		t.Fatal(err)
	}
	replacement := c.pending(1)
	refused()
	c.ready(replacement[0])
	c.counted("web", "3/2/3/1 SufficientPods")
	if err := c.evict(pods[1]); err != nil {
		t.Fatalf("the evicted pod is replaced: %v", err)
	}

	t.Log("a larger scale counts before its pods do")
	c.ready(c.pending(1)[0])
	c.edit("web", func(d *appsv1.Deployment) { n := int32(5); d.Spec.Replicas = &n })
	c.counted("web", "5/4/3/0 InsufficientPods")
}

// TestPDBOfOddPods counts pods that no workload of apps controls, and expires what came to nothing.
func TestPDBOfOddPods(t *testing.T) {
	t.Parallel()
	c := start(t, nil)
	c.node("node-1")
	ctx := t.Context()
	d, err := c.AppsV1().Deployments("default").Create(ctx, web(2), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	node, err := c.CoreV1().Nodes().Get(ctx, "node-1", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	controller := true
	for app, owners := range map[string][]metav1.OwnerReference{
		"bare":   nil,
		"scaled": {{APIVersion: "apps/v1", Kind: "Deployment", Name: d.Name, UID: d.UID, Controller: &controller}},
		"static": {{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID, Controller: &controller}},
	} {
		if _, err := c.CoreV1().Pods("default").Create(ctx, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: app, Labels: map[string]string{"app": app}, OwnerReferences: owners},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "v1"}}},
		}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		c.ready(app)
	}
	c.budget("bare-count", "bare", atLeast("1"))
	c.counted("bare-count", "1/1/1/0 InsufficientPods")
	c.budget("bare-share", "bare", atLeast("50%"))
	c.counted("bare-share", "0/0/1/0 InsufficientPods")
	c.told("bare-share", "UnmanagedPods", `(selector: app=bare) were found to be unmanaged`)
	c.told("bare", "MultiplePodDisruptionBudgets", `Chose "bare-count"`)
	c.budget("scaled", "scaled", atMost("50%")) // by the scale subresource of a controller that no pod of apps has
	c.counted("scaled", "2/1/1/0 InsufficientPods")
	c.budget("static", "static", atMost("1"))
	const why = "nodes does not implement the scale subresource"
	c.counted("static", "0/0/0/0 SyncFailed"+why)
	c.told("static", "CalculateExpectedPodCountFailed", "Failed to calculate the number of expected pods: "+why)
	c.budget("none", "none", atLeast("0"))
	c.counted("none", "0/0/0/0 InsufficientPods")
	c.told("none", "NoPods", "No matching pods found")

	t.Log("an eviction that nothing followed")
	long := time.Now().Add(-3 * time.Minute)
	c.budget("again", "scaled", atLeast("0"))
	c.counted("again", "1/0/1/1 SufficientPods")
	patch := fmt.Sprintf(`{"status":{"disruptedPods":{"scaled":%q},"disruptionsAllowed":0}}`, long.UTC().Format(time.RFC3339))
	if _, err := c.PolicyV1().PodDisruptionBudgets("default").Patch(ctx, "again", types.MergePatchType, []byte(patch), metav1.PatchOptions{}, "status"); err != nil {
		t.Fatal(err)
	}
	c.told("scaled", "NotDeleted", "Pod was expected by PDB default/again to be deleted but it wasn't")
	c.counted("again", "1/0/1/1 SufficientPods")

	t.Log("an announcement that nothing followed")
	c.podStatus("bare", map[string]any{"conditions": []corev1.PodCondition{{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "EvictionByEvictionAPI", Message: "soon", LastTransitionTime: metav1.NewTime(long),
	}}})
	c.eventually("the announcement is taken back", func(ctx context.Context) (string, error) {
		p, err := c.CoreV1().Pods("default").Get(ctx, "bare", metav1.GetOptions{})
		if err != nil {
			return err.Error(), err
		}
		for _, got := range p.Status.Conditions {
			if got.Type == corev1.DisruptionTarget && got.Status == corev1.ConditionFalse && got.Reason == "" && got.Message == "" && got.LastTransitionTime.After(long) {
				return "", nil
			}
		}
		return fmt.Sprintf("%+v", p.Status.Conditions), nil
	})
}

// told waits for an event about an object.
func (c *cluster) told(name, reason, words string) {
	c.t.Helper()
	c.eventually("event "+reason+" about "+name, func(ctx context.Context) (string, error) {
		list, err := c.CoreV1().Events("default").List(ctx, metav1.ListOptions{})
		if err != nil {
			return err.Error(), err
		}
		last := "none"
		for _, e := range list.Items {
			if e.InvolvedObject.Name != name || e.Reason != reason {
				continue
			}
			if last = e.Message; strings.Contains(last, words) && e.Source.Component == "disruption-controller" {
				return "", nil
			}
		}
		return last, nil
	})
}
