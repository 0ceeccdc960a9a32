package namespace

import (
	"errors"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestConditions(t *testing.T) {
	t.Parallel()
	first, later := metav1.NewTime(time.Unix(100, 0)), metav1.NewTime(time.Unix(200, 0))
	if got := conditions(nil, content{}, first); len(got) != 0 {
		t.Errorf("a namespace that was empty: %+v", got)
	}
	stuck := content{
		left: map[string]int{"pods.": 2, "deployments.apps": 1}, finalizers: map[string]int{"example.com/x": 1},
		discovery: errors.New("metrics is down"), errs: []error{errors.New("metrics is down")},
	}
	got := conditions(nil, stuck, first)
	want := []string{
		"NamespaceDeletionDiscoveryFailure True DiscoveryFailed metrics is down",
		"NamespaceDeletionGroupVersionParsingFailure False ParsedGroupVersions All legacy kube types successfully parsed",
		"NamespaceDeletionContentFailure False ContentDeleted All content successfully deleted, may be waiting on finalization",
		"NamespaceContentRemaining True SomeResourcesRemain Some resources are remaining: deployments.apps has 1 resource instances, pods. has 2 resource instances",
		"NamespaceFinalizersRemaining True SomeFinalizersRemain Some content in the namespace has finalizers remaining: example.com/x in 1 resource instances",
	}
	for i, w := range want {
		if text := string(got[i].Type) + " " + string(got[i].Status) + " " + got[i].Reason + " " + got[i].Message; text != w {
			t.Errorf("got  %s\nwant %s", text, w)
		}
	}
	if same := conditions(got, stuck, later); same[0].LastTransitionTime != first {
		t.Error("nothing changed but the time")
	}
	if done := conditions(got, content{}, later); done[3].Reason != "ContentRemoved" || done[3].LastTransitionTime != later || done[1].LastTransitionTime != first {
		t.Errorf("%+v", done)
	}
}

func TestWanting(t *testing.T) {
	t.Parallel()
	now := metav1.NewTime(time.Unix(100, 0))
	for name, c := range map[string]struct {
		meta metav1.ObjectMeta
		want bool
	}{
		"alive":                      {metav1.ObjectMeta{}, true},
		"alive, held":                {metav1.ObjectMeta{Finalizers: []string{"example.com/x"}}, true},
		"on its way":                 {metav1.ObjectMeta{DeletionTimestamp: &now}, false},
		"held":                       {metav1.ObjectMeta{DeletionTimestamp: &now, Finalizers: []string{"example.com/x"}}, false},
		"waiting for its dependents": {metav1.ObjectMeta{DeletionTimestamp: &now, Finalizers: []string{metav1.FinalizerDeleteDependents}}, true},
		"leaving its dependents":     {metav1.ObjectMeta{DeletionTimestamp: &now, Finalizers: []string{metav1.FinalizerOrphanDependents}}, true},
	} {
		if got := wanting(metav1.PartialObjectMetadata{ObjectMeta: c.meta}); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestAgain(t *testing.T) {
	t.Parallel()
	pods, others := content{left: map[string]int{"pods.": 3}}, content{left: map[string]int{"configmaps.": 1}}
	for _, c := range []struct {
		found     content
		age, want time.Duration
	}{
		{others, 0, soonest}, {others, 4 * time.Second, time.Second}, {others, time.Hour, latest},
		{pods, 0, untilPods}, {pods, 8 * time.Second, 2 * time.Second}, {pods, time.Hour, latest},
	} {
		if got := again(c.found, c.age); got != c.want {
			t.Errorf("%v after %s: %s, want %s", c.found.left, c.age, got, c.want)
		}
	}
}
