package hollow

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// pod is what a node remembers of one of its pods: what it needs to report on it, not the object.
type pod struct {
	namespace, name string
	uid             types.UID
	ip              string
	init, main      []container
	endless         bool // restarted whenever it ends
	begun           bool // has a start time already

	stage   stage
	since   time.Time // when it reached the stage
	deleted time.Time // when it is to end; zero: it is not being deleted
}

type container struct {
	name, image string
	sidecar     bool // an init container that goes on running
}

// stage is how far a pod has come.
type stage uint8

const (
	assigned  stage = iota // nothing is reported yet
	running                // reported as running and ready
	succeeded              // reported as ended
	gone                   // deleted from the API
)

// step decides what is due for p: the stage to bring it to now, or else how long to wait for the next one; 0 for ever.
func (c *Config) step(p *pod, now time.Time) (stage, time.Duration) {
	due := func(to stage, at time.Time) (stage, time.Duration) {
		if wait := at.Sub(now); wait > 0 {
			return p.stage, wait
		}
		return to, 0
	}
	switch {
	case p.stage == gone:
		return gone, 0
	case !p.deleted.IsZero() && p.stage == running:
		return due(succeeded, p.deleted)
	case !p.deleted.IsZero():
		return due(gone, p.deleted)
	case p.stage == assigned:
		return due(running, p.since.Add(c.StartAfter))
	case p.stage == running && !p.endless:
		return due(succeeded, p.since.Add(c.RunFor))
	}
	return p.stage, 0
}

// observe takes what the API says of a pod of node, and queues it when something may be due.
func (n *Nodes) observe(index int, object *corev1.Pod) {
	node, now := n.nodes[index], n.Clock.Now()
	node.mu.Lock()
	defer node.mu.Unlock()
	p := node.pods[object.UID]
	if p == nil {
		if finished(object) && object.DeletionTimestamp == nil {
			return
		}
		node.lastIP++
		p = remember(object, podIP(node.index, node.lastIP), now)
		node.pods[object.UID] = p
		n.count(func(c *Counts) {
			c.Pods++
			if p.stage == running {
				c.Running++
			}
		})
	}
	if object.DeletionTimestamp != nil && p.deleted.IsZero() {
		wait := n.StopAfter
		if grace := object.DeletionGracePeriodSeconds; grace != nil {
			wait = min(wait, time.Duration(*grace)*time.Second)
		}
		p.deleted = now.Add(wait)
	}
	if to, wait := n.step(p, now); to != p.stage || wait > 0 {
		n.work.AddAfter(job{index, advance, p.uid}, wait)
	}
}

// forget drops a pod that is no longer in the API.
func (n *Nodes) forget(index int, uid types.UID) {
	node := n.nodes[index]
	node.mu.Lock()
	defer node.mu.Unlock()
	p := node.pods[uid]
	if p == nil {
		return
	}
	n.left(p)
	delete(node.pods, uid)
}

func (n *Nodes) left(p *pod) {
	n.count(func(c *Counts) {
		c.Pods--
		c.Stopped++
		if p.stage == running {
			c.Running--
		}
	})
}

// advance brings a pod to its next stage, and says when the one after that is due.
func (n *Nodes) advance(ctx context.Context, node *node, uid types.UID) (time.Duration, error) {
	now := n.Clock.Now()
	node.mu.Lock()
	p := node.pods[uid]
	if p == nil {
		node.mu.Unlock()
		return 0, nil
	}
	shown := *p
	node.mu.Unlock()
	to, wait := n.step(&shown, now)
	if to == shown.stage {
		return wait, nil
	}
	err := n.report(ctx, node, &shown, to, now)
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		n.forget(n.indexOf(node), uid) // gone, or another one by its name
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("pod %s/%s: %w", shown.namespace, shown.name, err)
	}
	node.mu.Lock()
	defer node.mu.Unlock()
	if node.pods[uid] != p {
		return 0, nil // its deletion was seen meanwhile
	}
	n.count(func(c *Counts) {
		switch {
		case to == running:
			c.Running++
		case p.stage == running:
			c.Running--
		}
	})
	p.stage, p.since, p.begun = to, now, true
	if to, wait = n.step(p, n.Clock.Now()); to != p.stage && wait == 0 {
		wait = time.Nanosecond // at once
	}
	return wait, nil
}

func (n *Nodes) indexOf(node *node) int { return node.index - n.First }

// report writes that p has come to a stage.
func (n *Nodes) report(ctx context.Context, node *node, p *pod, to stage, now time.Time) error {
	if to == gone {
		var zero int64
		return node.as(n.core.Delete()).Namespace(p.namespace).Resource("pods").Name(p.name).
			Body(&metav1.DeleteOptions{GracePeriodSeconds: &zero, Preconditions: &metav1.Preconditions{UID: &p.uid}}).Do(ctx).Error()
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": p.uid}, "status": status(node, p, to, now)})
	if err != nil {
		return err
	}
	return node.as(n.core.Patch(types.StrategicMergePatchType)).Namespace(p.namespace).Resource("pods").Name(p.name).
		SubResource("status").Body(patch).Do(ctx).Error()
}
