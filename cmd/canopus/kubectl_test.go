package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestKubectlWithoutACluster(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("KUBECONFIG", "")
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	admins := filepath.Join(t.TempDir(), "kubeconfig")
	cfg := config{kubeconfig: admins}
	said := func(args string) string {
		if err := someCluster(&cfg, strings.Fields(args)); err != nil {
			return err.Error()
		}
		return ""
	}
	if text := said("get pods"); !strings.Contains(text, "start one with 'canopus up'") {
		t.Errorf("nothing is set up: %q", text)
	}
	for _, args := range []string{"", "version --client", "config view", "get pods --kubeconfig=x", "get pods --server x", "get -s x pods", "create job --help"} {
		if text := said(args); text != "" {
			t.Errorf("%s: %q", args, text)
		}
	}
	if err := os.WriteFile(admins, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if text := said("get pods"); !strings.Contains(text, "sudo") {
		t.Errorf("the admin's kubeconfig may not be read: %q", text)
	}
	if err := os.MkdirAll(filepath.Join(home, ".kube"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, ".kube", "config"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if text := said("get pods"); text != "" {
		t.Errorf("the user has a kubeconfig: %q", text)
	}
}
