package store_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"canopus/internal/store"
	"canopus/internal/store/etcdtest"

	clientv3 "go.etcd.io/etcd/client/v3"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
)

// writers is how many goroutines write at once in the benchmarks.
const writers = 32

func spread(b *testing.B, f func(i int64)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	for range writers {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
				f(i)
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "op/s")
}

// BenchmarkEtcd is the limit: bare transactions of the same size.
func BenchmarkEtcd(b *testing.B) {
	etcd := etcdtest.Start(b)
	value := strings.Repeat("x", 1100)
	spread(b, func(i int64) {
		key := fmt.Sprintf("/registry/configmaps/default/m%d", i)
		_, err := etcd.Txn(b.Context()).If(clientv3.Compare(clientv3.ModRevision(key), "=", 0)).Then(clientv3.OpPut(key, value)).Commit()
		if err != nil {
			b.Error(err)
		}
	})
}

func BenchmarkCreate(b *testing.B) {
	s := run(b, config(etcdtest.Start(b)))
	value := strings.Repeat("x", 1000)
	spread(b, func(i int64) {
		if _, err := s.Commit(b.Context(), s.change(nil, configMap(fmt.Sprintf("m%d", i), value))); err != nil {
			b.Error(err)
		}
	})
}

func BenchmarkUpdate(b *testing.B) {
	s := run(b, config(etcdtest.Start(b)))
	value := strings.Repeat("x", 1000)
	var mu sync.Mutex
	free := make([]*store.Entry, 0, writers)
	for i := range writers {
		free = append(free, s.create(b, configMap(fmt.Sprintf("m%d", i), value)))
	}
	spread(b, func(i int64) {
		mu.Lock()
		was := free[len(free)-1]
		free = free[:len(free)-1]
		mu.Unlock()
		entries, err := s.Commit(b.Context(), s.change(was, configMap(was.Name, value+fmt.Sprint(i))))
		if err != nil {
			b.Error(err)
			return
		}
		mu.Lock()
		free = append(free, entries[0])
		mu.Unlock()
	})
}

func BenchmarkGetConsistent(b *testing.B) {
	s := run(b, config(etcdtest.Start(b)))
	s.create(b, configMap("m", "x"))
	spread(b, func(int64) {
		if _, err := s.maps.Get(b.Context(), "default", "m", store.Freshness{}); err != nil {
			b.Error(err)
		}
	})
}

func manyPods(b *testing.B, n int) *running {
	s := run(b, config(etcdtest.Start(b)))
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := w; i < n; i += writers {
				p := pod("a", fmt.Sprintf("p%05d", i), map[string]string{"app": "web"}, strings.Repeat("x", 800))
				p.Spec.NodeName = fmt.Sprintf("n%d", i%1000)
				if _, err := s.Commit(b.Context(), s.change(nil, p)); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	return s
}

func BenchmarkList5000(b *testing.B) {
	s := manyPods(b, 5000)
	for name, sel := range map[string]store.Selector{
		"all":     {},
		"by node": {Fields: fields.OneTermEqualSelector("spec.nodeName", "n7")},
		"none":    {Labels: labels.SelectorFromSet(labels.Set{"app": "other"})},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.pods.List(b.Context(), store.ListOptions{Selector: sel}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkFanOut counts events seen by 200 watchers of everything.
func BenchmarkFanOut(b *testing.B) {
	s := run(b, config(etcdtest.Start(b)))
	watchAll(b, s, 200, func(int) store.Selector { return store.Selector{} }, func(i int64) *corev1.Pod {
		return pod("a", fmt.Sprintf("p%d", i), nil, "")
	}, 200)
}

// BenchmarkByNode counts pod creates while 1,000 watchers watch a node each.
func BenchmarkByNode(b *testing.B) {
	s := run(b, config(etcdtest.Start(b)))
	watchAll(b, s, 1000, func(i int) store.Selector {
		return store.Selector{Fields: fields.OneTermEqualSelector("spec.nodeName", fmt.Sprintf("n%d", i))}
	}, func(i int64) *corev1.Pod {
		p := pod("a", fmt.Sprintf("p%d", i), nil, "")
		p.Spec.NodeName = fmt.Sprintf("n%d", i%1000)
		return p
	}, 1)
}

// watchAll creates b.N pods under n watchers, and waits until each pod was seen seen times.
func watchAll(b *testing.B, s *running, n int, sel func(int) store.Selector, object func(int64) *corev1.Pod, seen int64) {
	var told atomic.Int64
	done := make(chan struct{})
	want := int64(b.N) * seen
	for i := range n {
		w, err := s.pods.Watch(b.Context(), store.WatchOptions{Selector: sel(i), Revision: s.Applied()})
		if err != nil {
			b.Fatal(err)
		}
		defer w.Close()
		go func() {
			for {
				events, err := w.Next(b.Context())
				if err != nil {
					return
				}
				if told.Add(int64(len(events))) == want {
					close(done)
				}
			}
		}()
	}
	spread(b, func(i int64) {
		if _, err := s.Commit(b.Context(), s.change(nil, object(i))); err != nil {
			b.Error(err)
		}
	})
	<-done
	b.ReportMetric(float64(want)/b.Elapsed().Seconds(), "events/s")
}
