package cgroup

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func podOf(containers ...corev1.ResourceRequirements) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "u"}}
	for i, r := range containers {
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: fmt.Sprint(i), Resources: r})
	}
	return p
}

func res(requests, limits string) corev1.ResourceRequirements {
	parse := func(s string) corev1.ResourceList {
		out := corev1.ResourceList{}
		for _, f := range strings.Fields(s) {
			k, v, _ := strings.Cut(f, "=")
			out[corev1.ResourceName(k)] = resource.MustParse(v)
		}
		return out
	}
	return corev1.ResourceRequirements{Requests: parse(requests), Limits: parse(limits)}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		pod          *corev1.Pod
		path, v1, v2 string
	}{
		"best effort": {podOf(res("", "")), "/r/kubepods/besteffort/podu", "cpu.shares=2", "cpu.weight=1"},
		"guaranteed": {podOf(res("cpu=1 memory=1Gi", "cpu=1 memory=1Gi")), "/r/kubepods/podu",
			"cpu.shares=1024 cpu.cfs_period_us=100000 cpu.cfs_quota_us=100000 memory.limit_in_bytes=1073741824",
			"cpu.weight=39 cpu.max=100000 100000 memory.max=1073741824"},
		"one container without a limit": {podOf(res("cpu=100m", "cpu=200m memory=1Mi"), res("cpu=50m", "memory=1Mi")), "/r/kubepods/burstable/podu",
			"cpu.shares=153 memory.limit_in_bytes=2097152", "cpu.weight=6 memory.max=2097152"},
		"tiny limit":  {podOf(res("cpu=1m", "cpu=1m")), "/r/kubepods/burstable/podu", "cpu.shares=2 cpu.cfs_period_us=100000 cpu.cfs_quota_us=1000", "cpu.weight=1 cpu.max=1000 100000"},
		"huge pages":  {podOf(res("hugepages-2Mi=4Mi cpu=1m memory=1Mi", "hugepages-2Mi=4Mi")), "/r/kubepods/burstable/podu", "cpu.shares=2 hugetlb.2MB.limit_in_bytes=4194304", "cpu.weight=1 hugetlb.2MB.max=4194304"},
		"more memory": {podOf(res("memory=1Mi", "memory=2Mi")), "/r/kubepods/burstable/podu", "cpu.shares=2 memory.limit_in_bytes=2097152", "cpu.weight=1 memory.max=2097152"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := PodPath("/r", c.pod); got != c.path {
				t.Errorf("path %s, want %s", got, c.path)
			}
			for v, want := range map[Version]string{V1: c.v1, V2: c.v2} {
				var out []string
				for _, s := range Settings(PodLimits(c.pod, 0), v) {
					out = append(out, s.File+"="+s.Value)
				}
				if got := strings.Join(out, " "); got != want {
					t.Errorf("v%d: %s, want %s", v, got, want)
				}
			}
		})
	}
}

func TestOOMScoreAdjust(t *testing.T) {
	t.Parallel()
	const capacity = 1 << 30
	for want, p := range map[int64]*corev1.Pod{
		-997: podOf(res("cpu=1 memory=1Mi", "cpu=1 memory=1Mi")), 1000: podOf(res("", "")), 500: podOf(res("memory=512Mi", "")), 999: podOf(res("cpu=1", "")), 3: podOf(res("memory=1Gi", "")),
	} {
		if got := OOMScoreAdjust(p, &p.Spec.Containers[0], capacity); got != want {
			t.Errorf("got %d, want %d", got, want)
		}
	}
}

func TestParseMounts(t *testing.T) {
	t.Parallel()
	line := func(dir, typ, opts string) string { return "30 20 0:1 / " + dir + " rw - " + typ + " src " + opts }
	v, mounts, also := parseMounts([]string{line("/sys/fs/cgroup/cpu", "cgroup", "rw,cpu,cpuacct"), line("/sys/fs/cgroup/memory", "cgroup", "rw,memory"),
		line("/sys/fs/cgroup/systemd", "cgroup", "rw,name=systemd"), line("/sys/fs/cgroup/unified", "cgroup2", "rw"), "nonsense"})
	if v != V1 || mounts["cpuacct"] != "/sys/fs/cgroup/cpu" || mounts["memory"] != "/sys/fs/cgroup/memory" || len(also) != 2 {
		t.Errorf("hybrid: %v %v %v", v, mounts, also)
	}
	v, mounts, _ = parseMounts([]string{line("/sys/fs/cgroup", "cgroup2", "rw")})
	if v != V2 || mounts[""] != "/sys/fs/cgroup" {
		t.Errorf("unified: %v %v", v, mounts)
	}
}

func TestWeight(t *testing.T) {
	t.Parallel()
	for shares, want := range map[int64]int64{0: 1, 2: 1, 1024: 39, 262144: 10000, 1 << 30: 10000} {
		if got := Weight(shares); got != want {
			t.Errorf("%d: %d, want %d", shares, got, want)
		}
	}
}
