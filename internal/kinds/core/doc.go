// Package core describes the kinds of the group without a name, v1: pods, services, nodes and what they need.
package core

import apiequality "k8s.io/apimachinery/pkg/api/equality"

// equal compares by meaning: quantities by value, nil and empty lists alike.
func equal(a, b any) bool { return apiequality.Semantic.DeepEqual(a, b) }
