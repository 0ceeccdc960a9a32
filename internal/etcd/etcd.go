// Package etcd runs an etcd member inside this process. A member that is alone in its cluster opens no port: its client calls
// it directly. The member is the only thing that touches its data directory; what is stored in it is package store's.
package etcd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// Config says which member to run. Dir and Log are required.
type Config struct {
	Dir   string // data directory, made 0700
	Name  string // of the member; "canopus" unless set
	Quota int64  // bytes the database may grow to; 8 GiB unless set
	Log   *slog.Logger
}

// The timers of a member that has nobody to wait for: it elects itself, so a missed heartbeat means nothing. A start takes one
// to six ticks; ticks are most of what an idle server does.
const (
	aloneTick     = 30 * time.Millisecond
	aloneElection = 150 * time.Millisecond
)

const (
	defaultQuota = 8 << 30
	startTimeout = 2 * time.Minute // a large log is replayed first
	// Entries kept in memory behind a snapshot are for followers; a member without any needs few.
	snapshotEvery, keepEntries = 10_000, 100
	// An object may have 1.5 MiB, as upstream; the request around it has a little more.
	maxRequest = 1536 << 10
)

// Member is one running etcd.
type Member struct {
	etcd   *embed.Etcd
	client *clientv3.Client
	dir    string
}

// Start starts the member and returns once it serves. Close it when done.
func Start(ctx context.Context, c Config) (*Member, error) {
	if c.Dir == "" || c.Log == nil {
		return nil, errors.New("etcd: Dir and Log are required")
	}
	if c.Name == "" {
		c.Name = "canopus"
	}
	if c.Quota == 0 {
		c.Quota = defaultQuota
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("etcd data directory: %w", err)
	}
	e, err := embed.StartEtcd(alone(c))
	if err != nil {
		return nil, fmt.Errorf("start etcd on %s: %w", c.Dir, err)
	}
	timeout := time.NewTimer(startTimeout)
	defer timeout.Stop()
	select {
	case <-e.Server.ReadyNotify():
		return &Member{etcd: e, client: v3client.New(e.Server), dir: c.Dir}, nil
	case err = <-e.Err():
	case <-ctx.Done():
		err = ctx.Err()
	case <-timeout.C:
		err = fmt.Errorf("not ready after %v", startTimeout)
	}
	e.Close()
	return nil, fmt.Errorf("start etcd on %s: %w", c.Dir, err)
}

func alone(c Config) *embed.Config {
	e := embed.NewConfig()
	e.Dir, e.Name = c.Dir, c.Name
	nowhere := []url.URL{{Scheme: "http", Host: "127.0.0.1:1"}} // what the member says of itself; nobody dials it
	e.ListenPeerUrls, e.ListenClientUrls = nil, nil
	e.AdvertisePeerUrls, e.AdvertiseClientUrls = nowhere, nowhere
	e.InitialCluster = e.InitialClusterFromName(e.Name)
	e.TickMs, e.ElectionMs = uint(aloneTick.Milliseconds()), uint(aloneElection.Milliseconds())
	e.QuotaBackendBytes = c.Quota
	e.SnapshotCount, e.SnapshotCatchUpEntries = snapshotEvery, keepEntries
	e.MaxRequestBytes = maxRequest
	e.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.New(&bridge{log: c.Log}))
	return e
}

// Client calls the member directly.
func (m *Member) Client() *clientv3.Client { return m.client }

// Failed yields the error of a member that stops by itself.
func (m *Member) Failed() <-chan error { return m.etcd.Err() }

// FreeSpace returns the bytes that unprivileged writers have left on the data directory's file system.
func (m *Member) FreeSpace() (uint64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(filepath.Clean(m.dir), &s); err != nil {
		return 0, fmt.Errorf("free space of %s: %w", m.dir, err)
	}
	return s.Bavail * uint64(s.Bsize), nil
}

// Size is how large the database file is, in bytes.
func (m *Member) Size() int64 { return m.etcd.Server.Backend().Size() }

// Close stops the member. What it has acknowledged is on disk already.
func (m *Member) Close() {
	_ = m.client.Close() // its context ends with it; there is no connection to fail
	m.etcd.Close()
}
