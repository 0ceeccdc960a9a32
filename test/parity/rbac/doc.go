// Package rbac compares the default RBAC policy with the published one. Its tests are built with the tag parity only and
// read that data from the directory in $SPEC:
//
//	SPEC=/path/to/spec go test -tags parity ./test/parity/rbac
package rbac
