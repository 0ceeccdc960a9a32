package controllers

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"

	"canopus/internal/admission/quota"
	"canopus/internal/apiserver"
	"canopus/internal/apiserver/apitest"
	"canopus/internal/controllers/reconcile"
	"canopus/internal/store"
)

// most is how far behind a cache may be.
const most = 60 * time.Millisecond

// lagging brings what watches show late, each by another time.
type lagging struct {
	next   http.RoundTripper
	mu     sync.Mutex
	random *rand.Rand
}

// RoundTrip implements http.RoundTripper.
func (l *lagging) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := l.next.RoundTrip(r)
	if err == nil && r.Method == http.MethodGet && r.URL.Query().Has("watch") {
		answer.Body = &lateBody{ReadCloser: answer.Body, ctx: r.Context(), l: l}
	}
	return answer, err
}

// lateBody waits before it hands out what has come.
type lateBody struct {
	io.ReadCloser
	ctx context.Context
	l   *lagging
}

// Read implements io.Reader.
func (b *lateBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.l.mu.Lock()
	late := time.Duration(b.l.random.Int64N(int64(most)))
	b.l.mu.Unlock()
	timer := time.NewTimer(late)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-b.ctx.Done():
	}
	return n, err
}

// late makes informers that are behind their time, until the test ends.
func late(t *testing.T, server *apitest.Server, seed uint64) informers.SharedInformerFactory {
	t.Helper()
	config := protobuf(server)
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return &lagging{next: next, random: rand.New(rand.NewPCG(seed, 10))}
	})
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	t.Cleanup(factory.Shutdown)
	return factory
}

// TestJobsAreCountedOnceBehindTheirTime plays Jobs with caches that lag, each kind by another time, while the controller ends with
// some write or other, again and again, and another one takes over with the same caches: no pod is counted twice, and none is lost.
func TestJobsAreCountedOnceBehindTheirTime(t *testing.T) {
	t.Parallel()
	server := apitest.Start(t)
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 9))
			t.Cleanup(func() { empty(t, server.Etcd) })
			c := &cluster{Clientset: server.Client, t: t, server: server}
			c.hollow("node-1")
			caches := late(t, server, seed)
			run(t, func(ctx context.Context) error {
				for life := 0; ctx.Err() == nil; life++ {
					f := fault{at: 1 + r.IntN(12), landed: r.IntN(2) == 0}
					if life == 6 {
						f = fault{}
					}
					p := &process{t: t, server: server, names: []string{"job-controller"}, later: hour, queues: reconcile.NewQueues(), informers: caches}
					if _, err := p.run(ctx, f); err != nil {
						return err
					}
				}
				return nil
			})
			jobs := []*batchv1.Job{
				work("good", "exit-0", func(s *batchv1.JobSpec) { s.Completions, s.Parallelism = ptr.To(int32(7)), ptr.To(int32(3)) }),
				work("indexed", "exit-0", func(s *batchv1.JobSpec) {
					s.CompletionMode, s.Completions, s.Parallelism = ptr.To(batchv1.IndexedCompletion), ptr.To(int32(5)), ptr.To(int32(2))
				}),
				work("bad", "exit-1", func(s *batchv1.JobSpec) {
					s.Completions, s.Parallelism, s.BackoffLimit = ptr.To(int32(9)), ptr.To(int32(1)), ptr.To(int32(4)) // one at a time: none is deleted when the Job fails
				}),
			}
			for _, j := range jobs {
				if _, err := c.BatchV1().Jobs("default").Create(t.Context(), j, metav1.CreateOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			for name, how := range map[string]batchv1.JobConditionType{"good": batchv1.JobComplete, "indexed": batchv1.JobComplete, "bad": batchv1.JobFailed} {
				c.countedOnce(c.ended(name, how))
			}
		})
	}
}

// countedOnce compares what a Job that has ended tells with its pods, which are all still there.
func (c *cluster) countedOnce(j *batchv1.Job) {
	c.t.Helper()
	pods, err := c.CoreV1().Pods(j.Namespace).List(c.t.Context(), metav1.ListOptions{LabelSelector: batchv1.JobNameLabel + "=" + j.Name})
	if err != nil {
		c.t.Fatal(err)
	}
	ok, bad := 0, 0
	for i := range pods.Items {
		switch pods.Items[i].Status.Phase {
		case corev1.PodSucceeded:
			ok++
		case corev1.PodFailed:
			bad++
		}
	}
	s := j.Status
	wanted := int(*j.Spec.Completions)
	if bad > 0 {
		wanted = 0
	}
	if int(s.Succeeded) != ok || int(s.Failed) != bad || ok != wanted || s.Active != 0 {
		c.t.Errorf("%s counted %d succeeded and %d failed, with %d active; there are %d and %d", j.Name, s.Succeeded, s.Failed, s.Active, ok, bad)
	}
}

// TestQuotaIsNeverExceeded: while objects come and go, and the controller counts anew from a cache that is behind its time, no
// more get in than the quota says.
func TestQuotaIsNeverExceeded(t *testing.T) {
	t.Parallel()
	const hard, writers, rounds = 3, 6, 8
	var server *apitest.Server
	charger, err := quota.New(func() *store.Resource { return server.API.Resource(schema.GroupResource{Resource: "resourcequotas"}) }, clock.RealClock{})
	if err != nil {
		t.Fatal(err)
	}
	server = apitest.Start(t, func(c *apiserver.Config) { c.Quota = charger })
	c := &cluster{Clientset: server.Client, t: t, server: server}
	add("{apiVersion: v1, kind: Namespace, metadata: {name: default}}\n---\n{apiVersion: v1, kind: ResourceQuota, metadata: {name: q}, spec: {hard: {configmaps: '3'}}}")(c)
	caches := late(t, server, 1)
	run(t, func(ctx context.Context) error {
		p := &process{t: t, server: server, names: []string{"resourcequota-controller"}, queues: reconcile.NewQueues(), informers: caches}
		_, err := p.run(ctx, fault{})
		return err
	})
	c.usesMaps("0")
	maps := c.CoreV1().ConfigMaps("default")
	var writing sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			for i := range rounds {
				name := fmt.Sprintf("m-%d-%d", w, i)
				err := wait.PollUntilContextTimeout(t.Context(), time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
					_, err := maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
					if apierrors.IsForbidden(err) && strings.Contains(err.Error(), "exceeded quota: q") {
						return false, nil
					}
					return err == nil, err
				})
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
				list, err := maps.List(t.Context(), metav1.ListOptions{})
				if err != nil || len(list.Items) > hard {
					t.Errorf("%d objects, at most %d may be: %v", len(list.Items), hard, err)
				}
				if err := maps.Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writing.Wait()
	c.usesMaps("0")
}

// usesMaps waits until the quota q tells how many ConfigMaps there are.
func (c *cluster) usesMaps(want string) {
	c.t.Helper()
	c.eventually("the quota's use is "+want, func(ctx context.Context) (string, error) {
		q, err := c.CoreV1().ResourceQuotas("default").Get(ctx, "q", metav1.GetOptions{})
		if err != nil {
			return err.Error(), err
		}
		used, ok := q.Status.Used[corev1.ResourceConfigMaps]
		if !ok || used.Cmp(resource.MustParse(want)) != 0 {
			return fmt.Sprintf("%v", q.Status.Used), nil
		}
		return "", nil
	})
}
