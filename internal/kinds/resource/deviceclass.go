package resource

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds"
	"canopus/internal/kinds/check"
	"canopus/internal/kinds/show"
)

// DeviceClass is resource.k8s.io/v1 deviceclasses: presets for requests, made by administrators.
func DeviceClass() *kinds.Kind {
	return kinds.New(kinds.Spec[resourcev1.DeviceClass, *resourcev1.DeviceClass]{
		GVK:           resourcev1.SchemeGroupVersion.WithKind("DeviceClass"),
		Plural:        "deviceclasses",
		NewList:       func() runtime.Object { return &resourcev1.DeviceClassList{} },
		ReturnDeleted: true,
		Generation:    true,

		PrepareUpdate: func(c, old *resourcev1.DeviceClass) {
			if !equal(c.Spec, old.Spec) {
				c.Generation = old.Generation + 1
			}
		},
		Validate: func(c *resourcev1.DeviceClass) field.ErrorList {
			return validateClass(&c.Spec, &resourcev1.DeviceClassSpec{})
		},
		ValidateUpdate: func(c, old *resourcev1.DeviceClass) field.ErrorList {
			return validateClass(&c.Spec, &old.Spec)
		},
		Columns: []metav1.TableColumnDefinition{show.Name(), show.AgeColumn()},
		Cells: func(c *resourcev1.DeviceClass, now time.Time) []any {
			return []any{c.Name, show.Age(c.CreationTimestamp, now)}
		},
	})
}

func validateClass(spec, old *resourcev1.DeviceClassSpec) field.ErrorList {
	path := field.NewPath("spec")
	errs := validateSelectors(spec.Selectors, old.Selectors, path.Child("selectors"))
	errs = append(errs, atMost(spec.Config, resourcev1.DeviceConfigMaxSize, path.Child("config"))...)
	for i := range spec.Config {
		errs = append(errs, validateConfiguration(&spec.Config[i].DeviceConfiguration, path.Child("config").Index(i))...)
	}
	if name := spec.ExtendedResourceName; name != nil && !check.Extended(corev1.ResourceName(*name)) {
		errs = append(errs, field.Invalid(path.Child("extendedResourceName"), *name, "must be a valid extended resource name"))
	}
	return errs
}
