package why

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	resourcev1 "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"canopus/internal/verdict"
)

// Gather reads the facts about an object as the user behind c may see them. Only what is asked about must be readable; of the
// rest, what is not is noted in Facts.Unseen.
func Gather(ctx context.Context, c kubernetes.Interface, t Target, now time.Time) (*Facts, error) {
	g := gatherer{c: c, f: newFacts(t, now)}
	if err := g.object(ctx); err != nil {
		return nil, err
	}
	if t.Kind == kindNode {
		g.ofNode(ctx, g.f.Object)
		return g.f, nil
	}
	g.events(ctx, g.f.Object.GetUID())
	for _, rs := range g.f.ReplicaSets {
		if rs.Status.Replicas < deref(rs.Spec.Replicas, 1) {
			g.events(ctx, rs.UID)
		}
	}
	for _, j := range g.f.Jobs[:min(1, len(g.f.Jobs))] {
		g.events(ctx, j.UID)
	}
	g.pods(ctx)
	switch o := g.f.Object.(type) {
	case *corev1.PersistentVolumeClaim:
		g.class(ctx, o)
	case *resourcev1.ResourceClaim:
		g.deviceClasses(ctx, o)
	case *autoscalingv2.HorizontalPodAutoscaler:
		g.next(ctx, o)
	}
	return g.f, nil
}

// newFacts are facts of which none is known yet.
func newFacts(t Target, now time.Time) *Facts {
	return &Facts{
		Now: now, Target: t, Events: map[types.UID][]corev1.Event{}, Claims: map[string]*corev1.PersistentVolumeClaim{}, Nodes: map[string]*corev1.Node{},
		Classes: map[string]*storagev1.StorageClass{}, Verdicts: map[types.UID]*verdict.Verdict{}, Logs: map[LogKey][]string{},
		DeviceClaims: map[string]*resourcev1.ResourceClaim{}, DeviceClasses: map[string]*resourcev1.DeviceClass{},
	}
}

// next reads what an autoscaler scales, if it is a workload with a chain.
func (g gatherer) next(ctx context.Context, h *autoscalingv2.HorizontalPodAutoscaler) {
	t := Target{Kind: canonical(h.Spec.ScaleTargetRef.Kind), Namespace: h.Namespace, Name: h.Spec.ScaleTargetRef.Name}
	if !slices.Contains([]string{kindDeployment, kindReplicaSet, kindController, kindStatefulSet}, t.Kind) {
		return
	}
	if next, err := Gather(ctx, g.c, t, g.f.Now); g.seen(t.String(), err) {
		g.f.Next = next
	}
}

// ofNode reads what was told of a node, and what stops it from being emptied.
func (g gatherer) ofNode(ctx context.Context, o metav1.Object) {
	about := fields.Set{"involvedObject.kind": "Node", "involvedObject.name": o.GetName()} // agents do not know its UID
	g.eventsWhere(ctx, metav1.NamespaceDefault, o.GetUID(), about.AsSelector())
	if n, ok := o.(*corev1.Node); !ok || !n.Spec.Unschedulable {
		return
	}
	list, err := g.c.PolicyV1().PodDisruptionBudgets(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if g.seen("poddisruptionbudgets", err) {
		for i := range list.Items {
			g.f.Budgets = append(g.f.Budgets, &list.Items[i])
		}
	}
}

type gatherer struct {
	c kubernetes.Interface
	f *Facts
}

// seen reports whether something was read. That there is none is no news; any other error is noted.
func (g gatherer) seen(what string, err error) bool {
	if err == nil {
		return true
	}
	if !apierrors.IsNotFound(err) {
		if note := what + ": " + err.Error(); !slices.Contains(g.f.Unseen, note) {
			g.f.Unseen = append(g.f.Unseen, note)
		}
	}
	return false
}

// object reads what is asked about, and what it owns.
func (g gatherer) object(ctx context.Context) error {
	name, ns, get := g.f.Target.Name, g.f.Target.Namespace, metav1.GetOptions{}
	var err error
	switch g.f.Target.Kind {
	case kindPod:
		var o *corev1.Pod
		if o, err = g.c.CoreV1().Pods(ns).Get(ctx, name, get); err == nil {
			g.f.Object, g.f.Pods = o, []*corev1.Pod{o}
		}
	case kindNode:
		var o *corev1.Node
		if o, err = g.c.CoreV1().Nodes().Get(ctx, name, get); err == nil {
			g.f.Object = o
			g.podsWhere(ctx, metav1.NamespaceAll, metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("spec.nodeName", name).String()}, nil)
		}
	case kindService:
		var o *corev1.Service
		if o, err = g.c.CoreV1().Services(ns).Get(ctx, name, get); err == nil {
			g.f.Object = o
			if len(o.Spec.Selector) > 0 {
				g.podsWhere(ctx, ns, metav1.ListOptions{LabelSelector: labels.SelectorFromSet(o.Spec.Selector).String()}, nil)
			}
		}
	case kindClaim:
		g.f.Object, err = g.c.CoreV1().PersistentVolumeClaims(ns).Get(ctx, name, get)
	case kindCronJob:
		var o *batchv1.CronJob
		if o, err = g.c.BatchV1().CronJobs(ns).Get(ctx, name, get); err == nil {
			g.f.Object = o
			g.jobs(ctx, o)
		}
	case kindDeployment:
		var o *appsv1.Deployment
		if o, err = g.c.AppsV1().Deployments(ns).Get(ctx, name, get); err == nil {
			g.f.Object = o
			g.replicaSets(ctx, o)
		}
	case kindAutoscaler:
		g.f.Object, err = g.c.AutoscalingV2().HorizontalPodAutoscalers(ns).Get(ctx, name, get)
	case kindDeviceClaim:
		g.f.Object, err = g.c.ResourceV1().ResourceClaims(ns).Get(ctx, name, get)
	case kindBudget:
		var o *policyv1.PodDisruptionBudget
		if o, err = g.c.PolicyV1().PodDisruptionBudgets(ns).Get(ctx, name, get); err == nil {
			g.f.Object = o
			g.selected(ctx, o.Spec.Selector)
		}
	default:
		return g.owner(ctx)
	}
	return err
}

