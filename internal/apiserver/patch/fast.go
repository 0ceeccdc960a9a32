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
)

// maxManagers is how many managers may have updated an object before upstream merges the oldest.
const maxManagers = 10

// fastUpdate does what slowUpdate does in the two commonest cases, at a tenth of the cost: nothing has changed, or manager
// has only given new values to fields that it alone owns already. It returns false, and has changed nothing, in every
// other case, and in any that it does not fully understand; then slowUpdate decides.
//
// What the cases have in common: no set of fields changes. A field that appears, vanishes, moves to another owner or lies
// in a list that has been reordered is never such a case.
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
	if o.gvk != o.versions.hub || len(entries) > maxManagers || !plainEntries(entries, o.gvk.GroupVersion().String()) {
		return false
	}
	changed, ok := o.changes(live, obj)
	if !ok {
		return false
	}
	if len(changed) == 0 {
		obj.SetManagedFields(slices.Clone(entries))
		return true
	}
	own := o.ownEntry(entries, manager)
	if own < 0 || !o.soleOwner(entries, own, changed) {
		return false
	}
	obj.SetManagedFields(touched(entries, own))
	return true
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

// changes returns the paths of what has another value in obj than in live; ok is false if more than values differ.
func (o *Owners) changes(live, obj kinds.Object) (paths []fieldpath.Path, ok bool) {
	typed, err := o.types.ObjectToTyped(o.versions.emptyHub())
	if err != nil || reflect.TypeOf(live) != reflect.TypeOf(obj) {
		return nil, false
	}
	d := differ{schema: typed.Schema(), fields: &o.schemas.fields, reset: o.reset}
	ok = d.object(reflect.ValueOf(live).Elem(), reflect.ValueOf(obj).Elem(), typed.TypeRef())
	return d.changed, ok
}

// ownEntry finds the entry that an update by manager belongs to, or -1.
func (o *Owners) ownEntry(entries []metav1.ManagedFieldsEntry, manager string) int {
	manager = cmp.Or(manager, "unknown")
	return slices.IndexFunc(entries, func(e metav1.ManagedFieldsEntry) bool {
		return e.Manager == manager && e.Operation == metav1.ManagedFieldsOperationUpdate && e.Subresource == o.sub
	})
}

// soleOwner says whether all paths belong to the own entry and to no other.
func (o *Owners) soleOwner(entries []metav1.ManagedFieldsEntry, own int, paths []fieldpath.Path) bool {
	for i := range entries {
		set, err := o.schemas.sets.parse(entries[i].FieldsV1)
		if err != nil {
			return false
		}
		for _, p := range paths {
			if set.Has(p) != (i == own) {
				return false
			}
		}
	}
	return true
}

// touched returns entries with the time of the own one set to now, in the order in which upstream keeps them.
func touched(entries []metav1.ManagedFieldsEntry, own int) []metav1.ManagedFieldsEntry {
	out := slices.Clone(entries)
	now := metav1.NewTime(time.Now().UTC())
	out[own].Time = &now
	sortEntries(out)
	return out
}

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
