// Package scheduler gives every pending pod a node.
//
// One goroutine owns all state. Informer handlers only append to its inbox; between two pods it applies what has arrived to the
// cluster (cluster.go), so a scheduling cycle reads plain maps without locks and nothing is copied per cycle. Reading order:
//
//	scheduler.go  the loop: inbox, queue, decide, act
//	queue.go      which pod is next; back-off; which event wakes which refused pod
//	decide.go     cluster and pod in, decision out: a pure function over the plugins
//	plugins.go    the default rules and their weights; one file per rule
//	bind.go       what becomes of a decision: binding, condition, event, off the scheduling path
//
// It does not evict: preemption and volumes are not decided here yet.
package scheduler