// owner reads a workload whose pods are its own, or an object of any other kind.
func (g gatherer) owner(ctx context.Context) error {
	name, ns, get := g.f.Target.Name, g.f.Target.Namespace, metav1.GetOptions{}
	var selector *metav1.LabelSelector
	var err error
	switch g.f.Target.Kind {
	case kindReplicaSet:
		var o *appsv1.ReplicaSet
		if o, err = g.c.AppsV1().ReplicaSets(ns).Get(ctx, name, get); err == nil {
			g.f.Object, selector = o, o.Spec.Selector
		}
	case kindController:
		var o *corev1.ReplicationController
		if o, err = g.c.CoreV1().ReplicationControllers(ns).Get(ctx, name, get); err == nil {
			g.f.Object, selector = o, &metav1.LabelSelector{MatchLabels: o.Spec.Selector}
		}
	case kindStatefulSet:
		var o *appsv1.StatefulSet
		if o, err = g.c.AppsV1().StatefulSets(ns).Get(ctx, name, get); err == nil {
			g.f.Object, selector = o, o.Spec.Selector
		}
	case kindDaemonSet:
		var o *appsv1.DaemonSet
		if o, err = g.c.AppsV1().DaemonSets(ns).Get(ctx, name, get); err == nil {
			g.f.Object, selector = o, o.Spec.Selector
		}
	case kindJob:
		var o *batchv1.Job
		if o, err = g.c.BatchV1().Jobs(ns).Get(ctx, name, get); err == nil {
			g.f.Object, selector = o, o.Spec.Selector
		}
	default:
		return g.other(ctx)
	}
	if err != nil {
		return err
	}
	g.owned(ctx, selector, g.f.Object.GetUID())
	return nil
}

// owned reads the pods that match selector and are controlled by one of owners.
func (g gatherer) owned(ctx context.Context, selector *metav1.LabelSelector, owners ...types.UID) {
	s, err := metav1.LabelSelectorAsSelector(selector)
	if g.seen("pods", err) {
		g.podsWhere(ctx, g.f.Target.Namespace, metav1.ListOptions{LabelSelector: s.String()}, owners)
	}
}

// selected reads the pods that match selector, whoever owns them.
func (g gatherer) selected(ctx context.Context, selector *metav1.LabelSelector) {
	if s, err := metav1.LabelSelectorAsSelector(selector); selector != nil && g.seen("pods", err) {
		g.podsWhere(ctx, g.f.Target.Namespace, metav1.ListOptions{LabelSelector: s.String()}, nil)
	}
}

