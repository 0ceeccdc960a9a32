package resource

import (
	"slices"

	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	apiservercel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/environment"
	dracel "k8s.io/dynamic-resource-allocation/cel"

	"canopus/internal/kinds/check"
)

// validateSelectors checks CEL selectors. One that was accepted before stays so: it was checked by the rules of its day.
func validateSelectors(list, old []resourcev1.DeviceSelector, path *field.Path) field.ErrorList {
	errs := atMost(list, resourcev1.DeviceSelectorsMaxSize, path)
	for i, s := range list {
		at := path.Index(i).Child("cel")
		if s.CEL == nil {
			errs = append(errs, field.Required(at, ""))
			continue
		}
		known := slices.ContainsFunc(old, func(o resourcev1.DeviceSelector) bool { return o.CEL != nil && *o.CEL == *s.CEL })
		if !known {
			errs = append(errs, validateExpression(s.CEL.Expression, at.Child("expression"))...)
		}
	}
	return errs
}

func validateExpression(expression string, path *field.Path) field.ErrorList {
	if expression == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	if len(expression) > resourcev1.CELSelectorExpressionMaxLength {
		return field.ErrorList{field.TooLong(path, "", resourcev1.CELSelectorExpressionMaxLength)}
	}
	fresh := environment.NewExpressions
	result := dracel.GetCompiler(dracel.Features{EnableConsumableCapacity: true}).CompileCELExpression(expression, dracel.Options{EnvType: &fresh})
	switch {
	case result.Error != nil && result.Error.Type == apiservercel.ErrorTypeInternal:
		return field.ErrorList{field.InternalError(path, result.Error)}
	case result.Error != nil:
		return field.ErrorList{field.Invalid(path, expression, result.Error.Detail)}
	case result.MaxCost > resourcev1.CELSelectorExpressionMaxCost:
		return field.ErrorList{field.Forbidden(path, "too complex, exceeds cost limit")}
	}
	return nil
}

func validateTolerations(list []resourcev1.DeviceToleration, path *field.Path) field.ErrorList {
	errs := atMost(list, resourcev1.DeviceTolerationsMaxLength, path)
	for i, t := range list {
		at := path.Index(i)
		if t.Key != "" {
			errs = append(errs, check.Qualified(t.Key, at.Child("key"))...)
		}
		switch t.Operator {
		case resourcev1.DeviceTolerationOpExists:
			if t.Value != "" {
				errs = append(errs, field.Invalid(at.Child("value"), t.Value, "must be empty for operator `Exists`"))
			}
		case resourcev1.DeviceTolerationOpEqual:
			if t.Key == "" {
				errs = append(errs, field.Required(at.Child("key"), "must be set for operator `Equal`"))
			}
			errs = append(errs, labelValue(t.Value, at.Child("value"))...)
		case "":
			errs = append(errs, field.Required(at.Child("operator"), ""))
		default:
			errs = append(errs, field.NotSupported(at.Child("operator"), t.Operator, []resourcev1.DeviceTolerationOperator{
				resourcev1.DeviceTolerationOpEqual, resourcev1.DeviceTolerationOpExists,
			}))
		}
		errs = append(errs, check.OneOf(t.Effect, at.Child("effect"), "", resourcev1.DeviceTaintEffectNoSchedule, resourcev1.DeviceTaintEffectNoExecute)...)
	}
	return errs
}

func validateTaint(t *resourcev1.DeviceTaint, path *field.Path) field.ErrorList {
	errs := check.Qualified(t.Key, path.Child("key")) // "" is refused by it
	errs = append(errs, labelValue(t.Value, path.Child("value"))...)
	return append(errs, check.RequiredOneOf(t.Effect, path.Child("effect"),
		resourcev1.DeviceTaintEffectNone, resourcev1.DeviceTaintEffectNoExecute, resourcev1.DeviceTaintEffectNoSchedule)...)
}

// validateConfiguration checks parameters that only a driver understands.
func validateConfiguration(c *resourcev1.DeviceConfiguration, path *field.Path) field.ErrorList {
	if c.Opaque == nil {
		return field.ErrorList{field.Required(path.Child("opaque"), "")}
	}
	at := path.Child("opaque")
	return append(driverName(c.Opaque.Driver, at.Child("driver")), rawObject(c.Opaque.Parameters, resourcev1.OpaqueParametersMaxLength, at.Child("parameters"))...)
}
