package preflight

import (
	"bufio"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// rivals are the processes of other Kubernetes distributions that own a node.
var rivals = []string{"kubelet", "k3s", "k3s-server", "k3s-agent", "rke2", "k0s", "kubelite", "kube-proxy"}

// Gather observes the machine. It changes nothing; what must be tried is tried in a network namespace that is gone afterwards.
func Gather(ctx context.Context, w Want, now time.Time) (Facts, error) {
	f := Facts{UID: os.Geteuid(), Now: now, CAValid: validSince(w.CA), Holder: map[int]Holder{}}
	steps := []func() error{
		func() (err error) { f.Holder, err = holders(w.Ports); return err },
		func() (err error) { f.Disk, err = disk(w.DataDir); return err },
		func() (err error) { f.Memory, f.MemoryFree, err = memory(); return err },
		func() (err error) { f.Routes, err = routes(); return err },
	}
	if w.Node {
		steps = append(steps,
			func() (err error) { f.Kernel, err = kernel(); return err },
			func() (err error) { f.Overlay, err = hasOverlay(); return err },
			func() (err error) { f.Cgroups, err = cgroups(); return err },
			func() (err error) { f.Rivals, err = others(); return err },
			func() error {
				f.Filter = usable("/proc/sys/net/bridge/bridge-nf-call-iptables", "br_netfilter")
				f.Forward = forwards()
				return nil
			},
			func() error { try(ctx, &f); return nil },
		)
	}
	errs := make([]error, len(steps))
	var wg sync.WaitGroup
	for i, step := range steps {
		wg.Go(func() { errs[i] = step() })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return f, fmt.Errorf("look at this machine: %w", err)
	}
	return f, nil
}

// validSince returns since when the certificate in file is valid; the zero time when there is none to read.
func validSince(file string) time.Time {
	data, err := os.ReadFile(file)
	if err != nil {
		return time.Time{}
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return time.Time{}
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return time.Time{}
	}
	return c.NotBefore
}

// kindOf names file systems by the number that statfs gives.
func kindOf(number int64) string {
	switch number {
	case unix.TMPFS_MAGIC:
		return "tmpfs"
	case unix.RAMFS_MAGIC:
		return "ramfs"
	case unix.NFS_SUPER_MAGIC:
		return "nfs"
	case 0xFF534D42:
		return "cifs"
	case 0xFE534D42:
		return "smb2"
	case unix.V9FS_MAGIC:
		return "9p"
	case unix.FUSE_SUPER_MAGIC:
		return "fuse"
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "overlay"
	case unix.EXT4_SUPER_MAGIC:
		return "ext4"
	case unix.XFS_SUPER_MAGIC:
		return "xfs"
	case unix.BTRFS_SUPER_MAGIC:
		return "btrfs"
	}
	return fmt.Sprintf("file system %#x", number)
}

// disk looks at the file system of dir, or of its nearest parent that exists.
func disk(dir string) (Disk, error) {
	for ; ; dir = filepath.Dir(dir) {
		var s unix.Statfs_t
		err := unix.Statfs(dir, &s)
		if errors.Is(err, fs.ErrNotExist) && dir != filepath.Dir(dir) {
			continue
		}
		if err != nil {
			return Disk{}, fmt.Errorf("free space of %s: %w", dir, err)
		}
		return Disk{
			Path: dir, Kind: kindOf(int64(s.Type)), Free: s.Bavail * uint64(s.Bsize),
			Inodes: s.Files, Unused: s.Ffree, ReadOnly: s.Flags&unix.ST_RDONLY != 0,
		}, nil
	}
}

func memory() (total, available uint64, err error) {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(data)) {
		name, rest, _ := strings.Cut(line, ":")
		kb, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
		if err != nil {
			continue // lines that are no sizes
		}
		switch name {
		case "MemTotal":
			total = kb << 10
		case "MemAvailable":
			available = kb << 10
		}
	}
	return total, available, nil
}

func routes() ([]Route, error) {
	list, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	var found []Route
	for _, r := range list {
		if r.Dst == nil {
			continue
		}
		ip, ok := netip.AddrFromSlice(r.Dst.IP.To4())
		if !ok {
			continue
		}
		bits, _ := r.Dst.Mask.Size()
		if r.Protocol == ours {
			continue
		}
		name := fmt.Sprintf("interface %d", r.LinkIndex)
		if l, err := netlink.LinkByIndex(r.LinkIndex); err == nil {
			name = l.Attrs().Name
		}
		found = append(found, Route{To: netip.PrefixFrom(ip, bits), Interface: name})
	}
	return found, nil
}

// ours marks the routes to other nodes' pods that package network sets.
const ours = 186

// others finds nodes of other distributions in our own network namespace.
func others() ([]Process, error) {
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return nil, err
	}
	names, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		return nil, err
	}
	var found []Process
	for _, file := range names {
		data, err := os.ReadFile(file)
		name := strings.TrimSpace(string(data))
		if err != nil || !slices.Contains(rivals, name) {
			continue
		}
		dir := filepath.Dir(file)
		if ns, err := os.Readlink(filepath.Join(dir, "ns", "net")); err != nil || ns != own {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(dir)); err == nil {
			found = append(found, Process{pid, name})
		}
	}
	return found, nil
}

// cgroups reads which controllers there are to limit pods with.
func cgroups() (Cgroups, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return Cgroups{}, err
	}
	defer f.Close()
	var lines []string
	for s := bufio.NewScanner(f); s.Scan(); {
		lines = append(lines, s.Text())
	}
	return cgroupsOf(lines, func(mount string) string {
		data, err := os.ReadFile(filepath.Join(mount, "cgroup.controllers"))
		if err != nil {
			return ""
		}
		return string(data)
	}), nil
}

// cgroupsOf reads lines of mountinfo; offered returns what a mounted cgroup2 offers.
func cgroupsOf(lines []string, offered func(mount string) string) Cgroups {
	v1, v2 := map[string]bool{}, ""
	for _, line := range lines {
		before, after, ok := strings.Cut(line, " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if !ok || len(left) < 5 || len(right) < 3 {
			continue
		}
		switch {
		case right[0] == "cgroup":
			for _, o := range strings.Split(right[2], ",") {
				v1[o] = true
			}
		case right[0] == "cgroup2" && (v2 == "" || left[4] == "/sys/fs/cgroup"):
			v2 = left[4]
		}
	}
	if v1["memory"] || v1["cpu"] || v2 == "" && len(v1) > 0 {
		return Cgroups{1, v1}
	}
	if v2 == "" {
		return Cgroups{}
	}
	c := Cgroups{2, map[string]bool{}}
	for _, name := range strings.Fields(offered(v2)) {
		c.Controllers[name] = true
	}
	return c
}
