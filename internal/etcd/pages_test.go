package etcd

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func TestReleasePages(t *testing.T) {
	t.Parallel()
	c := Config{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)}
	m, err := Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	value := strings.Repeat("v", 64<<10)
	for i := range 128 {
		if _, err := m.Client().Put(t.Context(), fmt.Sprint(i), value); err != nil {
			t.Fatal(err)
		}
	}
	m.Close()
	if m, err = Start(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	path := filepath.Join(c.Dir, "member", "snap", "db")
	before := resident(t, path)
	if before < 8<<20 {
		t.Fatalf("%d bytes of the database are resident after a start: nothing to release", before)
	}
	if err := m.ReleasePages(); err != nil {
		t.Fatal(err)
	}
	if after := resident(t, path); after > before/2 {
		t.Errorf("%d bytes are resident, %d were", after, before)
	}
	for _, key := range []string{"0", "127"} {
		if r, err := m.Client().Get(t.Context(), key); err != nil || len(r.Kvs) != 1 || string(r.Kvs[0].Value) != value {
			t.Errorf("%s cannot be read any more: %v", key, err)
		}
	}
	if _, err := m.Client().Put(t.Context(), "0", "new"); err != nil {
		t.Error(err)
	}
}

// resident is how many bytes of mappings of path this process holds.
func resident(t *testing.T, path string) (bytes int) {
	t.Helper()
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	inside := false
	for line := range strings.Lines(string(smaps)) {
		fields := strings.Fields(line)
		if strings.Contains(fields[0], "-") {
			inside = strings.HasSuffix(strings.TrimSpace(line), " "+path)
		}
		if inside && fields[0] == "Rss:" {
			kib, err := strconv.Atoi(fields[1])
			if err != nil {
				t.Fatal(err)
			}
			bytes += kib << 10
		}
	}
	return bytes
}

func TestMappingOf(t *testing.T) {
	t.Parallel()
	const path = "/var/lib/a b/db"
	for line, want := range map[string]bool{
		"7f0000000000-7f0000010000 r--s 00000000 fe:00 42                         /var/lib/a b/db\n":  true,
		"7f0000000000-7f0000010000 rw-s 00000000 fe:00 42                         /var/lib/a b/db\n":  false, // written to
		"7f0000000000-7f0000010000 r--p 00000000 fe:00 42                         /var/lib/a b/db\n":  false, // private
		"7f0000000000-7f0000010000 r--s 00000000 fe:00 42                         /var/lib/a b/db2\n": false,
		"7f0000010000-7f0000000000 r--s 00000000 fe:00 42                         /var/lib/a b/db\n":  false, // empty
		"7f0000000000-7f0000010000 rw-p 00000000 00:00 0\n":                                           false,
		"\n": false,
	} {
		start, end, ok := mappingOf(line, path)
		if ok != want || ok && (start != 0x7f0000000000 || end != 0x7f0000010000) {
			t.Errorf("%q: %x %x %v", line, start, end, ok)
		}
	}
}
