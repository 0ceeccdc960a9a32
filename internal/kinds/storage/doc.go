// Package storage describes the kinds of storage.k8s.io: classes of volumes, drivers, and volumes attached to nodes.
package storage

import (
	"slices"
	"strings"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Limits of the parameters of a class and of what a driver says about a volume it attached.
const (
	maxParameters     = 512
	maxParametersSize = 256 * 1024
)

// equal compares by meaning: quantities by value, nil and empty lists alike.
func equal(a, b any) bool { return apiequality.Semantic.DeepEqual(a, b) }

// validateParameters checks pairs that a driver reads.
func validateParameters(parameters map[string]string, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(parameters) > maxParameters {
		errs = append(errs, field.TooLong(at, "", maxParameters))
	}
	total := 0
	for key, value := range parameters {
		if key == "" {
			errs = append(errs, field.Invalid(at, key, "field can not be empty."))
		}
		total += len(key) + len(value)
	}
	if total > maxParametersSize {
		errs = append(errs, field.TooLong(at, "", maxParametersSize))
	}
	return errs
}

// joined shows a list of words in one cell.
func joined[S ~string](words []S) string {
	var out []string
	for _, w := range words {
		out = append(out, string(w))
	}
	return strings.Join(slices.Clip(out), ",")
}
