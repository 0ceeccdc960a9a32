package core_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"canopus/internal/kinds"
	"canopus/internal/kinds/core"
)

// errorsOf defaults obj and returns its errors, one a line, or those of an update from old.
func errorsOf(k *kinds.Kind, obj, old kinds.Object) string {
	k.Default(obj)
	errs := k.Validate(obj)
	if old != nil {
		k.Default(old)
		obj.SetResourceVersion("1")
		k.PrepareUpdate(obj, old)
		errs = k.ValidateUpdate(obj, old)
	}
	var out []string
	for _, e := range errs {
		out = append(out, e.Field+": "+e.Detail)
	}
	return strings.Join(out, "\n")
}

// list parses "cpu=1 memory=2Gi".
func list(text string) corev1.ResourceList {
	out := corev1.ResourceList{}
	for _, pair := range strings.Fields(text) {
		name, q, _ := strings.Cut(pair, "=")
		out[corev1.ResourceName(name)] = resource.MustParse(q)
	}
	return out
}

func TestResourceQuota(t *testing.T) {
	t.Parallel()
	matching := func(scope corev1.ResourceQuotaScope, op corev1.ScopeSelectorOperator, values ...string) *corev1.ScopeSelector {
		return &corev1.ScopeSelector{MatchExpressions: []corev1.ScopedResourceSelectorRequirement{{ScopeName: scope, Operator: op, Values: values}}}
	}
	for name, tc := range map[string]struct {
		hard   string
		scopes string
		match  *corev1.ScopeSelector
		want   string
	}{
		"all kinds": {hard: "cpu=1 requests.cpu=1500m limits.memory=1Gi pods=4 services.nodeports=0 count/deployments.apps=2 requests.nvidia.com/gpu=4 " +
			"gold.storageclass.storage.k8s.io/requests.storage=5Gi requests.hugepages-2Mi=4Mi requests.ephemeral-storage=1Gi"},
		"unknown":              {hard: "gpu=1", want: "spec.hard[gpu]: must be a standard resource type or fully qualified\nspec.hard[gpu]: must be a standard resource for quota"},
		"known, but no quota":  {hard: "storage=1", want: "spec.hard[storage]: must be a standard resource for quota"},
		"negative":             {hard: "cpu=-1", want: "spec.hard[cpu]: must be greater than or equal to 0"},
		"half a pod":           {hard: "pods=500m", want: "spec.hard[pods]: must be an integer"},
		"half an object":       {hard: "count/jobs.batch=500m", want: "spec.hard[count/jobs.batch]: must be an integer"},
		"scope":                {hard: "pods=1 cpu=1", scopes: "NotBestEffort Terminating"},
		"no such scope":        {hard: "pods=1", scopes: "Often", want: "spec.scopes: unsupported scope"},
		"scope of other":       {hard: "pods=1 cpu=1", scopes: "BestEffort", want: "spec.scopes: unsupported scope applied to resource"},
		"both":                 {hard: "pods=1", scopes: "Terminating NotTerminating", want: "spec.scopes: conflicting scopes"},
		"selector":             {hard: "pods=1", match: matching("PriorityClass", "In", "high")},
		"claims":               {hard: "requests.storage=1Gi", match: matching("VolumeAttributesClass", "In", "fast")},
		"claims, not pods":     {hard: "pods=1", match: matching("VolumeAttributesClass", "In", "fast"), want: "spec.scopeSelector.matchExpressions: unsupported scope applied to resource"},
		"selector, no values":  {hard: "pods=1", match: matching("PriorityClass", "In"), want: "spec.scopeSelector.matchExpressions.values: must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"},
		"selector, values":     {hard: "pods=1", match: matching("PriorityClass", "Exists", "a"), want: "spec.scopeSelector.matchExpressions.values: must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"},
		"selector, odd":        {hard: "pods=1", match: matching("PriorityClass", "Is", "a"), want: "spec.scopeSelector.matchExpressions.operator: not a valid selector operator"},
		"scope with an answer": {hard: "pods=1", match: matching("BestEffort", "In", "a"), want: "spec.scopeSelector.matchExpressions.operator: must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity"},
	} {
		q := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "q", Namespace: "default"}}
		q.Spec.Hard, q.Spec.ScopeSelector = list(tc.hard), tc.match
		for _, s := range strings.Fields(tc.scopes) {
			q.Spec.Scopes = append(q.Spec.Scopes, corev1.ResourceQuotaScope(s))
		}
		if got := errorsOf(core.ResourceQuota(), q, nil); got != tc.want {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
	}
	old := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "q", Namespace: "default"}}
	now := old.DeepCopy()
	now.Spec.Scopes = []corev1.ResourceQuotaScope{corev1.ResourceQuotaScopeTerminating}
	if got := errorsOf(core.ResourceQuota(), now, old); got != "spec.scopes: field is immutable" {
		t.Errorf("scopes changed: %q", got)
	}
}

