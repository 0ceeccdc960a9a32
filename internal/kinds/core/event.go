package core

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds"
	"canopus/internal/kinds/check"
	"canopus/internal/kinds/show"
)

// eventLife is how long an event is kept.
const eventLife = time.Hour

// Event is v1 events and events.k8s.io/v1 events: two views of one store.
func Event() *kinds.Kind {
	return kinds.New(kinds.Spec[corev1.Event, *corev1.Event]{
		GVK:        corev1.SchemeGroupVersion.WithKind("Event"),
		Plural:     "events",
		ShortNames: []string{"ev"},
		Namespaced: true,
		NewList:    func() runtime.Object { return &corev1.EventList{} },
		Versions: []kinds.Version{{
			Group: eventsv1.GroupName, Version: "v1",
			New:     func() runtime.Object { return &eventsv1.Event{} },
			NewList: func() runtime.Object { return &eventsv1.EventList{} },
			ToHub:   eventToCore, FromHub: eventFromCore,
			Validate: func(hub kinds.Object) field.ErrorList { return validateNewEvent(hub.(*corev1.Event)) },
			ValidateUpdate: func(hub, old kinds.Object) field.ErrorList {
				return validateEventSeries(hub.(*corev1.Event), old.(*corev1.Event))
			},
		}},
		CreateOnUpdate: true,
		TTL:            func(*corev1.Event) time.Duration { return eventLife },
		Validate:       validateEvent,
		Columns:        eventColumns(),
		Cells:          eventCells,
		Fields:         eventFields(),
	})
}

func eventToCore(in runtime.Object) (runtime.Object, error) {
	e, ok := in.(*eventsv1.Event)
	if !ok {
		return nil, fmt.Errorf("%T is not an events.k8s.io/v1 Event", in)
	}
	out := &corev1.Event{
		ObjectMeta: e.ObjectMeta, InvolvedObject: e.Regarding, Related: e.Related, Reason: e.Reason, Message: e.Note,
		Source: e.DeprecatedSource, FirstTimestamp: e.DeprecatedFirstTimestamp, LastTimestamp: e.DeprecatedLastTimestamp,
		Count: e.DeprecatedCount, Type: e.Type, EventTime: e.EventTime, Action: e.Action,
		ReportingController: e.ReportingController, ReportingInstance: e.ReportingInstance,
	}
	if e.Series != nil {
		out.Series = &corev1.EventSeries{Count: e.Series.Count, LastObservedTime: e.Series.LastObservedTime}
	}
	return out, nil
}

func eventFromCore(in runtime.Object) (runtime.Object, error) {
	e, ok := in.(*corev1.Event)
	if !ok {
		return nil, fmt.Errorf("%T is not a v1 Event", in)
	}
	out := &eventsv1.Event{
		ObjectMeta: e.ObjectMeta, Regarding: e.InvolvedObject, Related: e.Related, Reason: e.Reason, Note: e.Message,
		DeprecatedSource: e.Source, DeprecatedFirstTimestamp: e.FirstTimestamp, DeprecatedLastTimestamp: e.LastTimestamp,
		DeprecatedCount: e.Count, Type: e.Type, EventTime: e.EventTime, Action: e.Action,
		ReportingController: e.ReportingController, ReportingInstance: e.ReportingInstance,
	}
	if e.Series != nil {
		out.Series = &eventsv1.EventSeries{Count: e.Series.Count, LastObservedTime: e.Series.LastObservedTime}
	}
	return out, nil
}

// validateEvent checks an event of the newer style, told by its eventTime, more closely than one of the older.
func validateEvent(e *corev1.Event) field.ErrorList {
	about := e.InvolvedObject.Namespace
	mismatch := about != "" && about != e.Namespace
	if about == "" { // about something that has no namespace
		mismatch = e.Namespace != "" && e.Namespace != metav1.NamespaceDefault &&
			(e.EventTime.IsZero() || e.Namespace != metav1.NamespaceSystem)
	}
	var errs field.ErrorList
	if mismatch {
		errs = append(errs, field.Invalid(field.NewPath("involvedObject", "namespace"), about, "does not match event.namespace"))
	}
	if e.EventTime.IsZero() {
		return errs
	}
	if e.ReportingController == "" {
		errs = append(errs, field.Required(field.NewPath("reportingController"), ""))
	} else {
		errs = append(errs, check.Messages(field.NewPath("reportingController"), e.ReportingController, validation.IsQualifiedName(e.ReportingController))...)
	}
	errs = append(errs, validateText(e.ReportingInstance, 128, field.NewPath("reportingInstance"))...)
	errs = append(errs, validateText(e.Action, 128, field.NewPath("action"))...)
	errs = append(errs, validateText(e.Reason, 128, field.NewPath("reason"))...)
	if len(e.Message) > 1024 {
		errs = append(errs, field.Invalid(field.NewPath("message"), "", "can have at most 1024 characters"))
	}
	return errs
}

// validateNewEvent checks what events.k8s.io/v1 wants of a new event: the fields of the newer style, none of the older.
func validateNewEvent(e *corev1.Event) field.ErrorList {
	errs := validateSeries(e.Series)
	if e.EventTime.IsZero() {
		errs = append(errs, field.Required(field.NewPath("eventTime"), ""))
	}
	if e.Type != corev1.EventTypeNormal && e.Type != corev1.EventTypeWarning {
		errs = append(errs, field.Invalid(field.NewPath("type"), "", fmt.Sprintf("has invalid value: %v", e.Type)))
	}
	for _, older := range []struct {
		name  string
		set   bool
		value any
	}{
		{"firstTimestamp", !e.FirstTimestamp.IsZero(), e.FirstTimestamp},
		{"lastTimestamp", !e.LastTimestamp.IsZero(), e.LastTimestamp},
		{"count", e.Count != 0, e.Count},
		{"source", e.Source != corev1.EventSource{}, e.Source},
	} {
		if older.set {
			errs = append(errs, field.Invalid(field.NewPath(older.name), older.value, "needs to be unset"))
		}
	}
	return errs
}

