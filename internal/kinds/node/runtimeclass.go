// Package node describes the kinds of node.k8s.io.
package node

import (
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds"
	"canopus/internal/kinds/check"
	"canopus/internal/kinds/podspec"
	"canopus/internal/kinds/show"
)

// RuntimeClass is node.k8s.io/v1 runtimeclasses.
func RuntimeClass() *kinds.Kind {
	doc := nodev1.RuntimeClass{}.SwaggerDoc()
	return kinds.New(kinds.Spec[nodev1.RuntimeClass, *nodev1.RuntimeClass]{
		GVK:      nodev1.SchemeGroupVersion.WithKind("RuntimeClass"),
		Plural:   "runtimeclasses",
		NewList:  func() runtime.Object { return &nodev1.RuntimeClassList{} },
		Validate: validateRuntimeClass,
		ValidateUpdate: func(c, old *nodev1.RuntimeClass) field.ErrorList {
			return append(validateRuntimeClass(c), apivalidation.ValidateImmutableField(c.Handler, old.Handler, field.NewPath("handler"))...)
		},
		Warnings: runtimeClassWarnings,
		Columns:  []metav1.TableColumnDefinition{show.Name(), show.Column("Handler", "string", doc["handler"]), show.AgeColumn()},
		Cells: func(c *nodev1.RuntimeClass, now time.Time) []any {
			return []any{c.Name, c.Handler, show.Age(c.CreationTimestamp, now)}
		},
	})
}

func validateRuntimeClass(c *nodev1.RuntimeClass) field.ErrorList {
	errs := check.Messages(field.NewPath("handler"), c.Handler, validation.IsDNS1123Label(c.Handler))
	if o := c.Overhead; o != nil {
		for _, name := range slices.Sorted(maps.Keys(o.PodFixed)) {
			at := field.NewPath("overhead", "limits").Key(string(name)) // upstream reports it as limits
			errs = append(errs, podspec.ContainerResourceName(name, at)...)
			errs = append(errs, check.Quantity(name, o.PodFixed[name], at)...)
		}
	}
	if s := c.Scheduling; s != nil {
		path := field.NewPath("scheduling")
		errs = append(errs, metavalidation.ValidateLabels(s.NodeSelector, path.Child("nodeSelector"))...)
		errs = append(errs, validateTolerations(s.Tolerations, path.Child("tolerations"))...)
	}
	return errs
}

// runtimeClassWarnings are about labels of nodes that have been replaced by others.
func runtimeClassWarnings(c, _ *nodev1.RuntimeClass) []string {
	if c.Scheduling == nil {
		return nil
	}
	var out []string
	for _, key := range slices.Sorted(maps.Keys(c.Scheduling.NodeSelector)) {
		if text := check.OldNodeLabel(key); text != "" {
			out = append(out, fmt.Sprintf("%s: %s", field.NewPath("scheduling", "nodeSelector").Key(key), text))
		}
	}
	return out
}

// validateTolerations also refuses one that differs from another only in its seconds.
func validateTolerations(list []corev1.Toleration, path *field.Path) field.ErrorList {
	errs := podspec.ValidateTolerations(list, path)
	seen := map[corev1.Toleration]bool{}
	for i, t := range list {
		key := corev1.Toleration{Key: t.Key, Operator: t.Operator, Value: t.Value, Effect: t.Effect}
		if seen[key] {
			errs = append(errs, field.Duplicate(path.Index(i), t))
		}
		seen[key] = true
	}
	return errs
}
