// Package etcdtest runs a real etcd inside a test: one member, no listener, data in the test's own directory.
package etcdtest

import (
	"net/url"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"
)

// Start runs an etcd until the test ends and returns a client that calls it directly.
func Start(t testing.TB) *clientv3.Client {
	t.Helper()
	return StartIn(t, t.TempDir()).Client
}

// Server is one run of an etcd.
type Server struct {
	Client *clientv3.Client
	etcd   *embed.Etcd
	closed bool
}

// StartIn is Start on a given data directory, which may hold the data of an earlier run.
func StartIn(t testing.TB, dir string) *Server {
	t.Helper()
	e, err := embed.StartEtcd(config(dir))
	if err != nil {
		t.Fatalf("start etcd in %s: %v", dir, err)
	}
	select {
	case <-e.Server.ReadyNotify():
	case err := <-e.Err():
		t.Fatalf("etcd in %s: %v", dir, err)
	case <-time.After(time.Minute):
		e.Close()
		t.Fatalf("etcd in %s is not ready after a minute", dir)
	}
	s := &Server{Client: v3client.New(e.Server), etcd: e}
	t.Cleanup(s.Close)
	return s
}

// Close stops the etcd. It may be called more than once, from one goroutine.
func (s *Server) Close() {
	if s.closed {
		return
	}
	s.closed = true
	_ = s.Client.Close() // its context ends with it; there is no connection to fail
	s.etcd.Close()
}

func config(dir string) *embed.Config {
	c := embed.NewConfig()
	c.Dir = dir
	c.Name = "test"
	nowhere := []url.URL{{Scheme: "http", Host: "127.0.0.1:1"}} // what the member says of itself; nobody dials it
	c.ListenPeerUrls, c.ListenClientUrls = nil, nil
	c.AdvertisePeerUrls, c.AdvertiseClientUrls = nowhere, nowhere
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	c.TickMs, c.ElectionMs = 10, 100 // a single member elects itself: no need to wait a second
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	return c
}
