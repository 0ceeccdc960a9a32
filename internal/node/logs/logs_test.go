package logs

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/utils/clock"
)

func file(t *testing.T, lines ...string) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "0.log")
	if err := os.WriteFile(p, []byte(strings.Join(lines, "")), 0o644); err != nil {
		t.Fatal(err)
	}
	return p
}

func entry(second int, stream, tag, text string) string {
	return fmt.Sprintf("2026-01-01T00:00:%02d.123456789Z %s %s %s\n", second, stream, tag, text)
}

func TestCopy(t *testing.T) {
	t.Parallel()
	path := file(t, entry(1, "stdout", "F", "one"), entry(2, "stderr", "F", "two"), "rubbish\n", entry(3, "stdout", "P", "thr"), entry(4, "stdout", "F", "ee"), entry(5, "stdout", "F", ""))
	all := Options{Tail: -1, LimitBytes: -1}
	for name, c := range map[string]struct {
		change func(*Options)
		want   string
	}{
		"all":        {func(*Options) {}, "one\ntwo\nthree\n\n"},
		"tail":       {func(o *Options) { o.Tail = 1 }, "\n"},
		"tail more":  {func(o *Options) { o.Tail = 99 }, "one\ntwo\nthree\n\n"},
		"tail none":  {func(o *Options) { o.Tail = 0 }, ""},
		"since":      {func(o *Options) { o.Since = time.Date(2026, 1, 1, 0, 0, 2, 0, time.UTC) }, "two\nthree\n\n"},
		"limit":      {func(o *Options) { o.LimitBytes = 5 }, "one\nt"},
		"stderr":     {func(o *Options) { o.Stream = "stderr" }, "two\n"},
		"timestamps": {func(o *Options) { o.Timestamps, o.Since = true, time.Date(2026, 1, 1, 0, 0, 3, 0, time.UTC) }, "2026-01-01T00:00:03.123456789Z three\n2026-01-01T00:00:05.123456789Z \n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := all
			c.change(&o)
			var out bytes.Buffer
			if err := Copy(t.Context(), &out, Source{Path: path, Clock: clock.RealClock{}, Running: func() bool { return false }}, o); err != nil || out.String() != c.want {
				t.Errorf("%q, %v; want %q", out.String(), err, c.want)
			}
		})
	}
}

// watched is a buffer that two goroutines may use.
type watched struct {
	mu  sync.Mutex
	buf bytes.Buffer
	got chan struct{}
}

func (w *watched) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	defer func() { w.got <- struct{}{} }()
	return w.buf.Write(b)
}

// TestFollow follows a log over new lines, a rotation and the end of its container.
func TestFollow(t *testing.T) {
	t.Parallel()
	path := file(t, entry(1, "stdout", "F", "one"))
	var running atomic.Bool
	running.Store(true)
	w := &watched{got: make(chan struct{}, 10)}
	done := make(chan error, 1)
	go func() {
		done <- Copy(t.Context(), w, Source{Path: path, Clock: clock.RealClock{}, Running: running.Load}, Options{Follow: true, Tail: -1, LimitBytes: -1})
	}()
	<-w.got
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(f, entry(2, "stdout", "F", "two"))
	<-w.got
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(entry(3, "stdout", "F", "three")), 0o644); err != nil {
		t.Fatal(err)
	}
	<-w.got
	running.Store(false)
	if err := <-done; err != nil || w.buf.String() != "one\ntwo\nthree\n" {
		t.Errorf("%q, %v", w.buf.String(), err)
	}
}

func FuzzParseLine(f *testing.F) {
	f.Add([]byte(entry(1, "stdout", "P:x", "text")))
	f.Add([]byte("x y z"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if l, err := ParseLine(b); err == nil && l.Stream == "" {
			t.Error("a line without a stream")
		}
	})
}
