package client

import (
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
)

// next is the next event of w and the metadata it shows.
func next(t *testing.T, w watch.Interface) (watch.EventType, *metav1.PartialObjectMetadata) {
	t.Helper()
	select {
	case e, ok := <-w.ResultChan():
		if !ok {
			t.Fatal("the watch has ended")
		}
		m, ok := e.Object.(*metav1.PartialObjectMetadata)
		if !ok {
			t.Fatalf("%s of a %T: %v", e.Type, e.Object, e.Object)
		}
		return e.Type, m
	case <-time.After(20 * time.Second):
		t.Fatal("no event in 20 s")
	}
	return "", nil
}

func TestMetadataWatchShowsTheStoresObjects(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 0)
	first := f.write(t, nil, "a", "1")
	yes := true
	w, err := f.as(t, "scheduler").Metadata.Resource(schema.GroupVersionResource{Version: "v1", Resource: "pods"}).Namespace("default").Watch(t.Context(),
		metav1.ListOptions{SendInitialEvents: &yes, AllowWatchBookmarks: true, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	if kind, m := next(t, w); kind != watch.Added || m.Name != "a" || m.Annotations["note"] != "1" || m.ResourceVersion == "" {
		t.Errorf("first: %s %v", kind, m)
	}
	if kind, m := next(t, w); kind != watch.Bookmark || m.Annotations[metav1.InitialEventsAnnotationKey] != "true" {
		t.Errorf("after the initial events: %s %v", kind, m)
	}
	second := f.write(t, first, "a", "2")
	if kind, m := next(t, w); kind != watch.Modified || m.Annotations["note"] != "2" {
		t.Errorf("after a change: %s %v", kind, m)
	}
	f.write(t, second, "a", "")
	if kind, m := next(t, w); kind != watch.Deleted || m.Name != "a" {
		t.Errorf("after the deletion: %s %v", kind, m)
	}
}

func TestMetadataWatchOfAnotherNamespaceIsSilent(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 0)
	f.write(t, nil, "a", "1")
	yes := true
	w, err := f.as(t, "scheduler").Metadata.Resource(schema.GroupVersionResource{Version: "v1", Resource: "pods"}).Namespace("other").Watch(t.Context(),
		metav1.ListOptions{SendInitialEvents: &yes, AllowWatchBookmarks: true, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	if kind, m := next(t, w); kind != watch.Bookmark {
		t.Errorf("%s %v, want a bookmark alone", kind, m)
	}
}

func TestMetadataWatchIsAuthorized(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 0)
	_, err := f.as(t, "nobody").Metadata.Resource(schema.GroupVersionResource{Version: "v1", Resource: "pods"}).Watch(t.Context(), metav1.ListOptions{})
	if !apierrors.IsForbidden(err) {
		t.Errorf("a user without rights: %v", err)
	}
}

func TestMetadataWatchOfWhatIsNotStoredAsksTheServer(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 0)
	_, err := f.as(t, "scheduler").Metadata.Resource(schema.GroupVersionResource{Group: "metrics.k8s.io", Version: "v1beta1", Resource: "pods"}).Watch(t.Context(), metav1.ListOptions{})
	if !apierrors.IsNotFound(err) {
		t.Errorf("the fixture's handler knows nothing, yet: %v", err)
	}
}
