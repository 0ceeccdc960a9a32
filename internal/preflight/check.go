package preflight

import (
	"fmt"
	"slices"
	"strings"
)

const (
	mib = 1 << 20
	gib = 1 << 30

	leastDisk    = 512 * mib // below this the first images do not fit
	comfortDisk  = 2 * gib
	leastMemory  = 256 * mib // available: below this the first pod ends us
	comfortable  = 512 * mib
	fewInodes    = 10_000
	oldestMajor  = 5 // pidfd_open with PIDFD_NONBLOCK, which the supervision of containerd stands on
	oldestMinor  = 10
	nameService  = 53
	yearsTooFar  = 30
	hoursPerYear = 24 * 365
)

// Check returns everything that is wrong, what is fatal first. It looks at nothing but its arguments.
func Check(w Want, f Facts) []Problem {
	var p problems
	p.user(w, f)
	p.ports(w, f)
	p.clock(w, f)
	p.disk(w, f)
	p.memory(w, f)
	p.address(w)
	if w.Node {
		p.kernel(f)
		p.cgroups(f)
		p.rivals(f)
	}
	p.networks(w, f)
	slices.SortStableFunc(p, func(a, b Problem) int {
		switch {
		case a.Fatal == b.Fatal:
			return 0
		case a.Fatal:
			return -1
		}
		return 1
	})
	return p
}

type problems []Problem

func (p *problems) fatal(what, do string) { *p = append(*p, Problem{true, what, do}) }
func (p *problems) warn(what, do string)  { *p = append(*p, Problem{false, what, do}) }

// unless makes it a warning for a cluster that exists already: it is better served badly than not at all.
func (p *problems) unless(existing bool, what, do string) {
	*p = append(*p, Problem{!existing, what, do})
}

func (p *problems) user(w Want, f Facts) {
	if w.Node && f.UID != 0 {
		p.fatal("running containers takes root", "use sudo, or start a control plane alone with `canopus server --no-agent`")
	}
}

func (p *problems) ports(w Want, f Facts) {
	for _, port := range w.Ports {
		if holder, taken := f.Holder[port.Number]; taken {
			p.fatal(fmt.Sprintf("port %d, for the %s, is in use by %s", port.Number, port.For, holder),
				fmt.Sprintf("stop that process, or choose another port with --%s", port.Flag))
		}
	}
	if holder, taken := f.Holder[nameService]; taken && w.Node && w.DNS.IsValid() {
		p.fatal(fmt.Sprintf("port 53 is in use on all addresses by %s, so the cluster's name server cannot listen on %s", holder, w.DNS),
			"let that process listen on the addresses it serves only (dnsmasq: bind-interfaces and listen-address)")
	}
}

func (p *problems) clock(w Want, f Facts) {
	switch {
	case f.Now.Before(w.Earlier):
		p.fatal(fmt.Sprintf("the clock says %s, which is before this canopus was released", f.Now.Format("2006-01-02")),
			"set it (timedatectl set-time, or date -s): certificates made now would be refused elsewhere")
	case f.Now.Sub(w.Earlier).Hours() > yearsTooFar*hoursPerYear:
		p.fatal(fmt.Sprintf("the clock says %s", f.Now.Format("2006-01-02")), "set it (timedatectl set-time, or date -s)")
	case f.Now.Before(f.CAValid):
		p.fatal(fmt.Sprintf("the clock says %s, but the cluster's certificates are valid from %s", f.Now.Format("2006-01-02 15:04"), f.CAValid.Format("2006-01-02 15:04")),
			"set the clock (timedatectl set-time, or date -s)")
	}
}

func (p *problems) disk(w Want, f Facts) {
	d := f.Disk
	if d.ReadOnly {
		p.fatal(fmt.Sprintf("%s is on a file system that is mounted read-only", d.Path), "mount it writable, or choose another place with --data-dir")
		return
	}
	switch {
	case d.Free < leastDisk:
		p.unless(!w.First, fmt.Sprintf("%s has %d MiB of free space", d.Path, d.Free/mib), "free some (512 MiB at least, 2 GiB to be at ease), or choose another place with --data-dir")
	case d.Free < comfortDisk:
		p.warn(fmt.Sprintf("%s has %d MiB of free space", d.Path, d.Free/mib), "images and data want 2 GiB to be at ease")
	}
	if d.Inodes > 0 && d.Unused < fewInodes {
		p.unless(!w.First, fmt.Sprintf("%s has %d free inodes", d.Path, d.Unused), fmt.Sprintf("an unpacked image takes thousands of files: free %d at least", fewInodes))
	}
	switch d.Kind {
	case "tmpfs", "ramfs":
		p.warn(fmt.Sprintf("%s is in memory (%s)", w.DataDir, d.Kind), "the cluster is gone after a reboot; a disk keeps it: --data-dir")
	case "nfs", "cifs", "smb2", "9p", "fuse":
		p.warn(fmt.Sprintf("%s is on %s", w.DataDir, d.Kind), "etcd wants a local disk: its writes wait for that file system's fsync; choose one with --data-dir")
	}
}

