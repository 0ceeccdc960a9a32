package bundle

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/klauspost/compress/zstd"
)

// packed returns a bundle of the given files.
func packed(t *testing.T, files map[string]string) Bundle {
	t.Helper()
	var out bytes.Buffer
	zw, err := zstd.NewWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	tw := tar.NewWriter(zw)
	for name, content := range files {
		if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o755, Size: int64(len(content))}); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(tw.Close(), zw.Close()); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(out.Bytes())
	return Bundle{files: fstest.MapFS{
		archiveFile: {Data: out.Bytes()},
		digestFile:  {Data: []byte(hex.EncodeToString(sum[:]) + "\n")},
	}}
}

func TestUnpack(t *testing.T) {
	t.Parallel()
	root := filepath.Join(t.TempDir(), "bin")
	b := packed(t, map[string]string{"runc": "program", "images/pause.tar": "image"})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := b.Unpack(root); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got, err := os.ReadFile(filepath.Join(Current(root), "runc")); err != nil || string(got) != "program" {
		t.Errorf("runc holds %q, %v", got, err)
	}
	if got, err := os.ReadFile(filepath.Join(Images(root), "pause.tar")); err != nil || string(got) != "image" {
		t.Errorf("pause.tar holds %q, %v", got, err)
	}
	if info, err := os.Stat(filepath.Join(Current(root), "runc")); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("runc has mode %v, %v", info.Mode(), err)
	}
	if err := b.Ensure(t.Context(), root); err != nil {
		t.Errorf("ensure after unpack: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(root, ".unpack-*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestUpgrade runs a program of the first bundle while the second and third are unpacked.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Skip("no sleep on this machine")
	}
	program, err := os.ReadFile(sleep)
	if err != nil {
		t.Fatal(err)
	}
	old := packed(t, map[string]string{"sleep": string(program)})
	if err := old.Unpack(root); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(Current(root), "sleep"), "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for _, next := range []string{"second", "third"} {
		if err := packed(t, map[string]string{"sleep": next}).Unpack(root); err != nil {
			t.Fatal(err)
		}
	}
	if got := bundles(t, root); len(got) != 2 {
		t.Errorf("while the first runs there are %v, want the first and the third", got)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	third := packed(t, map[string]string{"sleep": "third"})
	if err := third.Unpack(root); err != nil {
		t.Fatal(err)
	}
	if got := bundles(t, root); len(got) != 1 {
		t.Errorf("after it ended there are %v, want the third", got)
	}
	if done, err := old.unpacked(root); err != nil || done {
		t.Errorf("the first counts as unpacked: %v, %v", done, err)
	}
}

func bundles(t *testing.T, root string) []string {
	t.Helper()
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names
}

func TestDamage(t *testing.T) {
	t.Parallel()
	good := packed(t, map[string]string{"runc": "program"})
	digest, err := good.Digest()
	if err != nil {
		t.Fatal(err)
	}
	other := packed(t, map[string]string{"runc": "another"})
	swapped, err := fs.ReadFile(other.files, archiveFile)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		files fstest.MapFS
		want  string
	}{
		"not packed":    {fstest.MapFS{}, "make build"},
		"bad digest":    {fstest.MapFS{digestFile: {Data: []byte("x")}}, "not a SHA-256"},
		"other archive": {fstest.MapFS{digestFile: {Data: []byte(digest)}, archiveFile: {Data: swapped}}, "damaged"},
		"cut archive":   {fstest.MapFS{digestFile: {Data: []byte(digest)}, archiveFile: {Data: swapped[:len(swapped)/2]}}, "unexpected EOF"},
	} {
		root := t.TempDir()
		err := Bundle{files: test.files}.Unpack(root)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, test.want)
		}
		if got := bundles(t, root); len(got) != 0 {
			t.Errorf("%s: left %v", name, got)
		}
	}
	if err := packed(t, map[string]string{"../runc": "x"}).Unpack(t.TempDir()); err == nil {
		t.Error("an entry outside the directory was accepted")
	}
}

func TestEnsureReportsTheChild(t *testing.T) {
	t.Parallel()
	b := packed(t, map[string]string{"runc": "program"})
	if err := b.Ensure(t.Context(), t.TempDir(), "sh", "-c", "echo no space left >&2; exit 1"); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("error %v does not say what the child said", err)
	}
	if err := b.Ensure(t.Context(), t.TempDir(), "true"); err == nil {
		t.Error("a child that did nothing was believed")
	}
}

func TestUnused(t *testing.T) {
	t.Parallel()
	got := unused("/bin", []string{"aa", "bb", "cc"}, []string{"/bin/aa/containerd", "/bin/bbb/runc", "/other/cc/x"})
	if want := []string{"bb", "cc"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
