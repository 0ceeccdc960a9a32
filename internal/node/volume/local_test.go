package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"canopus/internal/testns"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/mount-utils"
	"k8s.io/utils/ptr"
)

// stubClaims is what the API would answer.
type stubClaims struct {
	pvc  *corev1.PersistentVolumeClaim
	pv   *corev1.PersistentVolume
	node *corev1.Node
}

func (s *stubClaims) Claim(_ context.Context, _, name string) (*corev1.PersistentVolumeClaim, error) {
	if s.pvc == nil || s.pvc.Name != name {
		return nil, fmt.Errorf("persistentvolumeclaims %q not found", name)
	}
	return s.pvc, nil
}

func (s *stubClaims) Volume(context.Context, string) (*corev1.PersistentVolume, error) {
	return s.pv, nil
}
func (s *stubClaims) Node(context.Context) (*corev1.Node, error) { return s.node, nil }

// bound is a pod that uses claim data, bound to a provisioned volume of this node.
type bound struct {
	host   *Host
	pod    *corev1.Pod
	claims *stubClaims
}

func newBound(t *testing.T) *bound {
	t.Helper()
	b := &bound{claims: &stubClaims{}, host: &Host{Root: t.TempDir(), Node: "n1", LocalVolumes: filepath.Join(t.TempDir(), "volumes"), Mounter: mount.New("")}}
	b.host.Claims = b.claims
	b.claims.node = &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{"kubernetes.io/hostname": "n1"}}}
	b.claims.pvc = &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: "data", UID: "claim"}, Spec: corev1.PersistentVolumeClaimSpec{VolumeName: "pvc-1"},
		Status: corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimBound},
	}
	b.claims.pv = &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: "pvc-1", Labels: map[string]string{"canopus.io/node": "n1"}, Annotations: map[string]string{"pv.kubernetes.io/provisioned-by": "canopus.io/local"}},
		Spec: corev1.PersistentVolumeSpec{
			ClaimRef:               &corev1.ObjectReference{UID: "claim"},
			PersistentVolumeSource: corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: filepath.Join(b.host.LocalVolumes, "pvc-1")}},
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "kubernetes.io/hostname", Operator: corev1.NodeSelectorOpIn, Values: []string{"n1"}}},
			}}}},
		},
	}
	b.pod = b.newPod("pod-1")
	return b
}

func (b *bound) newPod(uid types.UID) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "pod", UID: uid, CreationTimestamp: metav1.Unix(1000, 0)}, Spec: corev1.PodSpec{Volumes: []corev1.Volume{{
		Name: "v", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}},
	}}}}
}

// mount prepares the pod's volumes and returns the directory of the claim.
func (b *bound) mount(t *testing.T, pod *corev1.Pod) (*Set, string) {
	t.Helper()
	set := NewSet(b.host)
	t.Cleanup(func() {
		if err := set.TearDown(context.WithoutCancel(t.Context()), pod); err != nil {
			t.Error(err)
		}
	})
	if failed := set.SetUp(t.Context(), pod, none{}); len(failed) > 0 {
		t.Fatal(failed[0].Err)
	}
	dir, _ := set.Dir("v")
	return set, dir
}

