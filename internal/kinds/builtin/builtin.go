// Package builtin lists the kinds that are part of the server.
package builtin

import (
	"canopus/internal/kinds"
	"canopus/internal/kinds/core"
)

// All returns every built-in kind, each made anew.
func All() []*kinds.Kind {
	return []*kinds.Kind{
		core.ConfigMap(),
	}
}

// Set returns the set of all built-in kinds. Two kinds under one name are a programmer's error.
func Set() *kinds.Set {
	set, err := kinds.NewSet(All()...)
	if err != nil {
		panic(err)
	}
	return set
}
