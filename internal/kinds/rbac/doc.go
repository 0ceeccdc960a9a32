// Package rbac holds the kinds of rbac.authorization.k8s.io.
package rbac
