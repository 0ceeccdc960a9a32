package plugins

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"canopus/internal/admission"
	"canopus/internal/auth"

	authenticationv1 "k8s.io/api/authentication/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	clocktesting "k8s.io/utils/clock/testing"
)

// testConfig has caches with the given objects. Its client reaches nobody: tests that need a live read use a real server,
// in internal/bootstrap.
func testConfig(t testing.TB, objects ...runtime.Object) Config {
	t.Helper()
	client, err := kubernetes.NewForConfig(&rest.Config{Host: "https://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	f := informers.NewSharedInformerFactory(client, 0)
	for _, o := range objects {
		var err error
		switch o.(type) {
		case *corev1.Namespace:
			err = f.Core().V1().Namespaces().Informer().GetStore().Add(o)
		case *corev1.ServiceAccount:
			err = f.Core().V1().ServiceAccounts().Informer().GetStore().Add(o)
		case *corev1.Pod:
			err = f.Core().V1().Pods().Informer().GetStore().Add(o)
		case *corev1.Node:
			err = f.Core().V1().Nodes().Informer().GetStore().Add(o)
		case *schedulingv1.PriorityClass:
			err = f.Scheduling().V1().PriorityClasses().Informer().GetStore().Add(o)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return Config{Client: client, Informers: f, Clock: clocktesting.NewFakePassiveClock(time.Unix(1000, 0)), Authorizer: auth.Union{}}
}

func meta(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name, UID: "uid-1"}
}

// req is a create or update of a core object.
func req(op admission.Operation, kind, resource string, o, old runtime.Object) *admission.Request {
	r := &admission.Request{
		Operation: op, Kind: corev1.SchemeGroupVersion.WithKind(kind), Resource: corev1.SchemeGroupVersion.WithResource(resource),
		Namespace: "apps", Object: o, Old: old, User: &auth.User{Name: "alice"}, Warn: func(string) {},
	}
	for _, x := range []runtime.Object{o, old} {
		if m, ok := x.(metav1.Object); ok && x != nil {
			r.Name = m.GetName()
		}
	}
	return r
}

// admit runs the plugin's mutation if it handles r.
func admit(t testing.TB, p admission.Plugin, r *admission.Request) error {
	t.Helper()
	if !p.Handles(r) {
		return nil
	}
	return p.(admission.Mutator).Admit(t.Context(), r)
}

func expect(t *testing.T, name string, err error, text string) {
	t.Helper()
	if (err == nil) != (text == "") || err != nil && !strings.Contains(err.Error(), text) {
		t.Errorf("%s: %v, want %q", name, err, text)
	}
}

func TestNamespaceLifecycle(t *testing.T) {
	t.Parallel()
	now := metav1.Now()
	ending := &corev1.Namespace{ObjectMeta: meta("", "ending"), Status: corev1.NamespaceStatus{Phase: corev1.NamespaceTerminating}}
	marked := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "marked", DeletionTimestamp: &now}}
	p := NewNamespaceLifecycle(testConfig(t, &corev1.Namespace{ObjectMeta: meta("", "apps")}, ending, marked))
	create := func(ns string) *admission.Request {
		r := req(admission.Create, "Pod", "pods", &corev1.Pod{ObjectMeta: meta(ns, "web")}, nil)
		r.Namespace = ns
		return r
	}
	expect(t, "create", admit(t, p, create("apps")), "")
	for _, ns := range []string{"ending", "marked"} {
		err := admit(t, p, create(ns))
		expect(t, ns, err, `pods "web" is forbidden: unable to create new content in namespace `+ns+` because it is being terminated`)
		if !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			t.Errorf("%s: %v lacks the cause", ns, err)
		}
	}
	update := create("ending")
	update.Operation = admission.Update
	expect(t, "update in an ending namespace", admit(t, p, update), "")
	cluster := req(admission.Create, "Node", "nodes", &corev1.Node{}, nil)
	cluster.Namespace = ""
	expect(t, "cluster-scoped", admit(t, p, cluster), "")
	review := create("nowhere")
	review.Resource.Group = "authorization.k8s.io"
	expect(t, "review", admit(t, p, review), "")
	for name, text := range map[string]string{"default": "this namespace may not be deleted", "kube-system": "may not be deleted", "kube-public": "may not be deleted", "apps": ""} {
		r := req(admission.Delete, "Namespace", "namespaces", nil, &corev1.Namespace{ObjectMeta: meta("", name)})
		expect(t, "delete "+name, admit(t, p, r), text)
	}
	// The cache still shows apps as it was: the plugin does not trust it just after a deletion, and asks (here: in vain).
	expect(t, "create after delete", admit(t, p, create("apps")), "127.0.0.1")
	expect(t, "delete ending", admit(t, p, req(admission.Delete, "Namespace", "namespaces", nil, ending)), "")
	expect(t, "create in what is known to end", admit(t, p, create("ending")), "because it is being terminated")
}

