package cli

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Report is what `canopus status` observes, in the form it prints as JSON.
type Report struct {
	Processes    []ProcessReport `json:"processes"`
	Supervisor   string          `json:"supervisor,omitempty"` // keep, systemd; empty: nobody starts the server again
	Runtime      *RuntimeReport  `json:"runtime,omitempty"`
	API          *APIReport      `json:"api,omitempty"`
	Nodes        []NodeReport    `json:"nodes,omitempty"`
	Components   []Component     `json:"components,omitempty"`
	Pods         map[string]int  `json:"pods,omitempty"` // by phase
	PodsNotReady []string        `json:"podsNotReady,omitempty"`
	Certificates []Certificate   `json:"certificates,omitempty"`
	Data         DataReport      `json:"data"`
	Healthy      bool            `json:"healthy"`
	Troubles     []Trouble       `json:"troubles,omitempty"`
}

// ProcessReport is one of our processes.
type ProcessReport struct {
	Name     string  `json:"name"`
	Pid      int     `json:"pid"`
	Uptime   float64 `json:"uptimeSeconds"`
	RSS      int64   `json:"rssBytes"`
	RSSAnon  int64   `json:"rssAnonBytes"`
	Settings string  `json:"settings,omitempty"`
}

// RuntimeReport is containerd with its shims, one per pod.
type RuntimeReport struct {
	Running  bool  `json:"running"`
	Pid      int   `json:"pid,omitempty"`
	RSS      int64 `json:"rssBytes"`
	RSSAnon  int64 `json:"rssAnonBytes"`
	Shims    int   `json:"shims"`
	ShimsRSS int64 `json:"shimsRssBytes"`
}

// APIReport is what the API server says of itself.
type APIReport struct {
	Server  string   `json:"server"`
	Version string   `json:"version,omitempty"`
	Ready   bool     `json:"ready"`
	Failing []string `json:"failing,omitempty"` // names of readiness checks
	Passing []string `json:"passing,omitempty"`
	Error   string   `json:"error,omitempty"`
}

// NodeReport is one node.
type NodeReport struct {
	Name       string   `json:"name"`
	Ready      bool     `json:"ready"`
	Reason     string   `json:"reason,omitempty"`     // why not
	Conditions []string `json:"conditions,omitempty"` // pressure and the like, when true
	Version    string   `json:"version"`
	Pods       string   `json:"pods"` // running of how many it takes
	Cordoned   bool     `json:"cordoned,omitempty"`
}

// Component is a part of the system that can be asked or seen from here.
type Component struct {
	Name    string `json:"name"`
	Healthy bool   `json:"healthy"`
	Detail  string `json:"detail"`
	Do      string `json:"do,omitempty"` // when it is not healthy
}

// Certificate is one of the cluster's certificates.
type Certificate struct {
	Name    string    `json:"name"`
	Expires time.Time `json:"expires"`
}

// DataReport is the data directory.
type DataReport struct {
	Dir  string `json:"dir"`
	Size int64  `json:"sizeBytes"`
	Free uint64 `json:"freeBytes"`
}

// Trouble is something wrong with what to do next.
type Trouble struct {
	What string `json:"what"`
	Do   string `json:"do"`
}

// Running says whether a server or an agent runs.
func (r *Report) Running() bool {
	return slices.ContainsFunc(r.Processes, func(p ProcessReport) bool { return p.Name == "server" || p.Name == "agent" })
}

// Context is what Judge needs to know besides the report.
type Context struct {
	Now     time.Time
	Log     string // the server's log
	Reserve uint64 // free space below which the store refuses writes
}

const (
	// Certificates are renewed when a third of their life is left; one this close to its end was not.
	certificateMargin = 7 * 24 * time.Hour
	diskMargin        = 1 << 30
	namedPods         = 5
)

// Judge returns what is wrong, most basic first: what follows from an earlier trouble is left out.
func Judge(r *Report, c Context) []Trouble {
	if !r.Running() {
		if len(r.Processes) > 0 {
			return []Trouble{{"the server ends as soon as it is started", "read why at the end of " + c.Log}}
		}
		return []Trouble{{"canopus does not run", "start it with `canopus up`"}}
	}
	var out []Trouble
	add := func(what, do string) { out = append(out, Trouble{what, do}) }
	if r.API != nil && !r.API.Ready {
		switch {
		case r.API.Error != "":
			add("the API server does not answer: "+r.API.Error, "look at the end of "+c.Log)
		default:
			add("the API server is not ready: "+strings.Join(r.API.Failing, ", "), "this passes within seconds of a start; if it does not, look at "+c.Log)
		}
	}
	if r.API == nil || r.API.Error == "" { // else the rest follows from that
		out = append(out, judgeParts(r, c)...)
	}
	out = append(out, judgeCertificates(r, c)...)
	if r.Data.Free < max(diskMargin, 2*c.Reserve) {
		add(fmt.Sprintf("%s has %d MiB of free space", r.Data.Dir, r.Data.Free>>20), fmt.Sprintf("free some: writes are refused below %d MiB", c.Reserve>>20))
	}
	return out
}

// judgeParts looks at what works on behalf of the API.
func judgeParts(r *Report, c Context) []Trouble {
	var out []Trouble
	add := func(what, do string) { out = append(out, Trouble{what, do}) }
	if r.Runtime != nil && !r.Runtime.Running {
		add("containerd does not run", "it is started again within seconds; if it is not, look at containerd.log beside "+c.Log)
	}
	out = append(out, judgeNodes(r)...)
	for _, component := range r.Components {
		if !component.Healthy {
			add(component.Name+": "+component.Detail, component.Do)
		}
	}
	if n := len(r.PodsNotReady); n > 0 {
		add(fmt.Sprintf("%d pods are not ready: %s", n, some(r.PodsNotReady)), "`canopus kubectl describe pod -n NAMESPACE NAME` tells why")
	}
	return out
}

func judgeNodes(r *Report) []Trouble {
	var out []Trouble
	if r.API != nil && r.API.Ready && len(r.Nodes) == 0 && slices.ContainsFunc(r.Components, func(c Component) bool { return c.Name == "service proxy" }) {
		out = append(out, Trouble{"this machine has not registered as a node yet", "this passes within seconds of a start"})
	}
	for _, n := range r.Nodes {
		if !n.Ready {
			out = append(out, Trouble{fmt.Sprintf("node %s is not Ready: %s", n.Name, n.Reason), fmt.Sprintf("`canopus kubectl describe node %s` shows its conditions", n.Name)})
		}
		for _, c := range n.Conditions {
			out = append(out, Trouble{fmt.Sprintf("node %s has %s", n.Name, c), "free what it is short of, or pods are evicted from it"})
		}
	}
	return out
}

func judgeCertificates(r *Report, c Context) []Trouble {
	var out []Trouble
	for _, cert := range r.Certificates {
		left := cert.Expires.Sub(c.Now)
		switch {
		case left <= 0:
			out = append(out, Trouble{fmt.Sprintf("certificate %s expired on %s", cert.Name, cert.Expires.Format(time.DateOnly)), "restart canopus, which renews it (`canopus stop && canopus up`)"})
		case left < certificateMargin:
			out = append(out, Trouble{fmt.Sprintf("certificate %s expires on %s and was not renewed", cert.Name, cert.Expires.Format(time.DateOnly)), "look for \"certificate\" in " + c.Log})
		}
	}
	return out
}

// some joins the first few names.
func some(names []string) string {
	if len(names) <= namedPods {
		return strings.Join(names, ", ")
	}
	return strings.Join(names[:namedPods], ", ") + fmt.Sprintf(" and %d more", len(names)-namedPods)
}
