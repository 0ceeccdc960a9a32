package persistentvolume

import (
	"cmp"
	"errors"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagehelpers "k8s.io/component-helpers/storage/volume"
	"k8s.io/utils/ptr"
)

// bestMatch finds the volume for a claim that names none: one that is reserved for it, else the smallest that is large
// enough among those with the fewest access modes beyond what is asked for. With reservedOnly the choice of all others is
// left to the scheduler.
func bestMatch(claim *corev1.PersistentVolumeClaim, volumes []*corev1.PersistentVolume, reservedOnly bool) (*corev1.PersistentVolume, error) {
	fit := slices.DeleteFunc(slices.Clone(volumes), func(pv *corev1.PersistentVolume) bool { return !storagehelpers.CheckAccessModes(claim, pv) })
	if pv, err := storagehelpers.FindMatchingVolume(claim, fit, nil, nil, true, true); err != nil || pv != nil || reservedOnly {
		return pv, err
	}
	groups := map[string][]*corev1.PersistentVolume{}
	for _, pv := range fit {
		groups[modes(pv)] = append(groups[modes(pv)], pv)
	}
	names := make([]string, 0, len(groups))
	for name := range groups {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(strings.Count(a, ",")-strings.Count(b, ","), strings.Compare(a, b))
	})
	for _, name := range names {
		group := groups[name]
		slices.SortFunc(group, func(a, b *corev1.PersistentVolume) int { return strings.Compare(a.Name, b.Name) }) // of equals the first
		if pv, err := storagehelpers.FindMatchingVolume(claim, group, nil, nil, false, true); err != nil || pv != nil {
			return pv, err
		}
	}
	return nil, nil
}

// modes is the set of a volume's access modes in one word.
func modes(pv *corev1.PersistentVolume) string {
	var words []string
	for _, m := range pv.Spec.AccessModes {
		words = append(words, string(m))
	}
	slices.Sort(words)
	return strings.Join(slices.Compact(words), ",")
}

// satisfies says why pv cannot serve claim, nil if it can.
func satisfies(claim *corev1.PersistentVolumeClaim, pv *corev1.PersistentVolume) error {
	asked, has := claim.Spec.Resources.Requests[corev1.ResourceStorage], pv.Spec.Capacity[corev1.ResourceStorage]
	switch {
	case has.Cmp(asked) < 0:
		return errors.New("requested PV is too small")
	case storagehelpers.GetPersistentVolumeClass(pv) != storagehelpers.GetPersistentVolumeClaimClass(claim):
		return errors.New("storageClassName does not match")
	case ptr.Deref(claim.Spec.VolumeAttributesClassName, "") != ptr.Deref(pv.Spec.VolumeAttributesClassName, ""):
		return errors.New("volumeAttributesClassName does not match")
	case storagehelpers.CheckVolumeModeMismatches(&claim.Spec, &pv.Spec):
		return errors.New("incompatible volumeMode")
	case !storagehelpers.CheckAccessModes(claim, pv):
		return errors.New("incompatible accessMode")
	}
	return nil
}
