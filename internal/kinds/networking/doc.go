// Package networking holds the kinds of networking.k8s.io.
package networking