func TestServiceAccount(t *testing.T) {
	t.Parallel()
	no := false
	def := &corev1.ServiceAccount{ObjectMeta: meta("apps", "default"), ImagePullSecrets: []corev1.LocalObjectReference{{Name: "pull"}}}
	quiet := &corev1.ServiceAccount{ObjectMeta: meta("apps", "quiet"), AutomountServiceAccountToken: &no}
	p := NewServiceAccount(testConfig(t, def, quiet))
	pod := func(change func(*corev1.Pod)) *corev1.Pod {
		o := &corev1.Pod{ObjectMeta: meta("apps", "web"), Spec: corev1.PodSpec{
			InitContainers: []corev1.Container{{Name: "i"}}, Containers: []corev1.Container{{Name: "c"}, {Name: "d"}},
		}}
		if change != nil {
			change(o)
		}
		if err := admit(t, p, req(admission.Create, "Pod", "pods", o, nil)); err != nil {
			t.Fatal(err)
		}
		return o
	}
	o := pod(nil)
	if o.Spec.ServiceAccountName != "default" || o.Spec.DeprecatedServiceAccount != "default" || len(o.Spec.ImagePullSecrets) != 1 {
		t.Errorf("got %+v", o.Spec)
	}
	if len(o.Spec.Volumes) != 1 || len(o.Spec.Volumes[0].Name) != len("kube-api-access-xxxxx") || !strings.HasPrefix(o.Spec.Volumes[0].Name, "kube-api-access-") {
		t.Fatalf("got %+v", o.Spec.Volumes)
	}
	v := o.Spec.Volumes[0]
	s := v.Projected.Sources
	if *v.Projected.DefaultMode != 0o644 || len(s) != 3 || s[0].ServiceAccountToken.Path != "token" || *s[0].ServiceAccountToken.ExpirationSeconds != 3607 ||
		s[1].ConfigMap.Name != "kube-root-ca.crt" || s[1].ConfigMap.Items[0].Path != "ca.crt" || s[2].DownwardAPI.Items[0].FieldRef.FieldPath != "metadata.namespace" {
		t.Errorf("got %+v", v)
	}
	for _, c := range append(o.Spec.InitContainers, o.Spec.Containers...) {
		want := corev1.VolumeMount{Name: v.Name, ReadOnly: true, MountPath: "/var/run/secrets/kubernetes.io/serviceaccount"}
		if len(c.VolumeMounts) != 1 || !reflect.DeepEqual(c.VolumeMounts[0], want) {
			t.Errorf("%s mounts %+v", c.Name, c.VolumeMounts)
		}
	}
	if again := pod(func(n *corev1.Pod) { o.Spec.DeepCopyInto(&n.Spec) }); len(again.Spec.Volumes) != 1 || len(again.Spec.Containers[0].VolumeMounts) != 1 {
		t.Errorf("a pod that was copied from another gets %+v", again.Spec.Volumes)
	}
	for name, change := range map[string]func(*corev1.Pod){
		"pod's wish":     func(o *corev1.Pod) { o.Spec.AutomountServiceAccountToken = &no },
		"account's wish": func(o *corev1.Pod) { o.Spec.ServiceAccountName = "quiet" },
		"own mounts": func(o *corev1.Pod) {
			for _, l := range [][]corev1.Container{o.Spec.InitContainers, o.Spec.Containers} {
				for i := range l {
					l[i].VolumeMounts = []corev1.VolumeMount{{Name: "x", MountPath: tokenMountPath}}
				}
			}
		},
		"mirror": func(o *corev1.Pod) { o.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"} },
	} {
		if o := pod(change); len(o.Spec.Volumes) != 0 {
			t.Errorf("%s: volume %+v", name, o.Spec.Volumes)
		}
	}
}

func TestServiceAccountValidates(t *testing.T) {
	t.Parallel()
	strict := &corev1.ServiceAccount{ObjectMeta: meta("apps", "strict"), Secrets: []corev1.ObjectReference{{Name: "mine"}}, ImagePullSecrets: []corev1.LocalObjectReference{{Name: "pull"}}}
	strict.Annotations = map[string]string{enforceMount: "true"}
	p := NewServiceAccount(testConfig(t, strict))
	secret := func(n string) corev1.VolumeSource {
		return corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: n}}
	}
	env := func(n string) []corev1.EnvVar {
		return []corev1.EnvVar{{Name: "E", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: n}}}}}
	}
	for name, c := range map[string]struct {
		change func(*corev1.Pod)
		text   string
	}{
		"nothing":      {func(*corev1.Pod) {}, ""},
		"own secret":   {func(o *corev1.Pod) { o.Spec.Volumes = []corev1.Volume{{VolumeSource: secret("mine")}} }, ""},
		"other secret": {func(o *corev1.Pod) { o.Spec.Volumes = []corev1.Volume{{VolumeSource: secret("theirs")}} }, `volume with secret.secretName="theirs" is not allowed because service account strict does not reference that secret`},
		"other in env": {func(o *corev1.Pod) { o.Spec.InitContainers = []corev1.Container{{Name: "i", Env: env("theirs")}} }, "container i with envVar E"},
		"other pull":   {func(o *corev1.Pod) { o.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "x"}} }, `imagePullSecrets[0].name="x"`},
		"mirror":       {func(o *corev1.Pod) { o.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"} }, "a mirror pod may not reference service accounts"},
		"mirror secret": {func(o *corev1.Pod) {
			o.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"}
			o.Spec.ServiceAccountName = ""
			o.Spec.Volumes = []corev1.Volume{{VolumeSource: secret("mine")}}
		}, "a mirror pod may not reference secrets"},
	} {
		o := &corev1.Pod{ObjectMeta: meta("apps", "web"), Spec: corev1.PodSpec{ServiceAccountName: "strict"}}
		c.change(o)
		expect(t, name, p.Validate(t.Context(), req(admission.Create, "Pod", "pods", o, nil)), c.text)
	}
}

