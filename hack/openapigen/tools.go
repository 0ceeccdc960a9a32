//go:build tools

// Package openapigen makes the OpenAPI documents: see the Makefile.
package openapigen

import _ "k8s.io/kube-openapi/cmd/openapi-gen" // run by the Makefile
