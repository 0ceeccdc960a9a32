package dns

import (
	"errors"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/utils/clock"
)

// resolvers knows the name servers of the machine and notices when its resolv.conf changes.
type resolvers struct {
	path  string
	self  netip.Addr // never asked: that would be ourselves
	clock clock.PassiveClock

	mu      sync.Mutex
	looked  time.Time
	written time.Time
	size    int64
	list    []string
}

const lookEvery = 5 * time.Second

// servers returns the addresses to ask, in order, "ip:53". The list is shared: do not change it.
func (r *resolvers) servers() ([]string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.clock.Now()
	if !r.looked.IsZero() && now.Sub(r.looked) < lookEvery {
		return r.list, nil
	}
	info, err := os.Stat(r.path)
	if errors.Is(err, os.ErrNotExist) {
		r.list, r.looked = nil, now
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !info.ModTime().Equal(r.written) || info.Size() != r.size || r.looked.IsZero() {
		data, err := os.ReadFile(r.path)
		if err != nil {
			return nil, err
		}
		r.list, r.written, r.size = nameServers(string(data), r.self), info.ModTime(), info.Size()
	}
	r.looked = now
	return r.list, nil
}

// nameServers reads resolv.conf, leaving out self. Like the C library it takes the first three.
func nameServers(conf string, self netip.Addr) []string {
	var found []string
	for line := range strings.Lines(conf) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		ip, err := netip.ParseAddr(fields[1])
		if err != nil || ip.Unmap() == self {
			continue
		}
		server := netip.AddrPortFrom(ip.Unmap(), 53).String()
		if !slices.Contains(found, server) {
			found = append(found, server)
		}
	}
	return found[:min(len(found), 3)]
}
