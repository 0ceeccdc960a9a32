package scale

import (
	"context"
	"fmt"
	"time"

	"canopus/test/plane"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const steady = "steady" // namespace of pods that come one by one

// Trickle makes n pods one by one, so many a second however long each takes, and returns when all are Ready. Clear removes them.
func (c *Cluster) Trickle(ctx context.Context, n, perSecond int) error {
	if err := c.makeNamespaces(ctx, steady); err != nil {
		return err
	}
	g, sending := errgroup.WithContext(ctx)
	pods := c.Server.Proto.CoreV1().Pods(steady)
	spec := Deployment{Name: steady}.object().Spec.Template
	for i := range n {
		p := &corev1.Pod{ObjectMeta: *spec.ObjectMeta.DeepCopy(), Spec: *spec.Spec.DeepCopy()}
		p.Name = fmt.Sprintf("p-%d", i)
		g.Go(func() error {
			_, err := pods.Create(sending, p, metav1.CreateOptions{})
			return err
		})
		if plane.Pause(sending, time.Second/time.Duration(perSecond)) != nil {
			break // a request failed, or all is over
		}
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return c.AwaitRunning(ctx, c.Pods+n)
}

// Clear removes what Trickle has made.
func (c *Cluster) Clear(ctx context.Context) error { return c.Delete(ctx, steady) }
