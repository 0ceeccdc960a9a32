package plane

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// Content types that a client can speak.
const (
	Protobuf = "application/vnd.kubernetes.protobuf"
	JSON     = "application/json"
)

// Client is a stock client without rate limits. fresh clients have a connection of their own, others share one.
func Client(config *rest.Config, contentType string, fresh bool) (*kubernetes.Clientset, error) {
	c := rest.CopyConfig(config)
	c.QPS, c.Burst = -1, -1
	c.ContentType = contentType
	c.AcceptContentTypes = contentType
	if fresh { // client-go shares connections between equal configurations, and no two dialers are equal
		c.Dial = (&net.Dialer{Timeout: 10 * time.Second}).DialContext
	}
	return kubernetes.NewForConfig(c)
}

// Parallel runs f for 0..n-1, so many at a time, and returns the rate per second and how long each took. A failure ends it:
// a rate of refusals means nothing.
func Parallel(ctx context.Context, n, at int, f func(ctx context.Context, i int) error) (float64, Latencies, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	took := make(Latencies, n)
	var next atomic.Int64
	var wg sync.WaitGroup
	began := time.Now()
	for range at {
		wg.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				t := time.Now()
				if err := f(ctx, i); err != nil {
					cancel(fmt.Errorf("request %d: %w", i, err))
					return
				}
				took[i] = time.Since(t)
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return 0, nil, context.Cause(ctx)
	}
	return float64(n) / time.Since(began).Seconds(), took, nil
}

// Namespace makes a namespace in which pods can be made, and returns its name.
func Namespace(ctx context.Context, k kubernetes.Interface) (string, error) {
	ns, err := k.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "bench-"}}, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("make a namespace: %w", err)
	}
	// Pods are refused until the namespace has its account.
	return ns.Name, Until(ctx, 30*time.Second, func(ctx context.Context) error {
		_, err := k.CoreV1().ServiceAccounts(ns.Name).Get(ctx, "default", metav1.GetOptions{})
		return err
	})
}

// Pause waits, unless ctx ends first.
func Pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Until asks f again and again until it returns nil, or limit has passed.
func Until(ctx context.Context, limit time.Duration, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := f(ctx)
		if err == nil {
			return nil
		}
		if Pause(ctx, 2*time.Millisecond) != nil {
			return fmt.Errorf("not within %v: %w", limit, err)
		}
	}
}

// Latencies are durations of one kind of request, in no order.
type Latencies []time.Duration

// Quantile returns the q-quantile in milliseconds, and 0 if there is none.
func (l Latencies) Quantile(q float64) float64 {
	if len(l) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(l))
	return Milliseconds(sorted[int(q*float64(len(sorted)-1))])
}

// Milliseconds is d as figures show it.
func Milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
