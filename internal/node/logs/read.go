package logs

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"k8s.io/utils/clock"
)

// followPause is how often a followed file is looked at again; followed logs are rare, and a wait costs nothing else.
const followPause = 100 * time.Millisecond

const timeFormat = "2006-01-02T15:04:05.000000000Z07:00"

// Options say what of a log is wanted.
type Options struct {
	Follow     bool
	Tail       int64 // lines; negative: all
	Since      time.Time
	Timestamps bool
	LimitBytes int64  // negative: no limit
	Stream     string // stdout, stderr, or empty for both
}

// Source is the log of one container.
type Source struct {
	Path string
	// Running says whether more may be written; a followed log ends when it is false and everything was read.
	Running func() bool
	Clock   clock.Clock
}

// Copy writes the wanted part of a log to w until it ends, ctx ends, or the limit is reached.
func Copy(ctx context.Context, w io.Writer, src Source, o Options) error {
	f, err := os.Open(src.Path)
	if err != nil {
		return fmt.Errorf("container log: %w", err)
	}
	defer func() { f.Close() }()
	if o.Tail >= 0 {
		at, err := tailOffset(f, o.Tail)
		if err != nil {
			return err
		}
		if _, err := f.Seek(at, io.SeekStart); err != nil {
			return fmt.Errorf("container log: %w", err)
		}
	}
	c := &copier{w: w, o: o, left: o.LimitBytes, begun: map[string]bool{}}
	r := bufio.NewReaderSize(f, 64<<10)
	var pending []byte
	for {
		raw, err := r.ReadBytes('\n')
		pending = append(pending, raw...)
		if err == nil {
			if done, err := c.line(pending); done || err != nil {
				return err
			}
			pending = pending[:0]
			continue
		}
		if !errors.Is(err, io.EOF) {
			return fmt.Errorf("container log: %w", err)
		}
		if !o.Follow {
			return nil
		}
		next, more, err := waitMore(ctx, f, src)
		if err != nil || !more {
			return err
		}
		if next != f {
			f.Close()
			f, pending = next, nil
		}
		r.Reset(f)
	}
}

// waitMore waits until the file grew or was replaced, and returns the file to go on with; more is false at the end.
func waitMore(ctx context.Context, f *os.File, src Source) (next *os.File, more bool, err error) {
	running := src.Running()
	for {
		at, err := f.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, false, fmt.Errorf("container log: %w", err)
		}
		if st, err := f.Stat(); err == nil && st.Size() > at {
			return f, true, nil
		}
		if g := replaced(f, src.Path); g != nil {
			return g, true, nil
		}
		if !running {
			return nil, false, nil
		}
		select {
		case <-ctx.Done():
			return nil, false, nil
		case <-src.Clock.After(followPause):
		}
		// What was written before the container ended is read once more before giving up.
		running = src.Running()
	}
}

// replaced opens the file that has taken the path since f was opened, as rotation does; nil if none has.
func replaced(f *os.File, path string) *os.File {
	now, err := os.Stat(path)
	if err != nil {
		return nil
	}
	old, err := f.Stat()
	if err != nil || os.SameFile(now, old) {
		return nil
	}
	g, err := os.Open(path)
	if err != nil {
		return nil
	}
	return g
}

type copier struct {
	w     io.Writer
	o     Options
	left  int64
	begun map[string]bool // streams in the middle of a line that got its timestamp already
}

// line writes one raw record; done means the limit is reached.
func (c *copier) line(raw []byte) (done bool, err error) {
	l, err := ParseLine(raw)
	if err != nil {
		return false, nil // not a record: the rest of the log is still worth reading
	}
	if l.Time.Before(c.o.Since) || c.o.Stream != "" && c.o.Stream != l.Stream {
		return false, nil
	}
	out := l.Text
	if c.o.Timestamps && !c.begun[l.Stream] {
		out = append([]byte(l.Time.Format(timeFormat)+" "), out...)
	}
	c.begun[l.Stream] = l.Partial
	if c.o.LimitBytes >= 0 && int64(len(out)) >= c.left {
		out, done = out[:c.left], true
	}
	c.left -= int64(len(out))
	_, err = c.w.Write(out)
	return done, err
}

// tailOffset returns where the last n lines begin.
func tailOffset(f *os.File, n int64) (int64, error) {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, fmt.Errorf("container log: %w", err)
	}
	if n == 0 {
		return end, nil
	}
	const block = 32 << 10
	buf := make([]byte, block)
	for at := end; at > 0; {
		size := min(at, block)
		at -= size
		if _, err := f.ReadAt(buf[:size], at); err != nil && !errors.Is(err, io.EOF) {
			return 0, fmt.Errorf("container log: %w", err)
		}
		for i := size - 1; i >= 0; i-- {
			if buf[i] != '\n' || at+i == end-1 {
				continue
			}
			if n--; n == 0 {
				return at + i + 1, nil
			}
		}
	}
	return 0, nil
}
