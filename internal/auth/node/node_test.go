package node

import (
	"fmt"
	"runtime"
	"testing"

	"canopus/internal/auth"
	"canopus/internal/auth/policy"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/tools/cache"
)

func testPod(namespace, name, node string) *corev1.Pod {
	secret := func(n string) corev1.LocalObjectReference { return corev1.LocalObjectReference{Name: n} }
	claim := "gpu"
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: "u"},
		Spec: corev1.PodSpec{
			NodeName: node, ServiceAccountName: "bot", ImagePullSecrets: []corev1.LocalObjectReference{secret("pull")},
			InitContainers: []corev1.Container{{EnvFrom: []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: secret("init-env")}}}}},
			Containers: []corev1.Container{{
				EnvFrom: []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: secret("env")}}},
				Env: []corev1.EnvVar{
					{ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: secret("key")}}},
					{ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: secret("key")}}},
				},
			}},
			Volumes: []corev1.Volume{
				{Name: "v", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "vol"}}},
				{Name: "w", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: secret("vol")}}},
				{Name: "p", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
					{Secret: &corev1.SecretProjection{LocalObjectReference: secret("proj")}}, {ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: secret("proj")}},
				}}}},
				{Name: "c", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}},
				{Name: "e", VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}},
				{Name: "d", VolumeSource: corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{NodePublishSecretRef: &corev1.LocalObjectReference{Name: "csi"}}}},
			},
			ResourceClaims: []corev1.PodResourceClaim{{Name: "g", ResourceClaimName: &claim}},
		},
	}
}

func testAuthorizer() *Authorizer {
	a := &Authorizer{graph: newGraph(), rules: unnarrowed(policy.NodeRules())}
	a.graph.setPod(testPod("a", "web", "n1"))
	mirror := testPod("a", "static", "n2")
	mirror.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"}
	a.graph.setPod(mirror)
	a.graph.setPod(testPod("b", "unbound", ""))
	a.graph.setVolume(&corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: "pv"},
		Spec: corev1.PersistentVolumeSpec{
			ClaimRef:               &corev1.ObjectReference{Namespace: "a", Name: "data"},
			PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{NodeStageSecretRef: &corev1.SecretReference{Namespace: "storage", Name: "stage"}}},
		},
	})
	return a
}

func selecting(field, value string) fields.Requirements {
	return fields.OneTermEqualSelector(field, value).Requirements()
}

func labelling(selector string) labels.Requirements {
	s, err := labels.Parse(selector)
	if err != nil {
		panic(err)
	}
	r, _ := s.Requirements()
	return r
}

