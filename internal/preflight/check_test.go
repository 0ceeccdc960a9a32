package preflight

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func day(s string) time.Time {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		panic(err)
	}
	return t
}

// good is a machine on which nothing is wrong, and what is wanted of it.
func good() (Want, Facts) {
	return Want{
			Node: true, Plane: true, First: true, Bridge: "cni0", DataDir: "/var/lib/canopus", Earlier: day("2026-09-01"),
			Ports: []Port{{6443, "API server", "port"}, {10250, "node agent", "agent-port"}},
			Pods:  netip.MustParsePrefix("10.244.0.0/16"), Svcs: netip.MustParsePrefix("10.96.0.0/12"), DNS: netip.MustParseAddr("10.96.0.10"),
		}, Facts{
			Holder: map[int]Holder{}, Kernel: [2]int{6, 1}, Overlay: true, Filter: true, Forward: true, Now: day("2026-11-21"),
			Cgroups: Cgroups{2, map[string]bool{"cpu": true, "memory": true, "pids": true, "cpuset": true}},
			Routes:  []Route{{netip.MustParsePrefix("192.168.1.0/24"), "eth0"}, {netip.MustParsePrefix("10.244.0.0/24"), "cni0"}},
			Disk:    Disk{Path: "/var/lib", Kind: "ext4", Free: 10 * gib, Inodes: 1e6, Unused: 1e6}, MemoryFree: gib,
		}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	missing := errors.New("operation not supported")
	cases := map[string]struct {
		change func(*Want, *Facts)
		want   []string // beginnings; those of fatal problems start with !
	}{
		"good":              {func(*Want, *Facts) {}, nil},
		"not root":          {func(_ *Want, f *Facts) { f.UID = 1000 }, []string{"!running containers takes root"}},
		"not root, no node": {func(w *Want, f *Facts) { w.Node = false; f.UID = 1000 }, nil},
		"ports taken": {func(_ *Want, f *Facts) {
			f.Holder[6443] = Holder{12, "haproxy"}
			f.Holder[10250] = Holder{}
		}, []string{"!port 6443, for the API server, is in use by haproxy (process 12)", "!port 10250, for the node agent, is in use by a process that"}},
		"name server on all addresses": {func(_ *Want, f *Facts) { f.Holder[53] = Holder{7, "dnsmasq"} }, []string{"!port 53 is in use on all addresses by dnsmasq"}},
		"name server, no node":         {func(w *Want, f *Facts) { w.Node = false; f.Holder[53] = Holder{7, "named"} }, nil},
		"old kernel":                   {func(_ *Want, f *Facts) { f.Kernel = [2]int{4, 19} }, []string{"!Linux 4.19 is too old"}},
		"oldest kernel":                {func(_ *Want, f *Facts) { f.Kernel = [2]int{5, 10} }, nil},
		"poor kernel": {func(_ *Want, f *Facts) {
			f.Overlay, f.Filter, f.Forward, f.Bridge, f.Veth, f.Tables = false, false, false, missing, missing, missing
		}, []string{"!the kernel makes no bridges", "!the kernel makes no veth", "!the kernel refuses nftables", "!the kernel module br_netfilter", "!IP forwarding", "the kernel has no overlay"}},
		"no nft":     {func(_ *Want, f *Facts) { f.Nft = missing }, []string{"!the program nft is missing"}},
		"no cgroups": {func(_ *Want, f *Facts) { f.Cgroups = Cgroups{} }, []string{"!no cgroup file system"}},
		"few cgroups": {func(_ *Want, f *Facts) {
			delete(f.Cgroups.Controllers, "memory")
			delete(f.Cgroups.Controllers, "cpuset")
		}, []string{"!cgroup controllers are missing: memory", "the cgroup controller cpuset"}},
		"v1":                          {func(_ *Want, f *Facts) { f.Cgroups.Version = 1 }, []string{"!cgroup controllers are missing: cpuacct, devices, freezer"}},
		"rival":                       {func(_ *Want, f *Facts) { f.Rivals = []Process{{9, "k3s"}} }, []string{"!another Kubernetes runs here: k3s (process 9)"}},
		"clock before":                {func(_ *Want, f *Facts) { f.Now = day("1970-01-02") }, []string{"!the clock says 1970-01-02, which is before"}},
		"clock ahead":                 {func(_ *Want, f *Facts) { f.Now = day("2099-01-02") }, []string{"!the clock says 2099-01-02"}},
		"clock behind":                {func(_ *Want, f *Facts) { f.CAValid = day("2027-01-01") }, []string{"!the clock says 2026-11-21 00:00, but the cluster's certificates"}},
		"disk full":                   {func(_ *Want, f *Facts) { f.Disk.Free = 100 * mib }, []string{"!/var/lib has 100 MiB"}},
		"disk full, existing cluster": {func(w *Want, f *Facts) { w.First = false; f.Disk.Free = 100 * mib }, []string{"/var/lib has 100 MiB"}},
		"disk small":                  {func(_ *Want, f *Facts) { f.Disk.Free = gib }, []string{"/var/lib has 1024 MiB"}},
		"no inodes":                   {func(_ *Want, f *Facts) { f.Disk.Unused = 3 }, []string{"!/var/lib has 3 free inodes"}},
		"btrfs counts no inodes":      {func(_ *Want, f *Facts) { f.Disk.Inodes, f.Disk.Unused = 0, 0 }, nil},
		"read-only":                   {func(_ *Want, f *Facts) { f.Disk.ReadOnly = true }, []string{"!/var/lib is on a file system that is mounted read-only"}},
		"tmpfs":                       {func(_ *Want, f *Facts) { f.Disk.Kind = "tmpfs" }, []string{"/var/lib/canopus is in memory"}},
		"nfs":                         {func(_ *Want, f *Facts) { f.Disk.Kind = "nfs" }, []string{"/var/lib/canopus is on nfs"}},
		"no memory":                   {func(_ *Want, f *Facts) { f.MemoryFree = 100 * mib }, []string{"!100 MiB of memory"}},
		"no address":                  {func(w *Want, _ *Facts) { w.Address = errors.New("this machine has no address") }, []string{"!this machine has no address"}},
		"pods overlap services":       {func(w *Want, _ *Facts) { w.Svcs = netip.MustParsePrefix("10.240.0.0/12") }, []string{"!the networks of pods"}},
		"route inside pods": {func(_ *Want, f *Facts) {
			f.Routes = append(f.Routes, Route{netip.MustParsePrefix("10.244.7.0/24"), "docker0"})
		}, []string{"!this machine reaches 10.244.7.0/24 through docker0"}},
		"route inside pods, existing cluster": {func(w *Want, f *Facts) {
			w.First = false
			f.Routes = append(f.Routes, Route{netip.MustParsePrefix("10.244.7.0/24"), "docker0"})
		}, []string{"this machine reaches 10.244.7.0/24"}},
		"wider route": {func(_ *Want, f *Facts) {
			f.Routes = append(f.Routes, Route{netip.MustParsePrefix("10.0.0.0/8"), "wg0"})
		},
			[]string{"this machine reaches 10.0.0.0/8 through wg0, and 10.244.0.0/16", "this machine reaches 10.0.0.0/8 through wg0, and 10.96.0.0/12"}},
		"default route": {func(_ *Want, f *Facts) {
			f.Routes = append(f.Routes, Route{netip.MustParsePrefix("0.0.0.0/0"), "eth0"})
		}, nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, f := good()
			c.change(&w, &f)
			got := Check(w, f)
			if len(got) != len(c.want) {
				t.Fatalf("got %v, want %q", got, c.want)
			}
			for i, p := range got {
				line := p.What
				if p.Fatal {
					line = "!" + line
				}
				if !strings.HasPrefix(line, c.want[i]) || p.Do == "" {
					t.Errorf("problem %d is %q with advice %q, want %q", i, line, p.Do, c.want[i])
				}
			}
		})
	}
}

