package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"canopus/internal/testns"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/mount-utils"
	testclock "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"
)

func TestMain(m *testing.M) { os.Exit(testns.Run(m)) }

func shown(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "..") {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		out[e.Name()] = fmt.Sprintf("%s %o", b, info.Mode().Perm())
	}
	return out
}

func TestWriteAtomic(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	now := time.Now()
	f := func(s string, m os.FileMode) file { return file{[]byte(s), m} }
	for i, c := range []struct {
		files   map[string]file
		changed bool
		want    string
	}{
		{map[string]file{"a": f("1", 0o644), "b": f("2", 0o400)}, true, "map[a:1 644 b:2 400]"},
		{map[string]file{"a": f("1", 0o644), "b": f("2", 0o400)}, false, "map[a:1 644 b:2 400]"},
		{map[string]file{"a": f("1", 0o600), "b": f("2", 0o400)}, true, "map[a:1 600 b:2 400]"},
		{map[string]file{"b": f("3", 0o400)}, true, "map[b:3 400]"},
		{map[string]file{}, true, "map[]"},
	} {
		changed, err := writeAtomic(dir, c.files, nil, now)
		if got := fmt.Sprint(shown(t, dir)); err != nil || changed != c.changed || got != c.want {
			t.Errorf("step %d: changed %v, %v, %s; want %v %s", i, changed, err, got, c.changed, c.want)
		}
	}
	left, _ := filepath.Glob(filepath.Join(dir, "..2*"))
	if len(left) != 1 {
		t.Errorf("old contents stay: %q", left)
	}
	for _, bad := range []string{"/abs", "../up", "a/../../up", "..data", "", "a//b"} {
		if _, err := writeAtomic(dir, map[string]file{bad: {}}, nil, now); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

// TestSubPath shows that no link leads out of a volume.
func TestSubPath(t *testing.T) {
	t.Parallel()
	testns.Require(t)
	root, base, outside := t.TempDir(), t.TempDir(), t.TempDir()
	if err := errors.Join(os.Symlink(outside, filepath.Join(base, "abs")), os.Symlink("../..", filepath.Join(base, "up")),
		os.MkdirAll(filepath.Join(base, "real"), 0o755), os.Symlink("real", filepath.Join(base, "in")),
		os.WriteFile(filepath.Join(base, "real", "f"), []byte("x"), 0o644)); err != nil {
		t.Fatal(err)
	}
	m := mount.New("")
	for i, c := range []struct {
		sub string
		ok  bool
	}{{"real", true}, {"in", true}, {"in/f", true}, {"new/deep", true}, {"abs", false}, {"up", false}, {"../x", false}, {"/etc", false}, {"abs/new", false}, {"up/new", false}} {
		target, err := SubPath{Root: root, UID: "u", Volume: "v", Container: "c", Index: i}.Bind(m, base, c.sub)
		if (err == nil) != c.ok {
			t.Errorf("%s: %q, %v", c.sub, target, err)
		}
	}
	if entries, _ := os.ReadDir(outside); len(entries) > 0 {
		t.Error("something was made outside the volume")
	}
	if b, err := os.ReadFile(filepath.Join(root, "pods/u/volume-subpaths/v/c/2")); err != nil || string(b) != "x" {
		t.Errorf("the file's bind: %q, %v", b, err)
	}
	if err := RemovePodDir(t.Context(), m, root, "u"); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(base, "real", "f")); err != nil {
		t.Error("removing the pod's directory removed what was bound into it:", err)
	}
}

type stubTokens struct {
	asked int
	err   error
	clock *testclock.FakeClock
}

func (s *stubTokens) Token(_ context.Context, _ *corev1.Pod, audience string, seconds int64) (string, time.Time, error) {
	s.asked++
	return fmt.Sprintf("%s-%d", audience, s.asked), s.clock.Now().Add(time.Duration(seconds) * time.Second), s.err
}

type none struct{}

func (none) ConfigMap(string, string) (*corev1.ConfigMap, bool, error) { return nil, false, nil }
func (none) Secret(string, string) (*corev1.Secret, bool, error)       { return nil, false, nil }

// TestToken shows that a token is renewed at four fifths of its life and survives a failure to do so.
func TestToken(t *testing.T) {
	t.Parallel()
	testns.Require(t)
	clk := testclock.NewFakeClock(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	tokens := &stubTokens{clock: clk}
	host := &Host{Root: t.TempDir(), Mounter: mount.New(""), Tokens: tokens, Clock: clk}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "u"}, Spec: corev1.PodSpec{Volumes: []corev1.Volume{{Name: "api", VolumeSource: corev1.VolumeSource{
		Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{
			Audience: "x", ExpirationSeconds: ptr.To(int64(1000)), Path: "token"}}}}}}}}}
	set := NewSet(host)
	t.Cleanup(func() {
		if err := set.TearDown(context.WithoutCancel(t.Context()), pod); err != nil {
			t.Error(err)
		}
	})
	for i, c := range []struct {
		wait time.Duration
		err  error
		want string
		next time.Duration
	}{
		{0, nil, "x-1", 800 * time.Second}, {799 * time.Second, nil, "x-1", time.Second}, {time.Second, errors.New("away"), "x-1", time.Minute}, {time.Minute, nil, "x-3", 800 * time.Second},
	} {
		clk.Step(c.wait)
		tokens.err = c.err
		if failed := set.SetUp(t.Context(), pod, none{}); len(failed) > 0 {
			t.Fatal(failed)
		}
		dir, _ := set.Dir("api")
		b, err := os.ReadFile(filepath.Join(dir, "token"))
		if err != nil || string(b) != c.want || set.Refresh().Sub(clk.Now()) != c.next {
			t.Errorf("step %d: %q, %v, next in %v", i, b, err, set.Refresh().Sub(clk.Now()))
		}
	}
}