func TestAuthorize(t *testing.T) {
	t.Parallel()
	a := testAuthorizer()
	type at = auth.Attributes
	const yes, no = true, false
	for name, c := range map[string]struct {
		node string
		at   at
		want bool
	}{
		"secret of a volume":           {"n1", at{Verb: "get", Resource: "secrets", Namespace: "a", Name: "vol"}, yes},
		"secret of the environment":    {"n1", at{Verb: "get", Resource: "secrets", Namespace: "a", Name: "key"}, yes},
		"secret of init's environment": {"n1", at{Verb: "get", Resource: "secrets", Namespace: "a", Name: "init-env"}, yes},
		"secret projected":             {"n1", at{Verb: "get", Resource: "secrets", Namespace: "a", Name: "proj"}, yes},
		"secret of CSI":                {"n1", at{Verb: "get", Resource: "secrets", Namespace: "a", Name: "csi"}, yes},
		"pull secret, watched":         {"n1", at{Verb: "watch", Resource: "secrets", Namespace: "a", Name: "pull"}, yes},
		"secret of a bound volume":     {"n1", at{Verb: "get", Resource: "secrets", Namespace: "storage", Name: "stage"}, yes},
		"that, another node":           {"n2", at{Verb: "get", Resource: "secrets", Namespace: "storage", Name: "stage"}, no},
		"all secrets":                  {"n1", at{Verb: "list", Resource: "secrets", Namespace: "a"}, no},
		"unused secret":                {"n1", at{Verb: "get", Resource: "secrets", Namespace: "a", Name: "other"}, no},
		"other namespace":              {"n1", at{Verb: "get", Resource: "secrets", Namespace: "b", Name: "vol"}, no},
		"another node's secret":        {"n2", at{Verb: "get", Resource: "secrets", Namespace: "a", Name: "vol"}, no},
		"write a secret":               {"n1", at{Verb: "update", Resource: "secrets", Namespace: "a", Name: "vol"}, no},
		"a mirror pod's secret":        {"n2", at{Verb: "get", Resource: "secrets", Namespace: "a", Name: "key"}, no},
		"an unbound pod's secret":      {"", at{Verb: "get", Resource: "secrets", Namespace: "b", Name: "key"}, no},
		"configmap":                    {"n1", at{Verb: "get", Resource: "configmaps", Namespace: "a", Name: "vol"}, yes},
		"configmap of the environment": {"n1", at{Verb: "get", Resource: "configmaps", Namespace: "a", Name: "env"}, yes},
		"own local volumes":            {"n1", at{Verb: "list", Resource: "persistentvolumes", Labels: labelling("canopus.io/node=n1")}, yes},
		"own local volumes, watched":   {"n1", at{Verb: "watch", Resource: "persistentvolumes", Labels: labelling("canopus.io/node in (n1),x=y")}, yes},
		"another's local volumes":      {"n1", at{Verb: "list", Resource: "persistentvolumes", Labels: labelling("canopus.io/node=n2")}, no},
		"two nodes' local volumes":     {"n1", at{Verb: "list", Resource: "persistentvolumes", Labels: labelling("canopus.io/node in (n1,n2)")}, no},
		"all but the own":              {"n1", at{Verb: "list", Resource: "persistentvolumes", Labels: labelling("canopus.io/node!=n1")}, no},
		"all volumes":                  {"n1", at{Verb: "list", Resource: "persistentvolumes"}, no},
		"volumes by another label":     {"n1", at{Verb: "list", Resource: "persistentvolumes", Labels: labelling("canopus.io/nodes=n1")}, no},
		"let a volume go":              {"n1", at{Verb: "patch", Resource: "persistentvolumes", Name: "any"}, yes}, // admission says which
		"delete a volume":              {"n1", at{Verb: "delete", Resource: "persistentvolumes", Name: "pv"}, no},
		"a volume's status":            {"n1", at{Verb: "patch", Resource: "persistentvolumes", Subresource: "status", Name: "pv"}, no},
		"delete local volumes":         {"n1", at{Verb: "deletecollection", Resource: "persistentvolumes", Labels: labelling("canopus.io/node=n1")}, no},
		"unused configmap":             {"n1", at{Verb: "get", Resource: "configmaps", Namespace: "a", Name: "pull"}, no},
		"claim":                        {"n1", at{Verb: "get", Resource: "persistentvolumeclaims", Namespace: "a", Name: "data"}, yes},
		"claim of an ephemeral volume": {"n1", at{Verb: "get", Resource: "persistentvolumeclaims", Namespace: "a", Name: "web-e"}, yes},
		"claim's status":               {"n1", at{Verb: "patch", Resource: "persistentvolumeclaims", Subresource: "status", Namespace: "a", Name: "data"}, yes},
		"volume":                       {"n1", at{Verb: "get", Resource: "persistentvolumes", Name: "pv"}, yes},
		"another node's volume":        {"n2", at{Verb: "get", Resource: "persistentvolumes", Name: "pv"}, no},
		"trust bundles":                {"n1", at{Verb: "watch", Group: "certificates.k8s.io", Resource: "clustertrustbundles"}, yes},
		"write a trust bundle":         {"n1", at{Verb: "update", Group: "certificates.k8s.io", Resource: "clustertrustbundles", Name: "x"}, no},
		"ask for a pod's certificate":  {"n1", at{Verb: "create", Group: "certificates.k8s.io", Resource: "podcertificaterequests", Namespace: "a"}, yes},
		"what it asked for":            {"n1", at{Verb: "watch", Group: "certificates.k8s.io", Resource: "podcertificaterequests", Fields: selecting("spec.nodeName", "n1")}, yes},
		"what another asked for":       {"n1", at{Verb: "watch", Group: "certificates.k8s.io", Resource: "podcertificaterequests", Fields: selecting("spec.nodeName", "n2")}, no},
		"what all asked for":           {"n1", at{Verb: "list", Group: "certificates.k8s.io", Resource: "podcertificaterequests"}, no},
		"issue what it asked for":      {"n1", at{Verb: "update", Group: "certificates.k8s.io", Resource: "podcertificaterequests", Subresource: "status", Namespace: "a", Name: "x"}, no},
		"resource claim":               {"n1", at{Verb: "get", Group: "resource.k8s.io", Resource: "resourceclaims", Namespace: "a", Name: "gpu"}, yes},
		"token of its pods' account":   {"n1", at{Verb: "create", Resource: "serviceaccounts", Subresource: "token", Namespace: "a", Name: "bot"}, yes},
		"token of another account":     {"n1", at{Verb: "create", Resource: "serviceaccounts", Subresource: "token", Namespace: "a", Name: "default"}, no},
		"token, another node":          {"n3", at{Verb: "create", Resource: "serviceaccounts", Subresource: "token", Namespace: "a", Name: "bot"}, no},
		"account":                      {"n1", at{Verb: "get", Resource: "serviceaccounts", Namespace: "a", Name: "bot"}, yes},
		"its pod":                      {"n1", at{Verb: "get", Resource: "pods", Namespace: "a", Name: "web"}, yes},
		"another's pod":                {"n2", at{Verb: "get", Resource: "pods", Namespace: "a", Name: "web"}, no},
		"its pods":                     {"n1", at{Verb: "list", Resource: "pods", Fields: selecting("spec.nodeName", "n1")}, yes},
		"its pods, watched":            {"n1", at{Verb: "watch", Resource: "pods", Fields: selecting("spec.nodeName", "n1")}, yes},
		"another's pods":               {"n1", at{Verb: "list", Resource: "pods", Fields: selecting("spec.nodeName", "n2")}, no},
		"all pods":                     {"n1", at{Verb: "list", Resource: "pods"}, no},
		"pod status":                   {"n1", at{Verb: "patch", Resource: "pods", Subresource: "status", Namespace: "a", Name: "web"}, yes},
		"exec":                         {"n1", at{Verb: "create", Resource: "pods", Subresource: "exec", Namespace: "a", Name: "web"}, no},
		"evict":                        {"n1", at{Verb: "create", Resource: "pods", Subresource: "eviction", Namespace: "a", Name: "web"}, yes},
		"delete pods at once":          {"n1", at{Verb: "deletecollection", Resource: "pods", Namespace: "a"}, no},
		"itself":                       {"n1", at{Verb: "get", Resource: "nodes", Name: "n1"}, yes},
		"its status":                   {"n1", at{Verb: "patch", Resource: "nodes", Subresource: "status", Name: "n1"}, yes},
		"another's status":             {"n1", at{Verb: "patch", Resource: "nodes", Subresource: "status", Name: "n2"}, no},
		"registration":                 {"n1", at{Verb: "create", Resource: "nodes"}, yes},
		"itself, watched":              {"n1", at{Verb: "watch", Resource: "nodes", Fields: selecting("metadata.name", "n1")}, yes},
		"another node":                 {"n1", at{Verb: "get", Resource: "nodes", Name: "n2"}, no},
		"all nodes":                    {"n1", at{Verb: "list", Resource: "nodes"}, no},
		"delete itself":                {"n1", at{Verb: "delete", Resource: "nodes", Name: "n1"}, no},
		"proxy to itself":              {"n1", at{Verb: "get", Resource: "nodes", Subresource: "proxy", Name: "n1"}, no},
		"its lease":                    {"n1", at{Verb: "update", Group: "coordination.k8s.io", Resource: "leases", Namespace: "kube-node-lease", Name: "n1"}, yes},
		"a new lease":                  {"n1", at{Verb: "create", Group: "coordination.k8s.io", Resource: "leases", Namespace: "kube-node-lease"}, yes},
		"another's lease":              {"n1", at{Verb: "get", Group: "coordination.k8s.io", Resource: "leases", Namespace: "kube-node-lease", Name: "n2"}, no},
		"a leader's lease":             {"n1", at{Verb: "update", Group: "coordination.k8s.io", Resource: "leases", Namespace: "kube-system", Name: "n1"}, no},
		"CSI node":                     {"n1", at{Verb: "update", Group: "storage.k8s.io", Resource: "csinodes", Name: "n1"}, yes},
		"another's CSI node":           {"n1", at{Verb: "update", Group: "storage.k8s.io", Resource: "csinodes", Name: "n2"}, no},
		"its resource slices":          {"n1", at{Verb: "list", Group: "resource.k8s.io", Resource: "resourceslices", Fields: selecting("spec.nodeName", "n1")}, yes},
		"all resource slices":          {"n1", at{Verb: "list", Group: "resource.k8s.io", Resource: "resourceslices"}, no},
		"services":                     {"n1", at{Verb: "watch", Resource: "services"}, yes},
		"events":                       {"n1", at{Verb: "create", Group: "events.k8s.io", Resource: "events", Namespace: "a"}, yes},
		"token review":                 {"n1", at{Verb: "create", Group: "authentication.k8s.io", Resource: "tokenreviews"}, yes},
		"deployments":                  {"n1", at{Verb: "list", Group: "apps", Resource: "deployments"}, no},
		"cluster roles":                {"n1", at{Verb: "get", Group: "rbac.authorization.k8s.io", Resource: "clusterroles", Name: "x"}, no},
	} {
		c.at.IsResource = true
		c.at.User = &auth.User{Name: "system:node:" + c.node, Groups: []string{auth.NodesGroup}}
		d, reason, err := a.Authorize(t.Context(), &c.at)
		if (d == auth.Allow) != c.want || err != nil || (d != auth.Allow && reason == "") {
			t.Errorf("%s: %v %q %v", name, d, reason, err)
		}
	}
}

