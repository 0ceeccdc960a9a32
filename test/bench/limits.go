package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"canopus/internal/etcd"
	"canopus/test/plane"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Roles of further processes of this program.
const (
	roleVariable = "CANOPUS_BENCH_ROLE"
	roleStub     = "stub" // the constant answers of stub.go
	roleNode     = "node" // the figures of a node, in namespaces of its own
)

// asChild does the work of a process that this program has started of itself. done is false in the first one.
func asChild(ctx context.Context) (done bool, err error) {
	switch os.Getenv(roleVariable) {
	case roleStub:
		return true, serveStub(ctx, os.Stdout)
	case roleNode:
		return true, nodeChild(ctx)
	}
	return false, nil
}

// rawEtcd starts an etcd without anything around it, on the disk that servers use.
func rawEtcd(ctx context.Context, work string) (*etcd.Member, func(), error) {
	dir, err := os.MkdirTemp(work, "etcd-")
	if err != nil {
		return nil, nil, err
	}
	m, err := etcd.Start(ctx, etcd.Config{Dir: filepath.Join(dir, "data"), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, nil, errors.Join(err, os.RemoveAll(dir))
	}
	return m, func() { m.Close(); _ = os.RemoveAll(dir) }, nil // it goes with the work directory at the latest
}

// etcdStart is how long etcd takes to start on an empty disk.
func etcdStart(ctx context.Context, work string) (time.Duration, error) {
	began := time.Now()
	_, end, err := rawEtcd(ctx, work)
	if err != nil {
		return 0, err
	}
	took := time.Since(began)
	end()
	return took, nil
}

// etcdRate is transactions per second of bare etcd, each creating 1 KB as a Create does.
func etcdRate(ctx context.Context, b *bench) (float64, error) {
	m, end, err := rawEtcd(ctx, b.work)
	if err != nil {
		return 0, err
	}
	defer end()
	value := strings.Repeat("x", 1100)
	rate, _, err := plane.Parallel(ctx, b.objects, b.clients, func(ctx context.Context, i int) error {
		key := fmt.Sprintf("/registry/configmaps/bench/%06d", i)
		_, err := m.Client().Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", 0)).Then(clientv3.OpPut(key, value)).Commit()
		return err
	})
	return rate, err
}
