package containerd_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"canopus/internal/bundle"
	"canopus/internal/containerd"
	"canopus/internal/ociimage"
	"canopus/internal/testns"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/clock"
)

func TestMain(m *testing.M) { os.Exit(testns.Run(m)) }

const shellImage = "canopus.local/test:1"

// rig is one containerd with directories of its own.
type rig struct {
	config containerd.Config
	cgroup string
}

func newRig(t *testing.T) *rig {
	t.Helper()
	testns.Require(t)
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Skip("needs busybox: apt-get install busybox-static")
	}
	packed, err := bundle.Embedded()
	if err != nil {
		t.Fatal(err)
	}
	data := t.TempDir()
	bin := filepath.Join(data, "bin")
	if err := packed.Unpack(bin); errors.Is(err, bundle.ErrMissing) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	state, err := os.MkdirTemp("/run", "cn") // short, for the sockets in it
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{cgroup: filepath.Base(state), config: containerd.Config{
		Bin: bundle.Current(bin), Bundled: bundle.Images(bin), Root: filepath.Join(data, "containerd"), State: state,
		LogFile: filepath.Join(data, "log", "containerd.log"), CNIConf: filepath.Join(data, "cni"),
		Registries: filepath.Join(data, "registries"), ImageDirs: []string{filepath.Join(data, "images")},
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Clock: clock.RealClock{},
	}}
	r.write(t, r.config.CNIConf, "10-test.conflist", []byte(conflist(data)))
	img, err := ociimage.Busybox(shellImage, busybox)
	if err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	if err := ociimage.Write(&archive, img); err != nil {
		t.Fatal(err)
	}
	r.write(t, r.config.ImageDirs[0], "test.tar", archive.Bytes())
	r.write(t, r.config.ImageDirs[0], "broken.tar", []byte("no archive"))
	t.Cleanup(func() {
		if err := r.new(t).Reset(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
		r.removeCgroups()
	})
	return r
}

func conflist(data string) string {
	return fmt.Sprintf(`{"cniVersion":"1.0.0","name":"test","plugins":[{"type":"bridge","bridge":"ct0","isDefaultGateway":true,"hairpinMode":true,
"ipam":{"type":"host-local","dataDir":%q,"ranges":[[{"subnet":"10.99.7.0/24"}]]}},{"type":"portmap","capabilities":{"portMappings":true},"backend":"nftables"}]}`, data+"/ipam")
}

func (r *rig) write(t *testing.T, dir, name string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func (r *rig) removeCgroups() {
	roots, _ := filepath.Glob("/sys/fs/cgroup/*/" + r.cgroup)
	for _, root := range append(roots, "/sys/fs/cgroup/"+r.cgroup) {
		var dirs []string
		_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
		for _, d := range slices.Backward(dirs) {
			_ = os.Remove(d)
		}
	}
}

func (r *rig) new(t *testing.T) *containerd.Runtime {
	t.Helper()
	rt, err := containerd.New(r.config)
	if err != nil {
		t.Fatal(err)
	}
	return rt
}

// run runs a supervisor until the returned function is called.
func (r *rig) run(t *testing.T) (stop func()) {
	t.Helper()
	rt := r.new(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- rt.Run(ctx) }()
	select {
	case <-rt.Ready():
	case err := <-done:
		t.Fatalf("containerd: %v", err)
	case <-time.After(time.Minute):
		t.Fatal("containerd is not ready after a minute")
	}
	return func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	}
}

func (r *rig) pid(t *testing.T) int {
	t.Helper()
	s, err := r.config.Status()
	if err != nil || !s.Running || s.RSS == 0 {
		t.Fatalf("status %+v, %v", s, err)
	}
	return s.Pid
}

// pod is one pod made by bare CRI calls.
type pod struct {
	runtime            runtimev1.RuntimeServiceClient
	images             runtimev1.ImageServiceClient
	sandbox, ctr, logs string
	sandboxConfig      *runtimev1.PodSandboxConfig
}