func TestErrorNamesAllThatIsFatal(t *testing.T) {
	t.Parallel()
	if err := Error([]Problem{{false, "a", "b"}}); err != nil {
		t.Errorf("a warning became the error %v", err)
	}
	err := Error([]Problem{{true, "no nft", "install it"}, {false, "little space", "free some"}, {true, "no bridge", "load it"}})
	if want := "this machine is not ready for canopus, 2 things are missing:\n  - no nft: install it\n  - no bridge: load it"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestCgroupsOf(t *testing.T) {
	t.Parallel()
	const unified = "30 1 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw"
	hybrid := []string{
		"31 1 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory", "32 1 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct",
		"33 1 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw",
	}
	offered := func(string) string { return "cpuset cpu io memory pids\n" }
	if c := cgroupsOf([]string{unified}, offered); c.Version != 2 || !c.Controllers["pids"] || c.Controllers["devices"] {
		t.Errorf("unified: %+v", c)
	}
	if c := cgroupsOf(hybrid, offered); c.Version != 1 || !c.Controllers["cpuacct"] || c.Controllers["pids"] {
		t.Errorf("hybrid: %+v", c)
	}
	if c := cgroupsOf([]string{"1 1 0:1 / / rw - ext4 /dev/sda rw", "damaged"}, offered); c.Version != 0 {
		t.Errorf("none: %+v", c)
	}
}

func TestListeners(t *testing.T) {
	t.Parallel()
	const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:192B 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1
   1: 00000000:0035 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 222 1
   2: 0100007F:192B 0100007F:8000 01 00000000:00000000 00:00000000 00000000     0        0 333 1
`
	got := listeners(table, "0A")
	want := []listener{{6443, "111", false}, {53, "222", true}}
	if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
