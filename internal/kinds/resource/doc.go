// Package resource describes the kinds of resource.k8s.io: devices that drivers publish, classes of them, and claims to them.
//
// What upstream serves as beta by default is on: device taints, consumable capacity, shared counters, per-device node selection,
// binding conditions and the drivers' status of devices. What is alpha there is refused or left out: attributes with lists,
// derived attributes, partition types, node-allocatable resources, operations to skip.
package resource

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	resourcev1 "k8s.io/api/resource/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds/check"
)

func equal(a, b any) bool { return apiequality.Semantic.DeepEqual(a, b) }

// atMost refuses lists that are too long.
func atMost[T any](list []T, most int, path *field.Path) field.ErrorList {
	if len(list) > most {
		return field.ErrorList{field.TooMany(path, len(list), most)}
	}
	return nil
}

// driverName refuses what cannot name a driver.
func driverName(name string, path *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	var errs field.ErrorList
	if len(name) > resourcev1.DriverNameMaxLength {
		errs = append(errs, field.TooLong(path, name, resourcev1.DriverNameMaxLength))
	}
	return append(errs, check.Messages(path, name, validation.IsDNS1123Subdomain(name))...)
}

// poolName refuses what is not a path of DNS subdomains.
func poolName(name string, path *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	var errs field.ErrorList
	if len(name) > resourcev1.PoolNameMaxLength {
		errs = append(errs, field.TooLong(path, name, resourcev1.PoolNameMaxLength))
	}
	for part := range strings.SplitSeq(name, "/") {
		errs = append(errs, check.Messages(path, part, validation.IsDNS1123Subdomain(part))...)
	}
	return errs
}

// qualifiedName refuses what cannot name an attribute or a capacity: an identifier, with or without a domain.
func qualifiedName(name string, path *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	domain, id, found := strings.Cut(name, "/")
	if !found {
		return identifier(name, path)
	}
	var errs field.ErrorList
	if domain == "" {
		errs = append(errs, field.Invalid(path, "", "the domain must not be empty"))
	} else {
		if len(domain) > resourcev1.DeviceMaxDomainLength {
			errs = append(errs, field.TooLong(path, domain, resourcev1.DeviceMaxDomainLength))
		}
		errs = append(errs, check.Messages(path, domain, validation.IsDNS1123Subdomain(domain))...)
	}
	if id == "" {
		return append(errs, field.Invalid(path, "", "the name must not be empty"))
	}
	return append(errs, identifier(id, path)...)
}

func identifier(id string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(id) > resourcev1.DeviceMaxIDLength {
		errs = append(errs, field.TooLong(path, id, resourcev1.DeviceMaxIDLength))
	}
	return append(errs, check.Messages(path, id, validation.IsCIdentifier(id))...)
}

// fullyQualifiedName is qualifiedName with the domain required.
func fullyQualifiedName(name string, path *field.Path) field.ErrorList {
	errs := qualifiedName(name, path)
	if name != "" && !strings.Contains(name, "/") {
		errs = append(errs, field.Invalid(path, name, "must include a domain"))
	}
	return errs
}

// rawObject refuses what is not a JSON object of bearable size.
func rawObject(raw runtime.RawExtension, most int, path *field.Path) field.ErrorList {
	if len(raw.Raw) == 0 {
		return field.ErrorList{field.Required(path, "")}
	}
	if len(raw.Raw) > most {
		return field.ErrorList{field.TooLong(path, "", most)}
	}
	var value any
	if err := json.Unmarshal(raw.Raw, &value); err != nil {
		return field.ErrorList{field.Invalid(path, "<value omitted>", fmt.Sprintf("error parsing data as JSON: %v", err))}
	}
	if _, ok := value.(map[string]any); !ok {
		return field.ErrorList{field.Invalid(path, "<value omitted>", "parsed data is not a JSON object")}
	}
	return nil
}

// exactlyOne refuses a choice of which none or several are set.
func exactlyOne(path *field.Path, set []string, names ...string) field.ErrorList {
	list := make([]string, len(names))
	for i, name := range names {
		list[i] = "`" + name + "`"
	}
	what := "exactly one of " + strings.Join(list, ", ") + " is required"
	switch len(set) {
	case 0:
		return field.ErrorList{field.Required(path, what)}
	case 1:
		return nil
	}
	slices.Sort(set)
	return field.ErrorList{field.Invalid(path, "{"+strings.Join(set, ", ")+"}", what+", but multiple fields are set")}
}

func labelValue(value string, path *field.Path) field.ErrorList {
	return check.Messages(path, value, content.IsLabelValue(value))
}

var uuid = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// shareID refuses what is not a UUID in lower case.
func shareID(id string, path *field.Path) field.ErrorList {
	if uuid.MatchString(id) {
		return nil
	}
	return field.ErrorList{field.Invalid(path, id, "must be a lowercase UUID in 8-4-4-4-12 format")}
}
