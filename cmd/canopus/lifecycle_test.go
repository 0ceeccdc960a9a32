package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"canopus/internal/cli"
)

func TestArgumentsForTheServer(t *testing.T) {
	c := upCommand()
	t.Setenv("CANOPUS_MAX_PODS", "50")
	t.Setenv("CANOPUS_PORT", "1")
	if err := c.ParseFlags([]string{"--demo", "--port", "7443", "--tls-san", "a,b", "--tls-san", "c", "--data-dir", "here", "--no-workers"}); err != nil {
		t.Fatal(err)
	}
	got, err := arguments(c.Flags(), serverCommand().Flags())
	if err != nil {
		t.Fatal(err)
	}
	here, err := filepath.Abs("here")
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(got)
	if want := []string{"--data-dir=" + here, "--max-pods=50", "--no-workers=true", "--port=7443", "--tls-san=a,b,c"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := serverCommand().ParseFlags(got); err != nil {
		t.Errorf("the server does not take them: %v", err)
	}
}

func TestRecallPrefersWhatWasGiven(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := cli.WriteSettings(dir, "server", map[string]string{"kubelet-dir": "/srv/kubelet", "port": "7443", "tls-san": "[x]", "gone": "1"}); err != nil {
		t.Fatal(err)
	}
	var cfg config
	c := serverCommand()
	f := c.Flags()
	cfg.dataDir = dir
	if err := f.Set("port", "6444"); err != nil {
		t.Fatal(err)
	}
	if err := recall(f, &cfg, map[string]bool{"port": true}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"kubelet-dir": "/srv/kubelet", "port": "6444", "tls-san": "[]"} {
		if got := f.Lookup(name).Value.String(); got != want {
			t.Errorf("--%s is %s, want %s", name, got, want)
		}
	}
}

func TestLastLinesStartAtTheOffset(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, []byte("old\nnew one\nkeep: it ended\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, want := lastLines(path, 4), []string{"new one", "keep: it ended"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := lastLines(path+".none", 0); got != nil {
		t.Errorf("without a log: %q", got)
	}
	w := crashWatch{log: path, from: 4}
	if err := w.look(); err != nil {
		t.Errorf("one end is no crash loop: %v", err)
	}
	if err := os.WriteFile(path, []byte("old\nkeep: it ended\nx\nkeep: it ended\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := w.look(); err == nil {
		t.Error("two ends were not taken for a crash loop")
	}
}

func TestEveryCommandHasAnExample(t *testing.T) {
	t.Parallel()
	for _, c := range rootCommand().Commands() {
		if !c.Hidden && c.Example == "" {
			t.Errorf("%s has no example", c.Name())
		}
	}
}