func TestOthersAreNotItsBusiness(t *testing.T) {
	t.Parallel()
	a := testAuthorizer()
	for _, u := range []*auth.User{nil, {Name: "alice"}, {Name: "system:node:n1"}, {Name: "n1", Groups: []string{auth.NodesGroup}}} {
		d, reason, err := a.Authorize(t.Context(), &auth.Attributes{User: u, IsResource: true, Verb: "get", Resource: "secrets", Namespace: "a", Name: "vol"})
		if d != auth.NoOpinion || reason != "" || err != nil {
			t.Errorf("%+v: %v %q", u, d, reason)
		}
	}
}

func TestGraphFollowsPods(t *testing.T) {
	t.Parallel()
	g := newGraph()
	h := g.podHandler()
	secret := ref{"secrets", "a", "vol"}
	check := func(step, node string, want bool) {
		t.Helper()
		if g.uses(node, secret) != want {
			t.Errorf("%s: node %s uses the secret: %v", step, node, !want)
		}
	}
	pending, bound, second := testPod("a", "web", ""), testPod("a", "web", "n1"), testPod("a", "two", "n1")
	h.OnAdd(pending, false)
	check("pending", "n1", false)
	h.OnUpdate(pending, bound)
	check("bound", "n1", true)
	h.OnAdd(second, false)
	h.OnDelete(bound)
	check("one of two deleted", "n1", true)
	h.OnDelete(cache.DeletedFinalStateUnknown{Key: "a/two", Obj: second})
	check("both deleted", "n1", false)
	if len(g.pods)+len(g.nodes) != 0 {
		t.Errorf("left behind: %v %v", g.pods, g.nodes)
	}
	h.OnAdd(bound, false)
	extended := testPod("a", "web", "n1")
	extended.Status.ExtendedResourceClaimStatus = &corev1.PodExtendedResourceClaimStatus{ResourceClaimName: "made"}
	h.OnUpdate(bound, extended)
	if !g.uses("n1", ref{"resourceclaims", "a", "made"}) {
		t.Error("the claim made for extended resources is not its node's business")
	}
	h.OnDelete(extended)
	again := testPod("a", "web", "n2")
	again.UID = "other"
	h.OnAdd(bound, false)
	h.OnUpdate(bound, again)
	check("made again elsewhere", "n1", false)
	check("made again elsewhere", "n2", true)
}

