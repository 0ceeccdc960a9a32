package nodestatus

import (
	"fmt"
	"strconv"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Health is how the machine and its runtime are at one moment.
type Health struct {
	MemoryAvailable      int64
	DiskTotal, DiskFree  uint64
	Inodes, InodesFree   uint64
	PIDsMax, PIDsRunning int64
	RuntimeReady         bool
	NetworkReady         bool
	Message              string // why one of the two is not
}

// measure reads the machine's side of Health.
func measure(root string) (Health, error) {
	mem, err := memInfo()
	if err != nil {
		return Health{}, err
	}
	h := Health{MemoryAvailable: mem["MemAvailable"]}
	var st syscall.Statfs_t
	if err := syscall.Statfs(root, &st); err != nil {
		return Health{}, fmt.Errorf("disk of %s: %w", root, err)
	}
	h.DiskTotal, h.DiskFree = st.Blocks*uint64(st.Bsize), st.Bavail*uint64(st.Bsize)
	h.Inodes, h.InodesFree = st.Files, st.Ffree
	h.PIDsMax, _ = strconv.ParseInt(readLine("/proc/sys/kernel/pid_max"), 10, 64)
	var si syscall.Sysinfo_t
	if err := syscall.Sysinfo(&si); err == nil {
		h.PIDsRunning = int64(si.Procs)
	}
	return h, nil
}

// Conditions returns the node's conditions. Times of old are kept while a status stays.
func Conditions(h Health, old []corev1.NodeCondition, now time.Time) []corev1.NodeCondition {
	memory := pressure(corev1.NodeMemoryPressure, h.MemoryAvailable < memoryReserve,
		[2]string{"KubeletHasSufficientMemory", "kubelet has sufficient memory available"},
		[2]string{"KubeletHasInsufficientMemory", "kubelet has insufficient memory available"})
	lowDisk := h.DiskTotal > 0 && h.DiskFree*100/h.DiskTotal < diskReserve
	lowInodes := h.Inodes > 0 && h.InodesFree*100/h.Inodes < inodeReserve
	disk := pressure(corev1.NodeDiskPressure, lowDisk || lowInodes,
		[2]string{"KubeletHasNoDiskPressure", "kubelet has no disk pressure"},
		[2]string{"KubeletHasDiskPressure", "kubelet has disk pressure"})
	pid := pressure(corev1.NodePIDPressure, h.PIDsMax > 0 && h.PIDsRunning > h.PIDsMax*9/10,
		[2]string{"KubeletHasSufficientPID", "kubelet has sufficient PID available"},
		[2]string{"KubeletHasInsufficientPID", "kubelet has insufficient PID available"})
	ready := corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", Message: "kubelet is posting ready status"}
	if !h.RuntimeReady || !h.NetworkReady {
		ready.Status, ready.Reason, ready.Message = corev1.ConditionFalse, "KubeletNotReady", h.Message
	}
	out := []corev1.NodeCondition{memory, disk, pid, ready}
	for i := range out {
		out[i].LastHeartbeatTime = metav1.NewTime(now.Truncate(time.Second))
		out[i].LastTransitionTime = out[i].LastHeartbeatTime
		for _, o := range old {
			if o.Type == out[i].Type && o.Status == out[i].Status {
				out[i].LastTransitionTime = o.LastTransitionTime
			}
		}
	}
	return out
}

func pressure(t corev1.NodeConditionType, is bool, no, yes [2]string) corev1.NodeCondition {
	c := corev1.NodeCondition{Type: t, Status: corev1.ConditionFalse, Reason: no[0], Message: no[1]}
	if is {
		c.Status, c.Reason, c.Message = corev1.ConditionTrue, yes[0], yes[1]
	}
	return c
}
