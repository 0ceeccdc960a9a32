package apps

import (
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds"
	"canopus/internal/kinds/check"
	"canopus/internal/kinds/show"
)

// ControllerRevision is apps/v1 controllerrevisions: one remembered state of a workload.
func ControllerRevision() *kinds.Kind {
	return kinds.New(kinds.Spec[appsv1.ControllerRevision, *appsv1.ControllerRevision]{
		GVK:        appsv1.SchemeGroupVersion.WithKind("ControllerRevision"),
		Plural:     "controllerrevisions",
		Namespaced: true,
		NewList:    func() runtime.Object { return &appsv1.ControllerRevisionList{} },
		Validate:   validateRevision,
		ValidateUpdate: func(obj, old *appsv1.ControllerRevision) field.ErrorList {
			return append(validateRevision(obj), apivalidation.ValidateImmutableField(obj.Data, old.Data, field.NewPath("data"))...)
		},
		Columns: []metav1.TableColumnDefinition{
			show.Name(),
			show.Column("Controller", "string", "Controller of the object"),
			show.Column("Revision", "string", appsv1.ControllerRevision{}.SwaggerDoc()["revision"]),
			show.AgeColumn(),
		},
		Cells: func(r *appsv1.ControllerRevision, now time.Time) []any {
			return []any{r.Name, controller(r), r.Revision, show.Age(r.CreationTimestamp, now)}
		},
	})
}

func validateRevision(r *appsv1.ControllerRevision) field.ErrorList {
	errs := check.NonNegative(r.Revision, field.NewPath("revision"))
	if r.Data.Object == nil && len(r.Data.Raw) == 0 {
		errs = append(errs, field.Required(field.NewPath("data"), "data is mandatory"))
	}
	return errs
}

// controller names the owner that controls the revision, as kubectl names objects.
func controller(r *appsv1.ControllerRevision) string {
	owner := metav1.GetControllerOf(r)
	if owner == nil {
		return show.None
	}
	kind := strings.ToLower(owner.Kind)
	if group, _, ok := strings.Cut(owner.APIVersion, "/"); ok {
		kind += "." + group
	}
	return kind + "/" + owner.Name
}
