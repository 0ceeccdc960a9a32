package why

import (
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	resourcev1 "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/duration"

	"canopus/internal/verdict"
)

// Facts is all that an explanation is made from.
type Facts struct {
	Now    time.Time
	Target Target
	Object metav1.Object // as the API server has it

	ReplicaSets []*appsv1.ReplicaSet // of a Deployment
	Jobs        []*batchv1.Job       // of a CronJob, the newest first
	Pods        []*corev1.Pod        // of a workload or Service; on a Node

	Events map[types.UID][]corev1.Event // about an object, the oldest first
	// Claims and Nodes by name: nil is known not to exist, absent was not looked at.
	Claims   map[string]*corev1.PersistentVolumeClaim
	Nodes    map[string]*corev1.Node
	AllNodes bool // Nodes are all there are
	Classes  map[string]*storagev1.StorageClass
	Verdicts map[types.UID]*verdict.Verdict
	Logs     map[LogKey][]string // the last lines; empty: it said nothing

	// DeviceClaims and DeviceClasses by name: as with Claims and Nodes.
	DeviceClaims  map[string]*resourcev1.ResourceClaim
	DeviceClasses map[string]*resourcev1.DeviceClass
	Budgets       []*policyv1.PodDisruptionBudget // of pods on a Node that is being emptied
	// Next are the facts about what the object acts on: an autoscaler's target. Nil when there is none or it was not to be seen.
	Next *Facts

	// Unseen is what could not be looked at, and why.
	Unseen []string
}

// LogKey is a container of a pod, the present one or the one before.
type LogKey struct {
	Pod       types.UID
	Container string
	Previous  bool
}

// eventTime is when an event happened last.
func eventTime(e *corev1.Event) time.Time {
	last := e.LastTimestamp.Time
	for _, t := range []time.Time{e.EventTime.Time, e.FirstTimestamp.Time} {
		if t.After(last) {
			last = t
		}
	}
	if e.Series != nil && e.Series.LastObservedTime.After(last) {
		last = e.Series.LastObservedTime.Time
	}
	if last.IsZero() {
		last = e.CreationTimestamp.Time
	}
	return last
}

// lastEvent is the newest event about an object that has one of reasons, or nil.
func (f *Facts) lastEvent(about types.UID, reasons ...string) *corev1.Event {
	return lastOf(f.Events[about], func(e *corev1.Event) bool { return slices.Contains(reasons, e.Reason) })
}

func lastOf(events []corev1.Event, match func(*corev1.Event) bool) *corev1.Event {
	var last *corev1.Event
	for i := range events {
		if e := &events[i]; match(e) && (last == nil || !eventTime(e).Before(eventTime(last))) {
			last = e
		}
	}
	return last
}

// containerEvent is the newest event about a container of a pod whose message begins with prefix, or nil.
func (f *Facts) containerEvent(p *corev1.Pod, container, reason, prefix string) *corev1.Event {
	return lastOf(f.Events[p.UID], func(e *corev1.Event) bool {
		return e.Reason == reason && strings.HasPrefix(e.Message, prefix) && strings.HasSuffix(e.InvolvedObject.FieldPath, "{"+container+"}")
	})
}

// since is the time since t, as people say it.
func (f *Facts) since(t time.Time) string { return duration.HumanDuration(max(0, f.Now.Sub(t))) }

// inNamespace is a kubectl with the namespace, for advice that can be copied.
func (f *Facts) inNamespace(format string, args ...any) string {
	if f.Target.Namespace == "" || f.Target.Namespace == metav1.NamespaceDefault {
		return "kubectl " + fmt.Sprintf(format, args...)
	}
	return "kubectl -n " + f.Target.Namespace + " " + fmt.Sprintf(format, args...)
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}

// some lists a few of many names.
func some(names []string) string {
	const most = 3
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

func deref[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}