func TestLimitRange(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		item corev1.LimitRangeItem
		want string
	}{
		"container": {corev1.LimitRangeItem{Type: "Container", Max: list("cpu=2"), Min: list("cpu=100m"), Default: list("cpu=1"), DefaultRequest: list("cpu=500m")}, ""},
		"claim":     {corev1.LimitRangeItem{Type: "PersistentVolumeClaim", Max: list("storage=1Gi")}, ""},
		"own type":  {corev1.LimitRangeItem{Type: "example.com/thing", Max: list("storage=1Gi")}, ""},
		"no type":   {corev1.LimitRangeItem{Type: "Things"}, "spec.limits[0].type: must be a standard limit type or fully qualified"},
		"claim without bounds": {corev1.LimitRangeItem{Type: "PersistentVolumeClaim", Max: list("cpu=1")},
			"spec.limits[0].limits: either minimum or maximum storage value is required, but neither was provided"},
		"no container resource": {corev1.LimitRangeItem{Type: "Container", Max: list("pods=1")},
			"spec.limits[0].max[pods]: must be a standard resource for containers\n" +
				"spec.limits[0].default[pods]: must be a standard resource for containers\nspec.limits[0].defaultRequest[pods]: must be a standard resource for containers"},
		"pod defaults": {corev1.LimitRangeItem{Type: "Pod", Default: list("cpu=1"), DefaultRequest: list("cpu=1")},
			"spec.limits[0].default: may not be specified when `type` is 'Pod'\nspec.limits[0].defaultRequest: may not be specified when `type` is 'Pod'"},
		"min above max": {corev1.LimitRangeItem{Type: "Pod", Max: list("cpu=1"), Min: list("cpu=2")}, "spec.limits[0].min[cpu]: min value 2 is greater than max value 1"},
		"request above limit": {corev1.LimitRangeItem{Type: "Container", Default: list("cpu=1"), DefaultRequest: list("cpu=2")},
			"spec.limits[0].defaultRequest[cpu]: default request value 2 is greater than default limit value 1"},
		"default above max": {corev1.LimitRangeItem{Type: "Container", Max: list("cpu=1"), Default: list("cpu=2"), DefaultRequest: list("cpu=1")},
			"spec.limits[0].default[cpu]: default value 2 is greater than max value 1"},
		"ratio below one":   {corev1.LimitRangeItem{Type: "Pod", MaxLimitRequestRatio: list("cpu=800m")}, "spec.limits[0].maxLimitRequestRatio[cpu]: ratio 800m is less than 1"},
		"ratio never met":   {corev1.LimitRangeItem{Type: "Pod", Max: list("cpu=2"), Min: list("cpu=1"), MaxLimitRequestRatio: list("cpu=10")}, "spec.limits[0].maxLimitRequestRatio[cpu]: ratio 10 is greater than max/min = 2.000000"},
		"no overcommitting": {corev1.LimitRangeItem{Type: "Container", Default: list("a.b/c=2"), DefaultRequest: list("a.b/c=1")}, "spec.limits[0].defaultRequest[a.b/c]: default value 2 must equal to defaultRequest value 1 in a.b/c"},
	} {
		l := &corev1.LimitRange{ObjectMeta: metav1.ObjectMeta{Name: "l", Namespace: "default"}, Spec: corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{tc.item}}}
		if got := errorsOf(core.LimitRange(), l, nil); got != tc.want {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
	}
	l := &corev1.LimitRange{Spec: corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{
		{Type: "Container", Max: list("cpu=2 memory=1Gi"), Default: list("cpu=1"), Min: list("memory=1Mi ephemeral-storage=1Mi")}, {Type: "Pod", Max: list("cpu=1")},
	}}}
	core.LimitRange().Default(l)
	item := l.Spec.Limits[0]
	if !equalLists(item.Default, list("cpu=1 memory=1Gi")) || !equalLists(item.DefaultRequest, list("cpu=1 memory=1Gi ephemeral-storage=1Mi")) || l.Spec.Limits[1].Default != nil {
		t.Errorf("defaults %+v", l.Spec.Limits)
	}
}