func (r *rig) cri(t *testing.T) (runtimev1.RuntimeServiceClient, runtimev1.ImageServiceClient) {
	t.Helper()
	conn, err := grpc.NewClient(r.config.Endpoint(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return runtimev1.NewRuntimeServiceClient(conn), runtimev1.NewImageServiceClient(conn)
}

func (r *rig) startPod(t *testing.T, name, script string) *pod {
	t.Helper()
	p := &pod{logs: t.TempDir()}
	p.runtime, p.images = r.cri(t)
	p.sandboxConfig = &runtimev1.PodSandboxConfig{
		Metadata:     &runtimev1.PodSandboxMetadata{Name: name, Namespace: "default", Uid: "uid-" + name},
		Hostname:     name,
		LogDirectory: p.logs,
		PortMappings: []*runtimev1.PortMapping{{ContainerPort: 8080, HostPort: 18080}},
		Linux:        &runtimev1.LinuxPodSandboxConfig{CgroupParent: "/" + r.cgroup},
	}
	sandbox, err := p.runtime.RunPodSandbox(t.Context(), &runtimev1.RunPodSandboxRequest{Config: p.sandboxConfig})
	if err != nil {
		t.Fatalf("run sandbox: %v", err)
	}
	p.sandbox = sandbox.PodSandboxId
	p.ctr = p.start(t, &runtimev1.ContainerConfig{
		Metadata: &runtimev1.ContainerMetadata{Name: "main"}, Image: &runtimev1.ImageSpec{Image: shellImage},
		Command: []string{"sh", "-c", script}, LogPath: "main.log", Linux: &runtimev1.LinuxContainerConfig{},
	})
	return p
}

func (p *pod) start(t *testing.T, c *runtimev1.ContainerConfig) string {
	t.Helper()
	made, err := p.runtime.CreateContainer(t.Context(), &runtimev1.CreateContainerRequest{PodSandboxId: p.sandbox, Config: c, SandboxConfig: p.sandboxConfig})
	if err != nil {
		t.Fatalf("create container: %v", err)
	}
	if _, err := p.runtime.StartContainer(t.Context(), &runtimev1.StartContainerRequest{ContainerId: made.ContainerId}); err != nil {
		t.Fatalf("start container: %v", err)
	}
	return made.ContainerId
}

func (p *pod) exec(t *testing.T, command ...string) string {
	t.Helper()
	got, err := p.runtime.ExecSync(t.Context(), &runtimev1.ExecSyncRequest{ContainerId: p.ctr, Cmd: command, Timeout: 10})
	if err != nil || got.ExitCode != 0 {
		t.Fatalf("exec %v: %v, %v", command, got, err)
	}
	return string(got.Stdout)
}

func (p *pod) ip(t *testing.T) string {
	t.Helper()
	s, err := p.runtime.PodSandboxStatus(t.Context(), &runtimev1.PodSandboxStatusRequest{PodSandboxId: p.sandbox})
	if err != nil {
		t.Fatal(err)
	}
	return s.Status.GetNetwork().GetIp()
}

// until calls check until it returns nil.
func until(t *testing.T, what string, check func() error) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(30 * time.Second)
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("%s: %v", what, err)
		}
	}
}

func fetch(url string) (string, error) {
	client := http.Client{Timeout: 2 * time.Second}
	resp, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return string(data), err
}

