// Package ociimage writes small container images as OCI archives: a tar file with one image of one layer, the same bytes
// for the same input. It is what the images that Canopus carries, and those of its tests, are made with; it is no general
// image builder.
package ociimage

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"path"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Media types and annotations of the OCI image specification, and the annotation in which containerd looks for a name.
const (
	typeIndex    = "application/vnd.oci.image.index.v1+json"
	typeManifest = "application/vnd.oci.image.manifest.v1+json"
	typeConfig   = "application/vnd.oci.image.config.v1+json"
	typeLayer    = "application/vnd.oci.image.layer.v1.tar"
	refName      = "org.opencontainers.image.ref.name"
	fullName     = "io.containerd.image.name"
)

// Image is what Write puts into an archive.
type Image struct {
	Name  string // with registry and tag: "canopus.local/pause:1"
	Files []File
	Run   Run
}

// Run is how containers of the image are started unless a pod says otherwise.
type Run struct {
	Entrypoint []string            `json:"Entrypoint,omitempty"`
	Cmd        []string            `json:"Cmd,omitempty"`
	Env        []string            `json:"Env,omitempty"`
	User       string              `json:"User,omitempty"`
	WorkingDir string              `json:"WorkingDir,omitempty"`
	Ports      map[string]struct{} `json:"ExposedPorts,omitempty"` // "8080/tcp"
	StopSignal string              `json:"StopSignal,omitempty"`
	Labels     map[string]string   `json:"Labels,omitempty"`
}

// File is one entry of the image's root file system. A path that ends in a slash is a directory.
type File struct {
	Path string // slash-separated and relative: "bin/sh"; "tmp/" is a directory
	Mode int64  // permission bits; 0 means 0755 for directories and 0644 for files
	Data []byte
	Link string // target of a symbolic link
	UID  int
}

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type manifest struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Config        descriptor   `json:"config"`
	Layers        []descriptor `json:"layers"`
}

type index struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Manifests     []descriptor `json:"manifests"`
}

type rootFS struct {
	Type    string   `json:"type"`
	DiffIDs []string `json:"diff_ids"`
}

type imageConfig struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
	Config       Run    `json:"config"`
	RootFS       rootFS `json:"rootfs"`
}

// Write writes img as an OCI archive for the architecture of the running program.
func Write(w io.Writer, img Image) error {
	if img.Name == "" || !strings.Contains(img.Name, "/") || !strings.Contains(path.Base(img.Name), ":") {
		return fmt.Errorf("image name %q: give it a registry and a tag, like example.com/name:1", img.Name)
	}
	layer, err := packLayer(img.Files)
	if err != nil {
		return fmt.Errorf("layer of %s: %w", img.Name, err)
	}
	archive := newArchive(w)
	layerDesc := archive.blob(typeLayer, layer)
	config := archive.json(typeConfig, imageConfig{
		Architecture: runtime.GOARCH, OS: "linux", Config: img.Run,
		RootFS: rootFS{Type: "layers", DiffIDs: []string{layerDesc.Digest}},
	})
	top := archive.json(typeManifest, manifest{SchemaVersion: 2, MediaType: typeManifest, Config: config, Layers: []descriptor{layerDesc}})
	top.Annotations = map[string]string{refName: img.Name, fullName: img.Name}
	list, err := json.Marshal(index{SchemaVersion: 2, MediaType: typeIndex, Manifests: []descriptor{top}})
	archive.keep(err)
	archive.file("index.json", list)
	archive.file("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`))
	if err := archive.close(); err != nil {
		return fmt.Errorf("write the archive of %s: %w", img.Name, err)
	}
	return nil
}

// packLayer returns files as a tar file, sorted by path, every time stamp zero.
func packLayer(files []File) ([]byte, error) {
	sorted := slices.Clone(files)
	slices.SortFunc(sorted, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	var out bytes.Buffer
	tw := tar.NewWriter(&out)
	for _, f := range sorted {
		if !fs.ValidPath(strings.TrimSuffix(f.Path, "/")) {
			return nil, fmt.Errorf("file %q: the path must be relative, clean and inside the image", f.Path)
		}
		if err := tw.WriteHeader(f.header()); err != nil {
			return nil, fmt.Errorf("file %q: %w", f.Path, err)
		}
		if _, err := tw.Write(f.Data); err != nil {
			return nil, fmt.Errorf("file %q: %w", f.Path, err)
		}
	}
	err := tw.Close()
	return out.Bytes(), err
}

func (f File) header() *tar.Header {
	h := &tar.Header{Name: f.Path, Mode: f.Mode, Size: int64(len(f.Data)), Uid: f.UID, Gid: f.UID, ModTime: time.Unix(0, 0), Format: tar.FormatPAX, Typeflag: tar.TypeReg}
	switch {
	case strings.HasSuffix(f.Path, "/"):
		h.Typeflag = tar.TypeDir
	case f.Link != "":
		h.Typeflag, h.Linkname = tar.TypeSymlink, f.Link
	}
	if h.Mode == 0 && h.Typeflag == tar.TypeReg {
		h.Mode = 0o644
	} else if h.Mode == 0 {
		h.Mode = 0o755
	}
	return h
}

// archive writes blobs and files to a tar file and keeps the first error.
type archive struct {
	tw  *tar.Writer
	err error
}

func newArchive(w io.Writer) *archive { return &archive{tw: tar.NewWriter(w)} }

func (a *archive) keep(err error) {
	if a.err == nil {
		a.err = err
	}
}

func (a *archive) file(name string, data []byte) {
	if a.err != nil {
		return
	}
	a.keep(a.tw.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(data)), ModTime: time.Unix(0, 0), Typeflag: tar.TypeReg}))
	_, err := a.tw.Write(data)
	a.keep(err)
}

func (a *archive) blob(mediaType string, data []byte) descriptor {
	sum := sha256.Sum256(data)
	digest := hex.EncodeToString(sum[:])
	a.file("blobs/sha256/"+digest, data)
	return descriptor{MediaType: mediaType, Digest: "sha256:" + digest, Size: int64(len(data))}
}

func (a *archive) json(mediaType string, v any) descriptor {
	data, err := json.Marshal(v)
	a.keep(err)
	return a.blob(mediaType, data)
}

func (a *archive) close() error {
	a.keep(a.tw.Close())
	return a.err
}
