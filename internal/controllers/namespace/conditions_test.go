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
