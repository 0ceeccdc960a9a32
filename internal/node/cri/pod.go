package cri

import (
	"fmt"
	"hash/fnv"
	"sort"
	"strconv"

	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Pod is what the runtime has of one pod. It is never changed after it was handed out.
type Pod struct {
	UID             types.UID
	Namespace, Name string
	Sandboxes       []*runtimeapi.PodSandboxStatus // newest first
	Containers      []*Container                   // newest first
}

// Container is a container's status and the sandbox it lives in.
type Container struct {
	*runtimeapi.ContainerStatus
	SandboxID string
}

// Name is the container's name in its pod.
func (c *Container) Name() string { return c.GetMetadata().GetName() }

// Attempt counts the container's restarts.
func (c *Container) Attempt() int {
	n, err := strconv.Atoi(c.GetAnnotations()[AnnotationRestartCount])
	if err != nil {
		return int(c.GetMetadata().GetAttempt())
	}
	return n
}

// Running says whether the runtime has the container as running.
func (c *Container) Running() bool {
	return c.GetState() == runtimeapi.ContainerState_CONTAINER_RUNNING
}

// Exited says whether the container ran and ended.
func (c *Container) Exited() bool {
	return c.GetState() == runtimeapi.ContainerState_CONTAINER_EXITED
}

// Sandbox returns the newest sandbox, nil when there is none.
func (p *Pod) Sandbox() *runtimeapi.PodSandboxStatus {
	if p == nil || len(p.Sandboxes) == 0 {
		return nil
	}
	return p.Sandboxes[0]
}

// ReadySandbox returns the newest sandbox if it is ready, else nil.
func (p *Pod) ReadySandbox() *runtimeapi.PodSandboxStatus {
	s := p.Sandbox()
	if s.GetState() != runtimeapi.PodSandboxState_SANDBOX_READY {
		return nil
	}
	return s
}

// Newest returns the newest container called name, nil when there is none.
func (p *Pod) Newest(name string) *Container {
	return p.nth(name, 0)
}

// Previous returns the container before the newest called name, nil when there is none.
func (p *Pod) Previous(name string) *Container {
	return p.nth(name, 1)
}

func (p *Pod) nth(name string, n int) *Container {
	if p == nil {
		return nil
	}
	for _, c := range p.Containers {
		if c.Name() != name {
			continue
		}
		if n == 0 {
			return c
		}
		n--
	}
	return nil
}

// ByID returns the container with that ID, nil when there is none.
func (p *Pod) ByID(id string) *Container {
	for _, c := range p.Containers {
		if c.GetId() == id {
			return c
		}
	}
	return nil
}

// Live returns the containers that are created, running or in an unknown state.
func (p *Pod) Live() []*Container {
	var out []*Container
	for _, c := range p.Containers {
		if !c.Exited() {
			out = append(out, c)
		}
	}
	return out
}

// IPs returns the addresses of the ready sandbox, primary first.
func (p *Pod) IPs() []string {
	s := p.ReadySandbox()
	if s == nil || s.GetNetwork().GetIp() == "" {
		return nil
	}
	out := []string{s.GetNetwork().GetIp()}
	for _, ip := range s.GetNetwork().GetAdditionalIps() {
		out = append(out, ip.GetIp())
	}
	return out
}

// digest changes when anything a decision may depend on changed.
func (p *Pod) digest() uint64 {
	h := fnv.New64a()
	for _, s := range p.Sandboxes {
		fmt.Fprintf(h, "s %s %d %s\n", s.GetId(), s.GetState(), s.GetNetwork().GetIp())
	}
	for _, c := range p.Containers {
		fmt.Fprintf(h, "c %s %d %d\n", c.GetId(), c.GetState(), c.GetExitCode())
	}
	return h.Sum64()
}

func (p *Pod) sort() {
	sort.SliceStable(p.Sandboxes, func(i, j int) bool {
		a, b := p.Sandboxes[i], p.Sandboxes[j]
		if a.GetCreatedAt() != b.GetCreatedAt() {
			return a.GetCreatedAt() > b.GetCreatedAt()
		}
		return a.GetMetadata().GetAttempt() > b.GetMetadata().GetAttempt()
	})
	sort.SliceStable(p.Containers, func(i, j int) bool {
		return p.Containers[i].GetCreatedAt() > p.Containers[j].GetCreatedAt()
	})
}