func TestDefaultTolerationSeconds(t *testing.T) {
	t.Parallel()
	exists := corev1.TolerationOpExists
	for name, c := range map[string]struct {
		have []corev1.Toleration
		want int
	}{
		"none":           {nil, 2},
		"one":            {[]corev1.Toleration{{Key: corev1.TaintNodeNotReady, Operator: exists, Effect: corev1.TaintEffectNoExecute}}, 2},
		"every effect":   {[]corev1.Toleration{{Key: corev1.TaintNodeNotReady, Operator: exists}}, 2},
		"everything":     {[]corev1.Toleration{{Operator: exists}}, 1},
		"another effect": {[]corev1.Toleration{{Key: corev1.TaintNodeNotReady, Operator: exists, Effect: corev1.TaintEffectNoSchedule}}, 3},
		"another":        {[]corev1.Toleration{{Key: "x", Operator: exists}}, 3},
	} {
		o := &corev1.Pod{Spec: corev1.PodSpec{Tolerations: c.have}}
		for range 2 { // the second time nothing is added
			expect(t, name, admit(t, DefaultTolerationSeconds{}, req(admission.Create, "Pod", "pods", o, nil)), "")
		}
		if len(o.Spec.Tolerations) != c.want {
			t.Errorf("%s: %+v", name, o.Spec.Tolerations)
		}
		if last := o.Spec.Tolerations[len(o.Spec.Tolerations)-1]; c.want > len(c.have) && (*last.TolerationSeconds != 300 || last.Key != corev1.TaintNodeUnreachable) {
			t.Errorf("%s: %+v", name, last)
		}
	}
}

