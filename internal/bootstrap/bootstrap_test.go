package bootstrap_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"canopus/internal/admission"
	"canopus/internal/admission/allocate"
	"canopus/internal/admission/escalation"
	"canopus/internal/admission/plugins"
	"canopus/internal/apiserver"
	"canopus/internal/apiserver/apitest"
	"canopus/internal/auth"
	"canopus/internal/auth/node"
	"canopus/internal/auth/policy"
	"canopus/internal/auth/rbac"
	"canopus/internal/bootstrap"
	"canopus/internal/store"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/utils/clock"
)

// cluster is a real API server with the admission, authorization and allocation of a real one.
type cluster struct {
	*apitest.Server
	own kubernetes.Interface // as system:apiserver
}

// ownToken lets system:apiserver in before apitest can hand out tokens.
type ownToken struct {
	token string
	next  auth.Authenticator
}

func (o ownToken) Authenticate(r *http.Request) (*auth.User, error) {
	if r.Header.Get("Authorization") == "Bearer "+o.token {
		return &auth.User{Name: auth.APIServerUser, Groups: []string{auth.MastersGroup, auth.AuthenticatedGroup}}, nil
	}
	return o.next.Authenticate(r)
}

// serviceClaims brings writes of Services to the allocator, as cmd does.
type serviceClaims struct{ a *allocate.Allocator }

func (s serviceClaims) Claim(ctx context.Context, c *apiserver.Claim) ([]store.Change, error) {
	if c.Kind.GVK.GroupKind() != (schema.GroupKind{Kind: "Service"}) || c.Subresource != "" {
		return nil, nil
	}
	now, _ := c.Object.(*corev1.Service)
	old, _ := c.Old.(*corev1.Service)
	return s.a.Claim(ctx, c.Operation, now, old)
}

