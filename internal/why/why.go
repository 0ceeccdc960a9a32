// Package why explains the state of an object: what stops it, along the chain from what was declared to a container that runs,
// and what to do about it. It sees only what the API shows to the user who asks; what that user may not see is told as such.
//
// Reading order:
//
//	why.go       the answer: a Report of Findings, each a link of the chain
//	target.go    which object is asked about
//	facts.go     what is known about it
//	gather.go    reads the facts, gather_pods.go those about pods; nothing else talks to the API server
//	explain.go   facts in, report out; one function per kind: workload.go, job.go, claim.go, autoscaler.go …; generic.go for all others
//	pod.go       the chain of a pod: place, volumes, image, init containers, containers; schedule.go and container.go its links
//	group.go     many pods with the same trouble are told of once
//	print.go     the report for people
package why

import (
	"slices"

	"canopus/internal/verdict"
)

// Link is a step on the way from a declared object to a container that runs. The chain goes in the order below.
type Link string

// The links of the chain.
const (
	LinkDeletion   Link = "deletion"   // somebody deleted it
	LinkController Link = "controller" // the controller has not acted on it
	LinkQuota      Link = "quota"      // a ResourceQuota refuses what the controller makes
	LinkAdmission  Link = "admission"  // another rule refuses it
	LinkSchedule   Link = "schedule"   // no node was found
	LinkNode       Link = "node"       // the node does not answer, or refused the pod
	LinkVolume     Link = "volume"     // claims, provisioning, mounts
	LinkDevice     Link = "device"     // resource claims, and the health of devices
	LinkSandbox    Link = "sandbox"    // network and sandbox of the pod
	LinkImage      Link = "image"      // pulling the image
	LinkConfig     Link = "config"     // ConfigMaps and Secrets of the environment
	LinkStart      Link = "start"      // the runtime could not start the program
	LinkProbe      Link = "probe"      // the program runs and its probe fails
	LinkExit       Link = "exit"       // the program ended
	LinkEndpoints  Link = "endpoints"  // who answers for a Service
	LinkRollout    Link = "rollout"    // the way from one template to the next
	LinkScale      Link = "scale"      // an autoscaler cannot do its work
	LinkDisruption Link = "disruption" // a budget keeps pods from being evicted
	LinkCondition  Link = "condition"  // what the object says of itself
)

// Severity says how bad a finding is.
type Severity string

// Severities, the worst first.
const (
	Error   Severity = "error"   // it does not work, and will not without a change
	Warning Severity = "warning" // it works, but not well
	Waiting Severity = "waiting" // it is on its way
	Note    Severity = "note"    // good to know
)

func (s Severity) rank() int { return slices.Index([]Severity{Error, Warning, Waiting, Note}, s) }

// Finding is one link of the chain that holds, or nearly.
type Finding struct {
	Link     Link     `json:"link"`
	Severity Severity `json:"severity"`
	// Reason is the word that Kubernetes has for it: Unschedulable, ErrImagePull, OOMKilled.
	Reason string `json:"reason,omitempty"`
	// Object is what it is about, as kind/name; of several pods the first.
	Object  string `json:"object"`
	Message string `json:"message"`
	// Count of Of objects have it, Objects by name; 0 when it is about one.
	Count   int      `json:"count,omitempty"`
	Of      int      `json:"of,omitempty"`
	Objects []string `json:"objects,omitempty"`
	Details []string `json:"details,omitempty"`
	// Log is the end of what Object's container said, Container and Previous which one's.
	Container string   `json:"container,omitempty"`
	Previous  bool     `json:"previous,omitempty"`
	Log       []string `json:"log,omitempty"`
	// Verdict is what the scheduler found.
	Verdict *verdict.Verdict `json:"verdict,omitempty"`
	// Do says what to do.
	Do string `json:"do,omitempty"`

	key string // equal for findings of different pods that are the same trouble; set by group.go from the fields above if empty
}

// State is the answer in a word.
type State string

// States of an object.
const (
	Fine   State = "fine"    // as declared
	OnWay  State = "waiting" // not there yet, and nothing is wrong so far
	Broken State = "broken"  // something is wrong
)

// Report is the answer. Its JSON form is stable: fields are added, never renamed.
type Report struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	State     State  `json:"state"`
	// Summary are the facts in a line: "3 of 3 pods available".
	Summary string `json:"summary"`
	// Findings are the causes, the first link of the chain first.
	Findings []Finding `json:"findings"`
	// Verdict is how a pod got its node.
	Verdict *verdict.Verdict `json:"verdict,omitempty"`
	// Unseen is what could not be looked at, and why.
	Unseen []string `json:"unseen,omitempty"`
}

// judge sets the state from the worst finding.
func (r *Report) judge() {
	r.State = Fine
	for _, f := range r.Findings {
		switch f.Severity {
		case Error, Warning:
			r.State = Broken
			return
		case Waiting:
			r.State = OnWay
		}
	}
}
