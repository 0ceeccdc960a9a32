package server

import (
	"context"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"canopus/internal/node/cri"
	"canopus/internal/node/nodestatus"
)

// summary is /stats/summary.
func (s *Server) summary(w http.ResponseWriter, r *http.Request) {
	us, err := s.recentUsages(r.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	sandboxes := s.sandboxStats(r.Context())
	out := statsapi.Summary{Node: s.nodeStats(), Pods: []statsapi.PodStats{}}
	if r.URL.Query().Get("only_cpu_and_memory") != "true" {
		out.Node.Fs, out.Node.Rlimit = s.fsStats(s.cfg.PodLogs), s.rlimit()
		out.Node.Runtime = s.runtimeStats(r.Context())
	}
	index := map[*corev1.Pod]int{}
	for _, u := range us {
		i, ok := index[u.pod]
		if !ok {
			i = len(out.Pods)
			index[u.pod] = i
			out.Pods = append(out.Pods, podStats(u.pod, sandboxes[u.pod.UID]))
		}
		out.Pods[i].Containers = append(out.Pods[i].Containers, statsapi.ContainerStats{
			Name: u.container, StartTime: metav1.NewTime(u.started), CPU: cpuStats(u.stats.GetCpu()), Memory: memoryStats(u.stats.GetMemory()),
			Rootfs: layerStats(u.stats.GetWritableLayer(), out.Node.Fs), Swap: swapStats(u.stats.GetSwap()),
		})
	}
	for i := range out.Pods {
		sumUp(&out.Pods[i])
	}
	writeJSON(w, out)
}

// podStats is what the runtime knows of a pod besides its containers: of its network and processes.
func podStats(pod *corev1.Pod, sandbox *runtimeapi.LinuxPodSandboxStats) statsapi.PodStats {
	p := statsapi.PodStats{PodRef: statsapi.PodReference{Name: pod.Name, Namespace: pod.Namespace, UID: string(pod.UID)}}
	if pod.Status.StartTime != nil {
		p.StartTime = *pod.Status.StartTime
	}
	if n := sandbox.GetNetwork(); n != nil && !pod.Spec.HostNetwork { // the machine's traffic is no pod's
		p.Network = &statsapi.NetworkStats{Time: metav1.NewTime(time.Unix(0, n.GetTimestamp())), InterfaceStats: interfaceStats(n.GetDefaultInterface())}
		p.Network.Interfaces = append(p.Network.Interfaces, p.Network.InterfaceStats)
		for _, i := range n.GetInterfaces() {
			p.Network.Interfaces = append(p.Network.Interfaces, interfaceStats(i))
		}
	}
	if count := sandbox.GetProcess().GetProcessCount(); count != nil {
		p.ProcessStats = &statsapi.ProcessStats{ProcessCount: value(count)}
	}
	return p
}

func interfaceStats(in *runtimeapi.NetworkInterfaceUsage) statsapi.InterfaceStats {
	return statsapi.InterfaceStats{
		Name: in.GetName(), RxBytes: value(in.GetRxBytes()), RxErrors: value(in.GetRxErrors()), TxBytes: value(in.GetTxBytes()), TxErrors: value(in.GetTxErrors()),
	}
}

// sandboxStats asks the runtime about pods. Not every runtime tells: then their network is left out.
func (s *Server) sandboxStats(ctx context.Context) map[types.UID]*runtimeapi.LinuxPodSandboxStats {
	resp, err := s.cfg.Runtime.ListPodSandboxStats(ctx, &runtimeapi.ListPodSandboxStatsRequest{})
	if err != nil {
		s.cfg.Log.Debug("the runtime does not tell of its sandboxes", "error", err)
		return nil
	}
	out := make(map[types.UID]*runtimeapi.LinuxPodSandboxStats, len(resp.GetStats()))
	for _, st := range resp.GetStats() {
		out[types.UID(st.GetAttributes().GetLabels()[cri.LabelPodUID])] = st.GetLinux()
	}
	return out
}

func (s *Server) nodeStats() statsapi.NodeStats {
	out := statsapi.NodeStats{NodeName: s.cfg.NodeName}
	u, err := nodestatus.Use(s.cfg.Clock.Now())
	if err != nil {
		return out
	}
	now := metav1.NewTime(u.At)
	out.StartTime = metav1.NewTime(u.Boot)
	out.CPU = &statsapi.CPUStats{Time: now, UsageCoreNanoSeconds: &u.CPUNanos}
	out.Memory = &statsapi.MemoryStats{Time: now, AvailableBytes: &u.MemoryAvailable, WorkingSetBytes: &u.MemoryWorkingSet}
	out.Swap = &statsapi.SwapStats{Time: now, SwapAvailableBytes: &u.SwapAvailable, SwapUsageBytes: &u.SwapUsed}
	return out
}

// fsStats tells of the file system that holds path.
func (s *Server) fsStats(path string) *statsapi.FsStats {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return nil
	}
	block := uint64(st.Bsize)
	capacity, available, used := st.Blocks*block, st.Bavail*block, (st.Blocks-st.Bfree)*block
	inodes, free, taken := st.Files, st.Ffree, st.Files-st.Ffree
	return &statsapi.FsStats{
		Time: metav1.NewTime(s.cfg.Clock.Now()), CapacityBytes: &capacity, AvailableBytes: &available, UsedBytes: &used,
		Inodes: &inodes, InodesFree: &free, InodesUsed: &taken,
	}
}

