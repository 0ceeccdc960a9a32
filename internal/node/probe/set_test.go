package probe

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	clocktesting "k8s.io/utils/clock/testing"

	"canopus/internal/node/cri"

	"github.com/prometheus/client_golang/prometheus"
)

func probed(t *testing.T, r prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			out[name] = m.GetCounter().GetValue()
		}
	}
	return out
}

// TestCount probes a real server: what probes come to is counted through restarts of the container, until the pod is gone.
func TestCount(t *testing.T) {
	t.Parallel()
	var code atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(int(code.Load())) }))
	t.Cleanup(server.Close)
	address := netip.MustParseAddrPort(server.Listener.Addr().String())
	r := prometheus.NewRegistry()
	s, err := NewSet(Config{
		Client: &cri.Client{}, Clock: clocktesting.NewFakeClock(time.Unix(1, 0)), Changed: func(types.UID) {},
		Event: func(*corev1.Pod, string, string, string, string) {}, Metrics: r,
	})
	if err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "u"}}
	http200 := &corev1.Probe{FailureThreshold: 9, ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Port: intstr.FromInt32(int32(address.Port()))}}}
	once := func(container string, kind Kind, p *corev1.Probe, status int32) {
		code.Store(status)
		s.once(t.Context(), &run{kind: kind, probe: p, sub: Subject{Pod: pod, Target: Target{
			Container: &corev1.Container{Name: "main"}, ContainerID: container, PodIP: address.Addr().String(),
		}}})
	}
	want := map[string]float64{}
	expect := func(when string) {
		t.Helper()
		if got := probed(t, r); !maps.Equal(got, want) {
			t.Errorf("%s:\n%v, want\n%v", when, got, want)
		}
	}
	series := func(kind Kind, result string) string {
		return fmt.Sprintf("prober_probe_total main default web u %s %s", kind, result)
	}

	s.items["c1"] = &item{uid: pod.UID, cancel: func() {}}
	once("c1", Readiness, http200, http.StatusOK)
	once("c1", Readiness, http200, http.StatusOK)
	once("c1", Readiness, http200, http.StatusTeapot)
	once("c1", Liveness, &corev1.Probe{}, http.StatusOK)
	want[series(Readiness, "successful")], want[series(Readiness, "failed")], want[series(Liveness, "unknown")] = 2, 1, 1
	expect("first container")

	s.items["c2"] = &item{uid: pod.UID, cancel: func() {}}
	s.ForgetOthers(pod.UID, map[string]bool{"c2": true})
	once("c1", Readiness, http200, http.StatusOK) // under way when it was forgotten
	once("c2", Readiness, http200, http.StatusOK)
	want[series(Readiness, "successful")] = 3
	expect("after a restart")

	s.Leave(pod.UID)
	once("c2", Readiness, http200, http.StatusOK)
	clear(want)
	expect("the pod is gone")
}
