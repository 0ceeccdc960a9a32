package cgroup

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/clock"
)

// removeTries and removePause bound the wait for a cgroup whose last process is still on its way out.
const (
	removeTries = 50
	removePause = 20 * time.Millisecond
)

// Tree is the part of the machine's cgroup file systems that belongs to one node agent.
type Tree struct {
	version Version
	root    string
	mounts  map[string]string // controller to mount point; "" for v2
	also    []string          // hierarchies without controllers, in which the runtime makes cgroups too
	pids    int64
	clock   clock.Clock
}

// Config says where the node's cgroups live.
type Config struct {
	Root  string // the cgroup below which kubepods is made, "/" by default
	PIDs  int64  // limit per pod, 0 for none
	Clock clock.Clock
}

// Open finds the mounted cgroup file systems.
func Open(cfg Config) (*Tree, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("cgroups: %w", err)
	}
	defer f.Close()
	var lines []string
	for s := bufio.NewScanner(f); s.Scan(); {
		lines = append(lines, s.Text())
	}
	version, mounts, also := parseMounts(lines)
	if len(mounts) == 0 {
		return nil, errors.New("no cgroup file system is mounted: mount cgroup2 on /sys/fs/cgroup")
	}
	if cfg.Clock == nil {
		cfg.Clock = clock.RealClock{}
	}
	return &Tree{version: version, root: cfg.Root, mounts: mounts, also: also, pids: cfg.PIDs, clock: cfg.Clock}, nil
}

// parseMounts reads lines of mountinfo. A machine with any v1 controller besides a named one runs v1.
func parseMounts(lines []string) (version Version, mounts map[string]string, also []string) {
	v1, v2 := map[string]string{}, ""
	var named []string
	known := map[string]bool{"cpu": true, "cpuacct": true, "cpuset": true, "memory": true, "devices": true, "freezer": true,
		"blkio": true, "pids": true, "hugetlb": true, "net_cls": true, "net_prio": true, "perf_event": true, "rdma": true, "misc": true}
	for _, line := range lines {
		before, after, ok := strings.Cut(line, " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if !ok || len(left) < 5 || len(right) < 3 {
			continue
		}
		switch right[0] {
		case "cgroup2":
			if v2 == "" || left[4] == "/sys/fs/cgroup" {
				v2 = left[4]
			}
		case "cgroup":
			for _, o := range strings.Split(right[2], ",") {
				if known[o] {
					v1[o] = left[4]
				}
				if strings.HasPrefix(o, "name=") {
					named = append(named, left[4])
				}
			}
		}
	}
	if v1["memory"] != "" || v1["cpu"] != "" {
		if v2 != "" {
			named = append(named, v2)
		}
		return V1, v1, named
	}
	if v2 == "" {
		return V2, nil, nil
	}
	return V2, map[string]string{"": v2}, nil
}

// Version returns the machine's cgroup version.
func (t *Tree) Version() Version { return t.version }

// dirs returns the directories that make up one cgroup.
func (t *Tree) dirs(path string) []string {
	seen := map[string]bool{}
	var out []string
	add := func(m string) {
		if !seen[m] {
			seen[m] = true
			out = append(out, filepath.Join(m, path))
		}
	}
	for _, m := range t.mounts {
		add(m)
	}
	for _, m := range t.also {
		add(m)
	}
	return out
}

// EnsureRoot makes the classes of service.
func (t *Tree) EnsureRoot() error {
	base := filepath.Join("/", t.root, kubepods)
	for _, p := range []string{base, filepath.Join(base, burstable), filepath.Join(base, bestEffort)} {
		if err := t.make(p); err != nil {
			return err
		}
	}
	return t.apply(filepath.Join(base, bestEffort), Settings(Limits{CPUShares: MinShares}, t.version))
}

// UpdateClasses sets the weight of the burstable class for the pods that run now.
func (t *Tree) UpdateClasses(pods []*corev1.Pod) error {
	p := filepath.Join("/", t.root, kubepods, burstable)
	return t.apply(p, Settings(Limits{CPUShares: burstableShares(pods)}, t.version))
}

// EnsurePod makes the pod's cgroup with its limits and returns its path for the runtime.
func (t *Tree) EnsurePod(pod *corev1.Pod) (string, error) {
	p := PodPath(t.root, pod)
	if err := t.make(p); err != nil {
		return "", err
	}
	return p, t.apply(p, Settings(PodLimits(pod, t.pids), t.version))
}

// PodPath returns the pod's cgroup.
func (t *Tree) PodPath(pod *corev1.Pod) string { return PodPath(t.root, pod) }