func equalLists(a, b corev1.ResourceList) bool {
	for name, q := range a {
		if have, ok := b[name]; !ok || have.Cmp(q) != 0 {
			return false
		}
	}
	return len(a) == len(b)
}

func TestReplicationController(t *testing.T) {
	t.Parallel()
	controller := func(edit func(*corev1.ReplicationControllerSpec)) *corev1.ReplicationController {
		r := &corev1.ReplicationController{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default"}}
		r.Spec.Template = &corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "nginx:1"}}},
		}
		edit(&r.Spec)
		return r
	}
	for name, tc := range map[string]struct {
		edit func(*corev1.ReplicationControllerSpec)
		want string
	}{
		"selector from the template": {func(*corev1.ReplicationControllerSpec) {}, ""},
		"no template":                {func(s *corev1.ReplicationControllerSpec) { s.Template = nil }, "spec.selector: \nspec.template: "},
		"no labels":                  {func(s *corev1.ReplicationControllerSpec) { s.Template.Labels = nil }, "spec.selector: "},
		"mismatch":                   {func(s *corev1.ReplicationControllerSpec) { s.Selector = map[string]string{"a": "b"} }, "spec.template.metadata.labels: `selector` does not match template `labels`"},
		"negative":                   {func(s *corev1.ReplicationControllerSpec) { s.Replicas, s.MinReadySeconds = ptr.To(int32(-1)), -1 }, "spec.minReadySeconds: must be greater than or equal to 0\nspec.replicas: must be greater than or equal to 0"},
		"restart":                    {func(s *corev1.ReplicationControllerSpec) { s.Template.Spec.RestartPolicy = "Never" }, `spec.template.spec.restartPolicy: supported values: "Always"`},
		"deadline":                   {func(s *corev1.ReplicationControllerSpec) { s.Template.Spec.ActiveDeadlineSeconds = ptr.To(int64(1)) }, "spec.template.spec.activeDeadlineSeconds: activeDeadlineSeconds in ReplicationController is not Supported"},
	} {
		if got := errorsOf(core.ReplicationController(), controller(tc.edit), nil); got != tc.want {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
	}
	// Unlike a ReplicaSet's, the selector may change.
	old, now := controller(func(*corev1.ReplicationControllerSpec) {}), controller(func(s *corev1.ReplicationControllerSpec) { s.Template.Labels = map[string]string{"app": "b"} })
	old.Generation = 3
	now.Generation = 3
	if got := errorsOf(core.ReplicationController(), now, old); got != "" || now.Generation != 4 || now.Spec.Selector["app"] != "b" || old.Labels["app"] != "web" {
		t.Errorf("changed selector: %q, %+v", got, now)
	}
}
