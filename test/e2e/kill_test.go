package e2e

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"canopus/test/harness"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// serves waits until the API server and the node do their work again.
func (s *scenario) serves(t *testing.T) {
	t.Helper()
	harness.Until(t, patience, "the API server", func() error {
		return s.Client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(t.Context()).Error()
	})
}

// killDuringWrites: nothing that was acknowledged is lost, nothing is there twice or half, and watches and lists agree.
func killDuringWrites(t *testing.T, s *scenario) {
	const writers, kills = 4, 3
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var mu sync.Mutex
	acknowledged := map[string]string{} // name → value
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				name := fmt.Sprintf("w%d-%d", w, i)
				if s.write(ctx, name, "created") {
					mu.Lock()
					acknowledged[name] = "created"
					mu.Unlock()
				}
			}
		})
	}
	refused := s.askAlways(ctx, t, &wg)
	watched := s.watchMaps(t)
	count := func() int { mu.Lock(); defer mu.Unlock(); return len(acknowledged) }
	for range kills {
		before := count()
		harness.Until(t, patience, "a hundred more acknowledged writes", func() error {
			if n := count() - before; n < 100 {
				return fmt.Errorf("%d so far", n)
			}
			return nil
		})
		s.Server().Kill(t)
		s.serves(t)
	}
	stop()
	wg.Wait()
	for _, err := range *refused {
		t.Errorf("one who may was told: %v", err)
	}
	there := s.maps(t)
	for name, value := range acknowledged {
		if there[name] != value {
			t.Errorf("%s was acknowledged as %q and is now %q", name, value, there[name])
		}
	}
	// Writes that nobody waits for any more may still be on their way: what counts is that list and watch come to agree.
	harness.Until(t, patience, "the watch to see what the list says", func() error {
		seen, there := map[string]string{}, s.maps(t)
		for _, o := range watched.List() {
			c := o.(*corev1.ConfigMap)
			seen[c.Name] = c.Data["value"]
		}
		if !maps.Equal(seen, there) {
			return fmt.Errorf("%d objects in the list, %d seen", len(there), len(seen))
		}
		return nil
	})
	t.Logf("%d writes acknowledged across %d kills, %d objects there", len(acknowledged), kills, len(there))
}

// maps lists the namespace's ConfigMaps: name → value.
func (s *scenario) maps(t *testing.T) map[string]string {
	t.Helper()
	list, err := s.Client.CoreV1().ConfigMaps(s.ns).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]string{}
	for _, c := range list.Items {
		there[c.Name] = c.Data["value"]
	}
	return there
}

// watchMaps keeps the namespace's ConfigMaps by a list and watches, as every program with an informer does.
func (s *scenario) watchMaps(t *testing.T) cache.Store {
	t.Helper()
	factory := informers.NewSharedInformerFactoryWithOptions(s.Client, 0, informers.WithNamespace(s.ns))
	informer := factory.Core().V1().ConfigMaps().Informer()
	factory.Start(t.Context().Done())
	t.Cleanup(factory.Shutdown)
	if !cache.WaitForCacheSync(t.Context().Done(), informer.HasSynced) {
		t.Fatal("the informer does not get a first list")
	}
	return informer.GetStore()
}

// askAlways lists pods again and again as a service account that may. The server may be away, but when it answers it must
// not refuse: a client takes that for the last word. Read the result after wg.
func (s *scenario) askAlways(ctx context.Context, t *testing.T, wg *sync.WaitGroup) *[]error {
	t.Helper()
	s.Input(t, manifest(t, "roles.yaml"), s.args([]string{"apply", "-f", "-"})...)
	config := rest.AnonymousClientConfig(s.Config)
	config.Dial, config.QPS = s.Control.Dial, -1
	config.BearerToken = strings.TrimSpace(s.k(t, "create", "token", "reader"))
	reader, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	harness.Until(t, patience, "the role to count", func() error {
		_, err := reader.CoreV1().Pods(s.ns).List(ctx, metav1.ListOptions{})
		return err
	})
	var refused []error
	wg.Go(func() {
		for ctx.Err() == nil {
			_, err := reader.CoreV1().Pods(s.ns).List(ctx, metav1.ListOptions{})
			if apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) {
				refused = append(refused, err)
			}
			harness.Pause(ctx, time.Millisecond)
		}
	})
	return &refused
}

// write creates a ConfigMap and reports whether the server said that it is stored.
func (s *scenario) write(ctx context.Context, name, value string) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_, err := s.Client.CoreV1().ConfigMaps(s.ns).Create(ctx, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string]string{"value": value},
	}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		harness.Pause(ctx, 10*time.Millisecond)
	}
	return err == nil
}

// counted parses what counter.yaml prints.
var counted = regexp.MustCompile(`(?m)^line (\d+) (\d+)$`)

