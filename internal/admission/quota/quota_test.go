package quota_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"canopus/internal/admission/quota"
	"canopus/internal/apiserver"
	"canopus/internal/apiserver/apitest"
	"canopus/internal/store"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
)

// rig is a server that charges, and a namespace to write in.
type rig struct {
	*apitest.Server
	t  *testing.T
	ns string
}

func start(t *testing.T) *rig {
	t.Helper()
	var server *apitest.Server
	charger, err := quota.New(func() *store.Resource { return server.API.Resource(schema.GroupResource{Resource: "resourcequotas"}) }, clock.RealClock{})
	if err != nil {
		t.Fatal(err)
	}
	server = apitest.Start(t, func(c *apiserver.Config) { c.Quota = charger })
	r := &rig{Server: server, t: t, ns: "default"}
	if _, err := r.Client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: r.ns}}, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	return r
}

func list(text string) corev1.ResourceList {
	out := corev1.ResourceList{}
	for _, pair := range strings.Fields(text) {
		name, q, _ := strings.Cut(pair, "=")
		out[corev1.ResourceName(name)] = resource.MustParse(q)
	}
	return out
}

// limit makes a quota whose usage the controller has counted.
func (r *rig) limit(name, hard, used string, edit ...func(*corev1.ResourceQuotaSpec)) {
	r.t.Helper()
	q := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ResourceQuotaSpec{Hard: list(hard)}}
	for _, e := range edit {
		e(&q.Spec)
	}
	quotas := r.Client.CoreV1().ResourceQuotas(r.ns)
	q, err := quotas.Create(r.t.Context(), q, metav1.CreateOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	q.Status = corev1.ResourceQuotaStatus{Hard: list(hard), Used: list(used)}
	if _, err := quotas.UpdateStatus(r.t.Context(), q, metav1.UpdateOptions{}); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) used(name string) string {
	r.t.Helper()
	q, err := r.Client.CoreV1().ResourceQuotas(r.ns).Get(r.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	var out []string
	for n, v := range q.Status.Used {
		out = append(out, fmt.Sprintf("%s=%s", n, v.String()))
	}
	return strings.Join(sorted(out), " ")
}

func sorted(in []string) []string {
	for i := range in {
		for j := i; j > 0 && in[j] < in[j-1]; j-- {
			in[j], in[j-1] = in[j-1], in[j]
		}
	}
	return in
}

func pod(name, requests, limits string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{Containers: []corev1.Container{{
		Name: "c", Image: "i:1", Resources: corev1.ResourceRequirements{Requests: list(requests), Limits: list(limits)},
	}}}}
}

func (r *rig) create(p *corev1.Pod) error {
	_, err := r.Client.CoreV1().Pods(r.ns).Create(r.t.Context(), p, metav1.CreateOptions{})
	return err
}

// refusal is an error without its beginning, "" for none.
func refusal(err error) string {
	if err == nil {
		return ""
	}
	_, text, _ := strings.Cut(err.Error(), " is forbidden: ")
	return text
}

