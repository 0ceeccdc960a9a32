package usage

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// maxLine bounds one line of metrics.
const maxLine = 1 << 20

// point is what one reading says of a container or a node.
type point struct {
	at      time.Time // of cpu
	started time.Time // zero: unknown
	cpu     float64   // core-seconds since it started
	memory  float64   // bytes
	hasCPU  bool
	hasMem  bool
}

func (p *point) whole() bool { return p.hasCPU && p.hasMem }

// reading is one answer of an agent.
type reading struct {
	at   time.Time
	node point
	pods map[types.NamespacedName]map[string]*point // by pod and container
}

// parse reads Prometheus text. Only the metrics that matter are looked at; any others may be there, in any order.
func parse(r io.Reader, now time.Time) (*reading, error) {
	out := &reading{at: now, pods: map[types.NamespacedName]map[string]*point{}}
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 64<<10), maxLine)
	for lines.Scan() {
		line := lines.Bytes()
		if !bytes.HasPrefix(line, []byte("node_")) && !bytes.HasPrefix(line, []byte("container_")) {
			continue
		}
		s, err := parseLine(string(line))
		if err != nil {
			return nil, err
		}
		out.take(s)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read metrics: %w", err)
	}
	return out, nil
}

// take keeps a sample if it is one that matters.
func (r *reading) take(s sample) {
	at := s.at
	if at.IsZero() {
		at = r.at
	}
	switch s.name {
	case "node_cpu_usage_seconds_total":
		r.node.cpu, r.node.at, r.node.hasCPU = s.value, at, true
	case "node_memory_working_set_bytes":
		r.node.memory, r.node.hasMem = s.value, true
	case "container_cpu_usage_seconds_total":
		p := r.container(s.labels)
		p.cpu, p.at, p.hasCPU = s.value, at, true
	case "container_memory_working_set_bytes":
		p := r.container(s.labels)
		p.memory, p.hasMem = s.value, true
	case "container_start_time_seconds":
		r.container(s.labels).started = fromSeconds(s.value)
	}
}

func fromSeconds(v float64) time.Time {
	whole, part := math.Modf(v)
	return time.Unix(int64(whole), int64(part*1e9))
}

func (r *reading) container(labels map[string]string) *point {
	pod := types.NamespacedName{Namespace: labels["namespace"], Name: labels["pod"]}
	containers := r.pods[pod]
	if containers == nil {
		containers = map[string]*point{}
		r.pods[pod] = containers
	}
	p := containers[labels["container"]]
	if p == nil {
		p = &point{}
		containers[strings.Clone(labels["container"])] = p
	}
	return p
}

// sample is one line.
type sample struct {
	name   string
	labels map[string]string
	value  float64
	at     time.Time // zero: not said
}

// parseLine reads name{label="value",…} value [milliseconds].
func parseLine(line string) (sample, error) {
	s := sample{labels: map[string]string{}}
	rest := line
	if i := strings.IndexAny(rest, "{ \t"); i > 0 {
		s.name, rest = rest[:i], rest[i:]
	} else {
		return s, fmt.Errorf("metric without a value: %.80q", line)
	}
	if strings.HasPrefix(rest, "{") {
		var err error
		if rest, err = parseLabels(rest[1:], s.labels); err != nil {
			return s, fmt.Errorf("%w in %.200q", err, line)
		}
	}
	fields := strings.Fields(rest)
	if len(fields) != 1 && len(fields) != 2 {
		return s, fmt.Errorf("metric with %d values: %.200q", len(fields), line)
	}
	var err error
	if s.value, err = strconv.ParseFloat(fields[0], 64); err != nil {
		return s, fmt.Errorf("value of a metric: %w", err)
	}
	if math.IsNaN(s.value) || math.IsInf(s.value, 0) || s.value < 0 {
		return s, fmt.Errorf("metric that cannot be counted: %.200q", line)
	}
	if len(fields) == 2 {
		ms, err := strconv.ParseInt(fields[1], 10, 64)
		if err != nil {
			return s, fmt.Errorf("time of a metric: %w", err)
		}
		s.at = time.UnixMilli(ms)
	}
	return s, nil
}

// parseLabels reads labels up to and with the closing brace and returns what follows it.
func parseLabels(rest string, into map[string]string) (string, error) {
	for {
		rest = strings.TrimLeft(rest, ", \t")
		if after, ok := strings.CutPrefix(rest, "}"); ok {
			return after, nil
		}
		name, after, ok := strings.Cut(rest, "=")
		after = strings.TrimLeft(after, " \t")
		if !ok || !strings.HasPrefix(after, `"`) {
			return "", fmt.Errorf("label without a value")
		}
		end := closing(after[1:])
		if end < 0 {
			return "", fmt.Errorf("label without an end")
		}
		into[strings.TrimSpace(name)] = unescape(after[1 : 1+end])
		rest = after[end+2:]
	}
}

// closing finds the quote that ends a label's value.
func closing(s string) int {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return -1
}

func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	return strings.NewReplacer(`\\`, `\`, `\"`, `"`, `\n`, "\n").Replace(s)
}
