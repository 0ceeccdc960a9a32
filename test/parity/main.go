// Command parity compares what Canopus publishes of its kinds, discovery and OpenAPI, with published data of Kubernetes, and
// the metrics of a running cluster, which CLUSTER names, with the release's list:
//
//	make parity SPEC=../shared/spec
//	make parity SPEC=../shared/spec CLUSTER=/etc/canopus/kubeconfig
//
// It prints every difference in structure: paths, operations, parameters, schema fields, types and extensions, verbs and
// names. Texts are not compared. What the data do not have, of a newer release or an add-on elsewhere, is only ours and
// counted apart: it is to be expected, and to be read. So are the differences in changed.txt: there the k8s.io modules, from
// which the schemas are made, are newer than the data. It exits with 1 if there are others, or fewer than that list has; -update
// writes the list anew, for a reader who knows why each line is there. unserved.txt says which metrics are not served, and why.
package main

import (
	"compress/gzip"
	"context"
	_ "embed" // changed.txt
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"canopus/internal/apiserver/discovery"
	"canopus/internal/apiserver/openapi"
	"canopus/internal/apiserver/openapi/operations"
	"canopus/internal/client"
	"canopus/internal/kinds"
	"canopus/internal/kinds/builtin"
)

func main() {
	spec := flag.String("spec", "", "directory with discovery/ and openapi/ of the release to compare with")
	cluster := flag.String("cluster", "", "kubeconfig of a cluster whose metrics are compared too; it needs the demo image and one process for all parts")
	update := flag.Bool("update", false, "write the differences that are not only ours to "+changedFile)
	flag.Parse()
	found, err := compare(*spec, builtin.Set())
	if err == nil && *cluster != "" {
		var more []string
		more, err = compareFigures(*spec, *cluster)
		found = append(found, more...)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "parity:", err)
		os.Exit(2)
	}
	if *update {
		differ := slices.DeleteFunc(found, func(line string) bool { return strings.HasSuffix(line, onlyOurs) })
		if err := os.WriteFile(changedFile, []byte(strings.Join(differ, "\n")+"\n"), 0o644); err != nil {
			fmt.Fprintln(os.Stderr, "parity: run it at the root of the project:", err)
			os.Exit(2)
		}
		return
	}
	if report(found, strings.FieldsFunc(changed, func(r rune) bool { return r == '\n' })) > 0 {
		os.Exit(1)
	}
}

// changed lists the differences that newer modules make, one a line.
//
//go:embed changed.txt
var changed string

const (
	changedFile = "test/parity/changed.txt"
	onlyOurs    = " is only ours" // ends each line about what the data do not have
)

// report prints what was found and returns how much of it nobody has accounted for.
func report(found, changed []string) int {
	ours, known, wrong := 0, 0, 0
	for _, line := range found {
		switch {
		case strings.HasSuffix(line, onlyOurs):
			ours++
		case slices.Contains(changed, line):
			known++
			line += " (changed since)"
		default:
			wrong++
		}
		fmt.Println(line)
	}
	for _, line := range changed {
		if !slices.Contains(found, line) {
			wrong++
			fmt.Printf("%s: no longer so, but listed in %s\n", line, changedFile)
		}
	}
	fmt.Printf("%d differences; %d are only ours, and %d have changed since\n", wrong, ours, known)
	return wrong
}

// compareFigures is about the metrics of the cluster that a kubeconfig names.
func compareFigures(dir, kubeconfig string) ([]string, error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	access, err := client.FromKubeconfig(kubeconfig, "parity")
	if err != nil {
		return nil, err
	}
	d := &differ{}
	err = d.figures(ctx, dir, access.Client)
	slices.Sort(d.found)
	return d.found, err
}

func compare(dir string, set *kinds.Set) ([]string, error) {
	docs, err := openapi.New(set)
	if err != nil {
		return nil, err
	}
	pages, err := discovery.New(set, "127.0.0.1:6443")
	if err != nil {
		return nil, err
	}
	d := &differ{}
	for _, doc := range operations.Documents(set) {
		name := strings.ReplaceAll(doc.Name, "/", "__")
		want, err := readFile(filepath.Join(dir, "openapi", name+"_openapi.json"))
		if errors.Is(err, fs.ErrNotExist) {
			d.say("%s: document"+onlyOurs, doc.Name)
			continue
		}
		if err != nil {
			return nil, err
		}
		got, err := fetch(docs, "/openapi/v3/"+doc.Name)
		if err != nil {
			return nil, err
		}
		d.document(doc.Name, want, got)
		if doc.GV.Empty() {
			continue
		}
		if want, err = readFile(filepath.Join(dir, "discovery", name+".json")); err != nil {
			return nil, err
		}
		if got, err = fetch(pages.Page("/"+doc.Name), "/"+doc.Name); err != nil {
			return nil, err
		}
		d.resources(doc.Name, want, got)
	}
	slices.Sort(d.found)
	return d.found, nil
}

