package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// started runs a shell script and returns it when it has printed its first line. It is collected when the test ends.
func started(t *testing.T, script string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", append([]string{"-c", script, "sh"}, args...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = cmd.Wait() }() // ends by a signal
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-done })
	return cmd
}

func TestFromLock(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "server.pid")
	if p, err := FromLock("server", path); p != nil || err != nil {
		t.Fatalf("without a file: %v, %v", p, err)
	}
	if err := os.WriteFile(path, []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
		t.Fatal(err)
	}
	if p, err := FromLock("server", path); p != nil || err != nil {
		t.Fatalf("left by a process that was killed: %v, %v", p, err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	p, err := FromLock("server", path)
	if err != nil || p == nil || p.Pid != os.Getpid() {
		t.Fatalf("running: %v, %v", p, err)
	}
	defer p.Close()
	if u := p.Use(); u.RSS == 0 || u.Anon == 0 || u.Uptime < 0 || u.Uptime > time.Hour {
		t.Errorf("use of this process: %+v", u)
	}
}

func TestFromArguments(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keep.pid")
	cmd := started(t, "echo up; while :; do sleep 0.05; done", "-pid", path)
	if err := os.WriteFile(path, []byte(strconv.Itoa(cmd.Process.Pid)), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := FromArguments("keep", path, "-pid", path)
	if err != nil || p == nil || p.Pid != cmd.Process.Pid {
		t.Fatalf("ours: %v, %v", p, err)
	}
	p.Close()
	if p, err := FromArguments("keep", path, "-pid", "/another"); p != nil || err != nil {
		t.Fatalf("a process of somebody else: %v, %v", p, err)
	}
	if err := os.WriteFile(path, []byte("1; rm"), 0o600); err != nil {
		t.Fatal(err)
	}
	if p, err := FromArguments("keep", path, "-pid", path); p != nil || err == nil {
		t.Fatalf("a damaged file: %v, %v", p, err)
	}
}

func TestEnd(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		script string
		killed bool
	}{
		"polite":   {"trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done", false},
		"stubborn": {"trap '' TERM; echo up; while :; do sleep 0.05; done", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := started(t, c.script)
			p, err := hold("it", cmd.Process.Pid)
			if err != nil || p == nil {
				t.Fatal(p, err)
			}
			defer p.Close()
			patience := 20 * time.Second
			if c.killed {
				patience = 300 * time.Millisecond
			}
			killed, err := p.End(t.Context(), patience)
			if err != nil || killed != c.killed || p.Running() {
				t.Errorf("killed %v (want %v), error %v, running %v", killed, c.killed, err, p.Running())
			}
		})
	}
}

func TestUptime(t *testing.T) {
	t.Parallel()
	const stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 12345 1000 10"
	if got := uptime(stat, "200.45 100.00\n"); got.Round(time.Second) != 77*time.Second {
		t.Errorf("got %s", got)
	}
	if got := uptime("damaged", "x"); got != 0 {
		t.Errorf("damaged: %s", got)
	}
}

func TestMountsBelow(t *testing.T) {
	t.Parallel()
	const mounts = `1 0 254:0 / / rw - ext4 /dev/vda rw
2 1 254:1 / /data rw - ext4 /dev/vdb rw
3 1 254:0 /var/lib/kubelet /var/lib/kubelet rw shared:1 - ext4 /dev/vda rw
4 3 0:50 / /var/lib/kubelet/pods/a/v\040x rw - tmpfs tmpfs rw
5 1 0:51 / /database rw - tmpfs tmpfs rw
`
	got := mountsBelow(mounts, []string{"/data", "/var/lib/kubelet"})
	if want := []string{"/var/lib/kubelet", "/var/lib/kubelet/pods/a/v x"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestRemoveDataKeepsWhatIsNotOurs(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	for _, d := range []string{"etcd/member", "bin/1", "images"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	foreign, err := RemoveData(dir)
	if err != nil || !slices.Equal(foreign, []string{filepath.Join(dir, "images")}) {
		t.Fatalf("got %q, %v", foreign, err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left: %v, %v", entries, err)
	}
	if err := os.Remove(filepath.Join(dir, "images")); err != nil {
		t.Fatal(err)
	}
	if foreign, err := RemoveData(dir); err != nil || foreign != nil {
		t.Errorf("got %q, %v", foreign, err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the directory is still there: %v", err)
	}
}

func TestLogsOfOurPodsOnly(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, d := range []string{"pods/demo_web_uid-1", "pods/demo_web_uid-2", "links"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{"ours": "pods/demo_web_uid-1/web/0.log", "theirs": "pods/demo_web_uid-2/web/0.log"} {
		if err := os.Symlink(filepath.Join(dir, target), filepath.Join(dir, "links", link)); err != nil {
			t.Fatal(err)
		}
	}
	logs, err := PodLogs(filepath.Join(dir, "pods"), []string{"uid-1"})
	if want := []string{filepath.Join(dir, "pods/demo_web_uid-1")}; err != nil || !slices.Equal(logs, want) {
		t.Fatalf("got %q, %v", logs, err)
	}
	links, err := LogLinks(filepath.Join(dir, "links"), logs)
	if want := []string{filepath.Join(dir, "links/ours")}; err != nil || !slices.Equal(links, want) {
		t.Errorf("got %q, %v", links, err)
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	if command, flags, err := ReadSettings(dir); command != "" || flags != nil || err != nil {
		t.Fatalf("before: %q, %v, %v", command, flags, err)
	}
	if err := WriteSettings(dir, "server", map[string]string{"port": "7443"}); err != nil {
		t.Fatal(err)
	}
	if command, flags, err := ReadSettings(dir); command != "server" || flags["port"] != "7443" || err != nil {
		t.Errorf("got %q, %v, %v", command, flags, err)
	}
	if err := os.WriteFile(filepath.Join(dir, settingsFile), []byte(`{"version": 2}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := ReadSettings(dir); err == nil {
		t.Error("a later version was accepted")
	}
}

func TestUnitQuotes(t *testing.T) {
	t.Parallel()
	for arg, want := range map[string]string{"--port=1": "--port=1", "a b": `"a b"`, `50%$x"`: `"50%%$$x\""`, "": `""`} {
		if got := quoteUnit(arg); got != want {
			t.Errorf("%q: got %s, want %s", arg, got, want)
		}
	}
	if u := Unit([]string{"/usr/bin/canopus", "server"}, "/log"); !OurUnit(u) || OurUnit("[Unit]\n") {
		t.Error("our unit is not recognised, or another one is")
	}
}
