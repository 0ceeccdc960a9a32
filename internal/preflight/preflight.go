// Package preflight tells whether a machine can carry Canopus before anything is started, and names everything that is
// missing at once, each with what to do about it. Gather observes the machine, Check decides over what was observed.
//
// Reading order: this file (what is wanted, what was found, what is wrong), check.go (the decisions), gather.go with ports.go
// and kernel.go (the observations).
package preflight

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// Want says what is going to be started.
type Want struct {
	Node   bool // run pods with our own containerd
	Plane  bool // run a control plane
	First  bool // nothing was ever started in DataDir: what a running cluster can live with is fatal for a new one
	Ports  []Port
	Pods   netip.Prefix
	Svcs   netip.Prefix
	DNS    netip.Addr // address of the cluster's name server; not valid when there is none
	Bridge string     // interface of the pod network: routes through it are ours

	DataDir string
	CA      string // file of the cluster's authority, which may not exist yet
	Earlier time.Time
	// Address is nil when this machine has an address to be reached at, else why not.
	Address error
}

// Port is a TCP port to listen on.
type Port struct {
	Number int
	For    string // "API server"
	Flag   string // the flag that chooses another
}

// Facts is what was observed.
type Facts struct {
	UID    int
	Holder map[int]Holder // of the wanted ports that are taken, and of 53 when it is taken on all addresses

	Kernel     [2]int // major and minor version
	Overlay    bool
	Filter     bool // br_netfilter is there, or can be loaded
	Forward    bool // IP forwarding is on, or can be switched on
	Bridge     error
	Veth       error
	Nft        error // nft is missing
	Tables     error // the kernel refuses a table as ours are
	Cgroups    Cgroups
	Rivals     []Process
	Routes     []Route
	Now        time.Time
	CAValid    time.Time // since when the cluster's authority is valid; zero when there is none
	Disk       Disk
	Memory     uint64 // bytes in all
	MemoryFree uint64 // bytes available
}

// Holder is the process that listens on a port. Its name is empty when it could not be found.
type Holder = Process

// Process is one of the machine's processes.
type Process struct {
	Pid  int
	Name string
}

func (p Process) String() string {
	if p.Pid == 0 {
		return "a process that cannot be seen from here"
	}
	return fmt.Sprintf("%s (process %d)", p.Name, p.Pid)
}

// Cgroups is what the mounted cgroup file systems offer.
type Cgroups struct {
	Version     int // 1 or 2; 0 when none is mounted
	Controllers map[string]bool
}

// Route is a network that the machine reaches.
type Route struct {
	To        netip.Prefix
	Interface string
}

// Disk is the file system of the data directory.
type Disk struct {
	Path           string // where was looked: the data directory or the nearest parent that exists
	Kind           string // ext4, xfs, tmpfs, …
	Free           uint64 // bytes
	Inodes, Unused uint64 // zero of zero when the file system has no fixed number
	ReadOnly       bool
}

// Problem is one thing that is missing or wrong.
type Problem struct {
	Fatal bool
	What  string // one sentence without a full stop
	Do    string // what to do about it
}

func (p Problem) String() string { return p.What + ": " + p.Do }

// Fatal returns those problems that keep Canopus from working.
func Fatal(problems []Problem) []Problem {
	var fatal []Problem
	for _, p := range problems {
		if p.Fatal {
			fatal = append(fatal, p)
		}
	}
	return fatal
}

// Error returns the fatal problems as one error that names all of them, or nil.
func Error(problems []Problem) error {
	fatal := Fatal(problems)
	switch len(fatal) {
	case 0:
		return nil
	case 1:
		return fmt.Errorf("this machine is not ready for canopus: %s", fatal[0])
	}
	lines := make([]string, len(fatal))
	for i, p := range fatal {
		lines[i] = "\n  - " + p.String()
	}
	return fmt.Errorf("this machine is not ready for canopus, %d things are missing:%s", len(fatal), strings.Join(lines, ""))
}