func start(t *testing.T) *cluster {
	t.Helper()
	var raw [16]byte
	_, _ = rand.Read(raw[:])
	token := hex.EncodeToString(raw[:])
	cl := &cluster{}
	var factory informers.SharedInformerFactory
	cl.Server = apitest.Start(t, func(c *apiserver.Config) {
		c.Authenticator = ownToken{token, c.Authenticator}
		client, err := kubernetes.NewForConfig(&rest.Config{
			Host: "https://" + c.Listener.Addr().String(), BearerToken: token, QPS: -1, TLSClientConfig: rest.TLSClientConfig{Insecure: true},
		})
		must(t, err)
		cl.own, factory = client, informers.NewSharedInformerFactory(client, 0)
		roles, err := rbac.New(rbac.Config{Informers: factory})
		must(t, err)
		nodes, err := node.New(node.Config{Informers: factory, Volumes: true})
		must(t, err)
		authorizer := auth.Union{auth.Masters{}, nodes, roles}
		c.Authorizer, c.Rules = authorizer, roles
		list, err := plugins.Default(plugins.Config{Client: client, Informers: factory, Clock: clock.RealClock{}, Authorizer: auth.Masters{}})
		must(t, err)
		guard, err := escalation.New(roles, authorizer)
		must(t, err)
		c.Admission, err = admission.NewChain(append(list, guard)...)
		must(t, err)
		ranges, err := allocate.RegisterRanges(c.Store)
		must(t, err)
		allocator, err := allocate.New(allocate.Config{
			CIDR: netip.MustParsePrefix("10.96.0.0/12"), Ports: allocate.Ports{First: 30000, Last: 32767}, Ranges: ranges, Clock: clock.RealClock{},
			Addresses: func() *store.Resource {
				return cl.API.Resource(schema.GroupResource{Group: "networking.k8s.io", Resource: "ipaddresses"})
			},
		})
		must(t, err)
		c.Claims = serviceClaims{allocator}
	})
	ctx, cancel := context.WithCancel(t.Context())
	factory.Start(ctx.Done())
	t.Cleanup(func() { cancel(); factory.Shutdown() })
	for kind, ok := range factory.WaitForCacheSync(ctx.Done()) {
		if !ok {
			t.Fatalf("%v does not sync", kind)
		}
	}
	return cl
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (c *cluster) config(name, address string) bootstrap.Config {
	return bootstrap.Config{
		Client: c.own, Node: name, Addresses: []netip.Addr{netip.MustParseAddr(address)}, Port: 6443,
		ServiceCIDR: netip.MustParsePrefix("10.96.0.0/12"), DNS: netip.MustParseAddr("10.96.0.10"), CA: []byte("the CA"), FrontProxy: []byte("the proxy's CA"),
		Clock: clock.RealClock{}, Log: slog.New(slog.DiscardHandler),
	}
}

// bootstrap runs a Bootstrap until the test ends and waits until it is ready.
func (c *cluster) bootstrap(t *testing.T, config bootstrap.Config) {
	t.Helper()
	b, err := bootstrap.New(config)
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := b.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	select {
	case <-b.Ready():
	case <-time.After(time.Minute):
		t.Fatal("not ready after a minute")
	}
}

func eventually(t *testing.T, what string, ok func(ctx context.Context) (bool, error)) {
	t.Helper()
	if err := wait.PollUntilContextTimeout(t.Context(), 10*time.Millisecond, 30*time.Second, true, ok); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// TestBootstrap has two servers write everything at once, checks what is there, and that a later start changes nothing.
func TestBootstrap(t *testing.T) {
	t.Parallel()
	c := start(t)
	var both sync.WaitGroup
	began := time.Now()
	both.Go(func() { c.bootstrap(t, c.config("n1", "192.0.2.1")) })
	both.Go(func() { c.bootstrap(t, c.config("n2", "192.0.2.2")) })
	both.Wait()
	t.Logf("two servers wrote everything over HTTPS in %v", time.Since(began))
	ctx := t.Context()
	for _, name := range []string{"default", "kube-system", "kube-public", "kube-node-lease"} {
		_, err := c.Client.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
		must(t, err)
	}
	for name, ip := range map[string]string{"default/kubernetes": "10.96.0.1", "kube-system/kube-dns": "10.96.0.10"} {
		ns, n, _ := strings.Cut(name, "/")
		s, err := c.Client.CoreV1().Services(ns).Get(ctx, n, metav1.GetOptions{})
		must(t, err)
		if s.Spec.ClusterIP != ip {
			t.Errorf("%s is at %s", name, s.Spec.ClusterIP)
		}
		_, err = c.Client.NetworkingV1().IPAddresses().Get(ctx, ip, metav1.GetOptions{})
		must(t, err)
	}
	for name, value := range map[string]int32{"system-node-critical": 2000001000, "system-cluster-critical": 2000000000} {
		p, err := c.Client.SchedulingV1().PriorityClasses().Get(ctx, name, metav1.GetOptions{})
		must(t, err)
		if p.Value != value {
			t.Errorf("%s is %d", name, p.Value)
		}
	}
	cm, err := c.Client.CoreV1().ConfigMaps("kube-system").Get(ctx, "extension-apiserver-authentication", metav1.GetOptions{})
	must(t, err)
	if cm.Data["client-ca-file"] != "the CA" || cm.Data["requestheader-username-headers"] != `["X-Remote-User"]` || len(cm.Data) != 7 {
		t.Errorf("got %v", cm.Data)
	}
	info, err := c.Client.CoreV1().ConfigMaps("kube-public").Get(ctx, "cluster-info", metav1.GetOptions{})
	must(t, err)
	joining, err := clientcmd.Load([]byte(info.Data["kubeconfig"]))
	must(t, err)
	if entry := joining.Clusters[""]; entry == nil || string(entry.CertificateAuthorityData) != "the CA" || len(joining.AuthInfos) > 0 {
		t.Errorf("got %s", info.Data["kubeconfig"])
	}
	tracking, err := c.Client.CoreV1().ConfigMaps("kube-system").Get(ctx, "kube-apiserver-legacy-service-account-token-tracking", metav1.GetOptions{})
	must(t, err)
	if since, err := time.Parse(time.DateOnly, tracking.Data["since"]); err != nil || time.Since(since) > 48*time.Hour {
		t.Errorf("got %v", tracking.Data)
	}
	roles, err := c.Client.RbacV1().ClusterRoles().List(ctx, metav1.ListOptions{})
	must(t, err)
	bindings, err := c.Client.RbacV1().ClusterRoleBindings().List(ctx, metav1.ListOptions{})
	must(t, err)
	if len(roles.Items) != len(policy.ClusterRoles()) || len(bindings.Items) != len(policy.ClusterRoleBindings()) {
		t.Errorf("%d cluster roles, %d bindings", len(roles.Items), len(bindings.Items))
	}
	c.bootstrap(t, c.config("n1", "192.0.2.1"))
	again, err := c.Client.RbacV1().ClusterRoles().List(ctx, metav1.ListOptions{})
	must(t, err)
	for i := range again.Items {
		if again.Items[i].ResourceVersion != roles.Items[i].ResourceVersion {
			t.Errorf("cluster role %s was written again", again.Items[i].Name)
		}
	}
}

// TestFirstStorageClass: a cluster begins with a class for claims that name none; whoever changes or removes it is not
// overruled by the next start.
func TestFirstStorageClass(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.bootstrap(t, c.config("n1", "192.0.2.1"))
	ctx, api := t.Context(), c.Client.StorageV1().StorageClasses()
	class, err := api.Get(ctx, "local", metav1.GetOptions{})
	must(t, err)
	if class.Annotations["storageclass.kubernetes.io/is-default-class"] != "true" || class.Provisioner != "canopus.io/local" ||
		*class.VolumeBindingMode != "WaitForFirstConsumer" || *class.ReclaimPolicy != "Delete" || *class.AllowVolumeExpansion {
		t.Errorf("%+v", class)
	}
	class.Annotations = nil
	class, err = api.Update(ctx, class, metav1.UpdateOptions{})
	must(t, err)
	c.bootstrap(t, c.config("n1", "192.0.2.1"))
	again, err := api.Get(ctx, "local", metav1.GetOptions{})
	must(t, err)
	if again.ResourceVersion != class.ResourceVersion {
		t.Errorf("the class was written again: %+v", again)
	}
	must(t, api.Delete(ctx, "local", metav1.DeleteOptions{}))
	c.bootstrap(t, c.config("n1", "192.0.2.1"))
	if _, err := api.Get(ctx, "local", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the removed class came back: %v", err)
	}
}

func TestPolicyIsCompletedNotReset(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.bootstrap(t, c.config("n1", "192.0.2.1"))
	ctx, api := t.Context(), c.Client.RbacV1()
	change := func(name string, f func(*rbacv1.ClusterRole)) {
		r, err := api.ClusterRoles().Get(ctx, name, metav1.GetOptions{})
		must(t, err)
		f(r)
		_, err = api.ClusterRoles().Update(ctx, r, metav1.UpdateOptions{})
		must(t, err)
	}
	extra := rbacv1.PolicyRule{Verbs: []string{"get"}, APIGroups: []string{"example.com"}, Resources: []string{"pandas"}}
	change("system:kube-dns", func(r *rbacv1.ClusterRole) { r.Rules = []rbacv1.PolicyRule{extra} })
	change("system:node-proxier", func(r *rbacv1.ClusterRole) { r.Rules = nil; r.Annotations[policy.AutoUpdate] = "false" })
	b, err := api.ClusterRoleBindings().Get(ctx, "system:kube-scheduler", metav1.GetOptions{})
	must(t, err)
	b.Subjects = []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: "me"}}
	_, err = api.ClusterRoleBindings().Update(ctx, b, metav1.UpdateOptions{})
	must(t, err)
	c.bootstrap(t, c.config("n1", "192.0.2.1"))
	dns, err := api.ClusterRoles().Get(ctx, "system:kube-dns", metav1.GetOptions{})
	must(t, err)
	if len(dns.Rules) < 2 || dns.Rules[0].Resources[0] != "pandas" {
		t.Errorf("got %v", dns.Rules)
	}
	proxier, err := api.ClusterRoles().Get(ctx, "system:node-proxier", metav1.GetOptions{})
	must(t, err)
	if len(proxier.Rules) != 0 {
		t.Errorf("a role that opted out got %v", proxier.Rules)
	}
	b, err = api.ClusterRoleBindings().Get(ctx, "system:kube-scheduler", metav1.GetOptions{})
	must(t, err)
	if len(b.Subjects) != 2 {
		t.Errorf("got %v", b.Subjects)
	}
}

