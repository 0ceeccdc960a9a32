package pods

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"canopus/internal/node/cri"
	"canopus/internal/node/crispec"
)

// planEnd stops what still runs: everything but the sidecars at once, then the sidecars, last started first, so that
// the others can use them to the end.
func planEnd(f Facts) Actions {
	deadline := f.Now.Add(graceOf(f.Pod))
	if f.Ending != nil {
		deadline = f.Ending.Deadline
	}
	live := map[string][]*cri.Container{}
	for _, st := range f.Runtime.Live() {
		live[st.Name()] = append(live[st.Name()], st)
	}
	if len(live) == 0 {
		return Actions{TearDown: true}
	}
	var out Actions
	add := func(name string) {
		for _, st := range live[name] {
			out.Kill = append(out.Kill, Kill{ID: st.GetId(), Name: name, Message: fmt.Sprintf("Stopping container %s", name), Deadline: deadline})
		}
	}
	sidecars := sidecarNames(f.Pod)
	isSidecar := map[string]bool{}
	for _, n := range sidecars {
		isSidecar[n] = true
	}
	for name := range live {
		if !isSidecar[name] {
			add(name)
		}
	}
	for i := len(sidecars) - 1; i >= 0 && len(out.Kill) == 0; i-- {
		add(sidecars[i])
	}
	return out
}

func sidecarNames(pod *corev1.Pod) []string {
	var out []string
	for i := range pod.Spec.InitContainers {
		if crispec.Restartable(&pod.Spec.InitContainers[i]) {
			out = append(out, pod.Spec.InitContainers[i].Name)
		}
	}
	return out
}
