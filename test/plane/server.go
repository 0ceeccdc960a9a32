// Package plane starts control planes and hollow nodes for tests and benchmarks: processes of their own, with their data in a
// directory of their own, that need no root and are seen by nobody else. It also sends requests and counts what they cost.
// It judges nothing; package harness is for what needs real nodes.
//
// Reading order: this file (a server), hollow.go (its nodes), process.go (what both are), usage.go (what they take), load.go.
package plane

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Server is `canopus server`, started by Start. Config, Proto and JSON are set once it is ready.
type Server struct {
	*process
	Config *rest.Config
	Proto  *kubernetes.Clientset // speaks protobuf
	JSON   *kubernetes.Clientset
	Began  time.Time // when the process was started
}

// Start starts a server on an empty disk, below dir, and returns when its API server is ready. more are further flags.
func Start(ctx context.Context, binary, dir string, more ...string) (*Server, error) {
	for _, sub := range []string{"data", "etc", "run"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, err
		}
	}
	s := &Server{process: &process{dir: dir, binary: binary, logName: "log"}}
	if err := os.WriteFile(s.path("etc", "config.yaml"), nil, 0o644); err != nil { // so that the machine's is not read
		return nil, err
	}
	// Nodes may be many, and each takes 256 addresses for its pods.
	s.args = append([]string{
		"server", "--config", s.path("etc", "config.yaml"), "--data-dir", s.path("data"), "--run-dir", s.path("run"),
		"--kubeconfig", s.kubeconfig(), "--port", "0", "--cluster-cidr", "10.0.0.0/11",
	}, more...)
	return s, s.Up(ctx)
}

func (s *Server) kubeconfig() string { return s.path("etc", "kubeconfig") }

// Up starts the process, again after Down, and waits until it is ready.
func (s *Server) Up(ctx context.Context) error {
	if err := os.Remove(s.kubeconfig()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	s.Began = time.Now()
	if err := s.start(); err != nil {
		return err
	}
	if err := Until(ctx, time.Minute, s.ready); err != nil {
		s.Down()
		return fmt.Errorf("start %s: %w\n%s", s.binary, err, s.LastWords())
	}
	return nil
}

// ready asks the server once whether it is.
func (s *Server) ready(ctx context.Context) error {
	if err := s.alive(); err != nil {
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags("", s.kubeconfig())
	if err != nil {
		return err
	}
	if s.Config == nil || s.Config.Host != config.Host {
		s.Config = config
		if s.Proto, err = Client(config, Protobuf, false); err != nil {
			return err
		}
		if s.JSON, err = Client(config, JSON, false); err != nil {
			return err
		}
	}
	var code int
	err = s.Proto.RESTClient().Get().AbsPath("/readyz").Do(ctx).StatusCode(&code).Error()
	if err == nil && code != http.StatusOK {
		err = fmt.Errorf("/readyz answers %d", code)
	}
	return err
}
