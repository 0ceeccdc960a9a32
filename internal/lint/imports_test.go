package lint

import (
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

const module = "canopus/"

// rooms meet through the API only: none imports another. cmd alone knows them all.
var rooms = []string{"apiserver", "scheduler", "controllers", "node", "proxy", "dns", "network", "ingress", "containerd", "cli", "hollow", "usage", "why"}

// leaves import nothing of ours outside themselves.
var leaves = []string{"store", "auth", "kinds", "run", "schedule", "localvolume", "verdict"}

// forbidden are the modules that are the system we write ourselves.
var forbidden = []string{
	"k8s.io/kubernetes",
	"k8s.io/apiserver/pkg/server", "k8s.io/apiserver/pkg/endpoints", "k8s.io/apiserver/pkg/registry", "k8s.io/apiserver/pkg/storage",
	"k8s.io/apiserver/pkg/admission", "k8s.io/apiserver/pkg/audit", "k8s.io/apiserver/pkg/quota", "k8s.io/apiserver/pkg/reconcilers",
	"k8s.io/apiextensions-apiserver/pkg/registry", "k8s.io/apiextensions-apiserver/pkg/controller", "k8s.io/apiextensions-apiserver/pkg/apiserver/conversion",
	"k8s.io/kube-aggregator/pkg/apiserver", "k8s.io/kube-aggregator/pkg/controllers",
	"github.com/google/cadvisor", "github.com/coredns/coredns",
}

// room returns the first folder below internal/ of a package path or folder of ours, or "".
func room(path string) string {
	rest, ok := strings.CutPrefix(strings.TrimPrefix(path, module), "internal/")
	if !ok {
		return ""
	}
	name, _, _ := strings.Cut(rest, "/")
	return name
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

func TestRoomsDoNotImportEachOther(t *testing.T) {
	t.Parallel()
	for _, f := range sources(t) {
		from := room(f.dir())
		if from == "" || f.test() || strings.HasSuffix(f.dir(), "test") {
			continue
		}
		for _, spec := range f.ast.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			to := room(path)
			if to == "" || to == from {
				continue
			}
			if contains(rooms, from) && contains(rooms, to) {
				t.Errorf("%s:%d: room %s imports room %s: rooms meet through the API", f.path, f.line(spec.Pos()), from, to)
			}
			if contains(leaves, from) && !contains(leaves, to) {
				t.Errorf("%s:%d: leaf %s imports %s: leaves import nothing but leaves", f.path, f.line(spec.Pos()), from, to)
			}
		}
	}
}

func TestNobodyImportsTheCommand(t *testing.T) {
	t.Parallel()
	for _, f := range sources(t) {
		for _, spec := range f.ast.Imports {
			if strings.HasPrefix(strings.Trim(spec.Path.Value, `"`), module+"cmd/") {
				t.Errorf("%s:%d: imports cmd", f.path, f.line(spec.Pos()))
			}
		}
	}
}

// TestForbiddenModules looks at everything that is linked, not only at our own import lines.
func TestForbiddenModules(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "./cmd/...", "./internal/...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for _, pkg := range strings.Fields(string(out)) {
		for _, f := range forbidden {
			if pkg == f || strings.HasPrefix(pkg, f+"/") {
				t.Errorf("%s is linked: it is part of what we write ourselves; `go mod why %s` tells who brings it in", pkg, pkg)
			}
		}
	}
}
