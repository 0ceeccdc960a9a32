package controllers

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/rest"

	"canopus/internal/leader"
)

func web(replicas int32) *appsv1.Deployment {
	l := map[string]string{"app": "web"}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: l},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: l},
				Spec: corev1.PodSpec{Containers: []corev1.Container{{
					Name: "main", Image: "v1", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}},
				}}},
			},
		},
	}
}

func (c *cluster) rolledOut(name string) {
	c.t.Helper()
	c.eventually("rollout of "+name, func(ctx context.Context) (string, error) {
		d, err := c.AppsV1().Deployments("default").Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err.Error(), err
		}
		n, s := *d.Spec.Replicas, d.Status
		if s.ObservedGeneration < d.Generation || s.UpdatedReplicas != n || s.Replicas != n || s.AvailableReplicas != n {
			return fmt.Sprintf("generation %d: %+v", d.Generation, s), nil
		}
		return "", nil
	})
}

func (c *cluster) pods(ctx context.Context) []corev1.Pod {
	c.t.Helper()
	list, err := c.CoreV1().Pods("default").List(ctx, metav1.ListOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	return slices.DeleteFunc(list.Items, func(p corev1.Pod) bool { return p.DeletionTimestamp != nil })
}

func (c *cluster) edit(name string, change func(*appsv1.Deployment)) {
	c.t.Helper()
	c.eventually("edit "+name, func(ctx context.Context) (string, error) {
		d, err := c.AppsV1().Deployments("default").Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err.Error(), err
		}
		change(d)
		if _, err = c.AppsV1().Deployments("default").Update(ctx, d, metav1.UpdateOptions{}); err != nil {
			return err.Error(), err
		}
		return "", nil
	})
}

func TestDeploymentBehindService(t *testing.T) {
	t.Parallel()
	c := start(t, nil)
	c.hollow("node-1")
	ctx := t.Context()
	if _, err := c.AppsV1().Deployments("default").Create(ctx, web(3), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default"},
		Spec: corev1.ServiceSpec{
			ClusterIP: corev1.ClusterIPNone, Selector: map[string]string{"app": "web"},
			Ports: []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromString("http")}},
		},
	}
	if _, err := c.CoreV1().Services("default").Create(ctx, svc, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.rolledOut("web")
	c.served(3)

	t.Log("a new image makes a second revision")
	c.edit("web", func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = "v2" })
	c.rolledOut("web")
	for _, p := range c.pods(ctx) {
		if p.Spec.Containers[0].Image != "v2" {
			t.Errorf("pod %s runs %s", p.Name, p.Spec.Containers[0].Image)
		}
	}
	sets, err := c.AppsV1().ReplicaSets("default").List(ctx, metav1.ListOptions{})
	if err != nil || len(sets.Items) != 2 {
		t.Fatalf("%d replicasets, want 2: %v", len(sets.Items), err)
	}
	for _, rs := range sets.Items {
		if want := "web-" + rs.Labels["pod-template-hash"]; rs.Name != want {
			t.Errorf("replicaset %s, want %s", rs.Name, want)
		}
	}
	d, err := c.AppsV1().Deployments("default").Get(ctx, "web", metav1.GetOptions{})
	if err != nil || d.Annotations["deployment.kubernetes.io/revision"] != "2" {
		t.Errorf("revision %q, want 2: %v", d.Annotations["deployment.kubernetes.io/revision"], err)
	}

	t.Log("the first template again is the first replicaset again, as revision 3")
	c.edit("web", func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = "v1" })
	c.rolledOut("web")
	c.eventually("revision 3", func(ctx context.Context) (string, error) {
		d, err := c.AppsV1().Deployments("default").Get(ctx, "web", metav1.GetOptions{})
		if err == nil && d.Annotations["deployment.kubernetes.io/revision"] == "3" {
			return "", nil
		}
		return fmt.Sprint(d.Annotations), err
	})

	for _, n := range []int32{10, 2} {
		c.edit("web", func(d *appsv1.Deployment) { d.Spec.Replicas = &n })
		c.rolledOut("web")
		c.served(int(n))
	}

	t.Log("a bad image stalls the rollout and leaves the old pods serving")
	c.edit("web", func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = "bad" })
	c.eventually("a pod of the bad revision", func(ctx context.Context) (string, error) {
		for _, p := range c.pods(ctx) {
			if p.Spec.Containers[0].Image == "bad" && p.Status.Phase == corev1.PodRunning {
				return "", nil
			}
		}
		return "none", nil
	})
	c.served(2)
}

