package plane

import (
	"fmt"
	"strconv"
)

// Rack is a number of hollow nodes that stand and fall together: one process of `canopus hollow`. Its nodes are named Prefix
// and a number from First on, which also makes their pods' addresses: racks of one cluster share no number. They are spread
// over zones zone-0 up to Zones-1. CPU and Pods are what each has room for. Flags are further ones of `canopus hollow`.
type Rack struct {
	Prefix       string
	First, Nodes int
	Zones        int
	CPU, Pods    int
	Flags        []string

	*process // set by Plug
}

// Plug starts the rack's process beside s and does not wait for its nodes. A rack that was killed can be plugged in again.
func (r *Rack) Plug(s *Server) error {
	p := &process{dir: s.dir, binary: s.binary, logName: r.Prefix + ".log", args: append([]string{
		"hollow", "--config", s.path("etc", "config.yaml"), "--kubeconfig", s.kubeconfig(), "--run-dir", s.path("run"), "--data-dir", s.path("data"),
		"--prefix", r.Prefix, "--first", strconv.Itoa(r.First), "--nodes", strconv.Itoa(r.Nodes), "--zones", strconv.Itoa(r.Zones), "--output", "json",
		"--cpu", strconv.Itoa(r.CPU), "--pods", strconv.Itoa(r.Pods),
	}, r.Flags...)}
	if err := p.start(); err != nil {
		return fmt.Errorf("start rack %s: %w", r.Prefix, err)
	}
	r.process = p
	return nil
}

// Name is that of the i-th node of the rack, from 0.
func (r *Rack) Name(i int) string { return fmt.Sprintf("%s-%d", r.Prefix, r.First+i) }