func TestTaintNodesByCondition(t *testing.T) {
	t.Parallel()
	n := &corev1.Node{}
	for range 2 {
		expect(t, "create", admit(t, TaintNodesByCondition{}, req(admission.Create, "Node", "nodes", n, nil)), "")
	}
	if len(n.Spec.Taints) != 1 || n.Spec.Taints[0] != (corev1.Taint{Key: "node.kubernetes.io/not-ready", Effect: corev1.TaintEffectNoSchedule}) {
		t.Errorf("got %+v", n.Spec.Taints)
	}
	if (TaintNodesByCondition{}).Handles(req(admission.Update, "Node", "nodes", n, n)) {
		t.Error("updates are tainted")
	}
}

func TestPriority(t *testing.T) {
	t.Parallel()
	never := corev1.PreemptNever
	class := func(name string, value int32, def bool) *schedulingv1.PriorityClass {
		return &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Value: value, GlobalDefault: def}
	}
	polite := class("polite", 7, false)
	polite.PreemptionPolicy = &never
	with := testConfig(t, class("high", 1000, false), class("usual", 5, true), class("less", 3, true), polite)
	one, two := int32(1), int32(1000)
	for name, c := range map[string]struct {
		config     Config
		pod        corev1.PodSpec
		class      string
		value      int32
		preemption corev1.PreemptionPolicy
		text       string
	}{
		"no class":            {testConfig(t), corev1.PodSpec{}, "", 0, corev1.PreemptLowerPriority, ""},
		"lowest default":      {with, corev1.PodSpec{}, "less", 3, corev1.PreemptLowerPriority, ""},
		"named":               {with, corev1.PodSpec{PriorityClassName: "high"}, "high", 1000, corev1.PreemptLowerPriority, ""},
		"named with number":   {with, corev1.PodSpec{PriorityClassName: "high", Priority: &two}, "high", 1000, corev1.PreemptLowerPriority, ""},
		"preemption":          {with, corev1.PodSpec{PriorityClassName: "polite"}, "polite", 7, never, ""},
		"wrong number":        {with, corev1.PodSpec{PriorityClassName: "high", Priority: &one}, "", 0, "", "the integer value of priority (1) must not be provided in pod spec; priority admission controller computed 1000 from the given PriorityClass name"},
		"wrong preemption":    {with, corev1.PodSpec{PriorityClassName: "high", PreemptionPolicy: &never}, "", 0, "", "the string value of PreemptionPolicy (Never) must not be provided in pod spec"},
		"unknown, no network": {with, corev1.PodSpec{PriorityClassName: "nope"}, "", 0, "", "read priority class nope"},
	} {
		o := &corev1.Pod{ObjectMeta: meta("apps", "web"), Spec: c.pod}
		err := admit(t, NewPriority(c.config), req(admission.Create, "Pod", "pods", o, nil))
		expect(t, name, err, c.text)
		if err == nil && (o.Spec.PriorityClassName != c.class || *o.Spec.Priority != c.value || *o.Spec.PreemptionPolicy != c.preemption) {
			t.Errorf("%s: %s %d %s", name, o.Spec.PriorityClassName, *o.Spec.Priority, *o.Spec.PreemptionPolicy)
		}
	}
	old := &corev1.Pod{Spec: corev1.PodSpec{Priority: &two, PreemptionPolicy: &never}}
	updated := &corev1.Pod{}
	expect(t, "update", admit(t, NewPriority(with), req(admission.Update, "Pod", "pods", updated, old)), "")
	if updated.Spec.Priority == nil || *updated.Spec.Priority != 1000 || *updated.Spec.PreemptionPolicy != never {
		t.Errorf("an update loses %+v", updated.Spec)
	}
	for name, c := range map[string]struct {
		spec  schedulingv1beta1.PodGroupSpec
		class string
		value int32
		text  string
	}{
		"group":                   {schedulingv1beta1.PodGroupSpec{PriorityClassName: "high"}, "high", 1000, ""},
		"group without class":     {schedulingv1beta1.PodGroupSpec{}, "less", 3, ""},
		"group with wrong number": {schedulingv1beta1.PodGroupSpec{PriorityClassName: "high", Priority: &one}, "", 0, "priority admission controller computed 1000 from the given PriorityClass name"},
	} {
		g := &schedulingv1beta1.PodGroup{ObjectMeta: meta("apps", "g"), Spec: c.spec}
		create := req(admission.Create, "PodGroup", "podgroups", g, nil)
		create.Resource.Group = "scheduling.k8s.io"
		err := admit(t, NewPriority(with), create)
		expect(t, name, err, c.text)
		if err == nil && (g.Spec.PriorityClassName != c.class || *g.Spec.Priority != c.value) {
			t.Errorf("%s: %s %d", name, g.Spec.PriorityClassName, *g.Spec.Priority)
		}
	}
	r := req(admission.Create, "PriorityClass", "priorityclasses", class("more", 9, true), nil)
	r.Resource.Group = "scheduling.k8s.io"
	expect(t, "second default", NewPriority(with).Validate(t.Context(), r), "is already marked as globalDefault. Only one PriorityClass can be marked as globalDefault")
}

