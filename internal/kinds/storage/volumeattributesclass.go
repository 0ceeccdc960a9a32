package storage

import (
	"time"

	storagev1 "k8s.io/api/storage/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds"
	"canopus/internal/kinds/podspec"
	"canopus/internal/kinds/show"
)

// VolumeAttributesClass is storage.k8s.io/v1 volumeattributesclasses: settings of a volume that may change in its life.
func VolumeAttributesClass() *kinds.Kind {
	return kinds.New(kinds.Spec[storagev1.VolumeAttributesClass, *storagev1.VolumeAttributesClass]{
		GVK:           storagev1.SchemeGroupVersion.WithKind("VolumeAttributesClass"),
		Plural:        "volumeattributesclasses",
		ShortNames:    []string{"vac"},
		NewList:       func() runtime.Object { return &storagev1.VolumeAttributesClassList{} },
		ReturnDeleted: true,

		Validate: validateAttributesClass,
		ValidateUpdate: func(c, old *storagev1.VolumeAttributesClass) field.ErrorList {
			errs := apivalidation.ValidateImmutableField(c.DriverName, old.DriverName, field.NewPath("driverName"))
			return append(errs, apivalidation.ValidateImmutableField(c.Parameters, old.Parameters, field.NewPath("parameters"))...)
		},
		Columns: []metav1.TableColumnDefinition{
			show.Name(), show.Column("DriverName", "string", storagev1.VolumeAttributesClass{}.SwaggerDoc()["driverName"]), show.AgeColumn(),
		},
		Cells: func(c *storagev1.VolumeAttributesClass, now time.Time) []any {
			return []any{c.Name, c.DriverName, show.Age(c.CreationTimestamp, now)}
		},
	})
}

func validateAttributesClass(c *storagev1.VolumeAttributesClass) field.ErrorList {
	errs := podspec.CSIDriverName(c.DriverName, field.NewPath("driverName"))
	if len(c.Parameters) == 0 {
		errs = append(errs, field.Required(field.NewPath("parameters"), "must contain at least one key/value pair"))
	}
	return append(errs, validateParameters(c.Parameters, field.NewPath("parameters"))...)
}
