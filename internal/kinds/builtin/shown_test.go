package builtin_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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

// TestCells shows one object of a kind as kubectl get -o wide does, two hours after it was made.
func TestCells(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 2, 0, 0, 0, time.UTC)
	const containers = "containers: [{name: c, image: i}, {name: d, image: j}]"
	for manifest, want := range map[string]string{
		`{apiVersion: apps/v1, kind: DaemonSet, spec: {selector: {matchLabels: {a: b}}, template: {spec: {nodeSelector: {x: z}, ` + containers + `}}},
		   status: {desiredNumberScheduled: 5, currentNumberScheduled: 4, numberReady: 3, updatedNumberScheduled: 2, numberAvailable: 1}}`: "a|5|4|3|2|1|x=z|120m|c,d|i,j|a=b",
		`{apiVersion: apps/v1, kind: StatefulSet, spec: {replicas: 3, template: {spec: {` + containers + `}}}, status: {readyReplicas: 2}}`: "a|2/3|120m|c,d|i,j",
		`{apiVersion: apps/v1, kind: ReplicaSet, spec: {replicas: 3, selector: {matchExpressions: [{key: a, operator: In, values: [b, c]}]}, template: {spec: {` + containers + `}}},
		   status: {replicas: 2, readyReplicas: 1}}`: "a|3|2|1|120m|c,d|i,j|a in (b,c)",
		`{apiVersion: apps/v1, kind: ControllerRevision, revision: 7, metadata: {ownerReferences: [{apiVersion: apps/v1, kind: DaemonSet, name: d, controller: true}]}}`:        "a|daemonset.apps/d|7|120m",
		`{apiVersion: v1, kind: ReplicationController, spec: {replicas: 3, selector: {a: b}, template: {spec: {` + containers + `}}}, status: {replicas: 2, readyReplicas: 1}}`: "a|3|2|1|120m|c,d|i,j|a=b",
		`{apiVersion: batch/v1, kind: CronJob, spec: {schedule: "* * * * *", timeZone: Etc/UTC, suspend: true, jobTemplate: {spec: {template: {spec: {` + containers + `}}}}},
		   status: {active: [{}], lastScheduleTime: "2026-01-01T01:59:00Z"}}`: "a|* * * * *|Etc/UTC|true|1|60s|120m|c,d|i,j|<none>",
		`{apiVersion: batch/v1, kind: Job, spec: {completions: 3, template: {spec: {` + containers + `}}},
		   status: {succeeded: 2, startTime: "2026-01-01T00:00:00Z", completionTime: "2026-01-01T00:01:30Z", conditions: [{type: Suspended, status: "True"}]}}`: "a|Suspended|2/3|90s|120m|c,d|i,j|<none>",
		`{apiVersion: v1, kind: ResourceQuota, status: {hard: {pods: 5, limits.cpu: 2}, used: {pods: 1}}}`:                                     "a|pods: 1/5|limits.cpu: 0/2|120m",
		`{apiVersion: v1, kind: Endpoints, subsets: [{addresses: [{ip: 10.0.0.1}, {ip: 10.0.0.2}], ports: [{port: 80}, {port: 81}]}]}`:         "a|10.0.0.1:80,10.0.0.2:80,10.0.0.1:81 + 1 more...|120m",
		`{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, ports: [{port: 80}], endpoints: [{addresses: [10.0.0.1]}]}`: "a|IPv4|80|10.0.0.1|120m",
		`{apiVersion: v1, kind: PodTemplate, template: {metadata: {labels: {a: b}}, spec: {` + containers + `}}}`:                              "a|c,d|i,j|a=b",
		`{apiVersion: policy/v1, kind: PodDisruptionBudget, spec: {maxUnavailable: 10%}, status: {disruptionsAllowed: 2}}`:                     "a|N/A|10%|2|120m",
		`{apiVersion: v1, kind: Service, spec: {type: ExternalName, externalName: b.c}}`:                                                       "a|ExternalName|<none>|b.c|<none>|120m|<none>",
		`{apiVersion: coordination.k8s.io/v1, kind: Lease, spec: {holderIdentity: me}}`:                                                        "a|me|120m",
		`{apiVersion: networking.k8s.io/v1, kind: IPAddress, spec: {parentRef: {resource: services, namespace: m, name: s}}}`:                  "a|services/m/s|120m",
	} {
		k, obj := parse(t, manifest)
		obj.SetName("a")
		obj.SetCreationTimestamp(metav1.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
		k.Default(obj)
		var cells []string
		for _, c := range k.Cells(obj, now) {
			cells = append(cells, fmt.Sprint(c))
		}
		if got := strings.Join(cells, "|"); got != want {
			t.Errorf("%s: %s, want %s", k.GVK.Kind, got, want)
		}
	}
}