func (p *problems) memory(w Want, f Facts) {
	switch {
	case f.MemoryFree < leastMemory:
		p.unless(!w.First, fmt.Sprintf("%d MiB of memory are available", f.MemoryFree/mib), "free some: 256 MiB at least, 512 MiB to be at ease")
	case f.MemoryFree < comfortable:
		p.warn(fmt.Sprintf("%d MiB of memory are available", f.MemoryFree/mib), "512 MiB are needed to be at ease")
	}
}

func (p *problems) address(w Want) {
	if w.Address != nil {
		p.fatal(w.Address.Error(), "give this machine an address and a default route, or name one with --advertise-address")
	}
}

func (p *problems) kernel(f Facts) {
	if v := f.Kernel; v[0] < oldestMajor || v[0] == oldestMajor && v[1] < oldestMinor {
		p.fatal(fmt.Sprintf("Linux %d.%d is too old", v[0], v[1]), fmt.Sprintf("use %d.%d or newer", oldestMajor, oldestMinor))
	}
	if !f.Overlay {
		p.warn("the kernel has no overlay file system", "images take several times the space; load the module overlay (modprobe overlay)")
	}
	for _, need := range []struct {
		missing error
		what    string
		module  string
	}{
		{f.Bridge, "bridges", "bridge"}, {f.Veth, "veth pairs", "veth"},
	} {
		if need.missing != nil {
			p.fatal(fmt.Sprintf("the kernel makes no %s (%v)", need.what, need.missing), fmt.Sprintf("load or install the module %s", need.module))
		}
	}
	switch {
	case f.Nft != nil:
		p.fatal("the program nft is missing", "install it: apt-get install nftables")
	case f.Tables != nil:
		p.fatal(fmt.Sprintf("the kernel refuses nftables with maps, NAT and masquerading (%v)", f.Tables), "load or install nf_tables, nft_chain_nat, nft_masq and nft_numgen")
	}
	if !f.Filter {
		p.fatal("the kernel module br_netfilter is missing", "load or install it (modprobe br_netfilter): without it pods cannot reach pods of their own node through a Service")
	}
	if !f.Forward {
		p.fatal("IP forwarding is off and cannot be switched on", "set net.ipv4.ip_forward to 1: sysctl -w net.ipv4.ip_forward=1")
	}
}

func (p *problems) cgroups(f Facts) {
	if f.Cgroups.Version == 0 {
		p.fatal("no cgroup file system is mounted", "mount it: mount -t cgroup2 cgroup2 /sys/fs/cgroup")
		return
	}
	need := []string{"cpu", "memory", "pids"}
	if f.Cgroups.Version == 1 {
		need = append(need, "cpuacct", "devices", "freezer")
	}
	var missing []string
	for _, c := range need {
		if !f.Cgroups.Controllers[c] {
			missing = append(missing, c)
		}
	}
	if len(missing) > 0 {
		p.fatal(fmt.Sprintf("cgroup controllers are missing: %s", strings.Join(missing, ", ")),
			"enable them at boot (kernel command line: cgroup_enable=memory), or write +NAME to /sys/fs/cgroup/cgroup.subtree_control")
	}
	if !f.Cgroups.Controllers["cpuset"] {
		p.warn("the cgroup controller cpuset is missing", "pods cannot be bound to CPUs")
	}
}

func (p *problems) rivals(f Facts) {
	if len(f.Rivals) == 0 {
		return
	}
	names := make([]string, len(f.Rivals))
	for i, r := range f.Rivals {
		names[i] = r.String()
	}
	p.fatal("another Kubernetes runs here: "+strings.Join(names, ", "), "stop and disable it first: two of them fight over cgroups, ports and packets")
}

// networks compares the addresses of pods and Services with each other and with the machine's routes. A wider route, such as
// a VPN's, only loses the part that is ours; one inside ours would take packets of pods or Services away.
func (p *problems) networks(w Want, f Facts) {
	if w.Pods.IsValid() && w.Svcs.IsValid() && w.Pods.Overlaps(w.Svcs) {
		p.fatal(fmt.Sprintf("the networks of pods (%s) and Services (%s) overlap", w.Pods, w.Svcs), "choose others with --cluster-cidr and --service-cidr")
	}
	for _, own := range []struct {
		name, flag string
		used       bool
	}{{"pods", "cluster-cidr", w.Pods.IsValid()}, {"Services", "service-cidr", w.Svcs.IsValid()}} {
		if !own.used {
			continue
		}
		network := w.Pods
		if own.name != "pods" {
			network = w.Svcs
		}
		for _, r := range f.Routes {
			if r.Interface == w.Bridge || r.To.Bits() == 0 || !r.To.Overlaps(network) {
				continue
			}
			what := fmt.Sprintf("this machine reaches %s through %s, and %s is the network of %s", r.To, r.Interface, network, own.name)
			if r.To.Bits() < network.Bits() {
				p.warn(what, fmt.Sprintf("machines with addresses in %s cannot be reached from here; another network is chosen with --%s", network, own.flag))
				continue
			}
			p.unless(!w.First, what, fmt.Sprintf("choose another network with --%s", own.flag))
		}
	}
}
