package etcdtest_test

import (
	"testing"

	"canopus/internal/store/etcdtest"
)

func TestDataOutlivesARun(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := etcdtest.StartIn(t, dir)
	if _, err := first.Client.Put(t.Context(), "a", "1"); err != nil {
		t.Fatal(err)
	}
	first.Close()
	resp, err := etcdtest.StartIn(t, dir).Client.Get(t.Context(), "a")
	if err != nil || len(resp.Kvs) != 1 || string(resp.Kvs[0].Value) != "1" {
		t.Fatalf("got %v, %v", resp, err)
	}
}
