package main

import (
	"bufio"
	"context"
	_ "embed" // unserved.txt
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"
)

// unserved lists the metrics that are not served, each as "name: reason"; one whose reason begins with sometimes may be there.
//
//go:embed unserved.txt
var unserved string

const (
	unservedFile = "test/parity/unserved.txt"
	sometimes    = "only "
)

// figure is a metric as the release's list has it.
type figure struct {
	Name, Subsystem, Namespace string
	Type                       string // Custom: made when it is asked for, of any type
	StabilityLevel             string
	Labels                     []string
	Buckets                    []float64
}

func (f *figure) fullName() string {
	return strings.Join(slices.DeleteFunc([]string{f.Namespace, f.Subsystem, f.Name}, func(s string) bool { return s == "" }), "_")
}

// family is a metric as it is served.
type family struct {
	kind    string
	labels  []string
	buckets []float64
}

// figures compares the metrics that a cluster serves with the list of a release. Before it looks, it makes happen what
// metrics tell of.
func (d *differ) figures(ctx context.Context, dir string, k kubernetes.Interface) error {
	data, err := os.ReadFile(filepath.Join(dir, "stable-metrics-list.yaml"))
	if errors.Is(err, fs.ErrNotExist) {
		d.say("metrics: list" + onlyOurs)
		return nil
	}
	if err != nil {
		return err
	}
	var want []figure
	if err := yaml.Unmarshal(data, &want); err != nil {
		return fmt.Errorf("list of metrics: %w", err)
	}
	end, err := provoke(ctx, k)
	defer end()
	if err != nil {
		return err
	}
	got, err := scrape(ctx, k)
	if err != nil {
		return err
	}
	reasons := map[string]string{}
	for line := range strings.Lines(unserved) {
		if name, reason, ok := strings.Cut(strings.TrimSpace(line), ": "); ok {
			reasons[name] = reason
		}
	}
	for i := range want {
		name := want[i].fullName()
		served, reason := got[name], reasons[name]
		delete(reasons, name)
		switch {
		case served != nil && reason != "" && !strings.HasPrefix(reason, sometimes):
			d.say("metric %s: is served, but listed in %s", name, unservedFile)
		case served != nil:
			d.figure(name, &want[i], served)
		case reason == "":
			d.say("metric %s (%s): is missing", name, strings.ToLower(want[i].StabilityLevel))
		}
	}
	for name := range reasons {
		d.say("metric %s: no longer in the release's list, but listed in %s", name, unservedFile)
	}
	return nil
}

func (d *differ) figure(name string, want *figure, got *family) {
	if kind := strings.ToLower(want.Type); kind != "custom" && kind != got.kind {
		d.say("metric %s: theirs is a %s, ours a %s", name, kind, got.kind)
	}
	labels := slices.Sorted(slices.Values(want.Labels))
	if !slices.Equal(labels, got.labels) {
		d.say("metric %s: theirs has labels %v, ours %v", name, labels, got.labels)
	}
	same := func(a, b float64) bool { return math.Abs(a-b) <= 1e-9*math.Max(math.Abs(a), math.Abs(b)) }
	if len(want.Buckets) > 0 && !slices.EqualFunc(want.Buckets, got.buckets, same) {
		d.say("metric %s: theirs has buckets %v, ours %v", name, want.Buckets, got.buckets)
	}
}

// scrape reads all pages of metrics: the API server's, which in one process are those of its scheduler and controllers too,
// and every node's.
func scrape(ctx context.Context, k kubernetes.Interface) (map[string]*family, error) {
	pages := []string{"/metrics", "/metrics/resources"}
	nodes, err := k.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	for _, n := range nodes.Items {
		for _, page := range []string{"/metrics", "/metrics/resource", "/metrics/probes"} {
			pages = append(pages, "/api/v1/nodes/"+n.Name+"/proxy"+page)
		}
	}
	families := map[string]*family{}
	for _, page := range pages {
		body, err := k.CoreV1().RESTClient().Get().AbsPath(page).Stream(ctx)
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", page, err)
		}
		err = errors.Join(read(families, body), body.Close())
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", page, err)
		}
	}
	return families, nil
}

// read adds what a page in Prometheus' text format holds.
func read(families map[string]*family, page io.Reader) error {
	lines := bufio.NewScanner(page)
	lines.Buffer(nil, 1<<20)
	var current *family
	seen := false
	for lines.Scan() {
		line := lines.Text()
		if rest, ok := strings.CutPrefix(line, "# TYPE "); ok {
			name, kind, _ := strings.Cut(rest, " ")
			current, seen = &family{kind: kind}, families[name] != nil
			if !seen {
				families[name] = current
			}
			continue
		}
		if strings.HasPrefix(line, "#") || current == nil || seen {
			continue
		}
		names, bound := labels(line)
		for _, name := range names {
			if !slices.Contains(current.labels, name) {
				current.labels = append(current.labels, name)
			}
		}
		slices.Sort(current.labels)
		if v, err := strconv.ParseFloat(bound, 64); err == nil && !math.IsInf(v, 0) && !slices.Contains(current.buckets, v) {
			current.buckets = append(current.buckets, v)
		}
	}
	return lines.Err()
}

// labels returns the names of a sample's labels but le, and what le is.
func labels(line string) (names []string, bound string) {
	_, rest, _ := strings.Cut(line, "{")
	for {
		name, after, ok := strings.Cut(rest, `="`)
		if !ok || strings.Contains(name, "}") {
			return names, bound
		}
		end := 0
		for end < len(after) && after[end] != '"' {
			if after[end] == '\\' {
				end++
			}
			end++
		}
		if name == "le" {
			bound = after[:min(end, len(after))]
		} else {
			names = append(names, name)
		}
		rest = strings.TrimPrefix(after[min(end+1, len(after)):], ",")
	}
}
