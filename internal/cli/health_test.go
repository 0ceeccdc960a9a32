package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func now() time.Time { return time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC) }

// healthy is a report in which nothing is wrong.
func healthy() *Report {
	return &Report{
		Processes: []ProcessReport{{Name: "server", Pid: 12, Uptime: 90}, {Name: "keep", Pid: 11}}, Supervisor: "keep",
		Runtime: &RuntimeReport{Running: true, Pid: 13, Shims: 2}, API: &APIReport{Ready: true, Server: "https://127.0.0.1:6443"},
		Nodes: []NodeReport{{Name: "one", Ready: true}}, Pods: map[string]int{"Running": 2},
		Components:   []Component{{Name: "service proxy", Healthy: true}},
		Certificates: []Certificate{{"apiserver", now().AddDate(1, 0, 0)}},
		Data:         DataReport{Dir: "/data", Free: 10 << 30},
	}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		change func(*Report)
		want   []string
	}{
		"healthy":        {func(*Report) {}, nil},
		"not running":    {func(r *Report) { *r = Report{Runtime: &RuntimeReport{}} }, []string{"canopus does not run"}},
		"crash loop":     {func(r *Report) { r.Processes = r.Processes[1:]; r.API = nil }, []string{"the server ends as soon as it is started"}},
		"API silent":     {func(r *Report) { r.API = &APIReport{Error: "refused"}; r.Nodes, r.Runtime.Running = nil, false }, []string{"the API server does not answer: refused"}},
		"API not ready":  {func(r *Report) { r.API = &APIReport{Failing: []string{"etcd"}} }, []string{"the API server is not ready: etcd"}},
		"no containerd":  {func(r *Report) { r.Runtime.Running = false }, []string{"containerd does not run"}},
		"no node":        {func(r *Report) { r.Nodes = nil }, []string{"this machine has not registered"}},
		"no node wanted": {func(r *Report) { r.Nodes, r.Components, r.Runtime = nil, nil, nil }, nil},
		"node lost":      {func(r *Report) { r.Nodes[0].Ready, r.Nodes[0].Reason = false, "no network" }, []string{"node one is not Ready: no network"}},
		"pressure":       {func(r *Report) { r.Nodes[0].Conditions = []string{"DiskPressure"} }, []string{"node one has DiskPressure"}},
		"component":      {func(r *Report) { r.Components[0] = Component{Name: "cluster DNS", Detail: "timeout", Do: "look"} }, []string{"cluster DNS: timeout"}},
		"pods": {func(r *Report) { r.PodsNotReady = []string{"a/1", "a/2", "a/3", "a/4", "a/5", "a/6", "a/7"} },
			[]string{"7 pods are not ready: a/1, a/2, a/3, a/4, a/5 and 2 more"}},
		"expired":  {func(r *Report) { r.Certificates[0].Expires = now() }, []string{"certificate apiserver expired on 2026-11-21"}},
		"expiring": {func(r *Report) { r.Certificates[0].Expires = now().Add(time.Hour) }, []string{"certificate apiserver expires on 2026-11-21"}},
		"disk":     {func(r *Report) { r.Data.Free = 300 << 20 }, []string{"/data has 300 MiB of free space"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := healthy()
			c.change(r)
			got := Judge(r, Context{Now: now(), Log: "/data/log/canopus.log", Reserve: 256 << 20})
			if len(got) != len(c.want) {
				t.Fatalf("got %v, want %q", got, c.want)
			}
			for i, trouble := range got {
				if !strings.HasPrefix(trouble.What, c.want[i]) || trouble.Do == "" {
					t.Errorf("got %+v, want %q", trouble, c.want[i])
				}
			}
		})
	}
}

func TestPrint(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	r := healthy()
	if err := Print(&out, r, now()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"server", "process 12, for 1 min", "2 pods with shims", "https://127.0.0.1:6443", "2 Running", "in 365 days", "All is well."} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in\n%s", want, out.String())
		}
	}
	out.Reset()
	r.Troubles = []Trouble{{"it burns", "put it out"}}
	if err := Print(&out, r, now()); err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(out.String(), "\n! it burns\n  → put it out\n") || strings.Contains(out.String(), "All is well") {
		t.Errorf("got\n%s", out.String())
	}
}

func TestAge(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		1400 * time.Millisecond: "1s", 90 * time.Second: "1 min", 90 * time.Minute: "1 h 30 min", 50 * time.Hour: "2 days",
	} {
		if got := Age(d); got != want {
			t.Errorf("%s: got %q, want %q", d, got, want)
		}
	}
}
