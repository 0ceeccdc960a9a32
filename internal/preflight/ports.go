package preflight

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// listener is a line of /proc/net/tcp or its like: a socket that takes packets for anybody.
type listener struct {
	port  int
	inode string
	any   bool // on all addresses
}

// holders finds who listens on the ports, whatever the address, and who on port 53 of all addresses.
func holders(ports []Port) (map[int]Holder, error) {
	wanted := map[int]bool{}
	for _, p := range ports {
		wanted[p.Number] = p.Number != 0
	}
	inodes := map[string]int{}
	for _, source := range []struct {
		file  string
		state string // that of a socket which waits for anybody
	}{{"tcp", "0A"}, {"tcp6", "0A"}, {"udp", "07"}, {"udp6", "07"}} {
		data, err := os.ReadFile("/proc/thread-self/net/" + source.file)
		if errors.Is(err, fs.ErrNotExist) {
			continue // no IPv6 here
		}
		if err != nil {
			return nil, fmt.Errorf("list listening sockets: %w", err)
		}
		tcp := strings.HasPrefix(source.file, "tcp")
		for _, l := range listeners(string(data), source.state) {
			if tcp && wanted[l.port] || l.port == nameService && l.any {
				inodes[l.inode] = l.port
			}
		}
	}
	found := map[int]Holder{}
	if len(inodes) == 0 {
		return found, nil
	}
	for _, port := range inodes {
		found[port] = Holder{} // until its process is found
	}
	return found, owners(inodes, found)
}

// listeners reads a socket table of /proc/net.
func listeners(table, state string) []listener {
	var found []listener
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) < 10 || fields[3] != state {
			continue
		}
		address, port, ok := strings.Cut(fields[1], ":")
		number, err := strconv.ParseInt(port, 16, 32)
		if !ok || err != nil {
			continue
		}
		found = append(found, listener{port: int(number), inode: fields[9], any: strings.Trim(address, "0") == ""})
	}
	return found
}

// owners fills in the processes that hold the sockets.
func owners(inodes map[string]int, found map[int]Holder) error {
	links, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return err
	}
	for _, link := range links {
		target, err := os.Readlink(link)
		if err != nil {
			continue // it ended, or is not ours to look at
		}
		inode, ok := strings.CutPrefix(target, "socket:[")
		if !ok {
			continue
		}
		port, ok := inodes[strings.TrimSuffix(inode, "]")]
		if !ok {
			continue
		}
		dir := filepath.Dir(filepath.Dir(link))
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		name, _ := os.ReadFile(filepath.Join(dir, "comm")) // it may end meanwhile
		found[port] = Holder{Pid: pid, Name: strings.TrimSpace(string(name))}
	}
	return nil
}