// TestRacingCreates: however many write at once, a quota is used up exactly, and what fails has used nothing.
func TestRacingCreates(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.limit("objects", "pods=10 count/pods=100", "pods=0 count/pods=0")
	r.limit("compute", "requests.cpu=1", "requests.cpu=300m")
	var made, refused atomic.Int32
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			err := r.create(pod(fmt.Sprintf("p%d", i), "cpu=100m", ""))
			switch {
			case err == nil:
				made.Add(1)
			case apierrors.IsForbidden(err) && strings.Contains(err.Error(), "exceeded quota: compute, requested: requests.cpu=100m, used: requests.cpu=1, limited: requests.cpu=1"):
				refused.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if made.Load() != 7 || refused.Load() != 33 {
		t.Errorf("%d made, %d refused; want 7 and 33", made.Load(), refused.Load())
	}
	if got := r.used("objects") + " " + r.used("compute"); got != "count/pods=7 pods=7 requests.cpu=1" {
		t.Errorf("used %s", got)
	}
	r.limit("maps", "configmaps=5 count/configmaps=5", "configmaps=0 count/configmaps=0")
	// Somebody who writes the quota at the same time costs a retry, no more.
	ctx, cancel := context.WithCancel(t.Context())
	wg.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			patch := fmt.Appendf(nil, `{"metadata":{"annotations":{"n":"%d"}}}`, i)
			_, _ = r.Client.CoreV1().ResourceQuotas(r.ns).Patch(ctx, "maps", types.MergePatchType, patch, metav1.PatchOptions{})
		}
	})
	for i := range 5 {
		if _, err := r.Client.CoreV1().ConfigMaps(r.ns).Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("m%d", i)}}, metav1.CreateOptions{}); err != nil {
			t.Error(err)
		}
	}
	cancel()
	wg.Wait()
	if got := r.used("maps"); got != "configmaps=5 count/configmaps=5" {
		t.Errorf("used %s", got)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.limit("compute", "cpu=1 limits.memory=1Gi pods=2", "cpu=0 limits.memory=0 pods=0")
	r.limit("pods-best", "pods=1", "pods=1", func(s *corev1.ResourceQuotaSpec) {
		s.Scopes = []corev1.ResourceQuotaScope{corev1.ResourceQuotaScopeBestEffort}
	})
	for _, tc := range []struct {
		p    *corev1.Pod
		want string
	}{
		{pod("a", "", ""), "failed quota: compute: must specify cpu for: c; limits.memory for: c"},
		{pod("a", "cpu=600m", "memory=600Mi"), ""},
		{pod("a", "cpu=600m", "memory=600Mi"), "exceeded quota: compute, requested: cpu=600m,limits.memory=600Mi, used: cpu=600m,limits.memory=600Mi, limited: cpu=1,limits.memory=1Gi"},
	} {
		if got := refusal(r.create(tc.p)); !strings.HasPrefix(got, tc.want) || tc.want == "" && got != "" {
			t.Errorf("%s: got %q, want %q", tc.p.Name, got, tc.want)
		}
	}
	// Neither a dry run, nor what validation refuses, nor a name that is taken uses anything.
	_, err := r.Client.CoreV1().Pods(r.ns).Create(t.Context(), pod("dry", "cpu=100m", "memory=1Mi"), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if err != nil {
		t.Error(err)
	}
	if err := r.create(pod("No", "cpu=100m", "memory=1Mi")); !apierrors.IsInvalid(err) {
		t.Errorf("a bad name: %v", err)
	}
	if err := r.create(pod("a", "cpu=100m", "memory=1Mi")); !apierrors.IsAlreadyExists(err) {
		t.Errorf("a taken name: %v", err)
	}
	if got := r.used("compute"); got != "cpu=600m limits.memory=600Mi pods=1" {
		t.Errorf("used %s", got)
	}
	r.limit("unknown", "requests.example.com/gpu=1", "")
	if got := refusal(r.create(pod("b", "cpu=100m", "memory=1Mi"))); got != "status unknown for quota: unknown, resources: requests.example.com/gpu" {
		t.Errorf("what is not counted yet: %q", got)
	}
}

func TestServicesByType(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.limit("services", "services=2 services.nodeports=2", "services=0 services.nodeports=0")
	services := r.Client.CoreV1().Services(r.ns)
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: corev1.ServiceSpec{
		Type: corev1.ServiceTypeClusterIP, Ports: []corev1.ServicePort{{Name: "a", Port: 1}, {Name: "b", Port: 2}, {Name: "c", Port: 3}},
	}}
	s, err := services.Create(t.Context(), s, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s.Spec.Type = corev1.ServiceTypeNodePort
	_, err = services.Update(t.Context(), s, metav1.UpdateOptions{})
	if got := refusal(err); got != "exceeded quota: services, requested: services.nodeports=3, used: services.nodeports=0, limited: services.nodeports=2" {
		t.Errorf("got %q (%v)", got, err)
	}
	s.Spec.Ports = s.Spec.Ports[:2]
	if _, err = services.Update(t.Context(), s, metav1.UpdateOptions{}); err != nil {
		t.Error(err)
	}
	if got := r.used("services"); got != "services.nodeports=2 services=1" {
		t.Errorf("used %s", got)
	}
}
