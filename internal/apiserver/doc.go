// Package apiserver is the front door: it speaks the Kubernetes API over HTTPS and turns requests into reads and writes of
// the store. It knows no kind by name; what it must know of one comes from internal/kinds, and the few paths that are not
// create, read, update and delete have a handler each.
//
// Reading order: server.go (what it is made of), pipeline.go (the stages of every request), route.go (paths), dispatch.go
// (from route to handler), write.go (the one function of all writes) with create.go, update.go and delete.go, then get.go, list.go,
// watch.go, table.go and negotiate.go; connect.go and the files after subresources last.
package apiserver
