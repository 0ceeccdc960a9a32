// Package check holds the rules of values that many kinds share: names, numbers, enums, ports, references, quantities.
// Each takes the path to name in the error, and words its errors as clients have come to match on.
package check

import (
	"math"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Texts that errors of many kinds share.
const (
	Negative    = "must be greater than or equal to 0"
	NotPositive = "must be greater than 0"
	Immutable   = "field is immutable"
)

// Messages makes one Invalid error of each message.
func Messages(path *field.Path, value any, msgs []string) field.ErrorList {
	var errs field.ErrorList
	for _, msg := range msgs {
		errs = append(errs, field.Invalid(path, value, msg))
	}
	return errs
}

// NonNegative refuses numbers below zero.
func NonNegative[N ~int32 | ~int64 | ~int](value N, path *field.Path) field.ErrorList {
	if value < 0 {
		return field.ErrorList{field.Invalid(path, int64(value), Negative)}
	}
	return nil
}

// OptionalNonNegative refuses numbers below zero.
func OptionalNonNegative[N ~int32 | ~int64](value *N, path *field.Path) field.ErrorList {
	if value == nil {
		return nil
	}
	return NonNegative(*value, path)
}

// Positive refuses zero and numbers below.
func Positive[N ~int32 | ~int64 | ~int](value N, path *field.Path) field.ErrorList {
	if value <= 0 {
		return field.ErrorList{field.Invalid(path, int64(value), NotPositive)}
	}
	return nil
}

// OneOf refuses values outside a set; "" is a value like any other.
func OneOf[S ~string](value S, path *field.Path, allowed ...S) field.ErrorList {
	if slices.Contains(allowed, value) {
		return nil
	}
	return field.ErrorList{field.NotSupported(path, value, allowed)}
}

// RequiredOneOf refuses "" as missing, and values outside a set.
func RequiredOneOf[S ~string](value S, path *field.Path, allowed ...S) field.ErrorList {
	if value == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	return OneOf(value, path, allowed...)
}

// Required refuses "".
func Required(value string, path *field.Path) field.ErrorList {
	if value == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	return nil
}

// Label refuses what is not a DNS label.
func Label(value string, path *field.Path) field.ErrorList {
	return Messages(path, value, validation.IsDNS1123Label(value))
}

// RequiredLabel refuses "" as missing and what is not a DNS label.
func RequiredLabel(value string, path *field.Path) field.ErrorList {
	if value == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	return Label(value, path)
}

// Subdomain refuses what is not a DNS subdomain.
func Subdomain(value string, path *field.Path) field.ErrorList {
	return Messages(path, value, validation.IsDNS1123Subdomain(value))
}

// RequiredSubdomain refuses "" as missing and what is not a DNS subdomain.
func RequiredSubdomain(value string, path *field.Path) field.ErrorList {
	if value == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	return Subdomain(value, path)
}

// Qualified refuses what is not a qualified name (a label's key).
func Qualified(value string, path *field.Path) field.ErrorList {
	return metavalidation.ValidateLabelName(value, path)
}

// Port refuses numbers that are no port.
func Port(value int32, path *field.Path) field.ErrorList {
	return Messages(path, value, validation.IsValidPortNum(int(value)))
}

// PortOrName refuses what is neither a port number nor the name of one.
func PortOrName(value intstr.IntOrString, path *field.Path) field.ErrorList {
	if value.Type == intstr.String {
		return Messages(path, value.StrVal, validation.IsValidPortName(value.StrVal))
	}
	return Messages(path, value.IntValue(), validation.IsValidPortNum(value.IntValue()))
}

// CountOrPercent refuses negative numbers and strings that are not a percentage.
func CountOrPercent(value intstr.IntOrString, path *field.Path) field.ErrorList {
	switch value.Type {
	case intstr.String:
		return Messages(path, value, validation.IsValidPercent(value.StrVal))
	case intstr.Int:
		return NonNegative(value.IntVal, path)
	default:
		return field.ErrorList{field.Invalid(path, value, "must be an integer or percentage (e.g '5%%')")}
	}
}

// Percent returns the number before the percent sign, if there is one.
func Percent(value intstr.IntOrString) (int, bool) {
	if value.Type != intstr.String || len(validation.IsValidPercent(value.StrVal)) > 0 {
		return 0, false
	}
	n, err := intstr.GetScaledValueFromIntOrPercent(&value, 100, false)
	return n, err == nil
}

// AtMostAll refuses percentages above 100.
func AtMostAll(value intstr.IntOrString, path *field.Path) field.ErrorList {
	if n, ok := Percent(value); ok && n > 100 {
		return field.ErrorList{field.Invalid(path, value, "must not be greater than 100%")}
	}
	return nil
}

// Selector checks a label selector in full.
func Selector(s *metav1.LabelSelector, path *field.Path) field.ErrorList {
	return metavalidation.ValidateLabelSelector(s, metavalidation.LabelSelectorValidationOptions{}, path)
}

// IP refuses what is not an IP address in canonical form.
func IP(value string, path *field.Path) field.ErrorList { return validation.IsValidIP(path, value) }

// LegacyIP accepts what released versions of the API accepted as an IP address, leading zeros included.
func LegacyIP(value string, path *field.Path) field.ErrorList {
	return validation.IsValidIPForLegacyField(path, value, false, nil)
}

// ResourceName refuses what cannot name a resource: a qualified name that, without a prefix, is one of the known ones.
func ResourceName(name string, path *field.Path) field.ErrorList {
	if msgs := qualified(name); len(msgs) > 0 {
		return Messages(path, name, msgs)
	}
	if standard := corev1.ResourceName(name); !strings.Contains(name, "/") && standard != corev1.ResourceStorage && !StandardQuota(standard) {
		return field.ErrorList{field.Invalid(path, name, "must be a standard resource type or fully qualified")}
	}
	return nil
}

func qualified(name string) []string {
	var msgs []string
	for _, err := range metavalidation.ValidateLabelName(name, field.NewPath("name")) {
		msgs = append(msgs, err.Detail)
	}
	return msgs
}

// WholeUnits says whether a resource is counted in whole units: extended resources and huge pages.
func WholeUnits(name corev1.ResourceName) bool { return Extended(name) || HugePages(name) }

// HugePages says whether name counts huge pages.
func HugePages(name corev1.ResourceName) bool {
	return strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix)
}

