// Package devices prepares the devices that pods claim: it knows the drivers on the node, has them prepare and release claims, and
// says which devices the container runtime is to give to a container.
//
// A driver serves two sockets: one in the directory of registrations, on which it introduces itself, and one on which it is asked to
// prepare claims. registry.go is about the former, host.go about the latter; health.go is what drivers say of devices in use, state.go
// what a restart must not forget, clean.go what a driver that is gone leaves behind.
package devices

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthapi "k8s.io/kubelet/pkg/apis/dra-health/v1"
	drapb "k8s.io/kubelet/pkg/apis/dra/v1"
	registerapi "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
	"k8s.io/utils/clock"
)

const (
	introductionTimeout = 10 * time.Second
	firstRetry          = 500 * time.Millisecond
	lastRetry           = 30 * time.Second
)

// Registry knows the drivers that have introduced themselves.
type Registry struct {
	dir   string
	clock clock.Clock
	log   *slog.Logger

	changed chan struct{} // one token after drivers came or went
	health  *health

	mu      sync.Mutex
	drivers map[string][]*driver // by name, the one to ask last
}

// driver is one running driver. Two of the same name are there while one replaces the other.
type driver struct {
	name, socket string // the latter of the registration
	conn         *grpc.ClientConn
	drapb.DRAPluginClient
	health healthapi.DRAResourceHealthClient // nil if it does not report
}

// RegistryConfig is what a Registry needs; all of it is required.
type RegistryConfig struct {
	Dir string // where the sockets are on which drivers introduce themselves
	// HealthChanged is called after a driver has said something new of the health of its devices.
	HealthChanged func()
	Clock         clock.Clock
	Log           *slog.Logger
}

// NewRegistry checks the configuration and starts nothing.
func NewRegistry(cfg RegistryConfig) (*Registry, error) {
	if !filepath.IsAbs(cfg.Dir) || cfg.HealthChanged == nil || cfg.Clock == nil || cfg.Log == nil {
		return nil, fmt.Errorf("device drivers: the directory of registrations %q must be absolute, and every other field of the configuration is required", cfg.Dir)
	}
	return &Registry{dir: cfg.Dir, clock: cfg.Clock, log: cfg.Log, changed: make(chan struct{}, 1), health: newHealth(cfg.Clock, cfg.HealthChanged), drivers: map[string][]*driver{}}, nil
}

// driver returns the driver called name, nil when there is none.
func (r *Registry) driver(name string) *driver {
	r.mu.Lock()
	defer r.mu.Unlock()
	if list := r.drivers[name]; len(list) > 0 {
		return list[len(list)-1]
	}
	return nil
}

// names are the drivers that there are.
func (r *Registry) names() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Keys(r.drivers))
}

func (r *Registry) tell() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// Run follows the drivers that come and go until ctx ends.
func (r *Registry) Run(ctx context.Context) error {
	if err := os.MkdirAll(r.dir, 0o750); err != nil {
		return fmt.Errorf("device drivers: directory of registrations: %w", err)
	}
	events, err := watch(r.dir)
	if err != nil {
		return fmt.Errorf("device drivers: watch %s: %w", r.dir, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = events.Close() })
	defer stop()
	known := map[string]registration{}
	defer r.forgetAll(known)
	buffer := make([]byte, 64*1024)
	for ctx.Err() == nil {
		r.scan(ctx, known)
		if _, err := events.Read(buffer); err != nil && ctx.Err() == nil {
			return fmt.Errorf("device drivers: watch %s: %w", r.dir, err)
		}
	}
	return nil
}

// watch returns a file that can be read from whenever a file in dir comes or goes.
func watch(dir string) (*os.File, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, err
	}
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_CREATE|unix.IN_DELETE|unix.IN_MOVED_TO|unix.IN_MOVED_FROM); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "inotify"), nil
}

// registration is a socket on which a driver introduces itself.
type registration struct {
	info   fs.FileInfo
	cancel context.CancelFunc
	ended  chan struct{}
}

