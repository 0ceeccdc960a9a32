package builtin_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"canopus/internal/kinds"
	"canopus/internal/kinds/builtin"
)

var update = flag.Bool("update", false, "write testdata/shown.txt anew")

// TestShown compares how kinds are shown and selected with testdata/shown.txt: the columns of kubectl get, in brackets those
// that only -o wide shows, and the fields that --field-selector knows besides name and namespace. Scripts cut these columns
// out by number and select by these fields, so they are upstream's.
func TestShown(t *testing.T) {
	t.Parallel()
	const file = "testdata/shown.txt"
	var b strings.Builder
	for _, k := range builtin.Whole().Kinds() {
		if !slices.Contains(k.Verbs, "list") {
			continue
		}
		fmt.Fprintf(&b, "%s\n    %s\n", k.GroupResource(), columns(k))
		if len(k.Fields) > 0 {
			fmt.Fprintf(&b, "    by %s\n", strings.Join(slices.Sorted(maps.Keys(k.Fields)), " "))
		}
	}
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("shown is\n%s\nwant what %s says (go test -update writes it anew)", b.String(), file)
	}
}

// columns lists the names of a kind's columns as kubectl writes them.
func columns(k *kinds.Kind) string {
	var out []string
	for _, c := range k.Columns {
		name := strings.ReplaceAll(strings.ToUpper(c.Name), " ", "-")
		if c.Priority > 0 {
			name = "[" + name + "]"
		}
		out = append(out, name)
	}
	return strings.Join(out, " ")
}

// TestSelectableFields reads the fields that are not simply a field of the object.
func TestSelectableFields(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ object, field, want string }{
		{`{apiVersion: v1, kind: Pod}`, "spec.hostNetwork", "false"},
		{`{apiVersion: v1, kind: Pod, spec: {hostNetwork: true}}`, "spec.hostNetwork", "true"},
		{`{apiVersion: v1, kind: Pod, status: {podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}, {ip: "fd00::1"}]}}`, "status.podIP", "10.0.0.1"},
		{`{apiVersion: v1, kind: Pod, status: {podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}, {ip: "fd00::1"}]}}`, "status.podIPs", "10.0.0.1,fd00::1"},
		{`{apiVersion: v1, kind: Node}`, "spec.unschedulable", "false"},
		{`{apiVersion: v1, kind: Node, spec: {unschedulable: true}}`, "spec.unschedulable", "true"},
		{`{apiVersion: v1, kind: Event, source: {component: kubelet}}`, "source", "kubelet"},
		{`{apiVersion: v1, kind: Event, reportingComponent: kubelet}`, "source", "kubelet"},
		{`{apiVersion: v1, kind: Event, reportingComponent: kubelet}`, "reportingComponent", "kubelet"},
		{`{apiVersion: v1, kind: Event, involvedObject: {kind: Pod, uid: u}}`, "involvedObject.uid", "u"},
		{`{apiVersion: v1, kind: Event, involvedObject: {kind: Pod}}`, "regarding.kind", "Pod"},
		{`{apiVersion: batch/v1, kind: Job, status: {succeeded: 2}}`, "status.successful", "2"},
		{`{apiVersion: apps/v1, kind: ReplicaSet, status: {replicas: 2}}`, "status.replicas", "2"},
		{`{apiVersion: v1, kind: ReplicationController, status: {replicas: 2}}`, "status.replicas", "2"},
		{`{apiVersion: v1, kind: Secret}`, "type", "Opaque"},
	} {
		k, obj := parse(t, tc.object)
		k.Default(obj)
		if get := k.Fields[tc.field]; get == nil || get(obj) != tc.want {
			t.Errorf("%s of %s is not %q", tc.field, tc.object, tc.want)
		}
	}
}

// parse returns the kind and the object that a manifest says.
func parse(t *testing.T, manifest string) (*kinds.Kind, kinds.Object) {
	t.Helper()
	var meta struct{ APIVersion, Kind string }
	if err := yaml.Unmarshal([]byte(manifest), &meta); err != nil {
		t.Fatal(err)
	}
	served, ok := builtin.Set().Kind(schema.FromAPIVersionAndKind(meta.APIVersion, meta.Kind))
	if !ok {
		t.Fatalf("%s %s is not served", meta.APIVersion, meta.Kind)
	}
	obj := served.Kind.New().(kinds.Object)
	if err := yaml.UnmarshalStrict([]byte(manifest), obj); err != nil {
		t.Fatalf("%s: %v", manifest, err)
	}
	return served.Kind, obj
}
