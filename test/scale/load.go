package scale

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"canopus/test/plane"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
)

const (
	milliCPU         = 100  // that a pod requests
	podsPerNamespace = 3000 // about
	writers          = 16   // requests at a time
)

// Deployment is one of the load's, with a Service of its name before it.
type Deployment struct {
	Namespace, Name string
	Replicas        int32
}

// layout spreads pods evenly over Deployments, and these over namespaces.
func layout(pods, deployments int) []Deployment {
	spaces := (pods + podsPerNamespace - 1) / podsPerNamespace
	n := min(pods, max(deployments, spaces))
	out := make([]Deployment, n)
	for i := range out {
		out[i] = Deployment{Namespace: fmt.Sprintf("load-%d", i*spaces/n), Name: fmt.Sprintf("d-%d", i), Replicas: int32(pods / n)}
		if i < pods%n {
			out[i].Replicas++
		}
	}
	return out
}

// Namespaces are those of the load.
func (c *Cluster) Namespaces() []string {
	var names []string
	for _, d := range c.Load {
		names = append(names, d.Namespace)
	}
	return slices.Compact(names)
}

// Apply makes the Deployments of the load, in their order and as fast as Backlog lets it, and returns when every pod is Ready.
// What has not been made when enough has passed is dropped from Load and Pods: a slow machine gets a smaller cluster.
func (c *Cluster) Apply(ctx context.Context, enough time.Duration) error {
	if err := c.makeNamespaces(ctx, c.Namespaces()...); err != nil {
		return err
	}
	k := c.Server.Proto
	upTo := make([]int, len(c.Load)) // pods of a Deployment and all before it
	sum := 0
	for i, d := range c.Load {
		sum += int(d.Replicas)
		upTo[i] = sum
	}
	made, until := make([]bool, len(c.Load)), time.Now().Add(enough)
	_, _, err := plane.Parallel(ctx, len(c.Load), writers, func(ctx context.Context, i int) error {
		d := c.Load[i]
		if err := c.Await(ctx, "pods made before", func() error {
			if running := c.Ledger.Running(); upTo[i]-running > max(c.Backlog, int(d.Replicas)) && time.Now().Before(until) {
				return fmt.Errorf("%d of %d pods run", running, upTo[i])
			}
			return nil
		}); err != nil {
			return err
		}
		if made[i] = time.Now().Before(until); !made[i] {
			return nil
		}
		if _, err := k.CoreV1().Services(d.Namespace).Create(ctx, d.service(), metav1.CreateOptions{}); err != nil {
			return err
		}
		_, err := k.AppsV1().Deployments(d.Namespace).Create(ctx, d.object(), metav1.CreateOptions{})
		return err
	})
	if err != nil {
		return err
	}
	c.keep(made)
	return c.AwaitRunning(ctx, c.Pods)
}

// keep drops what was not made from the load.
func (c *Cluster) keep(made []bool) {
	var load []Deployment
	c.Pods = 0
	for i, d := range c.Load {
		if made[i] {
			load, c.Pods = append(load, d), c.Pods+int(d.Replicas)
		}
	}
	c.Load = load
}

