// Package bundle carries the programs and images that Canopus needs beside itself (containerd, its shim, runc, the CNI
// plugins, kubectl, the pause and demo images) as one compressed archive inside the executable, and unpacks them once per
// version:
//
//	ROOT/<digest>/containerd, runc, …, images/pause.tar, …    one directory per bundle, complete or absent
//	ROOT/current -> <digest>                                   what new processes are started from
//	ROOT/.lock                                                 held while the above change
//
// Reading the archive costs memory, so a server never does: Ensure looks at the directory and, when it is missing, lets a
// short-lived child process call Unpack.
package bundle

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

//go:embed all:data
var embedded embed.FS

// Names inside the embedded directory.
const (
	archiveFile = "bundle.tar.zst"
	digestFile  = "bundle.sha256"
)

const current = "current"

// ErrMissing is returned by every method of a bundle that was not packed before canopus was compiled.
var ErrMissing = errors.New("this canopus was built without its runtime programs: build it with `make build`, or use --container-runtime-endpoint with a CRI runtime of your own")

// Bundle is a packed archive with its digest.
type Bundle struct{ files fs.FS }

// Embedded returns the bundle that this executable carries.
func Embedded() (Bundle, error) {
	files, err := fs.Sub(embedded, "data")
	if err != nil {
		return Bundle{}, err
	}
	return Bundle{files: files}, nil
}

var digestForm = regexp.MustCompile(`^[0-9a-f]{64}$`)

// Digest returns the archive's SHA-256 in hex without reading the archive.
func (b Bundle) Digest() (string, error) {
	data, err := fs.ReadFile(b.files, digestFile)
	if errors.Is(err, fs.ErrNotExist) {
		return "", ErrMissing
	}
	if err != nil {
		return "", fmt.Errorf("read the bundle's digest: %w", err)
	}
	digest := strings.TrimSpace(string(data))
	if !digestForm.MatchString(digest) {
		return "", fmt.Errorf("the bundle's digest is %q, not a SHA-256: build again with `make build`", digest)
	}
	return digest, nil
}

// dirName is the directory's name below the root: enough of the digest to tell any two bundles apart.
func dirName(digest string) string { return digest[:16] }

var dirForm = regexp.MustCompile(`^[0-9a-f]{16}$`)

// Current returns the path under root that always leads to the bundle in use. Paths below it stay valid over upgrades,
// which is what containerd's records of running containers need.
func Current(root string) string { return filepath.Join(root, current) }

// Images returns the directory of the image archives that came with the bundle in use.
func Images(root string) string { return filepath.Join(Current(root), "images") }

// unpacked says whether root holds this bundle whole and current.
func (b Bundle) unpacked(root string) (bool, error) {
	digest, err := b.Digest()
	if err != nil {
		return false, err
	}
	target, err := os.Readlink(Current(root))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for unpacked programs: %w", err)
	}
	if target != dirName(digest) {
		return false, nil
	}
	_, err = os.Stat(filepath.Join(root, target))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
