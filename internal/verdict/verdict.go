// Package verdict is how the scheduler's decisions are told: what each rule said of each node for a pod. The scheduler notes its
// decisions in a Book; the API server shows the Book at Path to whoever may read the pod. A scheduler in a process of its own
// pushes what is new in its Book to the API server's (push.go). Books forget the oldest, and are not stored.
package verdict

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Path is where the API server answers GET ?namespace=&name= with a Verdict.
const Path = "/debug/scheduler/verdict"

// Verdict is the outcome of the last attempt to find a node for a pod.
type Verdict struct {
	Namespace string      `json:"namespace"`
	Name      string      `json:"name"`
	UID       types.UID   `json:"uid"`
	Scheduler string      `json:"scheduler"`
	Time      metav1.Time `json:"time"`
	Attempts  int         `json:"attempts"`
	// Node is the node chosen; empty when there is none.
	Node string `json:"node,omitempty"`
	// Nominated is the node that is being made free for the pod.
	Nominated string `json:"nominated,omitempty"`
	// Message says why there is no node, as the pod's condition does.
	Message string `json:"message,omitempty"`
	// Nodes is how many nodes there are, Looked how many were tried until enough fitted.
	Nodes  int `json:"nodes"`
	Looked int `json:"looked"`
	// Refusals are the nodes that were refused, by reason; Scores what the others got, the best first.
	Refusals []Refusal `json:"refusals,omitempty"`
	Scores   []Score   `json:"scores,omitempty"`
	// Victims are the pods, as namespace/name, that are evicted from the nominated node.
	Victims []string `json:"victims,omitempty"`
}

// Refusal is a rule's refusal of some nodes for one reason.
type Refusal struct {
	Plugin string `json:"plugin"`
	Reason string `json:"reason"`
	// Evictable says that evicting pods from the node may turn the refusal.
	Evictable bool `json:"evictable,omitempty"`
	Count     int  `json:"count"`
	// Nodes are those refused; fewer than Count when the verdict was shortened.
	Nodes []string `json:"nodes,omitempty"`
}

// Score is what a node got.
type Score struct {
	Node  string `json:"node"`
	Total int64  `json:"total"`
	// Plugins is what each rule gave, 0 to 100, before its weight.
	Plugins map[string]int64 `json:"plugins,omitempty"`
}

// shortened is v with at most so many nodes of each kind.
func (v Verdict) shortened(nodes int) Verdict {
	refusals := make([]Refusal, len(v.Refusals))
	for i, r := range v.Refusals {
		r.Nodes = r.Nodes[:min(nodes, len(r.Nodes))]
		refusals[i] = r
	}
	v.Refusals, v.Scores = refusals, v.Scores[:min(nodes, len(v.Scores))]
	return v
}