// TestProvisionedVolume: made once, open to any user of a pod and to nobody else, and it outlives its pods.
func TestProvisionedVolume(t *testing.T) {
	t.Parallel()
	testns.Require(t)
	b := newBound(t)
	set, dir := b.mount(t, b.pod)
	outer, err := os.Stat(b.host.LocalVolumes)
	if err != nil || outer.Mode().Perm() != 0o700 {
		t.Errorf("directory of the volumes: %v, %v", outer.Mode(), err)
	}
	if inner, err := os.Stat(dir); err != nil || inner.Mode().Perm() != 0o777 {
		t.Errorf("volume: %v, %v", inner.Mode(), err)
	}
	if err := os.WriteFile(filepath.Join(dir, "kept"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, other := b.mount(t, b.newPod("pod-2")) // on the same node
	if got, err := os.ReadFile(filepath.Join(other, "kept")); err != nil || string(got) != "x" || other == dir {
		t.Errorf("the second pod sees %q, %v", got, err)
	}
	// As after a restart of the agent: the mount is there already.
	if _, again := b.mount(t, b.pod); again != dir {
		t.Errorf("mounted again at %s", again)
	}
	if mounts := mountsOf(t, dir); mounts != 1 {
		t.Errorf("%d mounts at the same place", mounts)
	}
	if err := set.TearDown(t.Context(), b.pod); err != nil {
		t.Fatal(err)
	}
	if uid, used, err := LocalInUse(b.host.Root, "pvc-1"); !used || uid != "pod-2" || err != nil {
		t.Errorf("in use %v by %q, %v", used, uid, err)
	}
	if got, err := os.ReadFile(filepath.Join(b.host.LocalVolumes, "pvc-1", "kept")); err != nil || string(got) != "x" {
		t.Errorf("after the pod: %q, %v", got, err)
	}
	if _, used, err := LocalInUse(b.host.Root, "pvc-2"); used || err != nil {
		t.Errorf("another volume is in use: %v, %v", used, err)
	}
}

func mountsOf(t *testing.T, dir string) int {
	t.Helper()
	points, err := mount.New("").List()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, p := range points {
		if p.Path == dir {
			n++
		}
	}
	return n
}

func TestClaimFailures(t *testing.T) {
	t.Parallel()
	testns.Require(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*bound)
		want   string
	}{
		"no claim":      {func(b *bound) { b.claims.pvc = nil }, "error processing PVC /data: persistentvolumeclaims \"data\" not found"},
		"not bound":     {func(b *bound) { b.claims.pvc.Status.Phase = corev1.ClaimPending }, "PVC is not bound"},
		"stolen volume": {func(b *bound) { b.claims.pv.Spec.ClaimRef.UID = "other" }, "bound to another claim"},
		"claim leaving": {func(b *bound) { b.claims.pvc.DeletionTimestamp = &metav1.Time{Time: metav1.Unix(999, 0).Time} }, "PVC is being deleted"},
		"wrong node":    {func(b *bound) { b.claims.node.Labels["kubernetes.io/hostname"] = "n2" }, "does not allow node n1"},
		"block":         {func(b *bound) { b.claims.pv.Spec.VolumeMode = ptr.To(corev1.PersistentVolumeBlock) }, "volumeMode Block"},
		"csi": {func(b *bound) {
			b.claims.pv.Spec.Local, b.claims.pv.Spec.CSI = nil, &corev1.CSIPersistentVolumeSource{Driver: "d"}
		}, "CSI volumes are not supported yet (driver d)"},
		"other type":       {func(b *bound) { b.claims.pv.Spec.Local = nil }, "a type that this node does not provide"},
		"not ours to make": {func(b *bound) { b.claims.pv.Annotations = nil }, "does not exist"},
		"another node's":   {func(b *bound) { b.claims.pv.Labels["canopus.io/node"] = "n2" }, "does not exist"},
		"a file":           {func(b *bound) { b.claims.pv.Annotations, b.claims.pv.Spec.Local.Path = nil, file }, "is not a directory"},
		"of another pod": {func(b *bound) {
			b.pod.Spec.Volumes[0].VolumeSource = corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}
			b.claims.pvc.Name = "pod-v"
		}, "was not created for pod"},
		"a link in its place": {func(b *bound) {
			if err := errors.Join(os.Mkdir(b.host.LocalVolumes, 0o700), os.Symlink("/etc", b.claims.pv.Spec.Local.Path)); err != nil {
				t.Error(err)
			}
		}, "is not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBound(t)
			c.change(b)
			failed := NewSet(b.host).SetUp(t.Context(), b.pod, none{})
			if len(failed) != 1 || !strings.Contains(failed[0].Err.Error(), c.want) {
				t.Errorf("%v, want %q", failed, c.want)
			}
		})
	}
}

