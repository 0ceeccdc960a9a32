// Command publish writes one OpenAPI v3 document per group-version of the built-in kinds, and the v2 document of all of
// them, each as compressed JSON and protobuf, and an index of their hashes. Run it with `make generate`.
//
// Read main.go (what is written), routes.go (our operations as the builders want them), definitions.go (our types).
package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"google.golang.org/protobuf/proto"

	openapiv2 "github.com/google/gnostic-models/openapiv2"
	openapiv3 "github.com/google/gnostic-models/openapiv3"
	"k8s.io/kube-openapi/pkg/builder"
	"k8s.io/kube-openapi/pkg/builder3"
	"k8s.io/kube-openapi/pkg/common"

	"canopus/internal/apiserver/openapi/operations"
	"canopus/internal/kinds/builtin"
)

func main() {
	out := flag.String("out", "", "directory to write the documents to; its files are replaced")
	flag.Parse()
	if err := run(*out); err != nil {
		fmt.Fprintln(os.Stderr, "publish:", err)
		os.Exit(1)
	}
}

// run replaces the documents in dir, once all are made: a kind that cannot be described leaves the old ones.
func run(dir string) error {
	if dir == "" {
		return fmt.Errorf("where to write is not said: use -out")
	}
	parent, name := filepath.Split(filepath.Clean(dir))
	made, err := os.MkdirTemp(parent, name+".new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(made) // what is left of it when something fails
	if err := write(made); err != nil {
		return err
	}
	return replace(dir, made)
}

// replace puts the directory made into the place of dir.
func replace(dir, made string) error {
	if err := os.Chmod(made, 0o755); err != nil {
		return err
	}
	old := made + ".old"
	if err := os.Rename(dir, old); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(made, dir); err != nil {
		return errors.Join(err, os.Rename(old, dir))
	}
	return os.RemoveAll(old)
}

// write makes the documents in dir.
func write(dir string) error {
	w := writer{dir: dir, index: map[string]string{}}
	docs := operations.Documents(builtin.Whole())
	var all []common.RouteContainer
	for _, d := range docs {
		all = append(all, container(d))
		if err := w.v3(d); err != nil {
			return fmt.Errorf("document %s: %w", d.Name, err)
		}
	}
	if err := w.v2(all, docs); err != nil {
		return fmt.Errorf("document v2: %w", err)
	}
	index, err := json.MarshalIndent(w.index, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "index.json"), append(index, '\n'), 0o644)
}

// writer writes documents into dir and remembers the hash of each one's JSON.
type writer struct {
	dir   string
	index map[string]string
}

func (w *writer) v3(d operations.Document) error {
	spec, err := builder3.BuildOpenAPISpecFromRoutes([]common.RouteContainer{container(d)}, configV3(d))
	if err != nil {
		return err
	}
	data, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	parsed, err := openapiv3.ParseDocument(data)
	if err != nil {
		return err
	}
	return w.write(d.Name, data, parsed)
}

func (w *writer) v2(all []common.RouteContainer, docs []operations.Document) error {
	spec, err := builder.BuildOpenAPISpecFromRoutes(all, configV2(docs))
	if err != nil {
		return err
	}
	data, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	parsed, err := openapiv2.ParseDocument(data)
	if err != nil {
		return err
	}
	return w.write("v2", data, parsed)
}

func (w *writer) write(name string, data []byte, parsed proto.Message) error {
	binary, err := proto.MarshalOptions{Deterministic: true}.Marshal(parsed)
	if err != nil {
		return err
	}
	w.index[name] = fmt.Sprintf("%X", sha512.Sum512(data))
	file := filepath.Join(w.dir, strings.ReplaceAll(name, "/", "_"))
	if err := compress(file+".json.gz", data); err != nil {
		return err
	}
	return compress(file+".pb.gz", binary)
}

// compress writes data so that the same data always gives the same file.
func compress(file string, data []byte) error {
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := z.Write(data); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	return os.WriteFile(file, out.Bytes(), 0o644)
}
