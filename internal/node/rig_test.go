package node_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"canopus/internal/apiserver/apitest"
	"canopus/internal/bundle"
	"canopus/internal/containerd"
	"canopus/internal/node"
	"canopus/internal/ociimage"
	"canopus/internal/testns"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/clock"
)

func TestMain(m *testing.M) { os.Exit(testns.Run(m)) }

const (
	image    = "canopus.local/test:1"
	nodeName = "node-1"
	patience = 60 * time.Second
)

// rig is a machine: a containerd with directories and cgroups of its own, and the API that its agent talks to.
type rig struct {
	api    *apitest.Server
	tokens *reviewer
	client kubernetes.Interface
	config node.Config
	cgroup string
}

// rigs counts the rigs of this test program.
var rigs = new(atomic.Int32)

// newRig starts containerd. The agent is started by run.
func newRig(t testing.TB) *rig {
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
	state, err := os.MkdirTemp("/run", "nt") // short, for the sockets in it
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	cc := containerd.Config{
		Bin: bundle.Current(bin), Bundled: bundle.Images(bin), Root: filepath.Join(data, "containerd"), State: state,
		LogFile: filepath.Join(data, "log", "containerd.log"), CNIConf: filepath.Join(data, "cni"),
		Registries: filepath.Join(data, "registries"), ImageDirs: []string{filepath.Join(data, "images")},
		Log: log, Clock: clock.RealClock{},
	}
	// Rigs run side by side in one network namespace: each needs a bridge and addresses of its own.
	number := rigs.Add(1)
	subnet := fmt.Sprintf("10.99.%d.", number)
	write(t, filepath.Join(cc.CNIConf, "10-test.conflist"), fmt.Appendf(nil, `{"cniVersion":"1.0.0","name":"test%[1]d","plugins":[
{"type":"bridge","bridge":"nt%[1]d","isDefaultGateway":true,"hairpinMode":true,"ipam":{"type":"host-local","dataDir":%[2]q,"ranges":[[{"subnet":"%[3]s0/24"}]]}},
{"type":"portmap","capabilities":{"portMappings":true},"backend":"nftables"}]}`, number, filepath.Join(data, "ipam"), subnet))
	img, err := ociimage.Busybox(image, busybox)
	if err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	if err := ociimage.Write(&archive, img); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(cc.ImageDirs[0], "test.tar"), archive.Bytes())
	tokens := &reviewer{}
	api := apitest.Start(t, allKinds(t, tokens))
	_, err = api.Client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	r := &rig{api: api, tokens: tokens, client: api.Client, cgroup: filepath.Base(state)}
	r.startContainerd(t, cc)
	root := filepath.Join(data, "kubelet")
	if err := os.MkdirAll(root, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(root, unix.MNT_DETACH); err != nil {
			t.Errorf("the agent did not share its root: %v", err)
		}
	})
	r.config = node.Config{
		Client: r.client, NodeName: nodeName, IPs: []string{subnet + "1"}, Endpoint: cc.Endpoint(), Version: "v1.37.0+canopus.test",
		Root: root, PodLogs: filepath.Join(data, "pods"), ContainerLogs: filepath.Join(data, "containers"),
		CgroupRoot: "/" + r.cgroup, ClusterDNS: []string{"10.96.0.10"}, NoServer: true, Clock: clock.RealClock{}, Log: log,
	}
	return r
}

// startContainerd runs a containerd until the test ends and removes everything of it then.
func (r *rig) startContainerd(t testing.TB, c containerd.Config) {
	t.Helper()
	rt, err := containerd.New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- rt.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := rt.Reset(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
		r.removeCgroups()
	})
	select {
	case <-rt.Ready():
	case err := <-done:
		t.Fatal("containerd ended early:", err)
	case <-time.After(patience):
		t.Fatal("containerd is not ready")
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

// run runs an agent until the returned function is called or the test ends.
func (r *rig) run(t testing.TB) (stop func()) {
	t.Helper()
	n, err := node.New(r.config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Error("agent:", err)
		}
	}
	t.Cleanup(stop)
	select {
	case <-n.Ready():
	case err := <-done:
		stopped = true
		t.Fatal("agent ended early:", err)
	case <-time.After(patience):
		t.Fatal("node is not ready")
	}
	return stop
}

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, data, 0o644)); err != nil {
		t.Fatal(err)
	}
}

// pod returns a pod with one shell container.
func shellPod(name, script string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"},
		Spec:       corev1.PodSpec{NodeName: nodeName, Containers: []corev1.Container{shell("main", script)}},
	}
}

func shell(name, script string) corev1.Container {
	return corev1.Container{Name: name, Image: image, Command: []string{"/bin/sh", "-c", script}}
}

// until waits for a condition of a pod and returns it.
func (r *rig) until(t testing.TB, name, what string, ok func(*corev1.Pod) bool) *corev1.Pod {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var last *corev1.Pod
	for {
		p, err := r.client.CoreV1().Pods("default").Get(t.Context(), name, metav1.GetOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			t.Fatal(err)
		}
		if apierrors.IsNotFound(err) {
			p = nil
		}
		if ok(p) {
			return p
		}
		if p != nil {
			last = p
		}
		select {
		case <-deadline:
			t.Fatalf("pod %s: waited in vain for %s; status: %+v", name, what, last.Status)
		case <-tick.C:
		}
	}
}

func ready(p *corev1.Pod) bool {
	if p == nil {
		return false
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func phase(want corev1.PodPhase) func(*corev1.Pod) bool {
	return func(p *corev1.Pod) bool { return p != nil && p.Status.Phase == want }
}

func gone(p *corev1.Pod) bool { return p == nil }
