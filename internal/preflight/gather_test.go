package preflight

import (
	"net"
	"net/netip"
	"os"
	"testing"
	"time"
)

func TestGatherSeesThisMachine(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	w := Want{Node: true, First: true, Ports: []Port{{port, "API server", "port"}}, DataDir: t.TempDir() + "/not/made/yet", Pods: netip.MustParsePrefix("10.244.0.0/16")}
	f, err := Gather(t.Context(), w, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if h := f.Holder[port]; h.Pid != os.Getpid() {
		t.Errorf("port %d is held by %v, want process %d", port, h, os.Getpid())
	}
	if f.Kernel[0] < 3 || f.Memory == 0 || f.MemoryFree == 0 || f.Disk.Free == 0 || f.Disk.Path == w.DataDir {
		t.Errorf("facts are not those of a machine: %+v", f)
	}
	if os.Geteuid() == 0 {
		for what, err := range map[string]error{"bridge": f.Bridge, "veth": f.Veth, "nft": f.Nft, "tables": f.Tables} {
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
	links, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if l.Name == "try0" || l.Name == "try1" {
			t.Errorf("interface %s was made on the machine itself", l.Name)
		}
	}
}
