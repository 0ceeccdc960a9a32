package storage

import (
	"time"

	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds"
	"canopus/internal/kinds/check"
	"canopus/internal/kinds/podspec"
	"canopus/internal/kinds/show"
)

// maxNodeID bounds the name by which a driver knows a node.
const maxNodeID = 256

// CSINode is storage.k8s.io/v1 csinodes: the drivers that run on a node.
func CSINode() *kinds.Kind {
	return kinds.New(kinds.Spec[storagev1.CSINode, *storagev1.CSINode]{
		GVK:           storagev1.SchemeGroupVersion.WithKind("CSINode"),
		Plural:        "csinodes",
		NewList:       func() runtime.Object { return &storagev1.CSINodeList{} },
		ReturnDeleted: true,

		// The health of drivers' storage is off by default.
		PrepareCreate: func(n *storagev1.CSINode) { n.Status = storagev1.CSINodeStatus{} },
		PrepareUpdate: func(n, old *storagev1.CSINode) { n.Status = old.Status },
		Validate:      validateCSINode,
		ValidateUpdate: func(n, old *storagev1.CSINode) field.ErrorList {
			return append(validateCSINode(n), keepsDrivers(n, old)...)
		},
		Columns: []metav1.TableColumnDefinition{
			show.Name(), show.Column("Drivers", "integer", "Drivers indicates the number of CSI drivers registered on the node"), show.AgeColumn(),
		},
		Cells: func(n *storagev1.CSINode, now time.Time) []any {
			return []any{n.Name, int64(len(n.Spec.Drivers)), show.Age(n.CreationTimestamp, now)}
		},
	})
}

func validateCSINode(n *storagev1.CSINode) field.ErrorList {
	path := field.NewPath("spec", "drivers")
	var errs field.ErrorList
	seen := check.Duplicates[string]{}
	for i := range n.Spec.Drivers {
		d, at := &n.Spec.Drivers[i], path.Index(i)
		errs = append(errs, podspec.CSIDriverName(d.Name, at.Child("name"))...)
		errs = append(errs, seen.Check(d.Name, at.Child("name"))...)
		errs = append(errs, check.Required(d.NodeID, at.Child("nodeID"))...)
		if len(d.NodeID) > maxNodeID {
			errs = append(errs, field.TooLong(at.Child("nodeID"), d.NodeID, maxNodeID))
		}
		if d.Allocatable != nil {
			errs = append(errs, check.OptionalNonNegative(d.Allocatable.Count, at.Child("allocatable", "count"))...)
		}
		errs = append(errs, validateTopologyKeys(d.TopologyKeys, at.Child("topologyKeys"))...)
	}
	return errs
}

func validateTopologyKeys(keys []string, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := check.Duplicates[string]{}
	for _, key := range keys {
		if key == "" {
			errs = append(errs, field.Required(at, key))
			continue
		}
		errs = append(errs, seen.Check(key, at)...)
		errs = append(errs, check.Qualified(key, at)...)
	}
	return errs
}

// keepsDrivers: a driver on a node is added and removed whole; only how many volumes fit may change.
func keepsDrivers(n, old *storagev1.CSINode) field.ErrorList {
	was := map[string]storagev1.CSINodeDriver{}
	for _, d := range old.Spec.Drivers {
		was[d.Name] = d
	}
	var errs field.ErrorList
	for _, d := range n.Spec.Drivers {
		before, ok := was[d.Name]
		before.Allocatable = d.Allocatable
		if ok && !equal(d, before) {
			errs = append(errs, field.Invalid(field.NewPath("CSINodeDriver"), d, check.Immutable))
		}
	}
	return errs
}