func (c *Cluster) makeNamespaces(ctx context.Context, names ...string) error {
	k := c.Server.Proto.CoreV1()
	for _, name := range names {
		if _, err := k.Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	return c.Await(ctx, "service accounts", func() error {
		for _, name := range names { // pods are refused before
			if _, err := k.ServiceAccounts(name).Get(ctx, "default", metav1.GetOptions{}); err != nil {
				return err
			}
		}
		return nil
	})
}

// AwaitRunning waits until there are exactly n pods, all of them Ready.
func (c *Cluster) AwaitRunning(ctx context.Context, n int) error {
	return c.Await(ctx, "pods", func() error {
		if got := c.Ledger.Counts(); got.Pods != n || got.Running != n {
			return fmt.Errorf("%d pods wanted: %+v", n, got)
		}
		return nil
	})
}

// Roll changes the pod template of the first n Deployments at once and returns when all their pods have been replaced.
func (c *Cluster) Roll(ctx context.Context, n int, version string) error {
	n = min(n, len(c.Load))
	k := c.Server.Proto.AppsV1()
	patch := fmt.Appendf(nil, `{"spec":{"template":{"metadata":{"annotations":{"version":%q}}}}}`, version)
	_, _, err := plane.Parallel(ctx, n, writers, func(ctx context.Context, i int) error {
		d := c.Load[i]
		_, err := k.Deployments(d.Namespace).Patch(ctx, d.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
		return err
	})
	if err != nil {
		return err
	}
	for _, d := range c.Load[:n] { // one after the other: waiting must not become a load itself
		if err := c.Await(ctx, "the update of "+d.Namespace+"/"+d.Name, func() error {
			o, err := k.Deployments(d.Namespace).Get(ctx, d.Name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			if s := o.Status; s.ObservedGeneration < o.Generation || s.UpdatedReplicas != d.Replicas || s.AvailableReplicas != d.Replicas || s.Replicas != d.Replicas {
				return fmt.Errorf("%+v", s)
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return c.AwaitRunning(ctx, c.Pods)
}

// Unplug kills the rack without a word and returns when the cluster has noticed: all its nodes are unreachable, the first of
// them are being emptied, and none of their pods counts as Ready.
func (c *Cluster) Unplug(ctx context.Context) error {
	c.Ledger.Expect(c.Rack, true)
	c.Rack.Kill()
	return c.Await(ctx, "the loss of the rack", func() error {
		if r := c.Ledger.Rack(c.Rack); r.Ready > 0 || r.Unreachable < r.Nodes || r.Evicting == 0 || r.Running > 0 {
			return fmt.Errorf("%+v", r)
		}
		return nil
	})
}

// Replug starts the rack again and returns when its nodes are as before, and all pods of the load Ready.
func (c *Cluster) Replug(ctx context.Context) error {
	if err := c.plug(c.Rack); err != nil {
		return err
	}
	err := c.Await(ctx, "the return of the rack", func() error {
		if r := c.Ledger.Rack(c.Rack); r.Open < c.Rack.Nodes || r.Unreachable > 0 || r.Evicting > 0 {
			return fmt.Errorf("%+v", r)
		}
		return nil
	})
	if err != nil {
		return err
	}
	c.Ledger.Expect(c.Rack, false)
	return c.AwaitRunning(ctx, c.Pods)
}

// Delete deletes namespaces and returns when they and their pods are gone.
func (c *Cluster) Delete(ctx context.Context, namespaces ...string) error {
	k := c.Server.Proto.CoreV1().Namespaces()
	for _, name := range namespaces {
		if err := k.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
			return err
		}
	}
	for _, name := range namespaces {
		if err := c.Await(ctx, "the end of namespace "+name, func() error {
			if n := c.Ledger.PodsIn(name); n > 0 { // asking is not worth it yet
				return fmt.Errorf("%d pods", n)
			}
			o, err := k.Get(ctx, name, metav1.GetOptions{})
			switch {
			case apierrors.IsNotFound(err):
				return nil
			case err != nil:
				return err
			}
			return fmt.Errorf("%+v", o.Status)
		}); err != nil {
			return err
		}
	}
	return nil
}

// Remains lists every object of any kind that a namespace has.
func (c *Cluster) Remains(ctx context.Context, namespace string) ([]string, error) {
	lists, err := c.Server.JSON.Discovery().ServerPreferredNamespacedResources()
	if err != nil {
		return nil, err
	}
	kinds, err := discovery.GroupVersionResources(discovery.FilteredBy(discovery.SupportsAllVerbs{Verbs: []string{"list"}}, lists))
	if err != nil {
		return nil, err
	}
	if len(kinds) == 0 {
		return nil, errors.New("discovery names nothing that can be listed")
	}
	config := rest.CopyConfig(c.Server.Config)
	config.QPS, config.WarningHandler = -1, rest.NoWarnings{} // that a kind is deprecated is known
	client, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	all := make([]schema.GroupVersionResource, 0, len(kinds))
	for k := range kinds {
		all = append(all, k)
	}
	found := make([][]string, len(all))
	var unlisted atomic.Int64
	_, _, err = plane.Parallel(ctx, len(all), writers, func(ctx context.Context, i int) error {
		objects, err := client.Resource(all[i]).Namespace(namespace).List(ctx, metav1.ListOptions{})
		if apierrors.IsServiceUnavailable(err) { // metrics: nobody measures hollow nodes, and nothing of it is stored
			unlisted.Add(1)
			return nil
		}
		if err != nil {
			return fmt.Errorf("list %s: %w", all[i], err)
		}
		for _, o := range objects.Items {
			found[i] = append(found[i], all[i].Resource+"/"+o.Name)
		}
		return nil
	})
	if err == nil && unlisted.Load() == int64(len(all)) {
		err = errors.New("nothing could be listed")
	}
	return slices.Concat(found...), err
}

func (d Deployment) labels() map[string]string { return map[string]string{"app": d.Name} }

func (d Deployment) service() *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: d.Name}, Spec: corev1.ServiceSpec{
		Selector: d.labels(), Ports: []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromInt32(8080)}},
	}}
}

// object is a Deployment of pods of a usual size.
func (d Deployment) object() *appsv1.Deployment {
	return &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: d.Name}, Spec: appsv1.DeploymentSpec{
		Replicas: &d.Replicas, Selector: &metav1.LabelSelector{MatchLabels: d.labels()},
		Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: d.labels(), Annotations: map[string]string{"note": strings.Repeat("a", 200)}},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{
				Name: "c", Image: "registry.k8s.io/pause:3.10", Ports: []corev1.ContainerPort{{ContainerPort: 8080}},
				Env: []corev1.EnvVar{{Name: "A", Value: "1"}},
				Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
					corev1.ResourceCPU: *resource.NewMilliQuantity(milliCPU, resource.DecimalSI), corev1.ResourceMemory: resource.MustParse("64Mi"),
				}},
			}}},
		},
	}}
}
