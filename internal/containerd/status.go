package containerd

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Status is what can be said about the daemon without asking it.
type Status struct {
	Running  bool
	Pid      int
	Program  string
	RSS      int64 // bytes resident, of which RSSAnon are its own and not pages of files
	RSSAnon  int64
	Shims    int // one per pod
	ShimsRSS int64
}

// Status looks at the running daemon and its shims. It needs no lock and works beside Run.
func (c Config) Status() (Status, error) {
	var s Status
	rec, err := c.readRecord()
	if err != nil {
		return s, err
	}
	if rec != nil {
		d, err := open(*rec)
		if err != nil {
			return s, err
		}
		if d != nil {
			defer d.close()
			s.Running, s.Pid, s.Program = true, rec.Pid, rec.Program
			s.RSS, s.RSSAnon = resident(rec.Pid)
		}
	}
	shims, err := c.shims()
	if err != nil {
		return s, err
	}
	s.Shims = len(shims)
	for _, pid := range shims {
		rss, _ := resident(pid)
		s.ShimsRSS += rss
	}
	return s, nil
}

// resident returns the resident memory of pid in bytes; zeros when it has ended.
func resident(pid int) (rss, anon int64) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(data)) {
		name, value, _ := strings.Cut(line, ":")
		kb, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		switch name {
		case "VmRSS":
			rss = kb << 10
		case "RssAnon":
			anon = kb << 10
		}
	}
	return rss, anon
}
