package containerd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Down stops and removes every pod and then ends the daemon. Nobody may be in Run. Containers get grace seconds to end.
// When the daemon does not run it is started for this, because only it knows the pods.
func (r *Runtime) Down(ctx context.Context, grace int64) error {
	release, err := r.lock()
	if err != nil {
		return err
	}
	defer release()
	want, err := r.prepare()
	if err != nil {
		return err
	}
	d, err := r.adopt(ctx, want)
	if err != nil {
		return err
	}
	if d == nil {
		if d, err = r.start(want); err != nil {
			return err
		}
	}
	defer d.close()
	err = r.answers(ctx)
	if err == nil {
		err = r.removePods(ctx, grace)
	}
	return errors.Join(err, d.end(ctx))
}

// removePods stops and removes all sandboxes, several at a time.
func (c Config) removePods(ctx context.Context, grace int64) error {
	conn, err := c.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	runtime, _ := services(conn)
	pods, err := runtime.ListPodSandbox(ctx, &runtimev1.ListPodSandboxRequest{})
	if err != nil {
		return fmt.Errorf("list pods: %w", err)
	}
	var mu sync.Mutex
	var errs []error
	var wg sync.WaitGroup
	slots := make(chan struct{}, 16)
	for _, p := range pods.Items {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			if err := removePod(ctx, runtime, p.Id, grace); err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, fmt.Errorf("remove pod %s/%s: %w", p.GetMetadata().GetNamespace(), p.GetMetadata().GetName(), err))
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func removePod(ctx context.Context, runtime runtimev1.RuntimeServiceClient, id string, grace int64) error {
	list, err := runtime.ListContainers(ctx, &runtimev1.ListContainersRequest{Filter: &runtimev1.ContainerFilter{PodSandboxId: id}})
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var errs []error
	var wg sync.WaitGroup
	for _, ctr := range list.Containers {
		wg.Go(func() {
			_, err := runtime.StopContainer(ctx, &runtimev1.StopContainerRequest{ContainerId: ctr.Id, Timeout: grace})
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if _, err := runtime.StopPodSandbox(ctx, &runtimev1.StopPodSandboxRequest{PodSandboxId: id}); err != nil {
		return err
	}
	_, err = runtime.RemovePodSandbox(ctx, &runtimev1.RemovePodSandboxRequest{PodSandboxId: id})
	return err
}

// Reset removes what Down leaves, and what is left when Down could not work: the daemon, shims, mounts and files.
// Container processes whose shim is gone are the node agent's to kill, by their cgroup.
func (r *Runtime) Reset(ctx context.Context) error {
	release, err := r.lock()
	if err != nil {
		return err
	}
	defer release()
	if err := r.endDaemon(ctx); err != nil {
		return err
	}
	if err := r.killShims(ctx); err != nil {
		return err
	}
	if err := unmountBelow(r.State, r.Root); err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(r.State), os.RemoveAll(r.Root))
}

func (c Config) endDaemon(ctx context.Context) error {
	rec, err := c.readRecord()
	if err != nil || rec == nil {
		return err
	}
	d, err := open(*rec)
	if err != nil || d == nil {
		return err
	}
	defer d.close()
	return d.end(ctx)
}

// killShims kills the shims of this containerd and the processes they started: runc's first process of each container
// leads a PID namespace or is found as a child of the shim.
func (c Config) killShims(ctx context.Context) error {
	shims, err := c.shims()
	if err != nil {
		return err
	}
	for _, pid := range shims {
		for _, victim := range append(children(pid), pid) {
			if err := kill(ctx, victim); err != nil {
				return err
			}
		}
	}
	return nil
}

func kill(ctx context.Context, pid int) error {
	d, err := hold(pid)
	if err != nil || d == nil {
		return err
	}
	defer d.close()
	if err := d.signal(unix.SIGKILL); err != nil {
		return fmt.Errorf("kill process %d: %w", pid, err)
	}
	return d.wait(ctx)
}

// shims returns the processes that run a shim for our socket.
func (c Config) shims() ([]int, error) {
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil, err
	}
	var found []int
	for _, file := range lines {
		data, err := os.ReadFile(file)
		if err != nil {
			continue // it ended
		}
		args := strings.Split(string(data), "\x00")
		if filepath.Base(args[0]) != "containerd-shim-runc-v2" || !slices.Contains(args, c.Socket()) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil {
			found = append(found, pid)
		}
	}
	return found, nil
}

// children returns the direct children of pid.
func children(pid int) []int {
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return nil
	}
	var found []int
	for _, file := range lists {
		data, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for _, field := range strings.Fields(string(data)) {
			if child, err := strconv.Atoi(field); err == nil {
				found = append(found, child)
			}
		}
	}
	return found
}

// unmountBelow unmounts everything mounted at or below dirs, deepest first.
func unmountBelow(dirs ...string) error {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("list mounts: %w", err)
	}
	defer f.Close()
	var points []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		points = append(points, mountPoint(lines.Text()))
	}
	for _, p := range slices.Backward(points) {
		for _, dir := range dirs {
			if p != dir && !strings.HasPrefix(p, dir+"/") {
				continue
			}
			if err := unix.Unmount(p, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) {
				return fmt.Errorf("unmount %s: %w", p, err)
			}
		}
	}
	return nil
}

// mountPoint picks the fifth field of a line of mountinfo, in which blanks are written as octal escapes.
func mountPoint(line string) string {
	fields := strings.Fields(line)
	if len(fields) < 5 {
		return ""
	}
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(fields[4])
}