func (g gatherer) podsWhere(ctx context.Context, ns string, where metav1.ListOptions, owners []types.UID) {
	list, err := g.c.CoreV1().Pods(ns).List(ctx, where)
	if !g.seen("pods", err) {
		return
	}
	g.f.Pods = []*corev1.Pod{} // looked at, even when there are none
	for i := range list.Items {
		p := &list.Items[i]
		if o := metav1.GetControllerOf(p); owners == nil || o != nil && slices.Contains(owners, o.UID) {
			g.f.Pods = append(g.f.Pods, p)
		}
	}
	slices.SortFunc(g.f.Pods, func(a, b *corev1.Pod) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
}

func (g gatherer) replicaSets(ctx context.Context, d *appsv1.Deployment) {
	s, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
	if !g.seen("replicasets", err) {
		return
	}
	list, err := g.c.AppsV1().ReplicaSets(d.Namespace).List(ctx, metav1.ListOptions{LabelSelector: s.String()})
	if !g.seen("replicasets", err) {
		return
	}
	var owners []types.UID
	for i := range list.Items {
		if metav1.IsControlledBy(&list.Items[i], d) {
			g.f.ReplicaSets = append(g.f.ReplicaSets, &list.Items[i])
			owners = append(owners, list.Items[i].UID)
		}
	}
	if len(owners) > 0 {
		g.owned(ctx, d.Spec.Selector, owners...)
	}
}

// jobs reads the Jobs of a CronJob, and the pods of the newest.
func (g gatherer) jobs(ctx context.Context, c *batchv1.CronJob) {
	list, err := g.c.BatchV1().Jobs(c.Namespace).List(ctx, metav1.ListOptions{})
	if !g.seen("jobs", err) {
		return
	}
	for i := range list.Items {
		if metav1.IsControlledBy(&list.Items[i], c) {
			g.f.Jobs = append(g.f.Jobs, &list.Items[i])
		}
	}
	slices.SortFunc(g.f.Jobs, func(a, b *batchv1.Job) int {
		return cmp.Or(b.CreationTimestamp.Compare(a.CreationTimestamp.Time), cmp.Compare(b.Name, a.Name))
	})
	if len(g.f.Jobs) > 0 {
		g.owned(ctx, g.f.Jobs[0].Spec.Selector, g.f.Jobs[0].UID)
	}
}

// other reads an object of a kind without a chain of its own.
func (g gatherer) other(ctx context.Context) error {
	lists, err := g.c.Discovery().ServerPreferredResources()
	if len(lists) == 0 && err != nil {
		return fmt.Errorf("which kinds there are: %w", err)
	}
	word, group, _ := strings.Cut(g.f.Target.Kind, ".")
	for _, list := range lists {
		for _, r := range list.APIResources {
			if word != r.Name && word != r.SingularName && word != strings.ToLower(r.Kind) && !slices.Contains(r.ShortNames, word) || !slices.Contains(r.Verbs, "get") {
				continue
			}
			root := "/apis/" + list.GroupVersion
			if !strings.Contains(list.GroupVersion, "/") {
				root = "/api/" + list.GroupVersion
			}
			if group != "" && !strings.HasPrefix(list.GroupVersion, group+"/") {
				continue
			}
			g.f.Target.Kind = orElse(r.SingularName, strings.ToLower(r.Kind))
			if r.Namespaced {
				root += "/namespaces/" + g.f.Target.Namespace
			} else {
				g.f.Target.Namespace = ""
			}
			body, err := g.c.Discovery().RESTClient().Get().AbsPath(root, r.Name, g.f.Target.Name).SetHeader("Accept", "application/json").DoRaw(ctx)
			if err != nil {
				return err
			}
			u := &unstructured.Unstructured{}
			g.f.Object = u
			return u.UnmarshalJSON(body)
		}
	}
	return fmt.Errorf("the server knows no kind %q: `canopus kubectl api-resources` lists those that it knows", g.f.Target.Kind)
}

// events reads what was told of an object.
func (g gatherer) events(ctx context.Context, uid types.UID) {
	ns := orElse(g.f.Target.Namespace, metav1.NamespaceDefault) // where those about objects without a namespace are
	g.eventsWhere(ctx, ns, uid, fields.OneTermEqualSelector("involvedObject.uid", string(uid)))
}

func (g gatherer) eventsWhere(ctx context.Context, ns string, uid types.UID, where fields.Selector) {
	list, err := g.c.CoreV1().Events(ns).List(ctx, metav1.ListOptions{FieldSelector: where.String()})
	if g.seen("events", err) {
		slices.SortStableFunc(list.Items, func(a, b corev1.Event) int { return eventTime(&a).Compare(eventTime(&b)) })
		g.f.Events[uid] = list.Items
	}
}
