package containerd

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/utils/clock"
)

func config() Config {
	return Config{
		Bin: "/data/bin/current", Root: "/data/containerd", State: "/run/canopus/containerd", LogFile: "/data/log/containerd.log",
		CNIConf: "/data/cni", Registries: "/etc/canopus/registries", Bundled: "/data/bin/current/images",
		Log: slog.New(slog.DiscardHandler), Clock: clock.RealClock{},
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	if _, err := New(config()); err != nil {
		t.Errorf("a good configuration: %v", err)
	}
	for want, spoil := range map[string]func(*Config){
		"Root must be":        func(c *Config) { c.Root = "data" },
		"too long by 7 bytes": func(c *Config) { c.State = "/" + strings.Repeat("s", 45) },
		"snapshotter":         func(c *Config) { c.Snapshotter = "btrfs" },
		"required":            func(c *Config) { c.Clock = nil },
	} {
		c := config()
		spoil(&c)
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
}

func TestRender(t *testing.T) {
	t.Parallel()
	c := config()
	c.CNIBins = []string{"/opt/cni/bin"}
	c.Root = `/da"ta`
	got, err := render(c, host{snapshotter: native, restrictOOM: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`root = "/da\"ta"`, "restrict_oom_score_adj = true", "snapshotter = 'native'", "oom_score = 0",
		`bin_dirs = ["/data/bin/current", "/opt/cni/bin"]`, `BinaryName = "/data/bin/current/runc"`, `sandbox = "canopus.local/pause:1"`,
	} {
		if !strings.Contains(string(got), want) {
			t.Errorf("the configuration lacks %s:\n%s", want, got)
		}
	}
	other, err := render(c, host{snapshotter: overlay})
	if err != nil || digest(other) == digest(got) {
		t.Errorf("another host gives the same digest, %v", err)
	}
}

func TestRestricted(t *testing.T) {
	t.Parallel()
	const full = "Name:\tx\nCapEff:\t000001ffffffffff\n"
	for _, test := range []struct {
		name, status, uids string
		want               bool
	}{
		{"root", full, "0 0 4294967295\n", false},
		{"no CAP_SYS_RESOURCE", "CapEff:\t000001fffeffffff\n", "0 0 4294967295\n", true},
		{"root of a user namespace", full, "0 100000 65536\n", true},
		{"kernel without user namespaces", full, "", false},
	} {
		if got, err := restricted(test.status, test.uids); err != nil || got != test.want {
			t.Errorf("%s: %v, %v, want %v", test.name, got, err, test.want)
		}
	}
	if _, err := restricted("Name: x\n", ""); err == nil {
		t.Error("no capabilities line: no error")
	}
}

func TestStatStart(t *testing.T) {
	t.Parallel()
	got, err := statStart("12 (a) b (c)) S 1 12 12 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 98765 1000 2 rest")
	if err != nil || got != "98765" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := statStart("nonsense"); err == nil {
		t.Error("nonsense accepted")
	}
}

func TestMissing(t *testing.T) {
	t.Parallel()
	at := time.Unix(100, 0)
	loaded := archive{path: "/loaded.tar", size: 1, mtime: at}
	grown := archive{path: "/grown.tar", size: 2, mtime: at}
	gone := archive{path: "/gone.tar", size: 1, mtime: at}
	fresh := archive{path: "/fresh.tar", size: 1, mtime: at}
	known := receipts{Archives: map[string]receipt{
		"/loaded.tar": {Size: 1, Mtime: at, Images: []string{"a"}},
		"/grown.tar":  {Size: 1, Mtime: at, Images: []string{"a"}},
		"/gone.tar":   {Size: 1, Mtime: at, Images: []string{"a", "b"}},
		"/old.tar":    {},
	}}
	all := []archive{loaded, grown, gone, fresh}
	if got := missing(all, known, map[string]bool{"a": true}); !slices.Equal(got, []archive{grown, gone, fresh}) {
		t.Errorf("got %v", got)
	}
	if !known.forget(all) || len(known.Archives) != 3 || known.forget(all) {
		t.Errorf("forget left %v", known.Archives)
	}
}

func TestMountPoint(t *testing.T) {
	t.Parallel()
	if got := mountPoint(`36 35 98:0 /mnt1 /a\040dir/mnt rw,noatime master:1 - ext3 /dev/root rw`); got != "/a dir/mnt" {
		t.Errorf("got %q", got)
	}
}

func TestRotate(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	if err := rotate(path); err != nil {
		t.Errorf("no log yet: %v", err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(make([]byte, logLimit)); err != nil {
		t.Fatal(err)
	}
	if err := rotate(path); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("next\n"); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "next\n" {
		t.Errorf("after the cut the log holds %d bytes, %v", len(got), err)
	}
	if info, err := os.Stat(path + ".1"); err != nil || info.Size() != logLimit {
		t.Errorf("older part: %v, %v", info, err)
	}
}
