package etcd

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ReleasePages takes the pages of the database out of this process: etcd maps the file and has the kernel read all of it when it
// is opened, which is good while everything is loaded and a waste of memory afterwards. Pages that are needed again come from
// the kernel's cache. The mapping itself stays: etcd reserves room for its quota at once, so it is never moved.
func (m *Member) ReleasePages() error {
	path, err := filepath.Abs(filepath.Join(m.dir, "member", "snap", "db"))
	if err != nil {
		return err
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return fmt.Errorf("release pages of %s: %w", path, err)
	}
	for line := range strings.Lines(string(maps)) {
		start, end, ok := mappingOf(line, path)
		if !ok {
			continue
		}
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, start, end-start, unix.MADV_DONTNEED); errno != 0 {
			return fmt.Errorf("release pages of %s: %w", path, errno)
		}
	}
	return nil
}

// mappingOf returns the addresses that a line of proc_pid_maps(5) is about if these are a shared, read-only mapping of path, in
// which nothing can be lost: the file has it all.
func mappingOf(line, path string) (start, end uintptr, ok bool) {
	fields := strings.Fields(line)
	if len(fields) < 6 || fields[1] != "r--s" || !strings.HasSuffix(strings.TrimSuffix(line, "\n"), " "+path) {
		return 0, 0, false
	}
	from, to, _ := strings.Cut(fields[0], "-")
	a, err := strconv.ParseUint(from, 16, 64)
	if err != nil {
		return 0, 0, false
	}
	b, err := strconv.ParseUint(to, 16, 64)
	return uintptr(a), uintptr(b), err == nil && b > a
}
