// Package logs reads the log files that container runtimes write for CRI: one line per record, with a time, a stream, a
// tag that says whether the record is complete, and the text.
package logs

import (
	"bytes"
	"fmt"
	"time"
)

// Line is one record of a log file.
type Line struct {
	Time    time.Time
	Stream  string // stdout or stderr
	Partial bool   // the text goes on in the next record of the stream
	Text    []byte // with its line feed unless Partial
}

// ParseLine reads one line of a log file, its line feed included or not.
func ParseLine(raw []byte) (Line, error) {
	raw = bytes.TrimSuffix(raw, []byte("\n"))
	stamp, rest, ok := bytes.Cut(raw, []byte(" "))
	if !ok {
		return Line{}, fmt.Errorf("log line has no stream: %q", raw)
	}
	t, err := time.Parse(time.RFC3339Nano, string(stamp))
	if err != nil {
		return Line{}, fmt.Errorf("log line: %w", err)
	}
	stream, rest, ok := bytes.Cut(rest, []byte(" "))
	if !ok || string(stream) != "stdout" && string(stream) != "stderr" {
		return Line{}, fmt.Errorf("log line has stream %q: want stdout or stderr", stream)
	}
	tags, text, ok := bytes.Cut(rest, []byte(" "))
	if !ok {
		text = nil
	}
	first, _, _ := bytes.Cut(tags, []byte(":"))
	l := Line{Time: t, Stream: string(stream), Partial: string(first) == "P"}
	l.Text = append(make([]byte, 0, len(text)+1), text...)
	if !l.Partial {
		l.Text = append(l.Text, '\n')
	}
	return l, nil
}
