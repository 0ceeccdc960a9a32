package server

import (
	"fmt"
	"net/http"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"

	"canopus/internal/auth/delegate"
)

// question is what has to be allowed for a request to the agent of a node.
func question(node string) func(*http.Request) delegate.Question {
	return func(r *http.Request) delegate.Question {
		verb, subresources := delegate.Verb(r.Method), subresources(r.URL.Path)
		q := delegate.Question{What: fmt.Sprintf("verb=%s, resource=nodes, subresource(s)=[%s]", verb, strings.Join(subresources, " "))}
		for _, sub := range subresources {
			q.Accesses = append(q.Accesses, delegate.Access{Resource: &authorizationv1.ResourceAttributes{
				Verb: verb, Version: "v1", Resource: "nodes", Subresource: sub, Name: node,
			}})
		}
		return q
	}
}

// subresources returns what a path is about: one of them has to be allowed.
func subresources(path string) []string {
	under := func(prefix string) bool { return path == prefix || strings.HasPrefix(path, prefix+"/") }
	switch {
	case under("/stats"):
		return []string{"stats"}
	case under("/metrics"):
		return []string{"metrics"}
	case under("/logs"):
		return []string{"log"}
	case under("/healthz"):
		return []string{"healthz", "proxy"}
	case under("/configz"):
		return []string{"configz", "proxy"}
	case under("/pods"), under("/runningpods"):
		return []string{"pods", "proxy"}
	}
	return []string{"proxy"}
}
