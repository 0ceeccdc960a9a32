package containerd

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"

	"golang.org/x/sys/unix"
)

// The snapshotters that our containerd has.
const (
	overlay = "overlayfs"
	native  = "native"
)

// host is what the machine decides about the configuration.
type host struct {
	snapshotter string
	restrictOOM bool // oom_score_adj cannot be lowered below our own
}

// settings is containerd's configuration file. Values that are not listed keep containerd's defaults; those that are, and
// why: stats are collected every 10 s instead of every second (an idle node shall be idle); network namespaces lie below
// our state directory, so that several nodes share a machine and a reset finds them; NRI is off because its one socket
// would be shared by all nodes of a machine and nothing uses it; layers are dropped once unpacked, which halves the disk
// an image takes.
const settings = `# Written by canopus at every start: changes made here are lost.
version = 4
root = {{q .Root}}
state = {{q .State}}
temp = {{q .Temp}}
oom_score = {{.OOMScore}}
imports = []
required_plugins = ['io.containerd.grpc.v1.cri', 'io.containerd.snapshotter.v1.{{.Snapshotter}}']

[debug]
level = 'info'

[plugins.'io.containerd.server.v1.grpc']
address = {{q .Socket}}

[plugins.'io.containerd.server.v1.ttrpc']
address = {{q (print .Socket ".ttrpc")}}

[plugins.'io.containerd.shim.v1.manager']
socket_dir = {{q .Shims}}

[plugins.'io.containerd.nri.v1.nri']
disable = true

[plugins.'io.containerd.transfer.v1.local']
config_path = {{q .Registries}}

[plugins.'io.containerd.cri.v1.images']
snapshotter = '{{.Snapshotter}}'
discard_unpacked_layers = true
stats_collect_period = 10
pinned_images = {sandbox = {{q .Sandbox}}}

[plugins.'io.containerd.cri.v1.images'.registry]
config_path = {{q .Registries}}

[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = {{.RestrictOOM}}
netns_mounts_under_state_dir = true
max_container_log_line_size = 16384
enable_unprivileged_ports = true
enable_unprivileged_icmp = true
enable_criu = false
stats_collect_period = '10s'

[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = [{{range $i, $d := .CNIBins}}{{if $i}}, {{end}}{{q $d}}{{end}}]
conf_dir = {{q .CNIConf}}
use_internal_loopback = true

[plugins.'io.containerd.cri.v1.runtime'.containerd]
default_runtime_name = 'runc'

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = 'io.containerd.runc.v2'
runtime_path = {{q .Shim}}

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
BinaryName = {{q .Runc}}
Root = {{q .RuncRoot}}
SystemdCgroup = false
`

// render returns the configuration file for c on the machine h. Equal inputs give equal bytes: a changed digest is what
// makes a new Canopus replace a running daemon.
func render(c Config, h host) ([]byte, error) {
	oom := -999
	if h.restrictOOM {
		oom = 0 // leave it alone: lowering fails
	}
	t, err := template.New("containerd").Funcs(template.FuncMap{"q": quote}).Parse(settings)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = t.Execute(&out, map[string]any{
		"Root": c.Root, "State": c.State, "Temp": filepath.Join(c.Root, "tmp"), "OOMScore": oom,
		"Socket": c.Socket(), "Shims": filepath.Join(c.State, "s"), "Registries": c.Registries,
		"Snapshotter": h.snapshotter, "Sandbox": SandboxImage, "RestrictOOM": h.restrictOOM,
		"CNIBins": append([]string{c.Bin}, c.CNIBins...), "CNIConf": c.CNIConf,
		"Shim": c.program("containerd-shim-runc-v2"), "Runc": c.program("runc"), "RuncRoot": filepath.Join(c.State, "runc"),
	})
	return out.Bytes(), err
}

// quote writes s as a TOML basic string.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

func (c Config) program(name string) string { return filepath.Join(c.Bin, name) }

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// inspect finds out what the machine decides. It makes c.Root.
func inspect(c Config) (host, error) {
	if err := os.MkdirAll(c.Root, 0o711); err != nil {
		return host{}, fmt.Errorf("make containerd's directory: %w", err)
	}
	h := host{snapshotter: c.Snapshotter}
	restricted, err := oomRestricted()
	if err != nil {
		return host{}, err
	}
	h.restrictOOM = restricted
	if h.snapshotter != "" {
		return h, nil
	}
	h.snapshotter = overlay
	if err := tryOverlay(c.Root); err != nil {
		c.Log.Warn("no overlay file system can be mounted here: images take more space and time (put the data directory on ext4 or xfs)", "directory", c.Root, "error", err)
		h.snapshotter = native
	}
	return h, nil
}

// tryOverlay mounts an overlay below root once: whether that works depends on root's own file system.
func tryOverlay(root string) error {
	dir, err := os.MkdirTemp(root, ".overlay-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for _, d := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			return err
		}
	}
	options := fmt.Sprintf("lowerdir=%[1]s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", dir)
	merged := filepath.Join(dir, "merged")
	if err := unix.Mount("overlay", merged, "overlay", 0, options); err != nil {
		return err
	}
	return unix.Unmount(merged, unix.MNT_DETACH)
}

// oomRestricted says whether this process may not lower oom_score_adj, for which the kernel wants CAP_SYS_RESOURCE in the
// first user namespace.
func oomRestricted() (bool, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return false, fmt.Errorf("read our capabilities: %w", err)
	}
	uids, err := os.ReadFile("/proc/self/uid_map")
	if err != nil && !errors.Is(err, os.ErrNotExist) { // absent without user namespaces
		return false, fmt.Errorf("read our user namespace: %w", err)
	}
	return restricted(string(status), string(uids))
}

func restricted(status, uids string) (bool, error) {
	if f := strings.Fields(uids); len(f) == 3 && f[2] != "4294967295" {
		return true, nil
	}
	for line := range strings.Lines(status) {
		if value, ok := strings.CutPrefix(line, "CapEff:"); ok {
			caps, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
			if err != nil {
				return false, fmt.Errorf("read our capabilities: %w", err)
			}
			return caps&(1<<unix.CAP_SYS_RESOURCE) == 0, nil
		}
	}
	return false, errors.New("read our capabilities: /proc/self/status has no line CapEff")
}
