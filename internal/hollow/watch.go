package hollow

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/scheme"
)

// watch follows the pods of one node until ctx ends. A watch that ends is begun again, from the whole state.
func (n *Nodes) watch(ctx context.Context, index int) {
	for ctx.Err() == nil {
		err := n.watchOnce(ctx, index)
		if ctx.Err() != nil {
			return
		}
		n.Log.Debug("watch ended", "node", n.nodes[index].name, "error", err)
		select {
		case <-ctx.Done():
		case <-n.Clock.After(again + spread(index, again)):
		}
	}
}

func (n *Nodes) watchOnce(ctx context.Context, index int) error {
	node := n.nodes[index]
	yes := true
	w, err := node.as(n.core.Get()).Resource("pods").VersionedParams(&metav1.ListOptions{
		Watch: true, AllowWatchBookmarks: true, SendInitialEvents: &yes, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan,
		FieldSelector: fields.OneTermEqualSelector("spec.nodeName", node.name).String(),
	}, scheme.ParameterCodec).Timeout(lifetime(index)).Watch(ctx)
	if err != nil {
		return err
	}
	defer w.Stop()
	n.count(func(c *Counts) { c.Watching++ })
	defer n.count(func(c *Counts) { c.Watching-- })
	there := map[types.UID]bool{} // until all initial events have come
	for e := range w.ResultChan() {
		if e.Type == watch.Error {
			return fmt.Errorf("%v", e.Object)
		}
		object, ok := e.Object.(*corev1.Pod)
		if !ok {
			return fmt.Errorf("a watch of pods sent a %T", e.Object)
		}
		switch e.Type {
		case watch.Deleted:
			n.forget(index, object.UID)
		case watch.Bookmark:
			if there != nil && object.Annotations[metav1.InitialEventsAnnotationKey] == "true" {
				n.keepOnly(index, there)
				there = nil
			}
		default:
			if there != nil {
				there[object.UID] = true
			}
			n.observe(index, object)
		}
	}
	return nil
}

// lifetime ends a watch after five to ten minutes, as client-go's reflectors do.
func lifetime(index int) time.Duration { return 5*time.Minute + spread(index, 5*time.Minute) }

// keepOnly forgets the pods that went away while nobody watched.
func (n *Nodes) keepOnly(index int, there map[types.UID]bool) {
	node := n.nodes[index]
	node.mu.Lock()
	var lost []types.UID
	for uid := range node.pods {
		if !there[uid] {
			lost = append(lost, uid)
		}
	}
	node.mu.Unlock()
	for _, uid := range lost {
		n.forget(index, uid)
	}
}
