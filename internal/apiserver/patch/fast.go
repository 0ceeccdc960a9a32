package patch

import (
	"cmp"
	"reflect"
	"slices"
	"time"

	"canopus/internal/kinds"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	smdschema "sigs.k8s.io/structured-merge-diff/v6/schema"
)

// maxManagers is how many managers may have updated an object before upstream merges the oldest.
const maxManagers = 10

// fastUpdate does what slowUpdate does, at a fraction of the cost, for objects whose managers all speak of the version at hand:
// nearly all. It returns false, and has changed nothing, in any case that it does not fully understand; then slowUpdate
// decides. The tests hold the two against each other.
func (o *Owners) fastUpdate(live, obj kinds.Object, manager string) bool {
	entries := live.GetManagedFields()
	if len(entries) == 0 || !o.keepsManagers(entries, obj) {
		return false
	}
	if _, custom := obj.(runtime.Unstructured); custom {
		if !equality.Semantic.DeepEqual(bare(live, o.gvk), bare(obj, o.gvk)) {
			return false
		}
		obj.SetManagedFields(slices.Clone(entries))
		return true
	}
	if len(entries) >= maxManagers || !plainEntries(entries, o.gvk.GroupVersion().String()) {
		return false
	}
	return o.handOver(entries, live, obj, manager)
}

// remembered does the same for a new object, if its manager has made one like it.
func (o *Owners) remembered(obj kinds.Object, manager string) bool {
	if _, custom := obj.(runtime.Unstructured); custom || obj.GetManagedFields() != nil {
		return false
	}
	fields := o.made.fieldsOf(o, obj, manager)
	if fields == nil {
		return false
	}
	obj.SetManagedFields([]metav1.ManagedFieldsEntry{*o.newEntry(manager, fields)})
	return true
}

// fastCreate does the same for any other new object.
func (o *Owners) fastCreate(empty, obj kinds.Object, manager string) bool {
	if _, custom := obj.(runtime.Unstructured); custom || obj.GetManagedFields() != nil {
		return false
	}
	if !o.handOver(nil, empty, obj, manager) {
		return false
	}
	o.made.keep(obj, manager)
	return true
}

// handOver gives manager what differs between live and obj, takes it from the others, and takes from all what is gone.
func (o *Owners) handOver(entries []metav1.ManagedFieldsEntry, live, obj kinds.Object, manager string) bool {
	d, ok := o.differences(live, obj)
	if !ok {
		return false
	}
	taken := append(d.changed, d.added...)
	own := o.ownEntry(entries, manager)
	out := make([]metav1.ManagedFieldsEntry, 0, len(entries)+1)
	for i := range entries {
		set, err := o.schemas.sets.parse(entries[i].FieldsV1)
		if err != nil {
			return false
		}
		e := entries[i]
		c := change{from: set, own: i == own, taken: taken, removed: d.removed}
		if c.matters() {
			if e.FieldsV1, err = o.changed.fields(&o.schemas.sets, c); err != nil {
				return false
			}
			if e.FieldsV1 == nil {
				continue
			}
		}
		if i == own && len(taken) > 0 {
			e.Time = now()
		}
		out = append(out, e)
	}
	if own < 0 && len(taken) > 0 {
		fields, err := o.changed.fields(&o.schemas.sets, change{from: fieldpath.NewSet(), own: true, taken: taken})
		if err != nil {
			return false
		}
		out = append(out, *o.newEntry(manager, fields))
	}
	if len(out) == 0 {
		return false
	}
	sortEntries(out)
	obj.SetManagedFields(out)
	return true
}

// newEntry is that of a manager who had none.
func (o *Owners) newEntry(manager string, fields *metav1.FieldsV1) *metav1.ManagedFieldsEntry {
	return &metav1.ManagedFieldsEntry{
		Manager: cmp.Or(manager, "unknown"), Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: o.gvk.GroupVersion().String(),
		Time: now(), FieldsType: "FieldsV1", FieldsV1: fields, Subresource: o.sub,
	}
}

