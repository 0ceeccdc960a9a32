package ui

import (
	"bytes"
	"errors"
	"regexp"
	"testing"
)

func TestStepsPrintOneLineEach(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	s := NewSteps(&out)
	if err := s.Do("first", func(note func(string)) error { note("waiting"); return nil }); err != nil {
		t.Fatal(err)
	}
	want := errors.New("no")
	if err := s.Do("second", func(func(string)) error { return want }); !errors.Is(err, want) {
		t.Fatalf("got %v", err)
	}
	if !regexp.MustCompile(`^✓ first +\d+\.\d s\n✗ second +\d+\.\d s\n$`).MatchString(out.String()) {
		t.Errorf("printed %q", out.String())
	}
}

func TestTableAligns(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := Table(&out, []string{"name", "state"}, [][]string{{"api", "ready"}, {"scheduler", "ready"}}); err != nil {
		t.Fatal(err)
	}
	if want := "NAME        STATE\napi         ready\nscheduler   ready\n"; out.String() != want {
		t.Errorf("got %q", out.String())
	}
}
