package etcd

import (
	"log/slog"
	"os"
	"strings"
	"testing"
)

func TestMemberKeepsWhatItAcknowledged(t *testing.T) {
	t.Parallel()
	c := Config{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)}
	m, err := Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Client().Put(t.Context(), "a", "1"); err != nil {
		t.Fatal(err)
	}
	if free, err := m.FreeSpace(); err != nil || free == 0 {
		t.Errorf("free space %d, %v", free, err)
	}
	if m.Size() <= 0 {
		t.Errorf("the database has %d bytes", m.Size())
	}
	m.Close()
	if m, err = Start(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if r, err := m.Client().Get(t.Context(), "a"); err != nil || len(r.Kvs) != 1 || string(r.Kvs[0].Value) != "1" {
		t.Errorf("after a restart: %v, %v", r, err)
	}
}

func TestStartSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	dir := t.TempDir() + "/file"
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Start(t.Context(), Config{Dir: dir, Log: slog.New(slog.DiscardHandler)})
	if err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("got %v, want an error that names %s", err, dir)
	}
}
