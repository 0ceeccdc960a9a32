package ociimage

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"strings"
	"testing"
)

func sample() Image {
	return Image{
		Name:  "example.com/app:1",
		Files: []File{{Path: "tmp/", Mode: 0o1777}, {Path: "app", Mode: 0o755, Data: []byte("#!")}, {Path: "sh", Link: "app"}},
		Run:   Run{Entrypoint: []string{"/app"}, User: "65534:65534"},
	}
}

func TestWriteIsRepeatable(t *testing.T) {
	t.Parallel()
	var one, two bytes.Buffer
	img := sample()
	if err := Write(&one, img); err != nil {
		t.Fatal(err)
	}
	img.Files[0], img.Files[2] = img.Files[2], img.Files[0]
	if err := Write(&two, img); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(one.Bytes(), two.Bytes()) {
		t.Error("the order of the files changes the archive")
	}
}

// TestWriteIsConsistent follows index, manifest, config and layer by digest.
func TestWriteIsConsistent(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := Write(&out, sample()); err != nil {
		t.Fatal(err)
	}
	files := untar(t, out.Bytes())
	for name, data := range files {
		if digest, ok := strings.CutPrefix(name, "blobs/sha256/"); ok {
			if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != digest {
				t.Errorf("%s holds bytes of another digest", name)
			}
		}
	}
	blob := func(d descriptor) []byte {
		data := files["blobs/"+strings.Replace(d.Digest, ":", "/", 1)]
		if int64(len(data)) != d.Size {
			t.Fatalf("%s: size %d, want %d", d.Digest, len(data), d.Size)
		}
		return data
	}
	var list index
	var m manifest
	var c imageConfig
	parse(t, files["index.json"], &list)
	if got := list.Manifests[0].Annotations[refName]; got != "example.com/app:1" {
		t.Errorf("name is %q", got)
	}
	parse(t, blob(list.Manifests[0]), &m)
	parse(t, blob(m.Config), &c)
	if c.RootFS.DiffIDs[0] != m.Layers[0].Digest || c.Config.User != "65534:65534" {
		t.Errorf("config does not match the layer: %+v", c)
	}
	layer := untar(t, blob(m.Layers[0]))
	if string(layer["app"]) != "#!" || len(layer) != 3 {
		t.Errorf("layer holds %v", layer)
	}
}

func TestWriteRefuses(t *testing.T) {
	t.Parallel()
	for name, img := range map[string]Image{
		"no tag":        {Name: "example.com/app"},
		"no registry":   {Name: "app:1"},
		"absolute path": {Name: "example.com/app:1", Files: []File{{Path: "/app"}}},
		"escaping path": {Name: "example.com/app:1", Files: []File{{Path: "../app"}}},
	} {
		if err := Write(io.Discard, img); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func untar(t *testing.T, data []byte) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	for tr := tar.NewReader(bytes.NewReader(data)); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[h.Name], err = io.ReadAll(tr); err != nil {
			t.Fatal(err)
		}
	}
}

func parse(t *testing.T, data []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatalf("%q: %v", data, err)
	}
}
