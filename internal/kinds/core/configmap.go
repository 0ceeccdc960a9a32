package core

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds"
	"canopus/internal/kinds/show"
)

// maxDataSize bounds the sum of all values of a ConfigMap or Secret.
const maxDataSize = 1 << 20

// ConfigMap is v1 configmaps.
func ConfigMap() *kinds.Kind {
	return kinds.New(kinds.Spec[corev1.ConfigMap, *corev1.ConfigMap]{
		GVK:        corev1.SchemeGroupVersion.WithKind("ConfigMap"),
		Plural:     "configmaps",
		ShortNames: []string{"cm"},
		Namespaced: true,
		NewList:    func() runtime.Object { return &corev1.ConfigMapList{} },

		Validate:       validateConfigMap,
		ValidateUpdate: validateConfigMapUpdate,
		Columns: []metav1.TableColumnDefinition{
			show.Name(), show.Column("Data", "string", corev1.ConfigMap{}.SwaggerDoc()["data"]), show.AgeColumn(),
		},
		Cells: func(c *corev1.ConfigMap, now time.Time) []any {
			return []any{c.Name, int64(len(c.Data) + len(c.BinaryData)), show.Age(c.CreationTimestamp, now)}
		},
	})
}

func validateConfigMap(c *corev1.ConfigMap) field.ErrorList {
	var errs field.ErrorList
	size := 0
	for key, value := range c.Data {
		path := field.NewPath("data").Key(key)
		errs = append(errs, validateDataKey(key, path)...)
		if _, both := c.BinaryData[key]; both {
			errs = append(errs, field.Invalid(path, key, "duplicate of key present in binaryData"))
		}
		size += len(value)
	}
	for key, value := range c.BinaryData {
		errs = append(errs, validateDataKey(key, field.NewPath("binaryData").Key(key))...)
		size += len(value)
	}
	if size > maxDataSize {
		errs = append(errs, field.TooLong(field.NewPath(""), "", maxDataSize))
	}
	return errs
}

func validateDataKey(key string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, msg := range validation.IsConfigMapKey(key) {
		errs = append(errs, field.Invalid(path, key, msg))
	}
	return errs
}

func validateConfigMapUpdate(obj, old *corev1.ConfigMap) field.ErrorList {
	var errs field.ErrorList
	if isTrue(old.Immutable) {
		errs = append(errs, frozen(obj.Immutable)...)
		if !equal(obj.Data, old.Data) {
			errs = append(errs, field.Forbidden(field.NewPath("data"), "field is immutable when `immutable` is set"))
		}
		if !equal(obj.BinaryData, old.BinaryData) {
			errs = append(errs, field.Forbidden(field.NewPath("binaryData"), "field is immutable when `immutable` is set"))
		}
	}
	return append(errs, validateConfigMap(obj)...)
}

// frozen refuses to unset immutable on a ConfigMap or Secret that had it.
func frozen(now *bool) field.ErrorList {
	if isTrue(now) {
		return nil
	}
	return field.ErrorList{field.Forbidden(field.NewPath("immutable"), "field is immutable when `immutable` is set")}
}

func isTrue(b *bool) bool { return b != nil && *b }

// immutable refuses any difference between now and was.
func immutable(now, was any, path *field.Path) field.ErrorList {
	return apivalidation.ValidateImmutableField(now, was, path)
}
