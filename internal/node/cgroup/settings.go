// Package cgroup gives every pod its own cgroup below the classes of service that Kubernetes nodes use
// (kubepods, kubepods/burstable, kubepods/besteffort). What is written where is a pure function of the pod's spec and the
// cgroup version (Settings); Tree applies it. Containers' own cgroups are made by the runtime inside the pod's.
package cgroup

import (
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"
)

// Version is the cgroup version of the machine.
type Version int

// The versions of the kernel's interface.
const (
	V1 Version = 1
	V2 Version = 2
)

// The kernel's bounds for the values below, and the period that quotas are written for.
const (
	MinShares   = 2
	MaxShares   = 262144
	QuotaPeriod = 100_000 // microseconds
	minQuota    = 1000
)

// Setting is one value for one file of one controller.
type Setting struct {
	Controller, File, Value string
}

// Limits is what a cgroup is held to; zero values mean no limit.
type Limits struct {
	CPUShares   int64 // relative weight in the terms of cgroup v1
	CPUQuota    int64 // microseconds per QuotaPeriod
	MemoryBytes int64
	PIDs        int64
	Huge        map[string]int64 // page size as the kernel writes it ("2MB") to bytes
}

// Settings returns the file contents that put l into effect.
func Settings(l Limits, v Version) []Setting {
	if v == V2 {
		return settingsV2(l)
	}
	return settingsV1(l)
}

func settingsV1(l Limits) []Setting {
	var out []Setting
	if l.CPUShares > 0 {
		out = append(out, Setting{"cpu", "cpu.shares", strconv.FormatInt(l.CPUShares, 10)})
	}
	if l.CPUQuota > 0 {
		out = append(out,
			Setting{"cpu", "cpu.cfs_period_us", strconv.Itoa(QuotaPeriod)},
			Setting{"cpu", "cpu.cfs_quota_us", strconv.FormatInt(l.CPUQuota, 10)})
	}
	if l.MemoryBytes > 0 {
		out = append(out, Setting{"memory", "memory.limit_in_bytes", strconv.FormatInt(l.MemoryBytes, 10)})
	}
	if l.PIDs > 0 {
		out = append(out, Setting{"pids", "pids.max", strconv.FormatInt(l.PIDs, 10)})
	}
	for _, size := range sortedKeys(l.Huge) {
		out = append(out, Setting{"hugetlb", "hugetlb." + size + ".limit_in_bytes", strconv.FormatInt(l.Huge[size], 10)})
	}
	return out
}

func settingsV2(l Limits) []Setting {
	var out []Setting
	if l.CPUShares > 0 {
		out = append(out, Setting{"cpu", "cpu.weight", strconv.FormatInt(Weight(l.CPUShares), 10)})
	}
	if l.CPUQuota > 0 {
		out = append(out, Setting{"cpu", "cpu.max", fmt.Sprintf("%d %d", l.CPUQuota, QuotaPeriod)})
	}
	if l.MemoryBytes > 0 {
		out = append(out, Setting{"memory", "memory.max", strconv.FormatInt(l.MemoryBytes, 10)})
	}
	if l.PIDs > 0 {
		out = append(out, Setting{"pids", "pids.max", strconv.FormatInt(l.PIDs, 10)})
	}
	for _, size := range sortedKeys(l.Huge) {
		out = append(out, Setting{"hugetlb", "hugetlb." + size + ".max", strconv.FormatInt(l.Huge[size], 10)})
	}
	return out
}

// Weight converts cpu shares of cgroup v1 (2…262144) to a cpu weight of v2 (1…10000).
func Weight(shares int64) int64 {
	shares = min(max(shares, MinShares), MaxShares)
	return 1 + ((shares-MinShares)*9999)/(MaxShares-MinShares)
}

// Shares converts a CPU request to cpu shares; no request is the least weight.
func Shares(milliCPU int64) int64 {
	if milliCPU <= 0 {
		return MinShares
	}
	return min(max(milliCPU*1024/1000, MinShares), MaxShares)
}

// Quota converts a CPU limit to microseconds per QuotaPeriod; 0 means none.
func Quota(milliCPU int64) int64 {
	if milliCPU <= 0 {
		return 0
	}
	return max(milliCPU*QuotaPeriod/1000, minQuota)
}

// PodLimits returns the limits of a pod's own cgroup. Memory and CPU are bounded only if every container is.
func PodLimits(pod *corev1.Pod, pids int64) Limits {
	requests := resourcehelper.PodRequests(pod, resourcehelper.PodResourcesOptions{})
	limits := resourcehelper.PodLimits(pod, resourcehelper.PodResourcesOptions{})
	l := Limits{CPUShares: Shares(requests.Cpu().MilliValue()), PIDs: pids, Huge: map[string]int64{}}
	if bounded(pod, corev1.ResourceCPU) {
		l.CPUQuota = Quota(limits.Cpu().MilliValue())
	}
	if bounded(pod, corev1.ResourceMemory) {
		l.MemoryBytes = limits.Memory().Value()
	}
	for name, q := range limits {
		if size, ok := strings.CutPrefix(string(name), corev1.ResourceHugePagesPrefix); ok {
			if kernel, err := PageSize(size); err == nil {
				l.Huge[kernel] = q.Value()
			}
		}
	}
	return l
}

// bounded says whether every container of the pod, or the pod itself, has a limit for the resource.
func bounded(pod *corev1.Pod, name corev1.ResourceName) bool {
	if pod.Spec.Resources != nil {
		if _, ok := pod.Spec.Resources.Limits[name]; ok {
			return true
		}
	}
	for _, c := range append(append([]corev1.Container{}, pod.Spec.Containers...), pod.Spec.InitContainers...) {
		if q, ok := c.Resources.Limits[name]; !ok || q.IsZero() {
			return false
		}
	}
	return true
}

// PageSize converts a page size of a resource name ("2Mi") to the kernel's spelling ("2MB").
func PageSize(name string) (string, error) {
	q, err := resource.ParseQuantity(name)
	if err != nil {
		return "", fmt.Errorf("huge page size %q: %w", name, err)
	}
	n := q.Value()
	for _, u := range []struct {
		size int64
		name string
	}{{1 << 30, "GB"}, {1 << 20, "MB"}, {1 << 10, "KB"}} {
		if n >= u.size {
			return strconv.FormatInt(n/u.size, 10) + u.name, nil
		}
	}
	return "", fmt.Errorf("huge page size %q is below 1Ki", name)
}
