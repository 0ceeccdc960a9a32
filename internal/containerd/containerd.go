// Package containerd runs the container runtime of a node: it writes containerd's configuration, starts the daemon in a
// session of its own, starts it again when it dies, and loads image archives into it. The daemon outlives Canopus: when
// Run ends the daemon and all pods go on, and the next Run adopts it, or replaces it when its program or configuration
// have changed; containers belong to their shims and do not notice.
//
// Reading order: Config below, config.go (what containerd is told), supervise.go (Run), process.go (how a daemon is
// recognised and ended), images.go (archives), down.go (Stop, Down, Reset), status.go.
package containerd

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/clock"
)

// SandboxImage is the image of every pod's first container. It comes with the bundle.
const SandboxImage = "canopus.local/pause:1"

// namespace is where CRI keeps its containers and images inside containerd.
const namespace = "k8s.io"

// Config says where one containerd lives. Every field but ImageDirs, CNIBins and Snapshotter is required.
type Config struct {
	Bin     string // directory with containerd, its shim, runc and the CNI plugins: bundle.Current(…)
	Root    string // what survives a reboot: images, snapshots, records
	State   string // what does not: sockets, mounts, the daemon's record. Short: socket paths end after 106 bytes
	LogFile string

	CNIConf string   // directory with the network configuration, written by package network
	CNIBins []string // further directories with CNI plugins
	// Registries is a directory with one <registry>/hosts.toml per registry that needs mirrors, TLS or credentials.
	Registries string

	Bundled   string   // directory of image archives that are loaded before Ready and pinned: bundle.Images(…)
	ImageDirs []string // directories of further archives: *.tar, *.tar.gz, *.tar.zst

	Snapshotter string // overlayfs or native; chosen by trying unless set

	Log   *slog.Logger
	Clock clock.WithTicker
}

// Runtime supervises one containerd.
type Runtime struct {
	Config
	ready chan struct{}
}

// New checks c. It touches nothing.
func New(c Config) (*Runtime, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	return &Runtime{Config: c, ready: make(chan struct{})}, nil
}

func (c Config) check() error {
	var errs []error
	for _, d := range []struct{ name, path string }{
		{"Bin", c.Bin}, {"Root", c.Root}, {"State", c.State}, {"LogFile", c.LogFile},
		{"CNIConf", c.CNIConf}, {"Registries", c.Registries}, {"Bundled", c.Bundled},
	} {
		if !filepath.IsAbs(d.path) {
			errs = append(errs, fmt.Errorf("containerd: %s must be an absolute path, it is %q", d.name, d.path))
		}
	}
	// The longest socket below State is a shim's: "s/" and 64 hex digits.
	if longest := len(c.State) + len("/s/") + 64; longest > 106 {
		errs = append(errs, fmt.Errorf("containerd: State %s is too long by %d bytes for the sockets below it", c.State, longest-106))
	}
	if c.Snapshotter != "" && c.Snapshotter != overlay && c.Snapshotter != native {
		errs = append(errs, fmt.Errorf("containerd: snapshotter %q: use %s or %s", c.Snapshotter, overlay, native))
	}
	if c.Log == nil || c.Clock == nil {
		errs = append(errs, errors.New("containerd: Log and Clock are required"))
	}
	return errors.Join(errs...)
}

// Socket is the path on which the daemon serves CRI and its own API.
func (c Config) Socket() string { return filepath.Join(c.State, "containerd.sock") }

// Endpoint is Socket in the form that CRI clients take.
func (c Config) Endpoint() string { return "unix://" + c.Socket() }

// Ready is closed once the daemon answers CRI calls and the bundled images are loaded.
func (r *Runtime) Ready() <-chan struct{} { return r.ready }

func (c Config) dial() (*grpc.ClientConn, error) {
	conn, err := grpc.NewClient(c.Endpoint(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, fmt.Errorf("connect to containerd: %w", err)
	}
	return conn, nil
}

func services(conn *grpc.ClientConn) (runtimev1.RuntimeServiceClient, runtimev1.ImageServiceClient) {
	return runtimev1.NewRuntimeServiceClient(conn), runtimev1.NewImageServiceClient(conn)
}
