// Package openapi publishes the OpenAPI documents of the served kinds: version 3, one document per group-version below
// /openapi/v3, and version 2, one document for everything at /openapi/v2.
//
// The documents are made by `make generate` from the sources of k8s.io/* and from internal/kinds, and lie compressed in
// data, which is part of the binary. A client that takes gzip gets the very bytes; for others they are unpacked on the
// way out. Nothing is kept in memory but an index of hashes.
//
// Read openapi.go (what is published), serve.go (HTTP), and the package operations (what can be done at each path).
package openapi

import (
	"embed"
	"encoding/json"
	"fmt"
	"net/url"
	"path"
	"strings"

	"canopus/internal/apiserver/openapi/operations"
	"canopus/internal/kinds"
)

//go:generate make -C ../../../hack/openapigen generate

//go:embed data
var files embed.FS

// Documents are the OpenAPI documents of one set of kinds. Immutable; an http.Handler for GET and HEAD of /openapi/v2,
// /openapi/v3 and the paths below it.
type Documents struct {
	hashes map[string]string // of each document's JSON, by name: "apis/apps/v1"
	index  index
}

// index is the answer at /openapi/v3.
type index struct {
	body []byte
	etag string
}

// New returns the documents of what set serves. A group-version without a document is left out: it is a custom
// resource's, or `make generate` has not been run since the kind was added.
func New(set *kinds.Set) (*Documents, error) {
	data, err := files.ReadFile("data/index.json")
	if err != nil {
		return nil, fmt.Errorf("read the index of OpenAPI documents: %w", err)
	}
	var known map[string]string
	if err := json.Unmarshal(data, &known); err != nil {
		return nil, fmt.Errorf("parse the index of OpenAPI documents: %w", err)
	}
	d := &Documents{hashes: map[string]string{"v2": known["v2"]}}
	for _, doc := range operations.Documents(set) {
		if hash, ok := known[doc.Name]; ok {
			d.hashes[doc.Name] = hash
		}
	}
	d.index, err = d.makeIndex()
	return d, err
}

// makeIndex lists the v3 documents with their hashes, so that a client fetches each version of one once.
func (d *Documents) makeIndex() (index, error) {
	type entry struct {
		URL string `json:"serverRelativeURL"`
	}
	paths := map[string]entry{}
	for name, hash := range d.hashes {
		if name != "v2" {
			paths[name] = entry{URL: location(name, hash)}
		}
	}
	body, err := json.Marshal(map[string]any{"paths": paths})
	if err != nil {
		return index{}, fmt.Errorf("encode the index of OpenAPI documents: %w", err)
	}
	return index{body: body, etag: etag(body)}, nil
}

// location is where the version of a document with this hash is found.
func location(name, hash string) string {
	u := url.URL{Path: path.Join("/openapi/v3", name), RawQuery: url.Values{"hash": {hash}}.Encode()}
	return u.String()
}

// file returns the name of a document's file.
func file(name string, binary bool) string {
	name = "data/" + strings.ReplaceAll(name, "/", "_")
	if binary {
		return name + ".pb.gz"
	}
	return name + ".json.gz"
}
