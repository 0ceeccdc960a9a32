package gc

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// fate is what became of an owner, as far as its dependent is concerned.
type fate int

const (
	solid   fate = iota // exists and stays
	waiting             // is being deleted in the foreground and waits for its dependents
	absent              // does not exist
)

// observed is what a decision about one object rests on. Fates are by the owners' UIDs.
type observed struct {
	uid        types.UID
	deleting   bool
	foreground bool
	orphaning  bool
	owners     []metav1.OwnerReference
	fates      map[types.UID]fate
	dependents int  // how many objects refer to this one
	blocking   int  // how many of them hold its foreground deletion back
	cycle      bool // one of them waits for dependents of its own
}

// step is what an object needs now.
type step int

const (
	nothing         step = iota
	deleteSelf           // with the propagation in actions
	dropOwners           // remove the references in actions: other owners keep the object
	releaseChildren      // orphaning: take this owner away from all dependents, then drop the finalizer
	finish               // foreground: no dependent is left that blocks; drop the finalizer
	collectChildren      // foreground: look at every dependent that blocks
)

type actions struct {
	step        step
	propagation metav1.DeletionPropagation // of deleteSelf
	drop        []types.UID                // of dropOwners
	unblock     bool                       // first stop this object from blocking its owners: they wait for each other
}

// plan decides what to do about one object. It changes nothing.
func plan(o observed) actions {
	switch {
	case o.orphaning:
		return actions{step: releaseChildren}
	case o.foreground && o.blocking == 0:
		return actions{step: finish}
	case o.foreground:
		return actions{step: collectChildren}
	case o.deleting || len(o.owners) == 0:
		return actions{}
	}
	var gone, leaving []types.UID
	kept := false
	for _, ref := range o.owners {
		switch o.fates[ref.UID] {
		case solid:
			kept = true
		case waiting:
			leaving = append(leaving, ref.UID)
		case absent:
			gone = append(gone, ref.UID)
		}
	}
	switch {
	case kept && len(gone)+len(leaving) == 0:
		return actions{}
	case kept:
		return actions{step: dropOwners, drop: append(gone, leaving...)}
	case len(leaving) > 0 && o.dependents > 0:
		// The owner waits for this object, so this object waits for its own dependents. A cycle of objects that all wait
		// for each other would never end: then this one stops blocking.
		return actions{step: deleteSelf, propagation: metav1.DeletePropagationForeground, unblock: o.cycle}
	}
	return actions{step: deleteSelf}
}