// asNode makes r a request by the agent of n1.
func asNode(r *admission.Request) *admission.Request {
	r.User = &auth.User{Name: "system:node:n1", Groups: []string{auth.NodesGroup}}
	return r
}

func TestNodeRestriction(t *testing.T) {
	t.Parallel()
	projected := func(audience string) []corev1.Volume {
		return []corev1.Volume{{VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Audience: audience}}}}}}}
	}
	mine := &corev1.Pod{ObjectMeta: meta("apps", "mine"), Spec: corev1.PodSpec{NodeName: "n1", Volumes: append(projected(""), projected("vault")...)}}
	theirs := &corev1.Pod{ObjectMeta: meta("apps", "theirs"), Spec: corev1.PodSpec{NodeName: "n2"}}
	self := &corev1.Node{ObjectMeta: meta("", "n1")}
	p := NewNodeRestriction(testConfig(t, mine, theirs, self))
	yes := true
	mirror := func(change func(*corev1.Pod)) *corev1.Pod {
		o := &corev1.Pod{ObjectMeta: meta("apps", "static"), Spec: corev1.PodSpec{NodeName: "n1"}}
		o.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"}
		o.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: "n1", UID: "uid-1", Controller: &yes}}
		change(o)
		return o
	}
	sub := func(r *admission.Request, name string) *admission.Request { r.Subresource = name; return r }
	labelled := func(k string) *corev1.Node { n := self.DeepCopy(); n.Labels = map[string]string{k: "v"}; return n }
	local := func(node string, deleted bool, finalizers ...string) *corev1.PersistentVolume {
		pv := &corev1.PersistentVolume{ObjectMeta: meta("", "pv")}
		pv.Labels, pv.Finalizers = map[string]string{"canopus.io/node": node}, finalizers
		if deleted {
			pv.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)}
		}
		return pv
	}
	volume := func(old, now *corev1.PersistentVolume) *admission.Request {
		return req(admission.Update, "PersistentVolume", "persistentvolumes", now, old)
	}
	const ours = "canopus.io/local-volume"
	moved := local("n1", true, "other")
	moved.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimRetain
	token := func(kind, pod, uid string, audiences ...string) *admission.Request {
		r := sub(req(admission.Create, "TokenRequest", "serviceaccounts", &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
			Audiences: audiences, BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: kind, Name: pod, UID: "uid-1"},
		}}, nil), "token")
		r.Object.(*authenticationv1.TokenRequest).Spec.BoundObjectRef.UID = metav1.ObjectMeta{UID: "uid-1"}.UID
		if uid != "" {
			r.Object.(*authenticationv1.TokenRequest).Spec.BoundObjectRef.UID = "other"
		}
		return r
	}
	lease := func(ns, name string) *admission.Request {
		r := req(admission.Create, "Lease", "leases", &coordinationv1.Lease{ObjectMeta: meta(ns, name)}, nil)
		r.Resource, r.Namespace = schema.GroupVersionResource{Group: "coordination.k8s.io", Version: "v1", Resource: "leases"}, ns
		return r
	}
	create := func(change func(*corev1.Pod)) *admission.Request {
		return req(admission.Create, "Pod", "pods", mirror(change), nil)
	}
	relabelled := mine.DeepCopy()
	relabelled.Labels = map[string]string{"a": "b"}
	tainted := self.DeepCopy()
	tainted.Spec.Taints = []corev1.Taint{{Key: "x"}}
	for name, c := range map[string]struct {
		r    *admission.Request
		text string
	}{
		"mirror pod":                  {create(func(*corev1.Pod) {}), ""},
		"ordinary pod":                {create(func(o *corev1.Pod) { o.Annotations = nil }), `pod does not have "kubernetes.io/config.mirror" annotation, node "n1" can only create mirror pods`},
		"mirror elsewhere":            {create(func(o *corev1.Pod) { o.Spec.NodeName = "n2" }), "with spec.nodeName set to itself"},
		"mirror without owner":        {create(func(o *corev1.Pod) { o.OwnerReferences = nil }), "with an owner reference set to itself"},
		"mirror of another owner":     {create(func(o *corev1.Pod) { o.OwnerReferences[0].Name = "n2" }), "with an owner reference set to itself"},
		"mirror of another UID":       {create(func(o *corev1.Pod) { o.OwnerReferences[0].UID = "x" }), "UID mismatch"},
		"mirror, two owners":          {create(func(o *corev1.Pod) { o.OwnerReferences = append(o.OwnerReferences, o.OwnerReferences[0]) }), "single owner reference"},
		"mirror blocks deletion":      {create(func(o *corev1.Pod) { o.OwnerReferences[0].BlockOwnerDeletion = &yes }), "must not set blockOwnerDeletion"},
		"mirror with account":         {create(func(o *corev1.Pod) { o.Spec.ServiceAccountName = "x" }), "reference a service account"},
		"mirror with secret":          {create(func(o *corev1.Pod) { o.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "x"}} }), "reference secrets"},
		"mirror with token":           {create(func(o *corev1.Pod) { o.Spec.Volumes = projected("") }), "project tokens"},
		"update a pod":                {req(admission.Update, "Pod", "pods", mine, mine), "can only create and delete mirror pods"},
		"delete its pod":              {req(admission.Delete, "Pod", "pods", nil, mine), ""},
		"delete another's pod":        {req(admission.Delete, "Pod", "pods", nil, theirs), "can only delete pods with spec.nodeName set to itself"},
		"status":                      {sub(req(admission.Update, "Pod", "pods", mine, mine), "status"), ""},
		"another's status":            {sub(req(admission.Update, "Pod", "pods", theirs, theirs), "status"), "can only update pod status for pods with spec.nodeName set to itself"},
		"labels by status":            {sub(req(admission.Update, "Pod", "pods", relabelled, mine), "status"), "cannot update labels through pod status"},
		"evict":                       {sub(req(admission.Create, "Eviction", "pods", nil, mine), "eviction"), ""},
		"evict another's":             {sub(req(admission.Create, "Eviction", "pods", nil, theirs), "eviction"), "can only evict pods"},
		"exec":                        {sub(req(admission.Create, "PodExecOptions", "pods", nil, mine), "exec"), "unexpected pod subresource"},
		"register":                    {req(admission.Create, "Node", "nodes", labelled("kubernetes.io/hostname"), nil), ""},
		"register another":            {req(admission.Create, "Node", "nodes", &corev1.Node{ObjectMeta: meta("", "n2")}, nil), `node "n1" is not allowed to modify node "n2"`},
		"register with a role":        {req(admission.Create, "Node", "nodes", labelled("node-role.kubernetes.io/master"), nil), "is not allowed to set the following labels: node-role.kubernetes.io/master"},
		"register with reserved":      {req(admission.Create, "Node", "nodes", labelled("node-restriction.kubernetes.io/a"), nil), "is not allowed to set the following labels"},
		"register with own prefix":    {req(admission.Create, "Node", "nodes", labelled("x.node.kubernetes.io/a"), nil), ""},
		"register with foreign label": {req(admission.Create, "Node", "nodes", labelled("example.com/a"), nil), ""},
		"drop a reserved label":       {req(admission.Update, "Node", "nodes", self, labelled("node-restriction.kubernetes.io/a")), "is not allowed to modify labels: node-restriction.kubernetes.io/a"},
		"change taints":               {req(admission.Update, "Node", "nodes", self, tainted), "is not allowed to modify taints"},
		"token":                       {token("Pod", "mine", ""), ""},
		"token for an audience":       {token("Pod", "mine", "", "vault"), ""},
		"token for another audience":  {token("Pod", "mine", "", "bank"), `audience "bank" not found in pod spec volume`},
		"token of another's pod":      {token("Pod", "theirs", ""), "node requested token bound to a pod scheduled on a different node"},
		"token of another UID":        {token("Pod", "mine", "other"), "does not match the UID in record"},
		"token bound to a secret":     {token("Secret", "x", ""), "node requested token not bound to a pod"},
		"let a volume go":             {volume(local("n1", true, ours, "other"), local("n1", true, "other")), ""},
		"and more of it":              {volume(local("n1", true, ours, "other"), local("n1", true)), "other than its finalizer"},
		"and change it":               {volume(local("n1", true, ours, "other"), moved), "other than its finalizer"},
		"another's volume":            {volume(local("n2", true, ours), local("n2", true)), "volumes of its own"},
		"make a volume its own":       {volume(local("n2", true, ours), local("n1", true)), "volumes of its own"},
		"a volume that stays":         {volume(local("n1", false, ours), local("n1", false)), "that are being deleted"},
		"a volume's phase":            {sub(volume(local("n1", true, ours), local("n1", true)), "status"), "unexpected operation"},
		"its lease":                   {lease("kube-node-lease", "n1"), ""},
		"another's lease":             {lease("kube-node-lease", "n2"), "can only access node lease with the same name"},
		"a lease elsewhere":           {lease("apps", "n1"), "can only access leases in the"},
	} {
		expect(t, name, admit(t, p, asNode(c.r)), c.text)
	}
	if p.Handles(req(admission.Update, "Node", "nodes", self, tainted)) {
		t.Error("others are restricted as nodes are")
	}
}