// TestGroupOfVolume: a pod's group gets what is there at the mount; a link inside leads nobody out, and with
// OnRootMismatch a volume that has the group already is not walked.
func TestGroupOfVolume(t *testing.T) {
	t.Parallel()
	testns.Require(t)
	b := newBound(t)
	b.claims.pv.Annotations = nil // an administrator's directory
	dir, outside := t.TempDir(), filepath.Join(t.TempDir(), "outside")
	b.claims.pv.Spec.Local.Path = dir
	if err := errors.Join(os.WriteFile(outside, nil, 0o600), os.WriteFile(filepath.Join(dir, "f"), nil, 0o600),
		os.Mkdir(filepath.Join(dir, "d"), 0o700), os.Symlink(outside, filepath.Join(dir, "d", "link"))); err != nil {
		t.Fatal(err)
	}
	group := func(pod *corev1.Pod) *corev1.Pod {
		pod.Spec.SecurityContext = &corev1.PodSecurityContext{FSGroup: ptr.To(int64(4711)), FSGroupChangePolicy: ptr.To(corev1.FSGroupChangeOnRootMismatch)}
		return pod
	}
	b.mount(t, group(b.pod))
	check := func(path string, gid uint32, mode os.FileMode) {
		t.Helper()
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if st, ok := info.Sys().(*syscall.Stat_t); !ok || st.Gid != gid || info.Mode() != mode {
			t.Errorf("%s: group %d mode %v, want %d %v", path, st.Gid, info.Mode(), gid, mode)
		}
	}
	check(filepath.Join(dir, "f"), 4711, 0o660)
	check(filepath.Join(dir, "d"), 4711, os.ModeDir|os.ModeSetgid|0o770)
	check(outside, 0, 0o600)
	if err := os.Chown(filepath.Join(dir, "f"), -1, 0); err != nil {
		t.Fatal(err)
	}
	b.mount(t, group(b.newPod("pod-2")))
	check(filepath.Join(dir, "f"), 0, 0o660)
}

// TestRemoveTree shows that what a hostile pod leaves behind is removed, and nothing else.
func TestRemoveTree(t *testing.T) {
	t.Parallel()
	testns.Require(t)
	outside, dir := t.TempDir(), filepath.Join(t.TempDir(), "tree")
	kept := filepath.Join(outside, "kept")
	if err := errors.Join(os.WriteFile(kept, nil, 0o600), os.MkdirAll(filepath.Join(dir, "a", "b"), 0o700),
		os.Symlink(outside, filepath.Join(dir, "a", "link")), os.Symlink("..", filepath.Join(dir, "up")), os.WriteFile(filepath.Join(dir, "-rf *\n"), nil, 0),
		unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600), os.Mkdir(filepath.Join(dir, ".removing-1"), 0o700)); err != nil {
		t.Fatal(err)
	}
	for i := range 3000 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint("many-", i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	dig(t, dir, 3000)
	mounted := filepath.Join(dir, "a", "b")
	if err := unix.Mount(outside, mounted, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	if err := RemoveTree(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "mount point") {
		t.Errorf("with something mounted in it: %v", err)
	}
	if err := unix.Unmount(mounted, 0); err != nil {
		t.Fatal(err)
	}
	if err := RemoveTree(t.Context(), dir); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the tree is there: %v", err)
	}
	if _, err := os.Stat(kept); err != nil {
		t.Error("more was removed than the tree:", err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := errors.Join(os.Symlink(outside, link), RemoveTree(t.Context(), link)); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(kept); err != nil {
		t.Error("a link was followed:", err)
	}
	for _, missing := range []string{dir, filepath.Join(dir, "x", "y")} {
		if err := RemoveTree(t.Context(), missing); err != nil {
			t.Errorf("%s: %v", missing, err)
		}
	}
}

// dig makes a chain of directories deeper than any path can be.
func dig(t *testing.T, dir string, depth int) {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	for range depth {
		if err := unix.Mkdirat(fd, "deep", 0o700); err != nil {
			t.Fatal(err)
		}
		next, err := unix.Openat(fd, "deep", unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err := errors.Join(err, unix.Close(fd)); err != nil {
			t.Fatal(err)
		}
		fd = next
	}
	if err := unix.Close(fd); err != nil {
		t.Fatal(err)
	}
}
