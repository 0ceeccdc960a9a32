// Package scheduler gives every pending pod a node.
//
// One goroutine owns all state. Informer handlers only append to its inbox; between two pods it applies what has arrived to the
// cluster (cluster.go), so a scheduling cycle reads plain maps without locks and nothing is copied per cycle. Reading order:
//
//	scheduler.go  the loop: inbox, queue, decide, act
//	queue.go      which pod is next; back-off; which event wakes which refused pod
//	hints.go      whether an event can help a refused pod, per rule
//	decide.go     cluster and pod in, decision out: a pure function over the plugins
//	class.go      pods that no rule can tell apart, and what local rules said of each node for them, good until the node changes
//	score.go      which of the fitting nodes
//	plugins.go    the default rules and their weights; one file per rule
//	preempt.go    cluster and refused pod in, plan of evictions out: pure, too; it leaves the cluster as it found it
//	unit.go       what is evicted as a whole: a pod, or a group that must not be torn apart
//	gang_preempt.go  the same for a gang: all of its pods fit then, or nobody is evicted
//	bind.go       what becomes of a decision: binding, off the scheduling path
//	announce.go   the events of placements, written behind the bindings
//	verdict.go    how a decision came about, for whoever asks; trace.go holds it in few bytes
//	explain.go    the condition and event that say why a pod has no node
//	evict.go      what becomes of a plan: reservation, condition and deletion of the victims
//	volumes.go    what is known of claims and volumes; volume_binding.go and volume_rules.go decide, volume_bind.go writes and waits
//	devices.go    what is known of claims to devices (package devices finds devices for them); devices_bind.go writes, devices_wait.go waits,
//	              devices_extended.go gives them to pods that ask for an extended resource
//	gang.go       pods that get nodes together or not at all
//	profile.go    from the configuration (package config) to the rules of each scheduler name
//	consult.go    pods about which programs outside are asked (extender.go), while others are scheduled
//	negotiate.go  the same about what is to be evicted (extender_preempt.go)
package scheduler