func TestChainOrder(t *testing.T) {
	t.Parallel()
	list, err := Default(testConfig(t))
	if err != nil {
		t.Fatal(err)
	}
	// Upstream's order of what is on by default.
	order := strings.Fields(`NamespaceLifecycle LimitRanger ServiceAccount NodeRestriction TaintNodesByCondition PodSecurity Priority
		DefaultTolerationSeconds DefaultStorageClass StorageObjectInUseProtection PersistentVolumeClaimResize RuntimeClass CertificateApproval
		CertificateSigning ClusterTrustBundleAttest CertificateSubjectRestriction DefaultIngressClass PodTopologyLabels DeviceAdminAccess DeviceClaimStatus
		MutatingAdmissionPolicy MutatingAdmissionWebhook ValidatingAdmissionPolicy ValidatingAdmissionWebhook ResourceQuota`)
	last := -1
	for _, p := range list {
		at := slices.Index(order, p.Name())
		if at <= last {
			t.Errorf("%s is not in its place", p.Name())
		}
		last = at
	}
	if _, err := admission.NewChain(list[0], list[0]); err == nil {
		t.Error("a plugin can be there twice")
	}
}

// BenchmarkChain runs the whole chain on an ordinary pod, and on a write that no plugin wants.
func BenchmarkChain(b *testing.B) {
	list, err := Default(testConfig(b, &corev1.Namespace{ObjectMeta: meta("", "apps")}, &corev1.ServiceAccount{ObjectMeta: meta("apps", "default")}))
	if err != nil {
		b.Fatal(err)
	}
	chain, err := admission.NewChain(list...)
	if err != nil {
		b.Fatal(err)
	}
	run := func(b *testing.B, r *admission.Request, fresh func()) {
		b.ReportAllocs()
		for b.Loop() {
			fresh()
			if err := chain.Admit(b.Context(), r); err != nil {
				b.Fatal(err)
			}
			if err := chain.Validate(b.Context(), r); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Run("create pod", func(b *testing.B) {
		r := req(admission.Create, "Pod", "pods", &corev1.Pod{}, nil)
		run(b, r, func() { r.Object = &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}}} })
	})
	b.Run("update configmap", func(b *testing.B) {
		run(b, req(admission.Update, "ConfigMap", "configmaps", &corev1.ConfigMap{}, &corev1.ConfigMap{}), func() {})
	})
}