func TestFailures(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	plain := filepath.Join(dir, "file")
	if err := os.WriteFile(plain, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	host := func(path string, kind corev1.HostPathType) corev1.VolumeSource {
		return corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: path, Type: &kind}}
	}
	for name, c := range map[string]struct {
		src  corev1.VolumeSource
		want string // part of the error; empty: none
	}{
		"missing configmap":  {corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "m"}}}, `configmap "m" not found`},
		"missing secret":     {corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "s"}}, `secret "s" not found`},
		"optional configmap": {corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "m"}, Optional: ptr.To(true)}}, ""},
		"csi":                {corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{Driver: "d"}}, "CSI volumes are not supported yet (driver d)"},
		"nfs":                {corev1.VolumeSource{NFS: &corev1.NFSVolumeSource{}}, "nfs"},
		"claim":              {corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "c"}}, "not available"},
		"host directory":     {host(dir, corev1.HostPathDirectory), ""},
		"host file as dir":   {host(plain, corev1.HostPathDirectory), "is not a directory"},
		"host file":          {host(plain, corev1.HostPathFile), ""},
		"host socket":        {host(plain, corev1.HostPathSocket), "is not a socket file"},
		"host made":          {host(filepath.Join(dir, "a", "b"), corev1.HostPathDirectoryOrCreate), ""},
		"host missing":       {host(filepath.Join(dir, "no"), corev1.HostPathFile), "is not a file"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "u"}, Spec: corev1.PodSpec{Volumes: []corev1.Volume{{Name: "v", VolumeSource: c.src}}}}
			failed := NewSet(&Host{Root: t.TempDir(), Mounter: mount.New(""), Clock: testclock.NewFakeClock(time.Now())}).SetUp(t.Context(), pod, none{})
			switch {
			case c.want == "" && len(failed) > 0, c.want != "" && (len(failed) == 0 || !strings.Contains(failed[0].Err.Error(), c.want)):
				t.Errorf("%v, want %q", failed, c.want)
			}
		})
	}
}