// fetch returns the JSON that h answers at path.
func fetch(h http.Handler, path string) (map[string]any, error) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	if w.Code != http.StatusOK {
		return nil, fmt.Errorf("%s: status %d: run `make generate` if a kind is new", path, w.Code)
	}
	var body = w.Body
	var out map[string]any
	if w.Header().Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(body)
		if err != nil {
			return nil, err
		}
		return out, json.NewDecoder(z).Decode(&out)
	}
	return out, json.NewDecoder(body).Decode(&out)
}

func readFile(name string) (map[string]any, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var out map[string]any
	return out, json.Unmarshal(data, &out)
}

// differ collects differences.
type differ struct{ found []string }

func (d *differ) say(format string, args ...any) {
	d.found = append(d.found, fmt.Sprintf(format, args...))
}

// document compares our OpenAPI document with theirs: everything in ours must be in theirs, and what theirs has of our
// paths and schemas must be in ours.
func (d *differ) document(name string, want, got map[string]any) {
	wantPaths, gotPaths := object(want["paths"]), object(got["paths"])
	resources := map[string]bool{}
	for path := range gotPaths {
		resources[plural(path)] = true
		if wantPaths[path] == nil {
			d.say("%s: path %s"+onlyOurs, name, path)
			continue
		}
		d.value(name+" "+path, wantPaths[path], gotPaths[path])
	}
	for path := range wantPaths {
		if gotPaths[path] == nil && resources[plural(path)] {
			d.say("%s: path %s is missing", name, path)
		}
	}
	wantSchemas, gotSchemas := schemas(want), schemas(got)
	for schema := range gotSchemas {
		if wantSchemas[schema] == nil {
			d.say("%s: schema %s"+onlyOurs, name, schema)
			continue
		}
		d.value(name+" "+schema, wantSchemas[schema], gotSchemas[schema])
	}
}

// plural is the one that a path is about.
func plural(path string) string {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	for i, p := range parts {
		if p == "{name}" && i > 0 {
			return parts[i-1]
		}
	}
	return parts[len(parts)-1]
}

func schemas(doc map[string]any) map[string]any { return object(object(doc["components"])["schemas"]) }

func object(v any) map[string]any {
	m, _ := v.(map[string]any)
	return m
}

// value compares two parts of a document.
func (d *differ) value(where string, want, got any) {
	wm, isMap := want.(map[string]any)
	gm, both := got.(map[string]any)
	if isMap && both {
		keys := maps.Clone(wm)
		maps.Copy(keys, gm)
		for key := range keys {
			if ignored(key) {
				continue
			}
			w, inWant := wm[key]
			g, inGot := gm[key]
			switch {
			case !inGot:
				d.say("%s: %s is missing", where, key)
			case !inWant:
				d.say("%s: %s"+onlyOurs, where, key)
			default:
				d.value(where+"."+key, w, g)
			}
		}
		return
	}
	wl, isList := want.([]any)
	gl, both := got.([]any)
	if isList && both {
		d.value(where, byName(wl), byName(gl))
		return
	}
	if !reflect.DeepEqual(want, got) {
		d.say("%s: theirs %v, ours %v", where, want, got)
	}
}

// byName turns a list into a map, because its order says nothing: of parameters, required fields, kinds.
func byName(list []any) map[string]any {
	out := map[string]any{}
	for i, v := range list {
		key := fmt.Sprint(v)
		if m := object(v); m["name"] != nil {
			key = fmt.Sprint(m["in"], " ", m["name"])
		} else if m["$ref"] == nil && m != nil && m["kind"] == nil {
			key = fmt.Sprint(i)
		}
		out[key] = v
	}
	return out
}

// ignored are keys with texts, what we do not serve (CBOR, the alpha selection of shards), and enums, which a live server
// publishes but the published files lack.
func ignored(key string) bool {
	return key == "description" || key == "enum" || strings.Contains(key, "cbor") || key == "query shardSelector"
}

// resources compares the discovery documents of a group-version for the resources that we serve.
func (d *differ) resources(name string, want, got map[string]any) {
	index := func(doc map[string]any) map[string]any {
		out := map[string]any{}
		list, _ := doc["resources"].([]any)
		for _, r := range list {
			out[fmt.Sprint(object(r)["name"])] = r
		}
		return out
	}
	theirs, ours := index(want), index(got)
	for resource := range theirs {
		parent, _, _ := strings.Cut(resource, "/")
		if ours[resource] == nil && ours[parent] != nil {
			d.say("discovery %s: %s is missing", name, resource)
		}
	}
	for resource, r := range ours {
		if theirs[resource] == nil {
			d.say("discovery %s: %s"+onlyOurs, name, resource)
			continue
		}
		d.value("discovery "+name+" "+resource, theirs[resource], r)
	}
}