// killUnderLoad: pods and requests do not notice that Canopus dies and comes again.
func killUnderLoad(t *testing.T, s *scenario) {
	s.apply(t, "counter.yaml")
	s.apply(t, "rollout.yaml")
	s.k(t, "wait", "pod/counter", "--for=condition=Ready", "--timeout=60s")
	s.k(t, "rollout", "status", "deployment/app", "--timeout=60s")
	before := append(s.pods(t, ""), s.pods(t, "app=app")...)
	l := s.request(t, "app")
	for _, p := range s.Processes {
		p.Kill(t)
		s.serves(t)
	}
	// The node says again how it and its pods are.
	began := time.Now()
	harness.Until(t, patience, "the node's heartbeat", func() error {
		lease, err := s.Client.CoordinationV1().Leases("kube-node-lease").Get(t.Context(), harness.NodeName, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if lease.Spec.RenewTime == nil || lease.Spec.RenewTime.Time.Before(began) {
			return fmt.Errorf("last one %v", lease.Spec.RenewTime)
		}
		return nil
	})
	s.apply(t, "shell.yaml")
	s.k(t, "wait", "pod/shell", "--for=condition=Ready", "--timeout=60s")
	lines := strings.Count(s.k(t, "logs", "counter"), "\n")
	harness.Until(t, patience, "five more seconds of counting", func() error {
		if n := strings.Count(s.k(t, "logs", "counter"), "\n") - lines; n < 45 {
			return fmt.Errorf("%d lines", n)
		}
		return nil
	})
	for _, old := range before {
		now := s.pod(t, old.Name)
		if now.UID != old.UID || !ready(now) || containerRestarts(now) != 0 ||
			now.Status.ContainerStatuses[0].ContainerID != old.Status.ContainerStatuses[0].ContainerID {
			t.Errorf("%s was interrupted: it was %+v, it is %+v", old.Name, old.Status.ContainerStatuses, now.Status.ContainerStatuses)
		}
	}
	l.end(t)
	s.unbroken(t, "counter")
}

// unbroken checks that a counter's log misses no number and no second.
func (s *scenario) unbroken(t *testing.T, pod string) {
	t.Helper()
	out := s.k(t, "logs", pod)
	lines := counted.FindAllStringSubmatch(out, -1)
	var lastSecond int
	for i, m := range lines {
		number, err := strconv.Atoi(m[1])
		if err != nil || number != i+1 {
			t.Fatalf("line %d has number %s", i+1, m[1])
		}
		second, err := strconv.Atoi(m[2])
		if err != nil {
			t.Fatal(err)
		}
		if lastSecond != 0 && second-lastSecond > 2 {
			t.Errorf("nothing was printed for %d s before line %d", second-lastSecond, number)
		}
		lastSecond = second
	}
	if len(lines) < 10 {
		t.Errorf("only %d lines: %q", len(lines), out)
	}
}

// killDuringRollout: a rollout that was under way is finished by those who come after.
func killDuringRollout(t *testing.T, s *scenario) {
	s.apply(t, "rollout.yaml")
	s.k(t, "rollout", "status", "deployment/app", "--timeout=60s")
	l := s.request(t, "app")
	s.k(t, "set", "env", "deployment/app", "MESSAGE=second")
	harness.Until(t, patience, "a first answer of the new version", func() error {
		if l.soFar("second") == 0 {
			return fmt.Errorf("%d answers of the old", l.soFar("first"))
		}
		return nil
	})
	for _, p := range s.Processes {
		p.Kill(t)
	}
	s.serves(t)
	s.k(t, "rollout", "status", "deployment/app", "--timeout=80s")
	var old int
	harness.Until(t, patience, "answers of the new version only", func() error {
		if n := l.soFar("first"); n != old {
			old = n
			return fmt.Errorf("still answers of the old one")
		}
		if l.soFar("second") < 50 {
			return fmt.Errorf("%d answers", l.soFar("second"))
		}
		return nil
	})
	l.end(t)
}

// namesAfterKill: lookups that are asked while Canopus is away are answered as soon as it is back, and none fails.
func namesAfterKill(t *testing.T, s *scenario) {
	s.apply(t, "lookups.yaml")
	s.k(t, "wait", "pod/lookups", "--for=condition=Ready", "--timeout=60s")
	asked := 0
	more := func() {
		t.Helper()
		harness.Until(t, patience, "ten more lookups", func() error {
			r := s.Try(t, "", s.args([]string{"logs", "lookups"})...) // the agent may not serve yet
			n := strings.Count(r.Stdout, "ok ")
			if r.Code != 0 || n < asked+10 {
				return fmt.Errorf("%d were answered before, %d now: %s", asked, n, r.Stderr)
			}
			asked = n
			return nil
		})
	}
	more()
	for range 2 {
		s.Agent().Settle(t)
		s.Agent().Kill(t)
		s.serves(t)
		more()
	}
	var slowest, n int
	for line := range strings.Lines(s.k(t, "logs", "lookups")) {
		var result string
		var took int
		if _, err := fmt.Sscan(line, &result, &took); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		n++
		slowest = max(slowest, took)
		if result != "ok" {
			t.Errorf("lookup %d failed after %d0 ms", n, took)
		}
	}
	if slowest > 150 { // a second, and what a busy machine adds
		t.Errorf("a lookup took %d0 ms", slowest)
	}
	t.Logf("%d lookups across 2 kills, the slowest took %d0 ms", n, slowest)
}
