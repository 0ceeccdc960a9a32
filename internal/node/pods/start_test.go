package pods

import (
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"canopus/internal/node/images"
)

func withImages(init, main string) *corev1.Pod {
	return &corev1.Pod{Spec: corev1.PodSpec{
		InitContainers: []corev1.Container{{Name: "init", Image: init}}, Containers: []corev1.Container{{Name: "main", Image: main}},
		EphemeralContainers: []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "debug", Image: "d"}}},
	}}
}

func TestOtherImages(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		now  *corev1.Pod
		want []string
	}{
		{withImages("a", "b"), nil},
		{withImages("a", "c"), []string{"main"}},
		{withImages("c", "c"), []string{"init", "main"}},
	} {
		if got := slices.Sorted(maps.Keys(otherImages(withImages("a", "b"), tc.now))); !slices.Equal(got, tc.want) {
			t.Errorf("%v, want %v", got, tc.want)
		}
	}
	if got := otherImages(&corev1.Pod{}, withImages("a", "b")); len(got) != 0 {
		t.Errorf("new containers have no image before: %v", got)
	}
}

// TestAnotherImageDoesNotWait: a container whose image is replaced is tried at once, whatever the image before had to wait for, and
// the end of a pull of that one is too late to say anything.
func TestAnotherImageDoesNotWait(t *testing.T) {
	t.Parallel()
	w := &worker{
		waits:   map[string]Wait{"main": {Reason: images.ReasonImagePullBackOff}, "init": {}},
		pulls:   map[string]Backoff{"main": {Delay: time.Minute}},
		crashes: map[string]Backoff{"main": {Delay: time.Minute}},
	}
	w.forgive("main")
	w.shared.Store(withImages("a", "new"))
	w.started(Start{Container: &corev1.Container{Name: "main", Image: "old"}}, &images.Error{Reason: images.ReasonImagePullBackOff, Err: errors.New("no")})
	if _, waits := w.waits["main"]; waits || len(w.waits) != 1 || len(w.pulls)+len(w.crashes) != 0 {
		t.Errorf("waits %v, pulls %v, crashes %v", w.waits, w.pulls, w.crashes)
	}
}
