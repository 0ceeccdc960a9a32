package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestBoundedFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "canopus.log")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := &boundedFile{file: f, path: path, limit: 100}
	read := func(path string) string {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	for i := range 25 { // ten bytes each: two turns
		if _, err := fmt.Fprintf(b, "line %04d\n", i); err != nil {
			t.Fatal(err)
		}
	}
	if now, before := read(path), read(path+".1"); strings.Count(now, "\n") != 5 || !strings.HasPrefix(now, "line 0020\n") ||
		strings.Count(before, "\n") != 10 || !strings.HasPrefix(before, "line 0010\n") {
		t.Errorf("now %q, before %q", now, before)
	}
	long := strings.Repeat("x", 150) + "\n"
	if _, err := b.Write([]byte(long)); err != nil {
		t.Fatal(err)
	}
	if now := read(path); now != long {
		t.Errorf("a line longer than the limit: %q", now)
	}
}

// TestBoundedFileGoesOn: a log that cannot be moved aside loses nothing, and says so.
func TestBoundedFileGoesOn(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "canopus.log")
	if err := os.Mkdir(path+".1.new", 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := &boundedFile{file: f, path: path, limit: 10}
	for range 3 {
		if _, err := b.Write([]byte("12345678\n")); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(string(data), "12345678\n") != 3 || strings.Count(string(data), "cannot be moved aside") != 2 {
		t.Errorf("%s", data)
	}
}
