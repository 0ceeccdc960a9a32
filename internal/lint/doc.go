// Package lint holds the house rules that a machine can check, as Go tests over the source tree. It has no code of its own:
// read imports_test.go (who may import whom), source_test.go (what a file may contain) and size_test.go.
package lint
