package attachdetach

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func volumeOf(name string, modes ...corev1.PersistentVolumeAccessMode) *corev1.PersistentVolume {
	return &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PersistentVolumeSpec{
		AccessModes:            modes,
		PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: "disk.io", VolumeHandle: "h-" + name}},
	}}
}

func nodeOf(status corev1.ConditionStatus, edit ...func(*corev1.Node)) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: status}}
	for _, f := range edit {
		f(n)
	}
	return n
}

func inUse(n *corev1.Node) {
	n.Status.VolumesInUse = []corev1.UniqueVolumeName{"kubernetes.io/csi/disk.io^h-pv"}
}

func attachmentTo(node string, pv *corev1.PersistentVolume, edit ...func(*storagev1.VolumeAttachment)) *storagev1.VolumeAttachment {
	a := attachmentOf(pv, node)
	for _, f := range edit {
		f(a)
	}
	return a
}

func done(a *storagev1.VolumeAttachment) { a.Status.Attached = true }

func TestPlanNode(t *testing.T) {
	t.Parallel()
	pv := volumeOf("pv", corev1.ReadWriteOnce)
	shared := volumeOf("pv", corev1.ReadWriteOnce, corev1.ReadWriteMany)
	user := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "user"}}
	wants := func(pv *corev1.PersistentVolume) map[string]want {
		return map[string]want{pv.Name: {volume: pv, pods: []*corev1.Pod{user}}}
	}
	to := func(list ...*storagev1.VolumeAttachment) []*storagev1.VolumeAttachment { return list }
	elsewhere := map[string][]*storagev1.VolumeAttachment{"pv": to(attachmentTo("other", pv))}
	failed := func(a *storagev1.VolumeAttachment) {
		a.Status.AttachError = &storagev1.VolumeError{Message: "no slot is free"}
	}
	deleted := func(a *storagev1.VolumeAttachment) { a.DeletionTimestamp = &metav1.Time{} }
	strange := func(a *storagev1.VolumeAttachment) { a.Name = "by-hand" }
	taint := func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{{Key: corev1.TaintNodeOutOfService}} }
	known := func(n *corev1.Node) {
		n.Status.VolumesAttached = []corev1.AttachedVolume{{Name: "kubernetes.io/csi/disk.io^h-pv"}}
	}
	now := time.Unix(100_000, 0)
	since := func(d time.Duration) map[string]time.Time {
		return map[string]time.Time{attachmentName(pv, "n"): now.Add(-d)}
	}
	const yes, no = corev1.ConditionTrue, corev1.ConditionUnknown
	for name, tc := range map[string]struct {
		view view
		want string // what is done: attach, detach, attached, after, events
	}{
		"nothing to do":                {view{node: nodeOf(yes)}, ""},
		"a pod needs it":               {view{node: nodeOf(yes), wanted: wants(pv)}, "attach"},
		"the node is gone":             {view{wanted: wants(pv)}, ""},
		"on its way":                   {view{node: nodeOf(yes), wanted: wants(pv), attachments: to(attachmentTo("n", pv))}, ""},
		"driver refuses":               {view{node: nodeOf(yes), wanted: wants(pv), attachments: to(attachmentTo("n", pv, failed))}, `FailedAttachVolume:AttachVolume.Attach failed for volume "pv" : no slot is free`},
		"there":                        {view{node: nodeOf(yes), wanted: wants(pv), attachments: to(attachmentTo("n", pv, done))}, `attached SuccessfulAttachVolume:AttachVolume.Attach succeeded for volume "pv" `},
		"there, told already":          {view{node: nodeOf(yes, known), wanted: wants(pv), attachments: to(attachmentTo("n", pv, done))}, "attached"},
		"elsewhere":                    {view{node: nodeOf(yes), wanted: wants(pv), elsewhere: elsewhere}, `FailedAttachVolume:Multi-Attach error for volume "pv" Volume is already exclusively attached to one node and can't be attached to another`},
		"elsewhere, used":              {view{node: nodeOf(yes), wanted: wants(pv), elsewhere: elsewhere, users: map[string][]string{"pv": {"a", "b"}}}, `FailedAttachVolume:Multi-Attach error for volume "pv" Volume is already used by pod(s) a, b`},
		"elsewhere, shared":            {view{node: nodeOf(yes), wanted: wants(shared), elsewhere: elsewhere}, "attach"},
		"unwanted, unmounted":          {view{node: nodeOf(yes, known), attachments: to(attachmentTo("n", pv, done))}, "detach"},
		"unwanted, mounted":            {view{node: nodeOf(yes, inUse, known), attachments: to(attachmentTo("n", pv, done)), unwanted: since(time.Hour)}, "attached"},
		"mounted on a sick node":       {view{node: nodeOf(no, inUse), attachments: to(attachmentTo("n", pv, done)), unwanted: since(4 * time.Minute)}, "attached after 2m0s"},
		"mounted there for too long":   {view{node: nodeOf(no, inUse), attachments: to(attachmentTo("n", pv, done)), unwanted: since(6 * time.Minute)}, "detach"},
		"node is out of service":       {view{node: nodeOf(no, inUse, taint), attachments: to(attachmentTo("n", pv, done)), unwanted: since(0)}, "detach"},
		"unwanted, the node is gone":   {view{attachments: to(attachmentTo("n", pv, done))}, "detach"},
		"being detached, wanted again": {view{node: nodeOf(yes, known), wanted: wants(pv), attachments: to(attachmentTo("n", pv, done, deleted))}, ""},
		"made by others":               {view{node: nodeOf(yes), attachments: to(attachmentTo("n", pv, done, strange))}, ""},
	} {
		v := tc.view
		v.name, v.now = "n", now
		v.volumes = map[string]*corev1.PersistentVolume{"pv": pv}
		p := planNode(v)
		var got []string
		for range p.attach {
			got = append(got, "attach")
		}
		for range p.detach {
			got = append(got, "detach")
		}
		for range p.attached {
			got = append(got, "attached")
		}
		if p.after > 0 {
			got = append(got, "after", p.after.String())
		}
		for _, e := range p.events {
			got = append(got, e.reason+":"+e.message)
		}
		if s := strings.Join(got, " "); s != tc.want {
			t.Errorf("%s: got %q, want %q", name, s, tc.want)
		}
	}
}

