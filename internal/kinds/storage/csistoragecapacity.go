package storage

import (
	"time"

	storagev1 "k8s.io/api/storage/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds"
	"canopus/internal/kinds/check"
	"canopus/internal/kinds/show"
)

// CSIStorageCapacity is storage.k8s.io/v1 csistoragecapacities: how much a driver can still provide for a class in a topology.
func CSIStorageCapacity() *kinds.Kind {
	doc := storagev1.CSIStorageCapacity{}.SwaggerDoc()
	return kinds.New(kinds.Spec[storagev1.CSIStorageCapacity, *storagev1.CSIStorageCapacity]{
		GVK:        storagev1.SchemeGroupVersion.WithKind("CSIStorageCapacity"),
		Plural:     "csistoragecapacities",
		Namespaced: true,
		NewList:    func() runtime.Object { return &storagev1.CSIStorageCapacityList{} },

		Validate: validateStorageCapacity,
		ValidateUpdate: func(c, old *storagev1.CSIStorageCapacity) field.ErrorList {
			errs := validateStorageCapacity(c)
			errs = append(errs, apivalidation.ValidateImmutableField(c.NodeTopology, old.NodeTopology, field.NewPath("nodeTopology"))...)
			return append(errs, apivalidation.ValidateImmutableField(c.StorageClassName, old.StorageClassName, field.NewPath("storageClassName"))...)
		},
		Columns: []metav1.TableColumnDefinition{
			show.Name(),
			show.Column("StorageClassName", "string", doc["storageClassName"]),
			show.Column("Capacity", "string", doc["capacity"]),
			show.AgeColumn(),
		},
		Cells: func(c *storagev1.CSIStorageCapacity, now time.Time) []any {
			capacity := "<unset>"
			if c.Capacity != nil {
				capacity = c.Capacity.String()
			}
			return []any{c.Name, c.StorageClassName, capacity, show.Age(c.CreationTimestamp, now)}
		},
	})
}

func validateStorageCapacity(c *storagev1.CSIStorageCapacity) field.ErrorList {
	errs := check.Selector(c.NodeTopology, field.NewPath("nodeTopology"))
	errs = append(errs, check.Subdomain(c.StorageClassName, field.NewPath("storageClassName"))...)
	if c.Capacity != nil {
		errs = append(errs, check.NonNegativeQuantity(*c.Capacity, field.NewPath("capacity"))...)
	}
	if c.MaximumVolumeSize != nil {
		errs = append(errs, check.NonNegativeQuantity(*c.MaximumVolumeSize, field.NewPath("maximumVolumeSize"))...)
	}
	return errs
}
