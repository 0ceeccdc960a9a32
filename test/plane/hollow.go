package plane

import (
	"fmt"
	"strconv"
)

// Rack is a number of hollow nodes that stand and fall together: one process of `canopus hollow`. Its nodes are named Prefix
// and a number from 0, and are spread over zones zone-0 up to Zones-1. CPU and Pods are what each has room for.
type Rack struct {
	Prefix       string
	Nodes, Zones int
	CPU, Pods    int

	*process // set by Plug
}

// Plug starts the rack's process beside s and does not wait for its nodes. A rack that was killed can be plugged in again.
func (r *Rack) Plug(s *Server) error {
	r.process = &process{dir: s.dir, binary: s.binary, logName: r.Prefix + ".log", args: []string{
		"hollow", "--config", s.path("etc", "config.yaml"), "--kubeconfig", s.kubeconfig(), "--run-dir", s.path("run"), "--data-dir", s.path("data"),
		"--prefix", r.Prefix, "--nodes", strconv.Itoa(r.Nodes), "--zones", strconv.Itoa(r.Zones), "--output", "json",
		"--cpu", strconv.Itoa(r.CPU), "--pods", strconv.Itoa(r.Pods),
	}}
	if err := r.start(); err != nil {
		return fmt.Errorf("start rack %s: %w", r.Prefix, err)
	}
	return nil
}

// Name is that of the rack's node i.
func (r *Rack) Name(i int) string { return fmt.Sprintf("%s-%d", r.Prefix, i) }
