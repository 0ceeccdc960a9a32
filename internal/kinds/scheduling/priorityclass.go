package scheduling

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds"
	"canopus/internal/kinds/check"
	"canopus/internal/kinds/show"
)

const (
	systemPrefix = "system-"
	// highestUser is the highest priority that is not reserved for the system.
	highestUser = 1_000_000_000
	// The system's own classes.
	nodeCritical, nodeCriticalValue       = "system-node-critical", 2*highestUser + 1000
	clusterCritical, clusterCriticalValue = "system-cluster-critical", 2 * highestUser
)

// PriorityClass is scheduling.k8s.io/v1 priorityclasses.
func PriorityClass() *kinds.Kind {
	doc := schedulingv1.PriorityClass{}.SwaggerDoc()
	return kinds.New(kinds.Spec[schedulingv1.PriorityClass, *schedulingv1.PriorityClass]{
		GVK:        schedulingv1.SchemeGroupVersion.WithKind("PriorityClass"),
		Plural:     "priorityclasses",
		ShortNames: []string{"pc"},
		NewList:    func() runtime.Object { return &schedulingv1.PriorityClassList{} },

		Default: func(c *schedulingv1.PriorityClass) {
			if c.PreemptionPolicy == nil {
				policy := corev1.PreemptLowerPriority
				c.PreemptionPolicy = &policy
			}
		},
		Generation:     true,
		Validate:       validatePriorityClass,
		ValidateUpdate: validatePriorityClassUpdate,
		Columns: []metav1.TableColumnDefinition{
			show.Name(),
			show.Column("Value", "integer", doc["value"]),
			show.Column("Global-Default", "boolean", doc["globalDefault"]),
			show.AgeColumn(),
			show.Column("PreemptionPolicy", "string", doc["preemptionPolicy"]),
		},
		Cells: func(c *schedulingv1.PriorityClass, now time.Time) []any {
			policy := ""
			if c.PreemptionPolicy != nil {
				policy = string(*c.PreemptionPolicy)
			}
			return []any{c.Name, int64(c.Value), c.GlobalDefault, show.Age(c.CreationTimestamp, now), policy}
		},
	})
}

func validatePriorityClass(c *schedulingv1.PriorityClass) field.ErrorList {
	var errs field.ErrorList
	if strings.HasPrefix(c.Name, systemPrefix) {
		if why := notSystems(c); why != "" {
			errs = append(errs, field.Forbidden(field.NewPath("metadata", "name"),
				"priority class names with '"+systemPrefix+"' prefix are reserved for system use only. error: "+why))
		}
	} else if c.Value > highestUser {
		errs = append(errs, field.Forbidden(field.NewPath("value"), fmt.Sprintf("maximum allowed value of a user defined priority is %v", highestUser)))
	}
	if c.PreemptionPolicy != nil {
		errs = append(errs, check.OneOf(*c.PreemptionPolicy, field.NewPath("preemptionPolicy"), corev1.PreemptLowerPriority, corev1.PreemptNever)...)
	}
	return errs
}

// notSystems says in what c differs from the system class of its name; "" when it is that class.
func notSystems(c *schedulingv1.PriorityClass) string {
	value := int32(0)
	switch c.Name {
	case nodeCritical:
		value = nodeCriticalValue
	case clusterCritical:
		value = clusterCriticalValue
	default:
		return c.Name + " is not a known system priority class"
	}
	switch {
	case c.Value != value:
		return fmt.Sprintf("value of %v PriorityClass must be %v", c.Name, value)
	case c.GlobalDefault:
		return fmt.Sprintf("globalDefault of %v PriorityClass must be false", c.Name)
	}
	return ""
}

func validatePriorityClassUpdate(c, old *schedulingv1.PriorityClass) field.ErrorList {
	var errs field.ErrorList
	if c.Value != old.Value {
		errs = append(errs, field.Forbidden(field.NewPath("value"), "may not be changed in an update."))
	}
	errs = append(errs, apivalidation.ValidateImmutableField(c.PreemptionPolicy, old.PreemptionPolicy, field.NewPath("preemptionPolicy"))...)
	return errs
}