// Native says whether name belongs to Kubernetes itself.
func Native(name corev1.ResourceName) bool {
	return !strings.Contains(string(name), "/") || strings.Contains(string(name), corev1.ResourceDefaultNamespacePrefix)
}

// Extended says whether name is a resource that a device plugin or an administrator advertises.
func Extended(name corev1.ResourceName) bool {
	if Native(name) || strings.HasPrefix(string(name), corev1.DefaultResourceRequestsPrefix) {
		return false
	}
	return len(validation.IsQualifiedName(corev1.DefaultResourceRequestsPrefix+string(name))) == 0
}

// Quantity refuses negative quantities, and fractions of what is counted in whole units.
func Quantity(name corev1.ResourceName, q resource.Quantity, path *field.Path) field.ErrorList {
	errs := NonNegativeQuantity(q, path)
	if WholeUnits(name) && q.MilliValue()%1000 != 0 {
		errs = append(errs, field.Invalid(path, q.String(), "must be an integer"))
	}
	return errs
}

// NonNegativeQuantity refuses quantities below zero.
func NonNegativeQuantity(q resource.Quantity, path *field.Path) field.ErrorList {
	if q.Sign() < 0 {
		return field.ErrorList{field.Invalid(path, q.String(), Negative)}
	}
	return nil
}

// IDRange words the limits of user and group ids.
func IDRange(id int64, path *field.Path) field.ErrorList {
	if id < 0 || id > math.MaxInt32 {
		return field.ErrorList{field.Invalid(path, id, validation.InclusiveRangeError(0, math.MaxInt32))}
	}
	return nil
}

// LocalPath refuses absolute paths and ones that climb out with "..".
func LocalPath(value string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if strings.HasPrefix(value, "/") {
		errs = append(errs, field.Invalid(path, value, "must be a relative path"))
	}
	return append(errs, NoClimb(value, path)...)
}

// NoClimb refuses paths with ".." among their elements.
func NoClimb(value string, path *field.Path) field.ErrorList {
	if slices.Contains(strings.Split(value, "/"), "..") {
		return field.ErrorList{field.Invalid(path, value, "must not contain '..'")}
	}
	return nil
}

var windowsDrive = regexp.MustCompile(`^[a-zA-Z]:[\\/]`)

// Absolute says whether value is an absolute path on Linux or Windows.
func Absolute(value string) bool {
	return strings.HasPrefix(value, "/") || windowsDrive.MatchString(value)
}

// Duplicates finds the repeated keys of a list: seen tells whether a key came before, and remembers it.
type Duplicates[K comparable] map[K]bool

// Check refuses key at path when it came before.
func (d Duplicates[K]) Check(key K, path *field.Path) field.ErrorList {
	if d[key] {
		return field.ErrorList{field.Duplicate(path, key)}
	}
	d[key] = true
	return nil
}