// validateEventSeries: of an event in events.k8s.io/v1, the series alone may grow.
func validateEventSeries(e, old *corev1.Event) field.ErrorList {
	errs := validateSeries(e.Series)
	for _, f := range []struct {
		name     string
		now, was any
	}{
		{"involvedObject", e.InvolvedObject, old.InvolvedObject},
		{"reason", e.Reason, old.Reason},
		{"message", e.Message, old.Message},
		{"source", e.Source, old.Source},
		{"firstTimestamp", e.FirstTimestamp, old.FirstTimestamp},
		{"lastTimestamp", e.LastTimestamp, old.LastTimestamp},
		{"count", e.Count, old.Count},
		{"type", e.Type, old.Type},
		{"eventTime", microseconds(e.EventTime), microseconds(old.EventTime)}, // as much as JSON keeps of it
		{"action", e.Action, old.Action},
		{"related", e.Related, old.Related},
		{"reportingController", e.ReportingController, old.ReportingController},
		{"reportingInstance", e.ReportingInstance, old.ReportingInstance},
	} {
		errs = append(errs, immutable(f.now, f.was, field.NewPath(f.name))...)
	}
	return errs
}

// validateSeries: a series is of two at least, and says when the last was.
func validateSeries(s *corev1.EventSeries) field.ErrorList {
	if s == nil {
		return nil
	}
	var errs field.ErrorList
	if s.Count < 2 {
		errs = append(errs, field.Invalid(field.NewPath("series", "count"), "", "should be at least 2"))
	}
	if s.LastObservedTime.IsZero() {
		errs = append(errs, field.Required(field.NewPath("series", "lastObservedTime"), ""))
	}
	return errs
}

func microseconds(t metav1.MicroTime) metav1.MicroTime {
	return metav1.NewMicroTime(t.Truncate(time.Microsecond))
}

func validateText(value string, limit int, path *field.Path) field.ErrorList {
	if value == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	if len(value) > limit {
		return field.ErrorList{field.Invalid(path, "", fmt.Sprintf("can have at most %d characters", limit))}
	}
	return nil
}

// eventFields knows the names of both groups.
func eventFields() map[string]func(*corev1.Event) string {
	fields := map[string]func(*corev1.Event) string{
		"reason":              func(e *corev1.Event) string { return e.Reason },
		"type":                func(e *corev1.Event) string { return e.Type },
		"reportingComponent":  func(e *corev1.Event) string { return e.ReportingController },
		"reportingController": func(e *corev1.Event) string { return e.ReportingController },
		"source": func(e *corev1.Event) string {
			if e.Source.Component == "" {
				return e.ReportingController
			}
			return e.Source.Component
		},
	}
	for name, get := range map[string]func(*corev1.ObjectReference) string{
		"kind":            func(r *corev1.ObjectReference) string { return r.Kind },
		"namespace":       func(r *corev1.ObjectReference) string { return r.Namespace },
		"name":            func(r *corev1.ObjectReference) string { return r.Name },
		"uid":             func(r *corev1.ObjectReference) string { return string(r.UID) },
		"apiVersion":      func(r *corev1.ObjectReference) string { return r.APIVersion },
		"resourceVersion": func(r *corev1.ObjectReference) string { return r.ResourceVersion },
		"fieldPath":       func(r *corev1.ObjectReference) string { return r.FieldPath },
	} {
		read := func(e *corev1.Event) string { return get(&e.InvolvedObject) }
		fields["involvedObject."+name], fields["regarding."+name] = read, read
	}
	return fields
}

func eventColumns() []metav1.TableColumnDefinition {
	doc := corev1.Event{}.SwaggerDoc()
	name := show.Name()
	name.Priority = 1
	return []metav1.TableColumnDefinition{
		show.Column("Last Seen", "string", doc["lastTimestamp"]),
		show.Column("Type", "string", doc["type"]),
		show.Column("Reason", "string", doc["reason"]),
		show.Column("Object", "string", doc["involvedObject"]),
		show.Wide("Subobject", "string", corev1.ObjectReference{}.SwaggerDoc()["fieldPath"]),
		show.Wide("Source", "string", doc["source"]),
		show.Column("Message", "string", doc["message"]),
		show.Wide("First Seen", "string", doc["firstTimestamp"]),
		show.Wide("Count", "string", doc["count"]),
		name,
	}
}

func eventCells(e *corev1.Event, now time.Time) []any {
	first, count := show.Age(e.FirstTimestamp, now), e.Count
	if e.FirstTimestamp.IsZero() {
		first = show.MicroAge(e.EventTime, now)
	}
	last := first
	if !e.LastTimestamp.IsZero() {
		last = show.Age(e.LastTimestamp, now)
	}
	switch {
	case e.Series != nil:
		last, count = show.MicroAge(e.Series.LastObservedTime, now), e.Series.Count
	case count == 0: // of the newer style, seen once
		count = 1
	}
	object := strings.ToLower(e.InvolvedObject.Kind)
	if e.InvolvedObject.Name != "" {
		object += "/" + e.InvolvedObject.Name
	}
	source, instance := e.Source.Component, e.Source.Host
	setDefault(&source, e.ReportingController)
	setDefault(&instance, e.ReportingInstance)
	if instance != "" {
		source += ", " + instance
	}
	return []any{
		last, e.Type, e.Reason, object, e.InvolvedObject.FieldPath, source, strings.TrimSpace(e.Message), first, int64(count), e.Name,
	}
}