func TestReferences(t *testing.T) {
	t.Parallel()
	if got := References(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "b"}}); got != "" {
		t.Errorf("a bare pod references %s", got)
	}
	p := &corev1.Pod{Spec: corev1.PodSpec{ImagePullSecrets: []corev1.LocalObjectReference{{Name: "x"}}}}
	p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"}
	if got := References(p); got != "secrets" {
		t.Errorf("got %q", got)
	}
}

// BenchmarkAuthorize asks for a secret on a node with 100 pods, of 1,000 nodes.
// TestAuthorizeAwaitsThePod: the node may have seen its pod before the authorizer has.
func TestAuthorizeAwaitsThePod(t *testing.T) {
	t.Parallel()
	a := testAuthorizer()
	at := &auth.Attributes{
		User:       &auth.User{Name: auth.NodeUserPrefix + "n3", Groups: []string{auth.NodesGroup}},
		IsResource: true, Verb: "get", Resource: "secrets", Namespace: "c", Name: "vol",
	}
	decided := make(chan auth.Decision, 1)
	go func() {
		d, _, _ := a.Authorize(t.Context(), at)
		decided <- d
	}()
	for waits := false; !waits; { // until the authorizer waits, or has decided without
		a.graph.mu.Lock()
		waits = a.graph.more != nil
		a.graph.mu.Unlock()
		select {
		case d := <-decided:
			t.Fatalf("decided %v before the pod was seen", d)
		default:
			runtime.Gosched()
		}
	}
	a.graph.setPod(testPod("c", "other", "n4"))
	a.graph.setPod(testPod("c", "late", "n3"))
	if d := <-decided; d != auth.Allow {
		t.Errorf("decided %v once the pod was there", d)
	}
}

func BenchmarkAuthorize(b *testing.B) {
	a := testAuthorizer()
	for n := range 1000 {
		for p := range 10 {
			a.graph.setPod(testPod(fmt.Sprintf("ns-%d", p), fmt.Sprintf("pod-%d", n), fmt.Sprintf("node-%d", n)))
		}
	}
	at := &auth.Attributes{
		User:       &auth.User{Name: "system:node:node-7", Groups: []string{auth.NodesGroup, auth.AuthenticatedGroup}},
		IsResource: true, Verb: "get", Resource: "secrets", Namespace: "ns-3", Name: "vol",
	}
	b.ReportAllocs()
	for b.Loop() {
		if d, _, _ := a.Authorize(b.Context(), at); d != auth.Allow {
			b.Fatal("refused")
		}
	}
}
