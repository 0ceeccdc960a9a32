package preflight

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func kernel() ([2]int, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return [2]int{}, err
	}
	return version(unix.ByteSliceToString(u.Release[:]))
}

func version(release string) (v [2]int, err error) {
	if _, err := fmt.Sscanf(release, "%d.%d", &v[0], &v[1]); err != nil {
		return v, fmt.Errorf("kernel release %q: %w", release, err)
	}
	return v, nil
}

func hasOverlay() (bool, error) {
	data, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		return false, err
	}
	for line := range strings.Lines(string(data)) {
		if fields := strings.Fields(line); len(fields) > 0 && fields[len(fields)-1] == "overlay" {
			return true, nil
		}
	}
	return loadable("overlay"), nil
}

// usable says whether a kernel setting is there, or comes with a module that can be loaded.
func usable(setting, module string) bool {
	if _, err := os.Stat(setting); err == nil {
		return true
	}
	return loadable(module)
}

// loadable asks modprobe whether it would find the module; it loads nothing.
func loadable(module string) bool { return exec.Command("modprobe", "--dry-run", module).Run() == nil }

func forwards() bool {
	const setting = "/proc/sys/net/ipv4/ip_forward"
	if data, err := os.ReadFile(setting); err == nil && strings.TrimSpace(string(data)) == "1" {
		return true
	}
	f, err := os.OpenFile(setting, os.O_WRONLY, 0) // opening writes nothing
	if err != nil {
		return false
	}
	return f.Close() == nil
}

// table has what the tables of package proxy and the portmap plugin are made of.
const table = `table ip canopus_try {
	map services { type ipv4_addr . inet_proto . inet_service : verdict; }
	map ends { type mark : ipv4_addr . inet_service; }
	set hairpin { type ipv4_addr . ipv4_addr; }
	chain one { numgen random mod 2 vmap { 0 : return, 1 : accept }; }
	chain pre { type nat hook prerouting priority -100; ip daddr . meta l4proto . th dport vmap @services; fib daddr type local jump one; }
	chain post { type nat hook postrouting priority 100; ip saddr . ip daddr @hairpin masquerade; }
	chain stop { type filter hook input priority 0; ct state invalid reject; }
}
`

// try makes in a network namespace of its own what the pod network and the proxy will make. The namespace ends with the
// thread, which is why the thread is never given back.
func try(ctx context.Context, f *Facts) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			err = fmt.Errorf("new network namespace: %w", err)
			f.Bridge, f.Veth, f.Tables = err, err, err
			return
		}
		f.Bridge = netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "try0"}})
		f.Veth = netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "try1"}, PeerName: "try2"})
		f.Nft, f.Tables = tryTables(ctx)
	}()
	<-done
}

func tryTables(ctx context.Context) (missing, refused error) {
	nft, err := exec.LookPath("nft")
	if err != nil {
		if nft, err = exec.LookPath("/usr/sbin/nft"); err != nil {
			return err, nil
		}
	}
	cmd := exec.CommandContext(ctx, nft, "-f", "-")
	cmd.Stdin = strings.NewReader(table)
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, errors.New(firstLine(string(out), err))
	}
	return nil, nil
}

func firstLine(out string, err error) string {
	line, _, _ := strings.Cut(strings.TrimSpace(out), "\n")
	if line == "" {
		return err.Error()
	}
	return line
}