// TestPod takes a pod through its life, ends and kills the daemon meanwhile, and takes everything down.
func TestPod(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	stop := r.run(t)
	first := r.pid(t)
	p := r.startPod(t, "web", "echo hello; mkdir /www; echo from $HOSTNAME > /www/index.html; exec httpd -f -p 8080 -h /www")

	until(t, "the pod answers on its address", answers("http://"+p.ip(t)+":8080/", "from web\n"))
	if got := p.exec(t, "cat", "/www/index.html"); got != "from web\n" {
		t.Errorf("exec says %q", got)
	}
	until(t, "the log is written", func() error {
		data, err := os.ReadFile(filepath.Join(p.logs, "main.log"))
		if err == nil && !strings.HasSuffix(string(data), " stdout F hello\n") {
			err = fmt.Errorf("it holds %q", data)
		}
		return err
	})

	stop() // canopus ends
	if _, err := fetch("http://" + p.ip(t) + ":8080/"); err != nil {
		t.Errorf("without a supervisor the pod does not answer: %v", err)
	}
	stop = r.run(t) // a new one adopts
	if got := r.pid(t); got != first {
		t.Errorf("process %d was not adopted, there is %d", first, got)
	}
	if err := unix.Kill(first, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	until(t, "a killed containerd is started again", func() error {
		if s, err := r.config.Status(); err != nil || !s.Running || s.Pid == first {
			return fmt.Errorf("status %+v, %w", s, err)
		}
		_, err := p.runtime.Version(t.Context(), &runtimev1.VersionRequest{})
		return err
	})
	if got := p.exec(t, "hostname"); got != "web\n" {
		t.Errorf("after the restart exec says %q", got)
	}
	second := r.pid(t)
	stop()

	r.config.CNIBins = []string{"/opt/cni/bin"} // a changed configuration replaces the daemon
	stop = r.run(t)
	if got := r.pid(t); got == second {
		t.Error("the daemon with the old configuration was adopted")
	}
	if got := p.exec(t, "hostname"); got != "web\n" {
		t.Errorf("after the replacement exec says %q", got)
	}
	if err := r.new(t).Run(t.Context()); err == nil || !strings.Contains(err.Error(), "another canopus") {
		t.Errorf("a second supervisor: %v", err)
	}
	stop()

	if err := r.new(t).Down(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if s, err := r.config.Status(); err != nil || s.Running || s.Shims != 0 {
		t.Errorf("after down: %+v, %v", s, err)
	}
}

func answers(url, want string) func() error {
	return func() error {
		got, err := fetch(url)
		if err == nil && got != want {
			err = fmt.Errorf("got %q, want %q", got, want)
		}
		return err
	}
}

// TestImages looks at what preloading leaves, and that the second time it does nothing.
func TestImages(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	stop := r.run(t)
	_, images := r.cri(t)
	for name, pinned := range map[string]bool{containerd.SandboxImage: true, "canopus.local/demo:1": true, shellImage: false} {
		got, err := images.ImageStatus(t.Context(), &runtimev1.ImageStatusRequest{Image: &runtimev1.ImageSpec{Image: name}})
		if err != nil || got.Image == nil {
			t.Errorf("%s: %v, %v", name, got, err)
		} else if got.Image.Pinned != pinned || got.Image.Size == 0 {
			t.Errorf("%s: pinned %v, size %d", name, got.Image.Pinned, got.Image.Size)
		}
	}
	receipts, err := os.ReadFile(filepath.Join(r.config.Root, "canopus-loaded.json"))
	if err != nil || !json.Valid(receipts) {
		t.Fatalf("receipts %q, %v", receipts, err)
	}
	stop()
	var log bytes.Buffer
	r.config.Log = slog.New(slog.NewTextHandler(&log, nil))
	stop = r.run(t)
	stop()
	if strings.Contains(log.String(), "image archive loaded") {
		t.Errorf("loaded again:\n%s", log.String())
	}
	if !strings.Contains(log.String(), "broken.tar") {
		t.Errorf("the broken archive is not reported:\n%s", log.String())
	}
}

// TestResetWithoutDaemon resets while a pod runs and the daemon does not.
func TestResetWithoutDaemon(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	stop := r.run(t)
	r.startPod(t, "left", "exec sleep 3600")
	stop()
	if err := unix.Kill(r.pid(t), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := r.new(t).Reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s, err := r.config.Status(); err != nil || s.Running || s.Shims != 0 {
		t.Errorf("after reset: %+v, %v", s, err)
	}
	for _, dir := range []string{r.config.Root, r.config.State} {
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", dir, err)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(mounts), r.config.Root) || strings.Contains(string(mounts), r.config.State) {
		t.Errorf("mounts are left, %v", err)
	}
}
