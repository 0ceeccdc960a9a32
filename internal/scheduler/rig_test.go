package scheduler

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"

	"canopus/internal/apiserver"
	"canopus/internal/apiserver/apitest"
)

// patience is for a machine with much else to do.
const patience = time.Minute

// rig is a scheduler at work on a real API server.
type rig struct {
	*kubernetes.Clientset
	t testing.TB
}

// start runs a scheduler until the test ends. tune may change its configuration, and how it writes.
func start(t testing.TB, tune func(*Config, *rest.Config)) *rig {
	t.Helper()
	return startOn(t, tune)
}

// startOn is start with an API server of its own kind.
func startOn(t testing.TB, tune func(*Config, *rest.Config), options ...func(*apiserver.Config)) *rig {
	t.Helper()
	server := apitest.Start(t, options...)
	reads := rest.CopyConfig(server.Admin)
	reads.ContentType = "application/vnd.kubernetes.protobuf"
	reads.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	writes := rest.CopyConfig(reads)
	reader, err := kubernetes.NewForConfig(reads)
	if err != nil {
		t.Fatal(err)
	}
	c := Config{
		Informers: informers.NewSharedInformerFactory(reader, 0), Clock: clock.RealClock{},
		Log: slog.New(slog.NewTextHandler(logWriter{t}, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
	if tune != nil {
		tune(&c, writes)
	}
	if c.Client, err = kubernetes.NewForConfig(writes); err != nil {
		t.Fatal(err)
	}
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	runUntilEnd(t, s.Run)
	r := &rig{reader, t}
	if _, err := reader.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return r
}

// runUntilEnd runs f until the test ends, and checks that f leaves no goroutine behind.
func runUntilEnd(t testing.TB, f func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var wg sync.WaitGroup
	wg.Go(func() { // goroutines inherit the label of the one that starts them
		pprof.Do(ctx, pprof.Labels("leak", t.Name()), func(ctx context.Context) {
			if err := f(ctx); err != nil {
				t.Error(err)
			}
		})
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		last := ""
		if wait.PollUntilContextTimeout(context.WithoutCancel(t.Context()), time.Millisecond, 10*time.Second, true, func(context.Context) (bool, error) {
			last = leftovers(t.Name())
			return last == "", nil
		}) != nil {
			t.Errorf("goroutines are left:\n%s", last)
		}
	})
}

// leftovers are the goroutines with a label, but those of HTTP connections, which the client keeps for others.
func leftovers(label string) string {
	var b bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&b, 1); err != nil {
		return err.Error()
	}
	var out []string
	for group := range strings.SplitSeq(b.String(), "\n\n") {
		if strings.Contains(group, fmt.Sprintf("%q:%q", "leak", label)) && !strings.Contains(group, "net/http") {
			out = append(out, group)
		}
	}
	return strings.Join(out, "\n\n")
}

type logWriter struct{ t testing.TB }

func (w logWriter) Write(b []byte) (int, error) {
	if w.t.Context().Err() == nil {
		w.t.Logf("%s", b)
	}
	return len(b), nil
}

// eventually waits until ok says "", and fails with what it said last.
func (r *rig) eventually(what string, ok func(ctx context.Context) (string, error)) {
	r.t.Helper()
	last := ""
	err := wait.PollUntilContextTimeout(r.t.Context(), 20*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
		var err error
		if last, err = ok(ctx); err != nil {
			last = err.Error()
		}
		return last == "", nil
	})
	if err != nil {
		r.t.Fatalf("%s: %v; last: %s", what, err, last)
	}
}

// node makes a node of 4 CPUs.
func (r *rig) node(name string, change func(*corev1.Node)) {
	r.t.Helper()
	n := testNode(name, change)
	made, err := r.CoreV1().Nodes().Create(r.t.Context(), n, metav1.CreateOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	made = made.DeepCopy()
	made.Status = n.Status
	if _, err := r.CoreV1().Nodes().UpdateStatus(r.t.Context(), made, metav1.UpdateOptions{}); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) pod(name string, change func(*corev1.Pod)) {
	r.t.Helper()
	p := testPod(name, change)
	p.UID = ""
	if _, err := r.CoreV1().Pods("ns").Create(r.t.Context(), p, metav1.CreateOptions{}); err != nil {
		r.t.Fatal(err)
	}
}

// gone deletes a pod at once, as a node agent does in the end.
func (r *rig) gone(name string) {
	r.t.Helper()
	if err := r.CoreV1().Pods("ns").Delete(r.t.Context(), name, *metav1.NewDeleteOptions(0)); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) bound(name, node string) {
	r.t.Helper()
	r.eventually(name+" is bound to "+node, func(ctx context.Context) (string, error) {
		p, err := r.CoreV1().Pods("ns").Get(ctx, name, metav1.GetOptions{})
		if err != nil || p.Spec.NodeName == node {
			return "", err
		}
		return fmt.Sprintf("it is on %q: %+v", p.Spec.NodeName, p.Status.Conditions), nil
	})
}

// refused waits until the pod's condition and an event have message.
func (r *rig) refused(name, message string) {
	r.t.Helper()
	r.waits(name, message)
	r.event(name, corev1.EventTypeWarning, "FailedScheduling", message)
}

// waits is refused without an event: of a series, only the first says why.
func (r *rig) waits(name, message string) {
	r.t.Helper()
	r.eventually(name+" has the condition", func(ctx context.Context) (string, error) {
		p, err := r.CoreV1().Pods("ns").Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable && c.Message == message {
				return "", nil
			}
		}
		return fmt.Sprintf("%+v", p.Status.Conditions), nil
	})
}

func (r *rig) event(pod, kind, reason, message string) {
	r.t.Helper()
	r.eventually(pod+" has the event "+message, func(ctx context.Context) (string, error) {
		list, err := r.CoreV1().Events("ns").List(ctx, metav1.ListOptions{})
		if err != nil {
			return "", err
		}
		var seen []string
		for _, e := range list.Items {
			if e.InvolvedObject.Name != pod {
				continue
			}
			if e.Type == kind && e.Reason == reason && e.Message == message && e.ReportingController == corev1.DefaultSchedulerName {
				return "", nil
			}
			seen = append(seen, e.Type+" "+e.Reason+" "+e.Message+" by "+e.ReportingController)
		}
		return "events: " + strings.Join(seen, "; "), nil
	})
}

func (r *rig) labelNode(name, patch string) {
	r.t.Helper()
	if _, err := r.CoreV1().Nodes().Patch(r.t.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
		r.t.Fatal(err)
	}
}