// TestNames compares with what drivers' attachers and node agents compute.
func TestNames(t *testing.T) {
	t.Parallel()
	pv := volumeOf("x")
	pv.Spec.CSI.Driver, pv.Spec.CSI.VolumeHandle = "test-driver", "test-vol-0001"
	if got, want := uniqueName(pv), corev1.UniqueVolumeName("kubernetes.io/csi/test-driver^test-vol-0001"); got != want {
		t.Errorf("got %s", got)
	}
	name := attachmentName(pv, "node-1")
	if !strings.HasPrefix(name, "csi-") || len(name) != 4+64 || name == attachmentName(pv, "node-2") {
		t.Errorf("got %s", name)
	}
}

func TestTerminated(t *testing.T) {
	t.Parallel()
	running := corev1.ContainerStatus{State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}
	ended := corev1.ContainerStatus{State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}}
	for i, tc := range []struct {
		phase    corev1.PodPhase
		deleted  bool
		statuses []corev1.ContainerStatus
		want     bool
	}{
		{corev1.PodRunning, false, nil, false},
		{corev1.PodSucceeded, false, nil, true},
		{corev1.PodFailed, false, nil, true},
		{corev1.PodRunning, true, []corev1.ContainerStatus{ended, running}, false},
		{corev1.PodRunning, true, []corev1.ContainerStatus{ended, ended}, true},
		{corev1.PodPending, true, nil, true},
	} {
		p := &corev1.Pod{Status: corev1.PodStatus{Phase: tc.phase, ContainerStatuses: tc.statuses}}
		if tc.deleted {
			p.DeletionTimestamp = &metav1.Time{}
		}
		if got := terminated(p); got != tc.want {
			t.Errorf("case %d: %v", i, got)
		}
	}
}

func TestSources(t *testing.T) {
	t.Parallel()
	quiet, loud := nodeOf(corev1.ConditionTrue), nodeOf(corev1.ConditionTrue, inUse)
	beat := quiet.DeepCopy()
	beat.Status.Conditions[0].LastHeartbeatTime = metav1.NewTime(time.Unix(5, 0))
	if got := nodeChanged(quiet, beat); got != nil {
		t.Error("a heartbeat concerns ", got)
	}
	for _, n := range []*corev1.Node{loud, nodeOf(corev1.ConditionFalse), nil} {
		if got := nodeChanged(quiet, n); !slices.Equal(got, []string{"n"}) {
			t.Errorf("%v concerns %v", n, got)
		}
	}
	pod := func(node string, phase corev1.PodPhase) *corev1.Pod {
		p := &corev1.Pod{Spec: corev1.PodSpec{NodeName: node}, Status: corev1.PodStatus{Phase: phase}}
		p.Spec.Volumes = []corev1.Volume{{VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "c"}}}}
		return p
	}
	bare := pod("n", corev1.PodPending)
	bare.Spec.Volumes = nil
	for i, tc := range []struct {
		old, pod *corev1.Pod
		want     string
	}{
		{nil, pod("", corev1.PodPending), "[]"},
		{pod("", corev1.PodPending), pod("n", corev1.PodPending), "[n]"},
		{pod("n", corev1.PodPending), pod("n", corev1.PodRunning), "[]"},
		{pod("n", corev1.PodRunning), pod("n", corev1.PodFailed), "[n]"},
		{pod("n", corev1.PodRunning), nil, "[n]"},
		{nil, bare, "[]"},
	} {
		if got := fmt.Sprint(podChanged(tc.old, tc.pod)); got != tc.want {
			t.Errorf("case %d: %s, want %s", i, got, tc.want)
		}
	}
}
