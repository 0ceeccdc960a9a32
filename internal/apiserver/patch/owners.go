package patch

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"

	"canopus/internal/kinds"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/yaml"
)

// OwnersConfig says whose fields are kept track of. All but Subresource is required.
type OwnersConfig struct {
	Schemas     *Schemas
	Versions    Versions     // of Served.Kind, all of them
	Served      kinds.Served // the kind in the version that requests name
	Subresource string       // "" for the object itself; "status" and the like
}

// Owners keeps metadata.managedFields of one kind, as changed through one version and subresource. It is cheap to make
// and safe for concurrent use. Objects go in and come out in the hub version.
//
// Call it where upstream does: after decoding and defaulting, before admission.
type Owners struct {
	schemas  *Schemas
	types    managedfields.TypeConverter
	versions versions
	gvk      schema.GroupVersionKind
	sub      string
	reset    []string // top-level fields that a write through sub cannot change
	manager  *managedfields.FieldManager
	goType   func() (typeInfo, error) // findType, once
	made     *memory
	changed  *changes
}

// NewOwners returns the Owners that c describes.
func NewOwners(c OwnersConfig) (*Owners, error) {
	if c.Schemas == nil || c.Versions == nil || c.Served.Kind == nil {
		return nil, errors.New("field ownership: Schemas, Versions and Served are required")
	}
	if _, custom := c.Served.New().(runtime.Unstructured); custom {
		return newOwners(c, managedfields.NewDeducedTypeConverter())
	}
	return newOwners(c, c.Schemas)
}

// newOwners returns the Owners that c describes, with fields as types has them.
func newOwners(c OwnersConfig, types managedfields.TypeConverter) (*Owners, error) {
	v := versions{all: c.Versions, hub: c.Served.Kind.GVK}
	create := managedfields.NewDefaultFieldManager
	if _, custom := c.Served.New().(runtime.Unstructured); custom {
		create = managedfields.NewDefaultCRDFieldManager
	}
	if _, ok := c.Versions.Kind(v.hub); !ok {
		return nil, fmt.Errorf("field ownership of %s: its hub version %s is not served", c.Served.GVK, v.hub)
	}
	reset := resetFields(c.Served, c.Subresource)
	m, err := create(types, v, v, v, c.Served.GVK, v.hub.GroupVersion(), c.Subresource, filters(c.Served.GVK.GroupVersion(), reset))
	if err != nil {
		return nil, fmt.Errorf("field ownership of %s: %w", c.Served.GVK, err)
	}
	o := &Owners{
		schemas: c.Schemas, types: types, versions: v, gvk: c.Served.GVK, sub: c.Subresource, reset: reset, manager: m, made: newMemory(), changed: &changes{},
	}
	o.goType = sync.OnceValues(o.findType)
	return o, nil
}

// Create records that manager set every field of the new object obj. On an error obj is still good, but nobody's: log it.
func (o *Owners) Create(obj kinds.Object, manager string) error {
	if o.remembered(obj, manager) {
		return nil
	}
	live, ok := o.versions.emptyHub().(kinds.Object)
	if !ok {
		return fmt.Errorf("%s has no metadata", o.gvk)
	}
	if o.fastCreate(live, obj, manager) {
		return nil
	}
	return o.slowUpdate(live, obj, manager)
}

// Update records in obj that manager changed it from live. Metadata of obj that names managers is obeyed when it can be
// read: that is how a client takes fields away from one, or with an empty list starts afresh. On an error obj has live's
// managers and is still good: log it.
func (o *Owners) Update(live, obj kinds.Object, manager string) error {
	if o.fastUpdate(live, obj, manager) {
		return nil
	}
	return o.slowUpdate(live, obj, manager)
}

func (o *Owners) slowUpdate(live, obj kinds.Object, manager string) error {
	if _, err := o.manager.Update(live, obj, manager); err != nil {
		obj.SetManagedFields(live.GetManagedFields())
		return fmt.Errorf("update the managers of %s %s: %w", o.gvk.Kind, obj.GetName(), err)
	}
	return nil
}

// Wish is the body of a server-side apply: the fields that a manager wants to have, and no others.
type Wish struct {
	Body       []byte // YAML or JSON
	Manager    string
	Force      bool // take over fields of others instead of failing with a conflict
	Validation Validation
}

// Apply returns live with w's wishes fulfilled and its managers brought up to date, defaulted and in the hub version.
// live is an empty object if there is none yet. Fields of other managers that w wants to be different are a Conflict
// that names each.
func (o *Owners) Apply(live kinds.Object, w Wish) (kinds.Object, []string, error) {
	wish := &unstructured.Unstructured{}
	data, err := yaml.YAMLToJSON(w.Body)
	if err == nil {
		_, err = decodeJSON(data, wish, Ignore)
	}
	if err != nil {
		return nil, nil, apierrors.NewBadRequest(fmt.Sprintf("error decoding YAML: %v", err))
	}
	out, err := o.manager.Apply(live, wish, w.Manager, w.Force)
	if err != nil {
		return nil, nil, o.applyError(wish, err)
	}
	obj, ok := out.(kinds.Object)
	if !ok {
		return nil, nil, fmt.Errorf("apply %s: the merged object is a %T", o.gvk, out)
	}
	if w.Validation == Ignore {
		return obj, nil, nil
	}
	if _, err := yaml.YAMLToJSONStrict(w.Body); err != nil {
		if w.Validation == Strict {
			return nil, nil, apierrors.NewBadRequest(fmt.Sprintf("error strict decoding YAML: %v", err))
		}
		return obj, []string{err.Error()}, nil
	}
	return obj, nil, nil
}

// applyError tells the client's mistakes from the server's: a wish that cannot be read as its kind is the client's.
func (o *Owners) applyError(wish *unstructured.Unstructured, err error) error {
	if status := apierrors.APIStatus(nil); errors.As(err, &status) {
		return err
	}
	if _, bad := o.types.ObjectToTyped(wish); bad != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	if _, bad := o.versions.structured(wish, o.gvk); bad != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	return fmt.Errorf("apply %s: %w", o.gvk, err)
}

// resetFields names what a write through sub cannot change, so nobody comes to own it that way: status through the
// object itself where it has a subresource, everything but metadata and status through status.
func resetFields(s kinds.Served, sub string) []string {
	switch {
	case sub == "" && s.Kind.Subresource("status") != nil:
		return []string{"status"}
	case sub == "status":
		return topFields(s.New())
	}
	return nil
}

// filters puts the fields to reset in the field manager's terms.
func filters(gv schema.GroupVersion, reset []string) map[fieldpath.APIVersion]fieldpath.Filter {
	if len(reset) == 0 {
		return nil
	}
	set := fieldpath.NewSet()
	for _, name := range reset {
		set.Insert(fieldpath.MakePathOrDie(name))
	}
	return map[fieldpath.APIVersion]fieldpath.Filter{fieldpath.APIVersion(gv.String()): fieldpath.NewExcludeSetFilter(set)}
}

// topFields lists obj's fields other than kind, apiVersion, metadata and status.
func topFields(obj runtime.Object) []string {
	if _, custom := obj.(runtime.Unstructured); custom {
		return []string{"metadata", "spec"} // status of a custom resource changes nothing else, its metadata included
	}
	var names []string
	t := reflect.TypeOf(obj).Elem()
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		if name != "" && name != "metadata" && name != "status" {
			names = append(names, name)
		}
	}
	return names
}