// make creates the cgroup and its parents in every hierarchy.
func (t *Tree) make(path string) error {
	for controller, mount := range t.mounts {
		dir := mount
		for _, part := range strings.Split(strings.Trim(path, "/"), "/") {
			if t.version == V2 {
				enableControllers(dir)
			}
			dir = filepath.Join(dir, part)
			if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
				return fmt.Errorf("make cgroup %s: %w", dir, err)
			}
			if controller == "cpuset" {
				if err := inheritCpuset(dir); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// enableControllers lets children of a v2 cgroup be limited. A controller that cannot be enabled stays off: writing a
// limit then names the file that is missing.
func enableControllers(dir string) {
	have, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return
	}
	for _, c := range strings.Fields(string(have)) {
		_ = os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+c), 0o644)
	}
}

// inheritCpuset copies the parent's CPUs and memory nodes: a v1 cpuset starts empty, and then takes no process.
func inheritCpuset(dir string) error {
	for _, f := range []string{"cpuset.cpus", "cpuset.mems"} {
		file := filepath.Join(dir, f)
		if b, err := os.ReadFile(file); err != nil || strings.TrimSpace(string(b)) != "" {
			continue
		}
		b, err := os.ReadFile(filepath.Join(filepath.Dir(dir), f))
		if err != nil {
			return fmt.Errorf("cpuset of the parent of %s: %w", dir, err)
		}
		if err := os.WriteFile(file, []byte(strings.TrimSpace(string(b))), 0o644); err != nil {
			return fmt.Errorf("copy %s to %s: %w", f, dir, err)
		}
	}
	return nil
}

// apply writes the settings. Controllers that the machine does not have are skipped, as there is nothing to limit with.
func (t *Tree) apply(path string, settings []Setting) error {
	for _, s := range settings {
		mount, ok := t.mounts[s.Controller]
		if t.version == V2 {
			mount, ok = t.mounts[""], true
		}
		if !ok {
			continue
		}
		file := filepath.Join(mount, path, s.File)
		if b, err := os.ReadFile(file); err == nil && strings.TrimSpace(string(b)) == s.Value {
			continue
		} else if errors.Is(err, fs.ErrNotExist) && t.version == V2 {
			continue
		}
		if err := os.WriteFile(file, []byte(s.Value), 0o644); err != nil {
			return fmt.Errorf("set %s to %s: %w", file, s.Value, err)
		}
	}
	return nil
}

// RemovePod kills what is left in the pod's cgroup and removes it.
func (t *Tree) RemovePod(ctx context.Context, pod *corev1.Pod) error {
	return t.remove(ctx, PodPath(t.root, pod))
}

func (t *Tree) remove(ctx context.Context, path string) error {
	var last error
	for range removeTries {
		last = nil
		for _, dir := range t.dirs(path) {
			if err := removeTree(dir); err != nil {
				last = err
			}
		}
		if last == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.clock.After(removePause):
		}
	}
	return last
}

// removeTree removes a cgroup directory bottom up, killing the processes that keep it.
func removeTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove cgroup %s: %w", dir, err)
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeTree(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	err = os.Remove(dir)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	killAll(dir)
	return fmt.Errorf("remove cgroup %s: %w", dir, err)
}

func killAll(dir string) {
	b, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return
	}
	for _, line := range strings.Fields(string(b)) {
		if pid, err := strconv.Atoi(line); err == nil && pid > 1 {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// Orphans returns the UIDs of pods that have a cgroup.
func (t *Tree) Orphans() []string {
	seen := map[string]bool{}
	base := filepath.Join("/", t.root, kubepods)
	for _, class := range []string{"", burstable, bestEffort} {
		for _, dir := range t.dirs(filepath.Join(base, class)) {
			entries, err := os.ReadDir(dir)
			if err != nil {
				continue
			}
			for _, e := range entries {
				if uid, ok := strings.CutPrefix(e.Name(), "pod"); ok && e.IsDir() {
					seen[uid] = true
				}
			}
		}
	}
	out := make([]string, 0, len(seen))
	for uid := range seen {
		out = append(out, uid)
	}
	return out
}

// RemoveUID removes the cgroups of a pod of which only the UID is known.
func (t *Tree) RemoveUID(ctx context.Context, uid string) error {
	base := filepath.Join("/", t.root, kubepods)
	var errs []error
	for _, class := range []string{"", burstable, bestEffort} {
		errs = append(errs, t.remove(ctx, filepath.Join(base, class, "pod"+uid)))
	}
	return errors.Join(errs...)
}