func TestKubernetesEndpoints(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.bootstrap(t, c.config("n1", "192.0.2.1"))
	c.bootstrap(t, c.config("n2", "192.0.2.2"))
	want := "192.0.2.1 192.0.2.2"
	eventually(t, "endpoints "+want, func(ctx context.Context) (bool, error) {
		e, err := c.Client.DiscoveryV1().EndpointSlices("default").Get(ctx, "kubernetes", metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		var got []string
		for _, p := range e.Endpoints {
			got = append(got, p.Addresses...)
		}
		return strings.Join(got, " ") == want && e.Labels["kubernetes.io/service-name"] == "kubernetes" && *e.Ports[0].Port == 6443, nil
	})
	ep, err := c.Client.CoreV1().Endpoints("default").Get(t.Context(), "kubernetes", metav1.GetOptions{})
	must(t, err)
	if len(ep.Subsets) != 1 || len(ep.Subsets[0].Addresses) != 2 {
		t.Errorf("got %v", ep.Subsets)
	}
}

// TestEscalation tries, as a user who may write roles but holds little, to grant more than that.
func TestEscalation(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.bootstrap(t, c.config("n1", "192.0.2.1"))
	ctx, admin := t.Context(), c.Client.RbacV1()
	rule := func(verbs, group, resource string) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{Verbs: strings.Fields(verbs), APIGroups: []string{group}, Resources: []string{resource}}
	}
	role := func(name string, rules ...rbacv1.PolicyRule) *rbacv1.ClusterRole {
		return &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: rules}
	}
	bind := func(name, role, user string) *rbacv1.ClusterRoleBinding {
		return &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: name}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
			Subjects: []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: user}},
		}
	}
	const groups = "rbac.authorization.k8s.io"
	limited := role("limited", rule("create update get", groups, "clusterroles"), rule("create update get", groups, "clusterrolebindings"), rule("get", "", "pods"))
	for _, r := range []*rbacv1.ClusterRole{limited, role("secrets", rule("get", "", "secrets")), role("bindable", rule("get", "", "nodes"))} {
		_, err := admin.ClusterRoles().Create(ctx, r, metav1.CreateOptions{})
		must(t, err)
	}
	may := role("may-bind", rbacv1.PolicyRule{Verbs: []string{"bind"}, APIGroups: []string{groups}, Resources: []string{"clusterroles"}, ResourceNames: []string{"bindable"}})
	_, err := admin.ClusterRoles().Create(ctx, may, metav1.CreateOptions{})
	must(t, err)
	for _, b := range []*rbacv1.ClusterRoleBinding{bind("limited", "limited", "alice"), bind("may-bind", "may-bind", "alice")} {
		_, err := admin.ClusterRoleBindings().Create(ctx, b, metav1.CreateOptions{})
		must(t, err)
	}
	client, err := kubernetes.NewForConfig(c.As(&auth.User{Name: "alice", Groups: []string{auth.AuthenticatedGroup}}))
	must(t, err)
	alice := client.RbacV1()
	eventually(t, "alice's roles", func(ctx context.Context) (bool, error) {
		_, err := alice.ClusterRoleBindings().Get(ctx, "may-bind", metav1.GetOptions{})
		if apierrors.IsForbidden(err) {
			return false, nil
		}
		return err == nil, err
	})
	expect := func(step string, err error, text string) {
		t.Helper()
		if (err == nil) != (text == "") || text != "" && (!apierrors.IsForbidden(err) || !strings.Contains(err.Error(), text)) {
			t.Errorf("%s: %v", step, err)
		}
	}
	_, err = alice.ClusterRoles().Create(ctx, role("own", rule("get", "", "pods")), metav1.CreateOptions{})
	expect("what she holds", err, "")
	_, err = alice.ClusterRoles().Create(ctx, role("more", rule("get list", "", "secrets")), metav1.CreateOptions{})
	expect("what she does not hold", err, `clusterroles.rbac.authorization.k8s.io "more" is forbidden: user "alice" (groups=["system:authenticated"]) is attempting to grant RBAC permissions not currently held:
{APIGroups:[""], Resources:["secrets"], Verbs:["get" "list"]}`)
	own, err := alice.ClusterRoles().Get(ctx, "own", metav1.GetOptions{})
	must(t, err)
	own.Rules = append(own.Rules, rule("delete", "", "pods"))
	_, err = alice.ClusterRoles().Update(ctx, own, metav1.UpdateOptions{})
	expect("an update to more", err, `Verbs:["delete"]`)
	everything := role("aggregate")
	everything.AggregationRule = &rbacv1.AggregationRule{ClusterRoleSelectors: []metav1.LabelSelector{{}}}
	_, err = alice.ClusterRoles().Create(ctx, everything, metav1.CreateOptions{})
	expect("aggregation", err, "must have cluster-admin privileges to use the aggregationRule")
	_, err = alice.ClusterRoleBindings().Create(ctx, bind("a", "own", "bob"), metav1.CreateOptions{})
	expect("binding what she holds", err, "")
	_, err = alice.ClusterRoleBindings().Create(ctx, bind("b", "secrets", "alice"), metav1.CreateOptions{})
	expect("binding what she does not hold", err, `Resources:["secrets"]`)
	_, err = alice.ClusterRoleBindings().Create(ctx, bind("c", "bindable", "bob"), metav1.CreateOptions{})
	expect("binding by the verb bind", err, "")
	_, err = alice.ClusterRoleBindings().Create(ctx, bind("d", "cluster-admin", "alice"), metav1.CreateOptions{})
	expect("binding cluster-admin", err, "attempting to grant RBAC permissions not currently held")
}
