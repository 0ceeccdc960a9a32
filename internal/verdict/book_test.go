package verdict

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
)

func key(i int) types.NamespacedName {
	return types.NamespacedName{Namespace: "ns", Name: fmt.Sprintf("p%d", i)}
}

func put(b *Book, i int, node string) {
	b.Put(key(i), node != "", func() Verdict { return Verdict{Namespace: "ns", Name: key(i).Name, Node: node} })
}

func TestBookForgetsTheOldest(t *testing.T) {
	t.Parallel()
	b := NewBook()
	for i := range maxWaiting + 1 {
		put(b, i, "")
	}
	for i := range maxPlaced + 1 {
		put(b, maxWaiting+1+i, "n")
	}
	for i, want := range map[int]bool{0: false, 1: true, maxWaiting: true, maxWaiting + 1: false, maxWaiting + 2: true} {
		if _, ok := b.Get(key(i)); ok != want {
			t.Errorf("verdict %d is known: %v, want %v", i, ok, want)
		}
	}
	put(b, 1, "n")
	if v, ok := b.Get(key(1)); !ok || v.Node != "n" || len(b.pages) != maxWaiting-1+maxPlaced {
		t.Errorf("after a new verdict: %+v, %v, %d kept", v, ok, len(b.pages))
	}
}

func TestBookAnswers(t *testing.T) {
	t.Parallel()
	b := NewBook()
	put(b, 1, "n")
	for _, tt := range []struct {
		method, query string
		code          int
	}{{"GET", "?namespace=ns&name=p1", 200}, {"GET", "?namespace=ns&name=p2", 404}, {"POST", "", 405}, {"PUT", "", 400}} {
		w := httptest.NewRecorder()
		b.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), tt.method, Path+tt.query, http.NoBody))
		if w.Code != tt.code {
			t.Errorf("%s %s: %d, want %d: %s", tt.method, tt.query, w.Code, tt.code, w.Body)
		}
	}
}

// TestPush: what one Book learns, before and after another is reached, the other can tell, in short.
func TestPush(t *testing.T) {
	t.Parallel()
	far := NewBook()
	server := httptest.NewServer(far)
	defer server.Close()
	client, err := kubernetes.NewForConfig(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	near := NewBook()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		done <- near.Push(ctx, client.CoreV1().RESTClient(), clock.RealClock{}, slog.New(slog.DiscardHandler))
	}()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	nodes := make([]string, 100)
	var got Verdict
	err = wait.PollUntilContextTimeout(ctx, 10*time.Millisecond, time.Minute, true, func(context.Context) (bool, error) {
		near.Put(key(7), false, func() Verdict {
			return Verdict{Namespace: "ns", Name: "p7", Refusals: []Refusal{{Plugin: "NodeName", Count: len(nodes), Nodes: nodes}}}
		})
		var ok bool
		got, ok = far.Get(key(7))
		return ok, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if r := got.Refusals[0]; r.Count != len(nodes) || len(r.Nodes) != pushNodes {
		text, _ := json.Marshal(got)
		t.Errorf("got %s", text)
	}
}