// runtimeStats tells of the file systems that hold images and containers.
func (s *Server) runtimeStats(ctx context.Context) *statsapi.RuntimeStats {
	resp, err := s.cfg.Runtime.Images.ImageFsInfo(ctx, &runtimeapi.ImageFsInfoRequest{})
	if err != nil {
		s.cfg.Log.Debug("the runtime does not tell where images are", "error", err)
		return nil
	}
	return &statsapi.RuntimeStats{ImageFs: s.usedOf(resp.GetImageFilesystems()), ContainerFs: s.usedOf(resp.GetContainerFilesystems())}
}

// usedOf is the first of the file systems, and what the runtime uses of it.
func (s *Server) usedOf(all []*runtimeapi.FilesystemUsage) *statsapi.FsStats {
	if len(all) == 0 {
		return nil
	}
	out := s.fsStats(all[0].GetFsId().GetMountpoint())
	if out != nil {
		out.UsedBytes, out.InodesUsed = value(all[0].GetUsedBytes()), value(all[0].GetInodesUsed())
	}
	return out
}

// layerStats is what a container wrote to its own file system, with the room that is left on the node's.
func layerStats(in *runtimeapi.FilesystemUsage, node *statsapi.FsStats) *statsapi.FsStats {
	if in == nil {
		return nil
	}
	out := &statsapi.FsStats{Time: metav1.NewTime(time.Unix(0, in.GetTimestamp())), UsedBytes: value(in.GetUsedBytes()), InodesUsed: value(in.GetInodesUsed())}
	if node != nil {
		out.AvailableBytes, out.CapacityBytes, out.Inodes, out.InodesFree = node.AvailableBytes, node.CapacityBytes, node.Inodes, node.InodesFree
	}
	return out
}

// rlimit tells how many processes there are and may be.
func (s *Server) rlimit() *statsapi.RlimitStats {
	limit, err := os.ReadFile("/proc/sys/kernel/pid_max")
	if err != nil {
		return nil
	}
	most, err := strconv.ParseInt(strings.TrimSpace(string(limit)), 10, 64)
	if err != nil {
		return nil
	}
	out := &statsapi.RlimitStats{Time: metav1.NewTime(s.cfg.Clock.Now()), MaxPID: &most}
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		if fields := strings.Fields(string(load)); len(fields) > 3 {
			_, all, _ := strings.Cut(fields[3], "/") // running/all
			if n, err := strconv.ParseInt(all, 10, 64); err == nil {
				out.NumOfRunningProcesses = &n
			}
		}
	}
	return out
}

func swapStats(in *runtimeapi.SwapUsage) *statsapi.SwapStats {
	if in == nil {
		return nil
	}
	return &statsapi.SwapStats{
		Time: metav1.NewTime(time.Unix(0, in.GetTimestamp())), SwapAvailableBytes: value(in.GetSwapAvailableBytes()), SwapUsageBytes: value(in.GetSwapUsageBytes()),
	}
}

func cpuStats(in *runtimeapi.CpuUsage) *statsapi.CPUStats {
	if in == nil {
		return nil
	}
	out := &statsapi.CPUStats{Time: metav1.NewTime(time.Unix(0, in.GetTimestamp()))}
	out.UsageCoreNanoSeconds, out.UsageNanoCores = value(in.GetUsageCoreNanoSeconds()), value(in.GetUsageNanoCores())
	return out
}

func memoryStats(in *runtimeapi.MemoryUsage) *statsapi.MemoryStats {
	if in == nil {
		return nil
	}
	return &statsapi.MemoryStats{
		Time: metav1.NewTime(time.Unix(0, in.GetTimestamp())), AvailableBytes: value(in.GetAvailableBytes()), UsageBytes: value(in.GetUsageBytes()),
		WorkingSetBytes: value(in.GetWorkingSetBytes()), RSSBytes: value(in.GetRssBytes()), PageFaults: value(in.GetPageFaults()),
		MajorPageFaults: value(in.GetMajorPageFaults()),
	}
}

func value(v *runtimeapi.UInt64Value) *uint64 {
	if v == nil {
		return nil
	}
	n := v.GetValue()
	return &n
}

// sumUp gives a pod the sums of its containers.
func sumUp(p *statsapi.PodStats) {
	var cpu, nano, mem uint64
	var at metav1.Time
	for _, c := range p.Containers {
		if c.CPU != nil && c.CPU.UsageCoreNanoSeconds != nil {
			cpu += *c.CPU.UsageCoreNanoSeconds
			at = c.CPU.Time
		}
		if c.CPU != nil && c.CPU.UsageNanoCores != nil {
			nano += *c.CPU.UsageNanoCores
		}
		if c.Memory != nil && c.Memory.WorkingSetBytes != nil {
			mem += *c.Memory.WorkingSetBytes
		}
	}
	p.CPU = &statsapi.CPUStats{Time: at, UsageCoreNanoSeconds: &cpu, UsageNanoCores: &nano}
	p.Memory = &statsapi.MemoryStats{Time: at, WorkingSetBytes: &mem}
}