func now() *metav1.Time {
	t := metav1.NewTime(time.Now().UTC())
	return &t
}

// keepsManagers says whether obj names the same managers as live, or by naming none leaves them be. A list that is empty
// but there asks for a fresh start. Subresources cannot change managers, whatever they say.
func (o *Owners) keepsManagers(entries []metav1.ManagedFieldsEntry, obj kinds.Object) bool {
	given := obj.GetManagedFields()
	if o.sub != "" || given == nil {
		return true
	}
	if len(given) > 0 && len(given) == len(entries) && &given[0] == &entries[0] {
		return true
	}
	return equality.Semantic.DeepEqual(given, entries)
}

// plainEntries says whether all entries are well formed and about the same version, so that none would be dropped or converted.
func plainEntries(entries []metav1.ManagedFieldsEntry, version string) bool {
	for _, e := range entries {
		if e.APIVersion != version || e.FieldsType != "FieldsV1" || e.FieldsV1 == nil {
			return false
		}
		if e.Operation != metav1.ManagedFieldsOperationApply && e.Operation != metav1.ManagedFieldsOperationUpdate {
			return false
		}
	}
	return true
}

// differences compares the two; ok is false if it cannot tell.
func (o *Owners) differences(live, obj kinds.Object) (d *differ, ok bool) {
	d, ok = o.differ()
	return d, ok && o.compare(d, live, obj)
}

// differ is one for this kind and writer.
func (o *Owners) differ() (*differ, bool) {
	t, err := o.goType()
	if err != nil {
		return nil, false
	}
	return &differ{schema: t.schema, root: t.ref, fields: &o.schemas.fields, reset: o.reset}, true
}

func (o *Owners) compare(d *differ, live, obj kinds.Object) bool {
	if reflect.TypeOf(live) != reflect.TypeOf(obj) {
		return false
	}
	a, b := runtime.Object(live), runtime.Object(obj)
	if hub := o.versions.hub; o.gvk != hub { // fields are named as in the request's version
		var err error
		if a, err = o.versions.convert(live, hub, o.gvk); err != nil {
			return false
		}
		if b, err = o.versions.convert(obj, hub, o.gvk); err != nil {
			return false
		}
	}
	return d.object(reflect.ValueOf(a).Elem(), reflect.ValueOf(b).Elem(), d.root)
}

// typeInfo is where the type of an object is described.
type typeInfo struct {
	schema *smdschema.Schema
	ref    smdschema.TypeRef
}

// findType looks up the type of o's objects. The schemas of all kinds are built for it, if this is the first time.
func (o *Owners) findType() (typeInfo, error) {
	sample, err := o.versions.New(o.gvk)
	if err != nil {
		return typeInfo{}, err
	}
	typed, err := o.types.ObjectToTyped(sample)
	if err != nil {
		return typeInfo{}, err
	}
	return typeInfo{typed.Schema(), typed.TypeRef()}, nil
}

// ownEntry finds the entry that an update by manager belongs to, or -1.
func (o *Owners) ownEntry(entries []metav1.ManagedFieldsEntry, manager string) int {
	manager = cmp.Or(manager, "unknown")
	return slices.IndexFunc(entries, func(e metav1.ManagedFieldsEntry) bool {
		return e.Manager == manager && e.Operation == metav1.ManagedFieldsOperationUpdate && e.Subresource == o.sub
	})
}

// sortEntries brings entries into the order in which upstream keeps them.
func sortEntries(entries []metav1.ManagedFieldsEntry) {
	slices.SortFunc(entries, func(a, b metav1.ManagedFieldsEntry) int {
		return cmp.Or(
			cmp.Compare(a.Operation, b.Operation),
			cmp.Compare(seconds(a.Time), seconds(b.Time)),
			cmp.Compare(a.Manager, b.Manager),
			cmp.Compare(a.APIVersion, b.APIVersion),
			cmp.Compare(a.Subresource, b.Subresource),
		)
	})
}

func seconds(t *metav1.Time) int64 {
	if t == nil {
		return 0
	}
	return t.Unix()
}
