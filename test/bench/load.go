package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

const (
	protobuf = "application/vnd.kubernetes.protobuf"
	jsonType = "application/json"
)

// client is a stock client without rate limits. fresh clients have a connection of their own, others share one.
func client(config *rest.Config, contentType string, fresh bool) (*kubernetes.Clientset, error) {
	c := rest.CopyConfig(config)
	c.QPS, c.Burst = -1, -1
	c.ContentType = contentType
	c.AcceptContentTypes = contentType
	if fresh { // client-go shares connections between equal configurations, and no two dialers are equal
		c.Dial = (&net.Dialer{Timeout: 10 * time.Second}).DialContext
	}
	return kubernetes.NewForConfig(c)
}

// parallel runs f for 0..n-1, so many at a time, and returns the rate per second and how long each took. A failure ends it:
// a rate of refusals means nothing.
func parallel(ctx context.Context, n, at int, f func(ctx context.Context, i int) error) (float64, latencies, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	took := make(latencies, n)
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

// namespace makes a namespace in which pods can be made, and returns its name.
func namespace(ctx context.Context, k kubernetes.Interface) (string, error) {
	ns, err := k.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "bench-"}}, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("make a namespace: %w", err)
	}
	// Pods are refused until the namespace has its account.
	return ns.Name, until(ctx, 30*time.Second, func(ctx context.Context) error {
		_, err := k.CoreV1().ServiceAccounts(ns.Name).Get(ctx, "default", metav1.GetOptions{})
		return err
	})
}

// pause waits, unless ctx ends first.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// until asks f again and again until it returns nil, or limit has passed.
func until(ctx context.Context, limit time.Duration, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := f(ctx)
		if err == nil {
			return nil
		}
		if pause(ctx, 2*time.Millisecond) != nil {
			return fmt.Errorf("not within %v: %w", limit, err)
		}
	}
}

var errGone = errors.New("the watch ended before all was seen")
