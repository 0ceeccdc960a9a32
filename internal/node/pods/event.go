package pods

import (
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"

	"canopus/internal/node/bell"
)

// Event is what happened to a pod.
type Event struct{ Kind, Reason, Message string }

// Record records an event about a pod, or about one of its containers when that is named.
func Record(r record.EventRecorder, pod *corev1.Pod, container string, e Event) {
	r.Event(&corev1.ObjectReference{
		Kind: "Pod", APIVersion: "v1", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, ResourceVersion: pod.ResourceVersion,
		FieldPath: fieldPath(pod, container),
	}, e.Kind, e.Reason, e.Message)
}

// fieldPath names the part of the spec that describes a container.
func fieldPath(pod *corev1.Pod, name string) string {
	if name == "" {
		return ""
	}
	for i := range pod.Spec.InitContainers {
		if pod.Spec.InitContainers[i].Name == name {
			return "spec.initContainers{" + name + "}"
		}
	}
	for i := range pod.Spec.EphemeralContainers {
		if pod.Spec.EphemeralContainers[i].Name == name {
			return "spec.ephemeralContainers{" + name + "}"
		}
	}
	return "spec.containers{" + name + "}"
}

// Marks remembers which pods refer to something that changed, and wakes their workers.
type Marks struct {
	Bells *bell.Bells

	mu    sync.Mutex
	stale map[types.UID]bool
}

// Stale notes that something the pod refers to changed.
func (m *Marks) Stale(uid types.UID) {
	m.mu.Lock()
	if m.stale == nil {
		m.stale = map[types.UID]bool{}
	}
	m.stale[uid] = true
	m.mu.Unlock()
	m.Bells.Ring(uid)
}

// take reports and forgets whether the pod was marked.
func (m *Marks) take(uid types.UID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	was := m.stale[uid]
	delete(m.stale, uid)
	return was
}
