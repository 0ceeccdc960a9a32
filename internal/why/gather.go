package why

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
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

// How much is read about the pods of one workload.
const (
	maxPods  = 200 // whose events and verdicts are read
	maxLogs  = 5   // containers whose logs are read
	logLines = 10
	logBytes = 16 << 10
)

// Gather reads the facts about an object as the user behind c may see them. Only what is asked about must be readable; of the
// rest, what is not is noted in Facts.Unseen.
func Gather(ctx context.Context, c kubernetes.Interface, t Target, now time.Time) (*Facts, error) {
	g := gatherer{c: c, f: &Facts{
		Now: now, Target: t, Events: map[types.UID][]corev1.Event{}, Claims: map[string]*corev1.PersistentVolumeClaim{},
		Nodes: map[string]*corev1.Node{}, Classes: map[string]*storagev1.StorageClass{}, Verdicts: map[types.UID]*verdict.Verdict{}, Logs: map[LogKey]Log{},
	}}
	if err := g.object(ctx); err != nil {
		return nil, err
	}
	if t.Kind != kindNode {
		g.events(ctx, g.f.Object.GetUID())
	}
	for _, rs := range g.f.ReplicaSets {
		if rs.Status.Replicas < deref(rs.Spec.Replicas, 1) {
			g.events(ctx, rs.UID)
		}
	}
	for _, j := range g.f.Jobs[:min(1, len(g.f.Jobs))] {
		g.events(ctx, j.UID)
	}
	if t.Kind != kindNode {
		g.pods(ctx)
	}
	if claim, ok := g.f.Object.(*corev1.PersistentVolumeClaim); ok {
		g.class(ctx, claim)
	}
	return g.f, nil
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
	about := fields.OneTermEqualSelector("involvedObject.uid", string(uid))
	ns := orElse(g.f.Target.Namespace, metav1.NamespaceDefault) // where those about objects without a namespace are
	list, err := g.c.CoreV1().Events(ns).List(ctx, metav1.ListOptions{FieldSelector: about.String()})
	if g.seen("events", err) {
		slices.SortStableFunc(list.Items, func(a, b corev1.Event) int { return eventTime(&a).Compare(eventTime(&b)) })
		g.f.Events[uid] = list.Items
	}
}

// unwell says whether a pod needs a closer look.
func unwell(p *corev1.Pod, now time.Time) bool {
	return p.Status.Phase != corev1.PodSucceeded && (!podReady(p) || p.DeletionTimestamp != nil || len(logWishes(p, now)) > 0)
}

// pods reads what explains the state of those pods that are not well: events, verdicts, nodes, claims, the ends of logs.
func (g gatherer) pods(ctx context.Context) {
	told := map[string]bool{} // symptoms with a log
	looked := 0
	if p, ok := g.f.Object.(*corev1.Pod); ok {
		g.verdict(ctx, p)
	}
	for _, p := range g.f.Pods {
		if !unwell(p, g.f.Now) {
			continue
		}
		if looked++; looked > maxPods {
			continue
		}
		if len(g.f.Events[p.UID]) == 0 {
			g.events(ctx, p.UID)
		}
		if p.Spec.NodeName == "" {
			g.allNodes(ctx)
			g.verdict(ctx, p)
		} else {
			g.node(ctx, p.Spec.NodeName)
		}
		if p.Spec.NodeName == "" || untouched(p) {
			g.claims(ctx, p)
		}
		for _, w := range logWishes(p, g.f.Now) {
			if !told[w.symptom] && len(told) < maxLogs {
				told[w.symptom] = true
				g.log(ctx, p, w)
			}
		}
	}
	if looked > maxPods {
		g.f.Unseen = append(g.f.Unseen, fmt.Sprintf("events and verdicts of %d more pods that are not well: too many to read", looked-maxPods))
	}
}

func (g gatherer) verdict(ctx context.Context, p *corev1.Pod) {
	if g.f.Verdicts[p.UID] != nil {
		return
	}
	body, err := g.c.CoreV1().RESTClient().Get().AbsPath(verdict.Path).Param("namespace", p.Namespace).Param("name", p.Name).
		SetHeader("Accept", "application/json").DoRaw(ctx)
	if !g.seen("scheduler verdicts", err) {
		return
	}
	v := &verdict.Verdict{}
	if g.seen("scheduler verdicts", json.Unmarshal(body, v)) && v.UID == p.UID {
		g.f.Verdicts[p.UID] = v
	}
}

func (g gatherer) node(ctx context.Context, name string) {
	if _, ok := g.f.Nodes[name]; ok {
		return
	}
	node, err := g.c.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		g.f.Nodes[name] = nil
	case g.seen("node "+name, err):
		g.f.Nodes[name] = node
	}
}

func (g gatherer) allNodes(ctx context.Context) {
	if g.f.AllNodes {
		return
	}
	list, err := g.c.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if !g.seen("nodes", err) {
		return
	}
	g.f.AllNodes = true
	for i := range list.Items {
		g.f.Nodes[list.Items[i].Name] = &list.Items[i]
	}
}

func (g gatherer) claims(ctx context.Context, p *corev1.Pod) {
	for i := range p.Spec.Volumes {
		name := claimName(p, &p.Spec.Volumes[i])
		if _, ok := g.f.Claims[name]; ok || name == "" {
			continue
		}
		claim, err := g.c.CoreV1().PersistentVolumeClaims(p.Namespace).Get(ctx, name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			g.f.Claims[name] = nil
		case g.seen("persistentvolumeclaim "+name, err):
			g.f.Claims[name] = claim
			g.class(ctx, claim)
			g.events(ctx, claim.UID)
		}
	}
}

func (g gatherer) class(ctx context.Context, c *corev1.PersistentVolumeClaim) {
	name := deref(c.Spec.StorageClassName, "")
	if _, ok := g.f.Classes[name]; ok || name == "" || c.Status.Phase == corev1.ClaimBound {
		return
	}
	class, err := g.c.StorageV1().StorageClasses().Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		g.f.Classes[name] = nil
	case g.seen("storageclass "+name, err):
		g.f.Classes[name] = class
	}
}

func (g gatherer) log(ctx context.Context, p *corev1.Pod, w logWish) {
	lines, limit := int64(logLines), int64(logBytes)
	body, err := g.c.CoreV1().Pods(p.Namespace).GetLogs(p.Name, &corev1.PodLogOptions{
		Container: w.container, Previous: w.previous, TailLines: &lines, LimitBytes: &limit}).DoRaw(ctx)
	if !g.seen("log of pod "+p.Name+", container "+w.container, err) {
		return
	}
	text := strings.TrimRight(string(body), "\n")
	if text == "" {
		g.f.Logs[LogKey{p.UID, w.container}] = Log{Lines: []string{}, Previous: w.previous}
		return
	}
	g.f.Logs[LogKey{p.UID, w.container}] = Log{Lines: strings.Split(text, "\n"), Previous: w.previous}
}
