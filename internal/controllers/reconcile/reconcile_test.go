package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// play runs a loop whose keys are answered by f until done is closed, and waits for its end.
func play(t *testing.T, keys []string, f Func[string], done <-chan struct{}) {
	t.Helper()
	l, err := New(Config[string]{Name: t.Name(), Workers: 3, Reconcile: f, Clock: clock.RealClock{}, Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		l.Add(k)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- l.Run(ctx) }()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Error("not done after a minute")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestLoop(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	calls := map[string]int{}
	done := make(chan struct{})
	finish := sync.OnceFunc(func() { close(done) })
	play(t, []string{"fine", "fails twice", "terminal", "panics once", "again"}, func(_ context.Context, key string) (time.Duration, error) {
		mu.Lock()
		defer mu.Unlock()
		calls[key]++
		defer func() {
			if calls["fails twice"] == 3 && calls["panics once"] == 2 && calls["again"] == 3 && calls["fine"] > 0 && calls["terminal"] > 0 {
				finish()
			}
		}()
		switch n := calls[key]; {
		case key == "fails twice" && n < 3:
			return 0, errors.New("not yet")
		case key == "terminal":
			return 0, Terminal(errors.New("never"))
		case key == "panics once" && n == 1:
			panic("odd object")
		case key == "again" && n < 3:
			return time.Millisecond, nil
		}
		return 0, nil
	}, done)
	if calls["fine"] != 1 || calls["terminal"] != 1 {
		t.Errorf("calls %v: a success and a terminal error are not retried", calls)
	}
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	if _, err := New(Config[string]{Name: "x", Workers: 0, Reconcile: func(context.Context, string) (time.Duration, error) { return 0, nil }, Clock: clock.RealClock{}, Log: quiet()}); err == nil {
		t.Error("a loop without workers was made")
	}
	if err := (Deps{}).Check(); err == nil {
		t.Error("a controller without anything was made")
	}
}

func TestSlowStart(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	calls := 0
	count := func(limit int) func(context.Context) error {
		calls = 0
		return func(context.Context) error {
			mu.Lock()
			defer mu.Unlock()
			if calls++; calls > limit {
				return errors.New("quota")
			}
			return nil
		}
	}
	if n, err := SlowStart(t.Context(), 500, count(1000)); n != 500 || err != nil || calls != 500 {
		t.Errorf("%d of 500 done with %d calls: %v", n, calls, err)
	}
	if n, err := SlowStart(t.Context(), 500, count(0)); n != 0 || err == nil || calls != 1 {
		t.Errorf("%d done with %d calls, want one call that fails", n, calls)
	}
	if n, err := SlowStart(t.Context(), 500, count(5)); n != 5 || err == nil || calls != 7 {
		t.Errorf("%d done with %d calls, want 5 of 1+2+4", n, calls)
	}
	ending := apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "", errors.New("the namespace goes"))
	ending.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}
	calls = 0
	n, err := SlowStart(t.Context(), 500, func(context.Context) error {
		calls++
		return fmt.Errorf("create pod: %w", ending)
	})
	if n != 0 || err != nil || calls != 1 {
		t.Errorf("in a namespace that goes: %d done with %d calls: %v, want one call and no failure", n, calls, err)
	}
}

func TestClaim(t *testing.T) {
	t.Parallel()
	yes := true
	selector := labels.SelectorFromSet(labels.Set{"app": "web"})
	gone := &metav1.Time{Time: time.Unix(1, 0)}
	pod := func(app string, owner types.UID, deleting *metav1.Time) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Labels: map[string]string{"app": app}, DeletionTimestamp: deleting}}
		if owner != "" {
			p.OwnerReferences = []metav1.OwnerReference{{UID: owner, Controller: &yes}}
		}
		return p
	}
	for _, tc := range []struct {
		name  string
		owner metav1.ObjectMeta
		pod   *corev1.Pod
		want  Claim
	}{
		{"ours", metav1.ObjectMeta{Namespace: "a", UID: "me"}, pod("web", "me", nil), Owned},
		{"ours no longer", metav1.ObjectMeta{Namespace: "a", UID: "me"}, pod("db", "me", nil), Release},
		{"of another", metav1.ObjectMeta{Namespace: "a", UID: "me"}, pod("web", "you", nil), Foreign},
		{"orphan", metav1.ObjectMeta{Namespace: "a", UID: "me"}, pod("web", "", nil), Adopt},
		{"other orphan", metav1.ObjectMeta{Namespace: "a", UID: "me"}, pod("db", "", nil), Foreign},
		{"orphan elsewhere", metav1.ObjectMeta{Namespace: "b", UID: "me"}, pod("web", "", nil), Foreign},
		{"leaving orphan", metav1.ObjectMeta{Namespace: "a", UID: "me"}, pod("web", "", gone), Foreign},
		{"leaving owner adopts nothing", metav1.ObjectMeta{Namespace: "a", UID: "me", DeletionTimestamp: gone}, pod("web", "", nil), Foreign},
		{"leaving owner releases nothing", metav1.ObjectMeta{Namespace: "a", UID: "me", DeletionTimestamp: gone}, pod("db", "me", nil), Foreign},
	} {
		if got := ClaimOf(&tc.owner, selector, tc.pod); got != tc.want {
			t.Errorf("%s: %d, want %d", tc.name, got, tc.want)
		}
	}
}

func TestWritten(t *testing.T) {
	t.Parallel()
	obj := func(name, version string) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), ResourceVersion: version}}
	}
	names := func(pods []*corev1.Pod) []string {
		var out []string
		for _, p := range pods {
			out = append(out, p.Name)
		}
		slices.Sort(out)
		return out
	}
	w := NewWritten[*corev1.Pod]()
	a, b := obj("a", "5"), obj("b", "10")
	w.Created("o", b)
	if got := names(w.View("o", []*corev1.Pod{a}, "9")); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("before the cache shows b: %v", got)
	}
	w.Deleted("o", "a")
	if got := names(w.View("o", []*corev1.Pod{a}, "9")); !slices.Equal(got, []string{"b"}) {
		t.Errorf("a is deleted: %v", got)
	}
	if got := names(w.View("o", []*corev1.Pod{a, b}, "10")); !slices.Equal(got, []string{"b"}) {
		t.Errorf("the cache shows b: %v", got)
	}
	if got := names(w.View("o", nil, "11")); len(got) != 0 {
		t.Errorf("both are gone: %v", got)
	}
	w.Created("o", b)
	if got := names(w.View("o", nil, "12")); len(got) != 0 {
		t.Errorf("b came and went between two looks: %v", got)
	}
}