// scan looks which sockets there are, and starts and ends the registrations on them. A socket that was replaced is another one.
func (r *Registry) scan(ctx context.Context, known map[string]registration) {
	there := map[string]fs.FileInfo{}
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		r.log.Warn("looking for device drivers", "directory", r.dir, "error", err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Mode().Type() == fs.ModeSocket && !strings.HasPrefix(e.Name(), ".") {
			there[filepath.Join(r.dir, e.Name())] = info
		}
	}
	for path, was := range known {
		if now := there[path]; now == nil || !os.SameFile(now, was.info) || !now.ModTime().Equal(was.info.ModTime()) {
			r.forget(path, was)
			delete(known, path)
		}
	}
	for path, info := range there {
		if _, ok := known[path]; ok {
			continue
		}
		ctx, cancel := context.WithCancel(ctx)
		one := registration{info, cancel, make(chan struct{})}
		known[path] = one
		go func() {
			defer close(one.ended)
			r.register(ctx, path)
		}()
	}
}

func (r *Registry) forgetAll(known map[string]registration) {
	for path, one := range known {
		r.forget(path, one)
	}
}

// forget ends a registration and drops the driver that it was of.
func (r *Registry) forget(path string, one registration) {
	one.cancel()
	<-one.ended
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, list := range r.drivers {
		at := slices.IndexFunc(list, func(d *driver) bool { return d.socket == path })
		if at < 0 {
			continue
		}
		_ = list[at].conn.Close()
		if r.drivers[name] = slices.Delete(list, at, at+1); len(r.drivers[name]) == 0 {
			delete(r.drivers, name)
		}
		r.log.Info("device driver is gone", "driver", name)
		r.tell()
	}
}

// errUnwanted says that what a driver introduced itself as is no use here.
var errUnwanted = errors.New("plugin is of no use")

// register has a driver introduce itself, trying until it does or ctx ends, and hears then what it reports.
func (r *Registry) register(ctx context.Context, path string) {
	for pause := firstRetry; ; pause = min(2*pause, lastRetry) {
		d, err := r.meet(ctx, path)
		switch {
		case err == nil:
			r.listen(ctx, d)
			return
		case ctx.Err() != nil:
			return
		case errors.Is(err, errUnwanted):
			r.log.Info("plugin is not registered", "socket", path, "error", err)
			return
		}
		r.log.Debug("device driver does not introduce itself yet", "socket", path, "error", err)
		select {
		case <-ctx.Done():
			return
		case <-r.clock.After(pause):
		}
	}
}

// meet asks the driver on a socket who it is, and tells it whether it is welcome.
func (r *Registry) meet(ctx context.Context, path string) (*driver, error) {
	conn, err := dial(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(ctx, introductionTimeout)
	defer cancel()
	client := registerapi.NewRegistrationClient(conn)
	info, err := client.GetInfo(ctx, &registerapi.InfoRequest{})
	if err != nil {
		return nil, err
	}
	d, err := introduced(info, path)
	answer := &registerapi.RegistrationStatus{PluginRegistered: err == nil}
	if err != nil {
		answer.Error = err.Error()
	} else {
		r.mu.Lock()
		r.drivers[d.name] = append(r.drivers[d.name], d)
		r.mu.Unlock()
		r.log.Info("device driver is registered", "driver", d.name, "socket", path)
		r.tell()
	}
	if _, told := client.NotifyRegistrationStatus(ctx, answer); told != nil && err == nil {
		r.log.Warn("device driver was not told that it is registered", "driver", d.name, "error", told)
	}
	return d, err
}

// introduced is the driver that info describes.
func introduced(info *registerapi.PluginInfo, path string) (*driver, error) {
	switch {
	case info.GetType() != registerapi.DRAPlugin:
		return nil, fmt.Errorf("%w: plugins of type %s are not supported by this node", errUnwanted, info.GetType())
	case info.GetName() == "":
		return nil, fmt.Errorf("%w: it has no name", errUnwanted)
	case !slices.Contains(info.GetSupportedVersions(), drapb.DRAPluginService):
		return nil, fmt.Errorf("%w: driver %s supports %v, this node %s", errUnwanted, info.GetName(), info.GetSupportedVersions(), drapb.DRAPluginService)
	}
	endpoint := info.GetEndpoint()
	if endpoint == "" {
		endpoint = path
	}
	conn, err := dial(endpoint)
	if err != nil {
		return nil, err
	}
	return &driver{
		name: info.GetName(), socket: path, conn: conn, DRAPluginClient: drapb.NewDRAPluginClient(conn), health: healthClient(conn, info.GetSupportedVersions()),
	}, nil
}

func dial(path string) (*grpc.ClientConn, error) {
	return grpc.NewClient("unix://"+path, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("localhost"))
}
