// Package nodestatus keeps the node's object in the API: it registers the node, reports what the machine has and how it
// is, and renews the node's lease so that the control plane knows the node is alive.
package nodestatus

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Machine is what does not change while the agent runs.
type Machine struct {
	Capacity    corev1.ResourceList
	Allocatable corev1.ResourceList
	Info        corev1.NodeSystemInfo
}

// Reserved is what pods do not get of the machine.
type Reserved struct {
	Resources corev1.ResourceList
	MaxPods   int64 // 110 unless set
}

// The reserve below which the node reports pressure; it is not offered to pods either.
const (
	memoryReserve = 100 << 20
	diskReserve   = 10 // percent
	inodeReserve  = 5  // percent
	defaultPods   = 110
)

// Inspect reads the machine. root is a path on the disk that pods use.
func Inspect(root string, reserved Reserved) (Machine, error) {
	mem, err := memInfo()
	if err != nil {
		return Machine{}, err
	}
	total, _, err := diskOf(root)
	if err != nil {
		return Machine{}, err
	}
	pods := reserved.MaxPods
	if pods == 0 {
		pods = defaultPods
	}
	capacity := corev1.ResourceList{
		corev1.ResourceCPU:              *resource.NewQuantity(int64(runtime.NumCPU()), resource.DecimalSI),
		corev1.ResourceMemory:           *resource.NewQuantity(mem["MemTotal"], resource.BinarySI),
		corev1.ResourceEphemeralStorage: *resource.NewQuantity(int64(total), resource.BinarySI),
		corev1.ResourcePods:             *resource.NewQuantity(pods, resource.DecimalSI),
	}
	for name, q := range hugePages("/sys/kernel/mm/hugepages") {
		capacity[name] = q
	}
	return Machine{Capacity: capacity, Allocatable: allocatable(capacity, reserved.Resources), Info: systemInfo()}, nil
}

// allocatable is capacity without what is reserved and without the reserve against pressure.
func allocatable(capacity, reserved corev1.ResourceList) corev1.ResourceList {
	out := capacity.DeepCopy()
	for name, q := range reserved {
		if have, ok := out[name]; ok {
			have.Sub(q)
			out[name] = atLeastZero(have)
		}
	}
	mem := out[corev1.ResourceMemory]
	mem.Sub(*resource.NewQuantity(memoryReserve, resource.BinarySI))
	for name, q := range capacity {
		if strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix) {
			mem.Sub(q)
		}
	}
	out[corev1.ResourceMemory] = atLeastZero(mem)
	disk := out[corev1.ResourceEphemeralStorage]
	out[corev1.ResourceEphemeralStorage] = *resource.NewQuantity(disk.Value()*(100-diskReserve)/100, resource.DecimalSI)
	return out
}

func atLeastZero(q resource.Quantity) resource.Quantity {
	if q.Sign() < 0 {
		return *resource.NewQuantity(0, q.Format)
	}
	return q
}

// memInfo returns /proc/meminfo in bytes.
func memInfo() (map[string]int64, error) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return nil, fmt.Errorf("memory of the machine: %w", err)
	}
	defer f.Close()
	out := map[string]int64{}
	for s := bufio.NewScanner(f); s.Scan(); {
		name, rest, ok := strings.Cut(s.Text(), ":")
		fields := strings.Fields(rest)
		if !ok || len(fields) == 0 {
			continue
		}
		n, err := strconv.ParseInt(fields[0], 10, 64)
		if err != nil {
			continue
		}
		if len(fields) > 1 && fields[1] == "kB" {
			n <<= 10
		}
		out[name] = n
	}
	return out, nil
}

// diskOf returns the size of the disk that holds path and its free part, in bytes.
func diskOf(path string) (total, free uint64, err error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(path, &st); err != nil {
		return 0, 0, fmt.Errorf("disk of %s: %w", path, err)
	}
	return st.Blocks * uint64(st.Bsize), st.Bavail * uint64(st.Bsize), nil
}

// hugePages returns the huge pages that are set aside, one resource per size.
func hugePages(dir string) corev1.ResourceList {
	out := corev1.ResourceList{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return out // a kernel without huge pages
	}
	for _, e := range entries {
		kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimPrefix(e.Name(), "hugepages-"), "kB"), 10, 64)
		if err != nil {
			continue
		}
		n, _ := strconv.ParseInt(readLine(filepath.Join(dir, e.Name(), "nr_hugepages")), 10, 64)
		size := resource.NewQuantity(kb<<10, resource.BinarySI)
		out[corev1.ResourceName(corev1.ResourceHugePagesPrefix+size.String())] = *resource.NewQuantity(n*(kb<<10), resource.BinarySI)
	}
	return out
}

func systemInfo() corev1.NodeSystemInfo {
	info := corev1.NodeSystemInfo{
		MachineID:       readLine("/etc/machine-id"),
		SystemUUID:      readLine("/sys/class/dmi/id/product_uuid"),
		BootID:          readLine("/proc/sys/kernel/random/boot_id"),
		KernelVersion:   readLine("/proc/sys/kernel/osrelease"),
		OSImage:         osImage(),
		OperatingSystem: runtime.GOOS,
		Architecture:    runtime.GOARCH,
	}
	if info.SystemUUID == "" {
		info.SystemUUID = info.MachineID
	}
	return info
}

func readLine(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(b), "\n")
	return strings.TrimSpace(line)
}

func osImage() string {
	b, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return runtime.GOOS
	}
	for _, line := range strings.Split(string(b), "\n") {
		if v, ok := strings.CutPrefix(line, "PRETTY_NAME="); ok {
			return strings.Trim(v, `"'`)
		}
	}
	return runtime.GOOS
}
