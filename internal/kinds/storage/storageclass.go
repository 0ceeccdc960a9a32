package storage

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"canopus/internal/kinds"
	"canopus/internal/kinds/check"
	"canopus/internal/kinds/show"
)

// Annotations of the class that claims without one get, today's and an older one.
const (
	defaultAnnotation     = "storageclass.kubernetes.io/is-default-class"
	betaDefaultAnnotation = "storageclass.beta.kubernetes.io/is-default-class"
)

// StorageClass is storage.k8s.io/v1 storageclasses: how volumes are made when a claim asks for one.
func StorageClass() *kinds.Kind {
	doc := storagev1.StorageClass{}.SwaggerDoc()
	return kinds.New(kinds.Spec[storagev1.StorageClass, *storagev1.StorageClass]{
		GVK:           storagev1.SchemeGroupVersion.WithKind("StorageClass"),
		Plural:        "storageclasses",
		ShortNames:    []string{"sc"},
		NewList:       func() runtime.Object { return &storagev1.StorageClassList{} },
		ReturnDeleted: true,

		Default: func(c *storagev1.StorageClass) {
			if c.ReclaimPolicy == nil {
				c.ReclaimPolicy = ptr.To(corev1.PersistentVolumeReclaimDelete)
			}
			if c.VolumeBindingMode == nil {
				c.VolumeBindingMode = ptr.To(storagev1.VolumeBindingImmediate)
			}
		},
		Validate:       validateClass,
		ValidateUpdate: validateClassUpdate,
		Warnings:       classWarnings,
		Columns: []metav1.TableColumnDefinition{
			show.Name(),
			show.Column("Provisioner", "string", doc["provisioner"]),
			show.Column("ReclaimPolicy", "string", doc["reclaimPolicy"]),
			show.Column("VolumeBindingMode", "string", doc["volumeBindingMode"]),
			show.Column("AllowVolumeExpansion", "string", doc["allowVolumeExpansion"]),
			show.AgeColumn(),
		},
		Cells: func(c *storagev1.StorageClass, now time.Time) []any {
			name := c.Name
			if isDefault(c) {
				name += " (default)"
			}
			return []any{
				name, c.Provisioner, string(ptr.Deref(c.ReclaimPolicy, corev1.PersistentVolumeReclaimDelete)),
				string(ptr.Deref(c.VolumeBindingMode, storagev1.VolumeBindingImmediate)), ptr.Deref(c.AllowVolumeExpansion, false),
				show.Age(c.CreationTimestamp, now),
			}
		},
	})
}

func isDefault(c *storagev1.StorageClass) bool {
	return c.Annotations[defaultAnnotation] == "true" || c.Annotations[betaDefaultAnnotation] == "true"
}

// DefaultClass returns the class that claims without one get, nil if there is none: of several marked ones the newest, so
// that a new default can be put beside the old one before that is taken away.
func DefaultClass(classes []*storagev1.StorageClass) *storagev1.StorageClass {
	var best *storagev1.StorageClass
	for _, c := range classes {
		switch {
		case !isDefault(c):
		case best == nil, best.CreationTimestamp.Before(&c.CreationTimestamp),
			best.CreationTimestamp.Equal(&c.CreationTimestamp) && c.Name < best.Name:
			best = c
		}
	}
	return best
}

func validateClass(c *storagev1.StorageClass) field.ErrorList {
	errs := check.Required(c.Provisioner, field.NewPath("provisioner"))
	if c.Provisioner != "" {
		errs = append(errs, check.Qualified(strings.ToLower(c.Provisioner), field.NewPath("provisioner"))...)
	}
	errs = append(errs, validateParameters(c.Parameters, field.NewPath("parameters"))...)
	if p := c.ReclaimPolicy; p != nil && *p != "" {
		errs = append(errs, check.OneOf(*p, field.NewPath("reclaimPolicy"), corev1.PersistentVolumeReclaimDelete, corev1.PersistentVolumeReclaimRetain)...)
	}
	mode := field.NewPath("volumeBindingMode")
	if c.VolumeBindingMode == nil {
		errs = append(errs, field.Required(mode, ""))
	} else {
		errs = append(errs, check.OneOf(*c.VolumeBindingMode, mode, storagev1.VolumeBindingImmediate, storagev1.VolumeBindingWaitForFirstConsumer)...)
	}
	return append(errs, validateTopologies(c.AllowedTopologies, field.NewPath("allowedTopologies"))...)
}

// validateTopologies: no term twice, and in a term no key twice.
func validateTopologies(terms []corev1.TopologySelectorTerm, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	var seen []map[string]sets.Set[string]
	for i, term := range terms {
		at := path.Index(i).Child("matchLabelExpressions")
		values := map[string]sets.Set[string]{}
		for j, r := range term.MatchLabelExpressions {
			if _, again := values[r.Key]; again {
				errs = append(errs, field.Duplicate(at.Index(j).Child("key"), r.Key))
			}
			values[r.Key] = sets.New(r.Values...)
			errs = append(errs, validateTopology(r, at.Index(j))...)
		}
		for _, s := range seen {
			if equal(s, values) {
				errs = append(errs, field.Duplicate(at, ""))
				break
			}
		}
		seen = append(seen, values)
	}
	return errs
}

// classWarnings are about labels of nodes that have been replaced by others.
func classWarnings(c, _ *storagev1.StorageClass) []string {
	var out []string
	for i, term := range c.AllowedTopologies {
		for j, r := range term.MatchLabelExpressions {
			if text := check.OldNodeLabel(r.Key); text != "" {
				at := field.NewPath("allowedTopologies").Index(i).Child("matchLabelExpressions").Index(j).Child("key")
				out = append(out, fmt.Sprintf("%s: %s", at, text))
			}
		}
	}
	return out
}

func validateTopology(r corev1.TopologySelectorLabelRequirement, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(r.Values) == 0 {
		errs = append(errs, field.Required(at.Child("values"), ""))
	}
	seen := check.Duplicates[string]{}
	for i, value := range r.Values {
		errs = append(errs, seen.Check(value, at.Child("values").Index(i))...)
	}
	return append(errs, check.Qualified(r.Key, at.Child("key"))...)
}

// validateClassUpdate: what volumes were made by stays, so that a class says how its volumes came to be.
func validateClassUpdate(c, old *storagev1.StorageClass) field.ErrorList {
	errs := validateClass(c)
	for _, f := range []struct {
		name    string
		changed bool
	}{
		{"parameters", !equal(c.Parameters, old.Parameters)},
		{"provisioner", c.Provisioner != old.Provisioner},
		{"reclaimPolicy", !equal(c.ReclaimPolicy, old.ReclaimPolicy)},
	} {
		if f.changed {
			errs = append(errs, field.Forbidden(field.NewPath(f.name), "updates to "+f.name+" are forbidden."))
		}
	}
	return append(errs, apivalidation.ValidateImmutableField(c.VolumeBindingMode, old.VolumeBindingMode, field.NewPath("volumeBindingMode"))...)
}
