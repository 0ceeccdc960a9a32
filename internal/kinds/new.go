package kinds

import (
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// New erases the types of s and fills in what it leaves out. It panics on a description that can never work.
func New[T any, P interface {
	*T
	Object
}](s Spec[T, P]) *Kind {
	if s.GVK.Kind == "" || s.GVK.Version == "" || s.Plural == "" || s.NewList == nil {
		panic("kinds.New: GVK, Plural and NewList are required: " + s.GVK.String())
	}
	k := &Kind{
		GVK: s.GVK, Plural: s.Plural, Singular: s.Singular, ListKind: s.GVK.Kind + "List",
		ShortNames: s.ShortNames, Categories: s.Categories, Verbs: s.Verbs,
		Namespaced: s.Namespaced, Prefix: s.Prefix, Versions: s.Versions,
		New:     func() runtime.Object { return P(new(T)) },
		NewList: s.NewList, Columns: s.Columns, Indexed: s.Indexed, NameRule: s.NameRule,
		CreateOnUpdate: s.CreateOnUpdate, StrictUpdate: s.StrictUpdate, Virtual: s.Virtual, Generation: s.Generation,
		ReturnDeleted: s.ReturnDeleted, Deprecated: s.Deprecated,
		Subresources: s.Subresources, Scale: s.Scale,
	}
	fillNames(k)
	k.Default, k.PrepareCreate = eraseOne(s.Default), eraseOne(s.PrepareCreate)
	k.PrepareUpdate = keepGeneration(eraseTwo(s.PrepareUpdate))
	if s.Generation {
		prepare := k.PrepareCreate
		k.PrepareCreate = func(o Object) { o.SetGeneration(1); prepare(o) }
	}
	k.Validate, k.ValidateUpdate = eraseValidation(k, s.Validate, s.ValidateUpdate)
	k.Warnings = func(Object, Object) []string { return nil }
	if s.Warnings != nil {
		k.Warnings = func(obj, old Object) []string { return s.Warnings(obj.(P), typed[T, P](old)) }
	}
	k.Cells = defaultCells
	if (s.Columns == nil) != (s.Cells == nil) {
		panic("kinds.New: Columns and Cells go together: " + s.GVK.String())
	}
	if s.Cells != nil {
		k.Cells = func(o Object, now time.Time) []any { return s.Cells(o.(P), now) }
	} else {
		k.Columns = defaultColumns()
	}
	eraseOptional(k, s)
	return k
}

// eraseOptional sets the functions that stay nil when the description has none.
func eraseOptional[T any, P interface {
	*T
	Object
}](k *Kind, s Spec[T, P]) {
	k.Fields = make(map[string]func(Object) string, len(s.Fields))
	for name, get := range s.Fields {
		k.Fields[name] = func(o Object) string { return get(o.(P)) }
	}
	for _, name := range s.Indexed {
		if s.Fields[name] == nil {
			panic("kinds.New: indexed field " + name + " is not selectable: " + s.GVK.String())
		}
	}
	if s.Author != nil {
		k.Author = func(o Object, by authenticationv1.UserInfo) { s.Author(o.(P), by) }
	}
	if s.Stamp != nil {
		k.Stamp = func(o Object, now time.Time) { s.Stamp(o.(P), now) }
	}
	if s.TTL != nil {
		k.TTL = func(o Object) time.Duration { return s.TTL(o.(P)) }
	}
	if s.Grace != nil {
		k.Grace = func(o Object, asked *int64) int64 { return s.Grace(o.(P), asked) }
	}
}

// fillNames sets the names, prefix, verbs and name rule that follow from others.
func fillNames(k *Kind) {
	if k.Singular == "" {
		k.Singular = strings.ToLower(k.GVK.Kind)
	}
	if k.Prefix == "" {
		k.Prefix = k.Plural + "/"
	}
	if !strings.HasSuffix(k.Prefix, "/") {
		panic("kinds.New: prefix without trailing slash: " + k.Prefix)
	}
	if k.Verbs == nil {
		k.Verbs = []string{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}
		if k.Virtual {
			k.Verbs = []string{"create"}
		}
	}
	if k.NameRule == nil {
		k.NameRule = apivalidation.NameIsDNSSubdomain
	}
}

// typed returns o as P; a nil o stays nil.
func typed[T any, P interface {
	*T
	Object
}](o Object) P {
	if o == nil {
		return nil
	}
	return o.(P)
}

func eraseOne[P Object](f func(P)) func(Object) {
	if f == nil {
		return func(Object) {}
	}
	return func(o Object) { f(o.(P)) }
}

func eraseTwo[P Object](f func(obj, old P)) func(obj, old Object) {
	if f == nil {
		return func(Object, Object) {}
	}
	return func(obj, old Object) { f(obj.(P), old.(P)) }
}

// keepGeneration puts back the generation, which a client never sets, before prepare may bump it.
func keepGeneration(prepare func(obj, old Object)) func(obj, old Object) {
	return func(obj, old Object) {
		obj.SetGeneration(old.GetGeneration())
		prepare(obj, old)
	}
}

// Bump raises obj's generation above old's when what the user wants has changed.
func Bump(obj, old Object, changed bool) {
	if changed {
		obj.SetGeneration(old.GetGeneration() + 1)
	}
}

// eraseValidation puts the rules of metadata before those of the kind. Virtual kinds have no metadata to speak of.
func eraseValidation[P Object](k *Kind, create func(P) field.ErrorList, update func(obj, old P) field.ErrorList) (
	func(Object) field.ErrorList, func(obj, old Object) field.ErrorList,
) {
	if create == nil {
		create = func(P) field.ErrorList { return nil }
	}
	if update == nil {
		update = func(obj, _ P) field.ErrorList { return create(obj) }
	}
	onCreate := func(o Object) field.ErrorList {
		if k.Virtual {
			return create(o.(P))
		}
		errs := apivalidation.ValidateObjectMetaAccessor(o, k.Namespaced, k.NameRule, field.NewPath("metadata"))
		return append(errs, create(o.(P))...)
	}
	onUpdate := func(obj, old Object) field.ErrorList {
		return append(validateMetaUpdate(obj, old), update(obj.(P), old.(P))...)
	}
	return onCreate, onUpdate
}

func validateMetaUpdate(obj, old Object) field.ErrorList {
	return apivalidation.ValidateObjectMetaAccessorUpdate(obj, old, field.NewPath("metadata"))
}

// Sub describes a subresource whose body is the object itself: prepare puts back everything it may not write,
// validate (may be nil) checks what it did. The rules of metadata are checked too.
func Sub[P Object](name string, prepare func(obj, old P), validate func(obj, old P) field.ErrorList) Subresource {
	s := Subresource{Name: name, Verbs: []string{"get", "patch", "update"}, PrepareUpdate: keepGeneration(eraseTwo(prepare))}
	s.ValidateUpdate = func(obj, old Object) field.ErrorList {
		errs := validateMetaUpdate(obj, old)
		if validate != nil {
			errs = append(errs, validate(obj.(P), old.(P))...)
		}
		return errs
	}
	return s
}

// Status describes the status subresource; prepare puts back everything but status.
func Status[P Object](prepare func(obj, old P), validate func(obj, old P) field.ErrorList) Subresource {
	return Sub("status", prepare, validate)
}

func defaultColumns() []metav1.TableColumnDefinition {
	doc := metav1.ObjectMeta{}.SwaggerDoc()
	return []metav1.TableColumnDefinition{
		{Name: "Name", Type: "string", Format: "name", Description: doc["name"]},
		{Name: "Created At", Type: "date", Description: doc["creationTimestamp"]},
	}
}

func defaultCells(o Object, _ time.Time) []any {
	return []any{o.GetName(), o.GetCreationTimestamp().Time.UTC().Format(time.RFC3339)}
}