// served waits until slices and endpoints of service web show n ready addresses.
func (c *cluster) served(n int) {
	c.t.Helper()
	c.eventually(fmt.Sprintf("%d endpoints", n), func(ctx context.Context) (string, error) {
		list, err := c.DiscoveryV1().EndpointSlices("default").List(ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=web"})
		if err != nil {
			return err.Error(), err
		}
		ready := 0
		for _, s := range list.Items {
			for _, e := range s.Endpoints {
				if *e.Conditions.Ready && *s.Ports[0].Port == 8080 && e.TargetRef.Kind == "Pod" {
					ready++
				}
			}
		}
		old, err := c.CoreV1().Endpoints("default").Get(ctx, "web", metav1.GetOptions{})
		if err != nil {
			return err.Error(), err
		}
		addresses := 0
		for _, s := range old.Subsets {
			addresses += len(s.Addresses)
		}
		if ready != n || addresses != n {
			return fmt.Sprintf("%d in slices, %d in endpoints", ready, addresses), nil
		}
		return "", nil
	})
}

func TestCascades(t *testing.T) {
	t.Parallel()
	c := start(t, nil)
	c.hollow("node-1")
	for _, tc := range []struct {
		policy metav1.DeletionPropagation
		pods   int
	}{
		{metav1.DeletePropagationBackground, 0},
		{metav1.DeletePropagationForeground, 0},
		{metav1.DeletePropagationOrphan, 3},
	} {
		t.Log(tc.policy)
		if _, err := c.AppsV1().Deployments("default").Create(t.Context(), web(3), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		c.rolledOut("web")
		// The deployment's policy goes on to its replicasets; with orphan they stay, and keep their pods.
		if err := c.AppsV1().Deployments("default").Delete(t.Context(), "web", metav1.DeleteOptions{PropagationPolicy: &tc.policy}); err != nil {
			t.Fatal(err)
		}
		c.eventually(fmt.Sprintf("%s deletion", tc.policy), func(ctx context.Context) (string, error) {
			_, err := c.AppsV1().Deployments("default").Get(ctx, "web", metav1.GetOptions{})
			if !apierrors.IsNotFound(err) {
				return "deployment is there", err
			}
			sets, err := c.AppsV1().ReplicaSets("default").List(ctx, metav1.ListOptions{})
			if err != nil {
				return err.Error(), err
			}
			wantSets := min(tc.pods, 1)
			if n := len(c.pods(ctx)); n != tc.pods || len(sets.Items) != wantSets {
				return fmt.Sprintf("%d pods, %d replicasets", n, len(sets.Items)), nil
			}
			for _, rs := range sets.Items {
				if len(rs.OwnerReferences) > 0 {
					return "replicaset has an owner", nil
				}
			}
			return "", nil
		})
	}
	t.Log("a new deployment adopts what was orphaned")
	before := c.pods(t.Context())
	if _, err := c.AppsV1().Deployments("default").Create(t.Context(), web(3), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.rolledOut("web")
	names := func(pods []corev1.Pod) string {
		var out []string
		for _, p := range pods {
			out = append(out, p.Name)
		}
		slices.Sort(out)
		return strings.Join(out, " ")
	}
	if after := c.pods(t.Context()); names(before) != names(after) {
		t.Errorf("pods %s became %s", names(before), names(after))
	}
}

func TestNamespaceLifeCycle(t *testing.T) {
	t.Parallel()
	c := start(t, nil)
	c.hollow("node-1")
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "team"}}
	if _, err := c.CoreV1().Namespaces().Create(t.Context(), ns, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventually("default objects", func(ctx context.Context) (string, error) {
		if _, err := c.CoreV1().ServiceAccounts("team").Get(ctx, "default", metav1.GetOptions{}); err != nil {
			return err.Error(), err
		}
		cm, err := c.CoreV1().ConfigMaps("team").Get(ctx, "kube-root-ca.crt", metav1.GetOptions{})
		if err != nil || cm.Data["ca.crt"] == "" {
			return fmt.Sprint(err), err
		}
		return "", nil
	})
	d := web(3)
	d.Namespace = "team"
	if _, err := c.AppsV1().Deployments("team").Create(t.Context(), d, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	held := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "held", Namespace: "team", Finalizers: []string{"example.com/hold"}}}
	if _, err := c.CoreV1().ConfigMaps("team").Create(t.Context(), held, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := c.CoreV1().Namespaces().Delete(t.Context(), "team", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventually("the condition that names the finalizer", func(ctx context.Context) (string, error) {
		ns, err := c.CoreV1().Namespaces().Get(ctx, "team", metav1.GetOptions{})
		if err != nil {
			return err.Error(), err
		}
		for _, cond := range ns.Status.Conditions {
			if cond.Type == corev1.NamespaceFinalizersRemaining && strings.Contains(cond.Message, "example.com/hold in 1 resource instances") {
				return "", nil
			}
		}
		return fmt.Sprint(ns.Status), nil
	})
	if _, err := c.CoreV1().ConfigMaps("team").Patch(t.Context(), "held", "application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventually("the end of the namespace", func(ctx context.Context) (string, error) {
		ns, err := c.CoreV1().Namespaces().Get(ctx, "team", metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return "", nil
		}
		return fmt.Sprint(ns.Status), err
	})
}

func TestLostNode(t *testing.T) {
	t.Parallel()
	c := start(t, func(config *Config, _ *rest.Config) { config.NodeGrace = 3 * time.Second })
	c.hollow("lost")
	zero := int64(0)
	d := web(2)
	d.Spec.Template.Spec.Tolerations = []corev1.Toleration{
		{Key: corev1.TaintNodeUnreachable, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &zero},
	}
	if _, err := c.AppsV1().Deployments("default").Create(t.Context(), d, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.rolledOut("web")
	first := map[string]bool{}
	for _, p := range c.pods(t.Context()) {
		first[p.Name] = true
	}
	c.node("alive")
	c.eventually("eviction from the lost node", func(ctx context.Context) (string, error) {
		c.beat("alive")
		node, err := c.CoreV1().Nodes().Get(ctx, "lost", metav1.GetOptions{})
		if err != nil {
			return err.Error(), err
		}
		var taints []string
		for _, t := range node.Spec.Taints {
			taints = append(taints, t.Key+":"+string(t.Effect))
		}
		slices.Sort(taints)
		if got := strings.Join(taints, " "); got != "node.kubernetes.io/unreachable:NoExecute node.kubernetes.io/unreachable:NoSchedule" {
			return fmt.Sprint(got, node.Status.Conditions), nil
		}
		for _, p := range c.pods(ctx) {
			if first[p.Name] {
				return p.Name + " is still there", nil
			}
		}
		return "", nil
	})
	node, err := c.CoreV1().Nodes().Get(t.Context(), "alive", metav1.GetOptions{})
	if err != nil || len(node.Spec.Taints) > 0 || !strings.HasPrefix(node.Spec.PodCIDR, "10.244.") {
		t.Errorf("node alive: %+v, %v", node.Spec, err)
	}
	c.beat("lost")
	c.eventually("the node's recovery", func(ctx context.Context) (string, error) {
		c.beat("alive")
		c.beat("lost")
		node, err := c.CoreV1().Nodes().Get(ctx, "lost", metav1.GetOptions{})
		if err != nil || len(node.Spec.Taints) > 0 {
			return fmt.Sprint(node.Spec.Taints), err
		}
		return "", nil
	})
}

// TestStopAtAnyWrite fails each write of a rollout in turn: the rollout ends all the same, with neither more nor fewer pods.
func TestStopAtAnyWrite(t *testing.T) {
	t.Parallel()
	for n := 1; n <= 40; n += 5 {
		t.Run(fmt.Sprintf("write %d", n), func(t *testing.T) {
			var mu sync.Mutex
			left := -1
			c := start(t, func(_ *Config, writer *rest.Config) {
				writer.Wrap(func(next http.RoundTripper) http.RoundTripper { return faults{next, &mu, &left} })
			})
			c.hollow("node-1")
			mu.Lock()
			left = n
			mu.Unlock()
			if _, err := c.AppsV1().Deployments("default").Create(t.Context(), web(3), metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			c.rolledOut("web")
			c.edit("web", func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = "v2" })
			c.rolledOut("web")
			if got := len(c.pods(t.Context())); got != 3 {
				t.Errorf("%d pods, want 3", got)
			}
		})
	}
}

func TestElection(t *testing.T) {
	t.Parallel()
	c := start(t, func(config *Config, writer *rest.Config) {
		client, _, err := clientsOf(writer)
		if err != nil {
			t.Fatal(err)
		}
		config.Election = &leader.Election{Client: client, Identity: "one", Name: "kube-controller-manager", Clock: config.Clock, Log: config.Log}
	})
	c.eventually("a leader that works", func(ctx context.Context) (string, error) {
		lease, err := c.CoordinationV1().Leases("kube-system").Get(ctx, "kube-controller-manager", metav1.GetOptions{})
		if err != nil || lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity != "one" {
			return fmt.Sprint(err), err
		}
		_, err = c.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{})
		if err != nil {
			return err.Error(), err
		}
		return "", nil
	})
}

func TestRolesAggregate(t *testing.T) {
	t.Parallel()
	c := start(t, nil)
	ctx := t.Context()
	for _, role := range []*rbacv1.ClusterRole{
		{ObjectMeta: metav1.ObjectMeta{Name: "all"}, AggregationRule: &rbacv1.AggregationRule{
			ClusterRoleSelectors: []metav1.LabelSelector{{MatchLabels: map[string]string{"to": "all"}}},
		}},
		{ObjectMeta: metav1.ObjectMeta{Name: "part", Labels: map[string]string{"to": "all"}}, Rules: []rbacv1.PolicyRule{
			{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}},
		}},
	} {
		if _, err := c.RbacV1().ClusterRoles().Create(ctx, role, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	rules := func(n int) func(context.Context) (string, error) {
		return func(ctx context.Context) (string, error) {
			role, err := c.RbacV1().ClusterRoles().Get(ctx, "all", metav1.GetOptions{})
			if err != nil || len(role.Rules) != n {
				return fmt.Sprint(role.Rules), err
			}
			return "", nil
		}
	}
	c.eventually("the part's rule", rules(1))
	if err := c.RbacV1().ClusterRoles().Delete(ctx, "part", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventually("no rule", rules(0))
}

func TestHandWrittenEndpoints(t *testing.T) {
	t.Parallel()
	c := start(t, nil)
	ctx := t.Context()
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "db", Namespace: "default"}, Spec: corev1.ServiceSpec{
		ClusterIP: corev1.ClusterIPNone, Ports: []corev1.ServicePort{{Name: "sql", Port: 5432}},
	}}
	if _, err := c.CoreV1().Services("default").Create(ctx, svc, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	ep := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Name: "db", Namespace: "default"}, Subsets: []corev1.EndpointSubset{{
		Addresses: []corev1.EndpointAddress{{IP: "192.0.2.1"}}, Ports: []corev1.EndpointPort{{Name: "sql", Port: 5432, Protocol: corev1.ProtocolTCP}},
	}}}
	if _, err := c.CoreV1().Endpoints("default").Create(ctx, ep, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	mirrors := func(n int) func(context.Context) (string, error) {
		return func(ctx context.Context) (string, error) {
			list, err := c.DiscoveryV1().EndpointSlices("default").List(ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=db"})
			if err != nil || len(list.Items) != n || n > 0 && list.Items[0].Endpoints[0].Addresses[0] != "192.0.2.1" {
				return fmt.Sprint(list.Items), err
			}
			return "", nil
		}
	}
	c.eventually("the mirror", mirrors(1))
	if err := c.CoreV1().Endpoints("default").Delete(ctx, "db", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventually("no mirror", mirrors(0))
}
