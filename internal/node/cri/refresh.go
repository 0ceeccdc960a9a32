package cri

import (
	"context"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// listing is one answer of the runtime, grouped by pod.
type listing struct {
	sandboxes  map[types.UID][]*runtimeapi.PodSandbox
	containers map[types.UID][]*runtimeapi.Container
}

// list asks for everything with the given labels that belongs to Kubernetes.
func (c *Cache) list(ctx context.Context, labels map[string]string) (listing, error) {
	l := listing{map[types.UID][]*runtimeapi.PodSandbox{}, map[types.UID][]*runtimeapi.Container{}}
	s, err := c.cfg.Client.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{
		Filter: &runtimeapi.PodSandboxFilter{LabelSelector: labels}})
	if err != nil {
		return l, fmt.Errorf("list sandboxes: %w", err)
	}
	cs, err := c.cfg.Client.ListContainers(ctx, &runtimeapi.ListContainersRequest{
		Filter: &runtimeapi.ContainerFilter{LabelSelector: labels}})
	if err != nil {
		return l, fmt.Errorf("list containers: %w", err)
	}
	for _, i := range s.GetItems() {
		if uid := types.UID(i.GetLabels()[LabelPodUID]); uid != "" {
			l.sandboxes[uid] = append(l.sandboxes[uid], i)
		}
	}
	for _, i := range cs.GetContainers() {
		if uid := types.UID(i.GetLabels()[LabelPodUID]); uid != "" {
			l.containers[uid] = append(l.containers[uid], i)
		}
	}
	return l, nil
}

// Refresh reads one pod from the runtime and returns it.
func (c *Cache) Refresh(ctx context.Context, uid types.UID) (*Pod, error) {
	t := c.nextTicket()
	l, err := c.list(ctx, map[string]string{LabelPodUID: string(uid)})
	if err != nil {
		return nil, err
	}
	pod, err := c.inspect(ctx, uid, l)
	if err != nil {
		return nil, err
	}
	c.store(pod, t)
	return pod, nil
}

// relist reads every pod whose listing differs from what is remembered.
func (c *Cache) relist(ctx context.Context) error {
	t := c.nextTicket()
	l, err := c.list(ctx, nil)
	if err != nil {
		return err
	}
	uids := map[types.UID]bool{}
	for uid := range l.sandboxes {
		uids[uid] = true
	}
	for uid := range l.containers {
		uids[uid] = true
	}
	for _, p := range c.All() {
		uids[p.UID] = true
	}
	for uid := range uids {
		if c.same(uid, l) {
			continue
		}
		pod, err := c.inspect(ctx, uid, l)
		if err != nil {
			return err
		}
		c.store(pod, t)
	}
	return nil
}

// same says whether the listing shows nothing new about a pod.
func (c *Cache) same(uid types.UID, l listing) bool {
	p := c.Get(uid)
	if len(p.Sandboxes) != len(l.sandboxes[uid]) || len(p.Containers) != len(l.containers[uid]) {
		return false
	}
	for _, s := range l.sandboxes[uid] {
		old := p.sandboxByID(s.GetId())
		if old == nil || old.GetState() != s.GetState() {
			return false
		}
	}
	for _, s := range l.containers[uid] {
		old := p.ByID(s.GetId())
		if old == nil || old.GetState() != s.GetState() {
			return false
		}
	}
	return true
}

func (p *Pod) sandboxByID(id string) *runtimeapi.PodSandboxStatus {
	for _, s := range p.Sandboxes {
		if s.GetId() == id {
			return s
		}
	}
	return nil
}

// inspect turns a listing into full statuses, asking again only for what can have changed.
func (c *Cache) inspect(ctx context.Context, uid types.UID, l listing) (*Pod, error) {
	old := c.Get(uid)
	pod := &Pod{UID: uid, Namespace: old.Namespace, Name: old.Name}
	for _, s := range l.sandboxes[uid] {
		pod.Namespace, pod.Name = s.GetLabels()[LabelPodNamespace], s.GetLabels()[LabelPodName]
		known := old.sandboxByID(s.GetId())
		if known != nil && known.GetState() == s.GetState() && settled(known) {
			pod.Sandboxes = append(pod.Sandboxes, known)
			continue
		}
		resp, err := c.cfg.Client.PodSandboxStatus(ctx, &runtimeapi.PodSandboxStatusRequest{PodSandboxId: s.GetId()})
		if gone(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("status of sandbox %s: %w", s.GetId(), err)
		}
		pod.Sandboxes = append(pod.Sandboxes, resp.GetStatus())
	}
	for _, s := range l.containers[uid] {
		pod.Namespace, pod.Name = s.GetLabels()[LabelPodNamespace], s.GetLabels()[LabelPodName]
		if known := old.ByID(s.GetId()); known != nil && known.GetState() == s.GetState() {
			pod.Containers = append(pod.Containers, known)
			continue
		}
		resp, err := c.cfg.Client.ContainerStatus(ctx, &runtimeapi.ContainerStatusRequest{ContainerId: s.GetId()})
		if gone(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("status of container %s: %w", s.GetId(), err)
		}
		pod.Containers = append(pod.Containers, &Container{ContainerStatus: resp.GetStatus(), SandboxID: s.GetPodSandboxId()})
	}
	pod.sort()
	return pod, nil
}

// settled says whether a sandbox's status only changes with its state: once it has ended, or has its address.
func settled(s *runtimeapi.PodSandboxStatus) bool {
	return s.GetState() == runtimeapi.PodSandboxState_SANDBOX_NOTREADY || s.GetNetwork().GetIp() != "" ||
		s.GetLinux().GetNamespaces().GetOptions().GetNetwork() == runtimeapi.NamespaceMode_NODE
}

func gone(err error) bool { return status.Code(err) == codes.NotFound }

// Gone says whether err means that the runtime no longer has what was asked for.
func Gone(err error) bool { return err != nil && gone(err) }

func (c *Cache) nextTicket() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ticket++
	return c.ticket
}

func (c *Cache) store(pod *Pod, ticket uint64) {
	d := pod.digest()
	c.mu.Lock()
	e := c.pods[pod.UID]
	if e.ticket > ticket {
		c.mu.Unlock()
		return
	}
	if len(pod.Sandboxes) == 0 && len(pod.Containers) == 0 {
		delete(c.pods, pod.UID)
	} else {
		c.pods[pod.UID] = entry{pod: pod, ticket: ticket, digest: d}
	}
	changed := e.pod == nil && d != (&Pod{}).digest() || e.pod != nil && e.digest != d
	c.mu.Unlock()
	if changed {
		c.cfg.Changed(pod.UID)
	}
}
