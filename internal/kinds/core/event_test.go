package core_test

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds"
	"canopus/internal/kinds/core"
)

// newStyle returns an event as events.k8s.io/v1 wants it, in the hub version.
func newStyle(edit func(*corev1.Event)) *corev1.Event {
	e := &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Name: "e", Namespace: "n", ResourceVersion: "1"}, InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: "n", Name: "p"},
		EventTime: metav1.NewMicroTime(now), Type: corev1.EventTypeNormal, Reason: "Started", Action: "Start",
		ReportingController: "kubelet", ReportingInstance: "node",
	}
	if edit != nil {
		edit(e)
	}
	return e
}

func served(t *testing.T, gvr schema.GroupVersionResource) kinds.Served {
	t.Helper()
	set, err := kinds.NewSet(core.Event())
	if err != nil {
		t.Fatal(err)
	}
	s, ok := set.Resource(gvr)
	if !ok {
		t.Fatalf("%s is not served", gvr)
	}
	return s
}

func fields(errs field.ErrorList) string {
	var out []string
	for _, e := range errs {
		out = append(out, e.Field)
	}
	return strings.Join(out, " ")
}

// TestNewEvents: what events.k8s.io/v1 wants of a new event, and how much less v1 does.
func TestNewEvents(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 129)
	v1 := served(t, schema.GroupVersionResource{Version: "v1", Resource: "events"})
	events := served(t, schema.GroupVersionResource{Group: "events.k8s.io", Version: "v1", Resource: "events"})
	for name, tc := range map[string]struct {
		edit             func(*corev1.Event)
		want, wantLegacy string
	}{
		"complete":          {nil, "", ""},
		"no time":           {func(e *corev1.Event) { e.EventTime = metav1.MicroTime{} }, "eventTime", ""},
		"no type":           {func(e *corev1.Event) { e.Type = "" }, "type", ""},
		"another type":      {func(e *corev1.Event) { e.Type = "Error" }, "type", ""},
		"no controller":     {func(e *corev1.Event) { e.ReportingController = "" }, "reportingController", "reportingController"},
		"no name of one":    {func(e *corev1.Event) { e.ReportingController = "a b" }, "reportingController", "reportingController"},
		"no instance":       {func(e *corev1.Event) { e.ReportingInstance = "" }, "reportingInstance", "reportingInstance"},
		"long instance":     {func(e *corev1.Event) { e.ReportingInstance = long }, "reportingInstance", "reportingInstance"},
		"no action":         {func(e *corev1.Event) { e.Action = "" }, "action", "action"},
		"long action":       {func(e *corev1.Event) { e.Action = long }, "action", "action"},
		"no reason":         {func(e *corev1.Event) { e.Reason = "" }, "reason", "reason"},
		"long message":      {func(e *corev1.Event) { e.Message = strings.Repeat("x", 1025) }, "message", "message"},
		"series of one":     {func(e *corev1.Event) { e.Series = &corev1.EventSeries{Count: 1} }, "series.count series.lastObservedTime", ""},
		"another namespace": {func(e *corev1.Event) { e.InvolvedObject.Namespace = "m" }, "involvedObject.namespace", "involvedObject.namespace"},
		"of the older style too": {func(e *corev1.Event) {
			e.FirstTimestamp, e.LastTimestamp, e.Count, e.Source.Component = ago(0), ago(0), 1, "x"
		}, "firstTimestamp lastTimestamp count source", ""},
	} {
		if got := fields(events.Validate(newStyle(tc.edit))); got != tc.want {
			t.Errorf("%s: events.k8s.io/v1 refused %q, want %q", name, got, tc.want)
		}
		if got := fields(v1.Validate(newStyle(tc.edit))); got != tc.wantLegacy {
			t.Errorf("%s: v1 refused %q, want %q", name, got, tc.wantLegacy)
		}
	}
}

// TestEventUpdates: in events.k8s.io/v1 the series alone changes; in v1 anything may.
func TestEventUpdates(t *testing.T) {
	t.Parallel()
	v1 := served(t, schema.GroupVersionResource{Version: "v1", Resource: "events"})
	events := served(t, schema.GroupVersionResource{Group: "events.k8s.io", Version: "v1", Resource: "events"})
	for name, tc := range map[string]struct {
		edit func(*corev1.Event)
		want string
	}{
		"series": {func(e *corev1.Event) {
			e.Series = &corev1.EventSeries{Count: 2, LastObservedTime: metav1.NewMicroTime(now)}
		}, ""},
		"no series":   {func(e *corev1.Event) { e.Series = &corev1.EventSeries{Count: 1} }, "series.count series.lastObservedTime"},
		"nanoseconds": {func(e *corev1.Event) { e.EventTime = metav1.NewMicroTime(now.Add(7)) }, ""},
		"time":        {func(e *corev1.Event) { e.EventTime = metav1.NewMicroTime(now.Add(time.Microsecond)) }, "eventTime"},
		"message":     {func(e *corev1.Event) { e.Message = "x" }, "message"},
		"object":      {func(e *corev1.Event) { e.InvolvedObject.Name = "q" }, "involvedObject"},
		"related":     {func(e *corev1.Event) { e.Related = &corev1.ObjectReference{} }, "related"},
	} {
		if got := fields(events.ValidateUpdate(newStyle(tc.edit), newStyle(nil))); got != tc.want {
			t.Errorf("%s: events.k8s.io/v1 refused %q, want %q", name, got, tc.want)
		}
		if got := fields(v1.ValidateUpdate(newStyle(tc.edit), newStyle(nil))); got != "" {
			t.Errorf("%s: v1 refused %q", name, got)
		}
	}
}
