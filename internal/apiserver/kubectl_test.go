package apiserver_test

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"canopus/internal/apiserver"
	"canopus/internal/apiserver/apitest"
	"canopus/internal/kinds"
	"canopus/internal/kinds/builtin"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// kubectl returns a function that runs kubectl against s, the one that is built with canopus or else the machine's; stdin may be
// empty.
func kubectl(t *testing.T, s *apitest.Server) func(stdin string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath("../../runtime/out/bin/kubectl")
	if err != nil {
		if path, err = exec.LookPath("kubectl"); err != nil {
			t.Skip("no kubectl: run `make bundle`")
		}
	}
	config := clientcmdapi.NewConfig()
	config.Clusters["c"] = &clientcmdapi.Cluster{Server: s.Admin.Host, CertificateAuthorityData: s.Admin.CAData}
	config.AuthInfos["u"] = &clientcmdapi.AuthInfo{Token: s.Admin.BearerToken}
	config.Contexts["x"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "u", Namespace: "default"}
	config.CurrentContext = "x"
	dir := t.TempDir()
	file := filepath.Join(dir, "kubeconfig")
	if err := clientcmd.WriteToFile(*config, file); err != nil {
		t.Fatal(err)
	}
	return func(stdin string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), path, append([]string{"--kubeconfig", file, "--cache-dir", dir}, args...)...)
		cmd.Stdin = strings.NewReader(stdin)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Run(); err != nil {
			t.Errorf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out.String())
		}
		return out.String()
	}
}

const twoObjects = `
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, labels: {app: web}}
data: {colour: blue}
---
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  containers: [{name: c, image: nginx}]
`

func TestKubectl(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t)
	run := kubectl(t, s)
	for _, c := range []struct {
		stdin string
		args  string
		want  string
	}{
		{twoObjects, "apply -f -", "configmap/settings created"},
		{twoObjects, "apply -f -", "configmap/settings unchanged"},
		{strings.Replace(twoObjects, "blue", "green", 1), "apply -f -", "configmap/settings configured"},
		{twoObjects, "apply --server-side --force-conflicts --field-manager=other -f -", "configmap/settings serverside-applied"},
		{"", "get configmap settings", "settings   1"},
		{"", "get configmap settings -o jsonpath={.data.colour}", "blue"},
		{"", "get configmaps,pods -l app=web -o name", "pod/web"},
		{"", "get all -o name", "pod/web"},
		{"", "get pods", "NAME   READY   STATUS"},
		{"", "get pods -o wide", "NOMINATED NODE"},
		{"", "get pods -o yaml", "restartPolicy: Always"},
		{"", "label configmap settings tier=front", "configmap/settings labeled"},
		{"", "annotate pod web note=x", "pod/web annotated"},
		{"", `patch configmap settings --type=json -p [{"op":"replace","path":"/data/colour","value":"red"}]`, "configmap/settings patched"},
		{"", "describe pod web", "Containers:"},
		{"", "api-resources", "configmaps"},
		{"", "api-versions", "rbac.authorization.k8s.io/v1"},
		{"", "explain pod.spec.containers", "DESCRIPTION"},
		{"", "auth can-i create pods", "yes"},
		{"", "auth whoami", "admin"},
		{"", "version", "v1.37.2"},
		{"", "get --raw /readyz?verbose", "[+]etcd ok"},
		{"", "delete pod web --now=false --grace-period=0 --force", "pod \"web\" force deleted"},
		{"", "delete configmap settings", `configmap "settings" deleted`},
		{"", "get configmaps", "No resources found in default namespace."},
	} {
		if got := run(c.stdin, strings.Fields(c.args)...); !strings.Contains(got, c.want) {
			t.Errorf("kubectl %s: want %q in\n%s", c.args, c.want, got)
		}
	}
}

// TestKubectlKnowsEveryKind: kubectl lists each kind with its short names, gets it and explains it, in each version.
func TestKubectlKnowsEveryKind(t *testing.T) {
	t.Parallel()
	set := builtin.Whole()
	s := apitest.Start(t, func(c *apiserver.Config) { c.Kinds = set })
	run := kubectl(t, s)
	listed := map[string]bool{} // by what a line of the table says, its blanks made one
	for line := range strings.Lines(run("", "api-resources", "--no-headers", "-o", "wide")) {
		listed[strings.Join(strings.Fields(line), " ")] = true
	}
	if got := run("", "get", "all"); !strings.Contains(got, "No resources found") {
		t.Errorf("get all: %s", got)
	}
	preferred := map[schema.GroupResource]bool{}
	for _, v := range set.Served() {
		gr := v.GVR().GroupResource()
		if !preferred[gr] { // the hub comes first, as in discovery
			preferred[gr] = true
			if line := apiResource(v); !listed[line] {
				t.Errorf("not listed: %s", line)
			}
			if slices.Contains(v.Kind.Verbs, "list") && !v.Kind.Virtual {
				run("", "get", gr.String(), "-A", "-o", "wide")
			}
		}
		got := run("", "explain", v.Kind.Plural, "--api-version="+v.GVK.GroupVersion().String())
		if !strings.Contains(got, "KIND:       "+v.GVK.Kind+"\n") || strings.Contains(got, "<empty>") || !strings.Contains(got, "\n  apiVersion\t<string>\n") {
			t.Errorf("explain %s:\n%s", v.GVR(), got)
		}
	}
	if len(listed) != len(preferred) {
		t.Errorf("%d kinds are listed, %d are served", len(listed), len(preferred))
	}
}

// apiResource is what kubectl api-resources -o wide says of a kind.
func apiResource(v kinds.Served) string {
	words := []string{v.Kind.Plural}
	if len(v.Kind.ShortNames) > 0 {
		words = append(words, strings.Join(v.Kind.ShortNames, ","))
	}
	words = append(words, v.GVK.GroupVersion().String(), strconv.FormatBool(v.Kind.Namespaced), v.GVK.Kind, strings.Join(v.Kind.Verbs, ","))
	if len(v.Kind.Categories) > 0 {
		words = append(words, strings.Join(v.Kind.Categories, ","))
	}
	return strings.Join(words, " ")
}
