//go:build parity

package rbac

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"canopus/internal/auth/policy"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// foreign are objects of the published data that belong to another distribution.
func foreign(name string) bool {
	return name == "system:openshift:public-info-viewer" || name == "system:controller:service-ca-cert-publisher" || strings.HasPrefix(name, "canopus:") || name == "system:controller:storage-version-migrator-controller" || name == "system:controller:local-volume-controller" || name == "system:controller:ip-address-repair-controller" ||
		name == "system:cluster-trust-bundle-discovery" || name == "system:controller:podcertificaterequestcleaner" ||
		name == "system:controller:kube-apiserver-serving-clustertrustbundle-publisher" // newer than the published data
}

// published reads lists of one kind from the files of $SPEC/rbac.
func published[T any](t *testing.T, files ...string) []T {
	t.Helper()
	var all []T
	for _, f := range files {
		raw, err := os.ReadFile(filepath.Join(os.Getenv("SPEC"), "rbac", f))
		if err != nil {
			t.Fatalf("set SPEC to the directory of the published data: %v", err)
		}
		var list struct{ Items []T }
		if err := yaml.Unmarshal(raw, &list); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		all = append(all, list.Items...)
	}
	return all
}

// compare wants the same objects on both sides, but for those of others.
func compare[T any](t *testing.T, want, got []T, meta func(*T) *metav1.ObjectMeta) {
	t.Helper()
	index := func(list []T) map[string]*T {
		m := map[string]*T{}
		for i := range list {
			if o := meta(&list[i]); !foreign(o.Name) {
				m[o.Namespace+"/"+o.Name] = &list[i]
			}
		}
		return m
	}
	w, g := index(want), index(got)
	for name := range g {
		if w[name] == nil {
			t.Errorf("%s is ours alone", name)
		}
	}
	for name, o := range w {
		switch {
		case g[name] == nil:
			t.Errorf("%s is missing", name)
		case !reflect.DeepEqual(o, g[name]):
			t.Errorf("%s differs:\npublished %+v\nours      %+v", name, *o, *g[name])
		}
	}
}

func TestClusterRoles(t *testing.T) {
	want := published[rbacv1.ClusterRole](t, "cluster-roles.yaml", "controller-roles.yaml")
	got := policy.ClusterRoles()
	for i := range got {
		got[i].TypeMeta = metav1.TypeMeta{APIVersion: "rbac.authorization.k8s.io/v1", Kind: "ClusterRole"}
		if got[i].AggregationRule != nil {
			got[i].Rules = nil // published as the aggregation controller finds them
		}
	}
	compare(t, want, got, func(r *rbacv1.ClusterRole) *metav1.ObjectMeta { return &r.ObjectMeta })
}

func TestRoles(t *testing.T) {
	got := policy.Roles()
	for i := range got {
		got[i].TypeMeta = metav1.TypeMeta{APIVersion: "rbac.authorization.k8s.io/v1", Kind: "Role"}
	}
	compare(t, published[rbacv1.Role](t, "namespace-roles.yaml"), got, func(r *rbacv1.Role) *metav1.ObjectMeta { return &r.ObjectMeta })
}

func TestClusterRoleBindings(t *testing.T) {
	got := policy.ClusterRoleBindings()
	for i := range got {
		got[i].TypeMeta = metav1.TypeMeta{APIVersion: "rbac.authorization.k8s.io/v1", Kind: "ClusterRoleBinding"}
	}
	compare(t, published[rbacv1.ClusterRoleBinding](t, "cluster-role-bindings.yaml", "controller-role-bindings.yaml"), got,
		func(r *rbacv1.ClusterRoleBinding) *metav1.ObjectMeta { return &r.ObjectMeta })
}

func TestRoleBindings(t *testing.T) {
	got := policy.RoleBindings()
	for i := range got {
		got[i].TypeMeta = metav1.TypeMeta{APIVersion: "rbac.authorization.k8s.io/v1", Kind: "RoleBinding"}
	}
	compare(t, published[rbacv1.RoleBinding](t, "namespace-role-bindings.yaml"), got, func(r *rbacv1.RoleBinding) *metav1.ObjectMeta { return &r.ObjectMeta })
}
