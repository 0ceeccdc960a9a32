package patch

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// Validation says what happens to fields that the kind does not have and to fields given twice.
type Validation string

// The values of the fieldValidation parameter.
const (
	Strict Validation = metav1.FieldValidationStrict // refused
	Warn   Validation = metav1.FieldValidationWarn   // dropped with a warning; the default
	Ignore Validation = metav1.FieldValidationIgnore // dropped silently
)

// Encoding is how a body is written.
type Encoding int

// The text encodings of bodies.
const (
	JSON Encoding = iota
	YAML
)

// ParseValidation reads the fieldValidation parameter.
func ParseValidation(param string) (Validation, error) {
	switch v := Validation(param); v {
	case "":
		return Warn, nil
	case Strict, Warn, Ignore:
		return v, nil
	}
	return "", apierrors.NewBadRequest(fmt.Sprintf("fieldValidation: Unsupported value: %q: supported values: %q, %q, %q", param, Ignore, Strict, Warn))
}

// KindOf reads which kind a body says it is; what it leaves out is taken from want. The error is a BadRequest.
func KindOf(body []byte, enc Encoding, want schema.GroupVersionKind) (schema.GroupVersionKind, error) {
	data, err := toJSON(body, enc)
	if err != nil {
		return schema.GroupVersionKind{}, unrecognized(want, err)
	}
	return kindOf(data, want)
}

func kindOf(data []byte, want schema.GroupVersionKind) (schema.GroupVersionKind, error) {
	var meta struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
	}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(data, &meta); err != nil {
		return schema.GroupVersionKind{}, unrecognized(want, fmt.Errorf("couldn't get version/kind; json parse error: %w", err))
	}
	gv, err := schema.ParseGroupVersion(meta.APIVersion)
	if err != nil {
		return schema.GroupVersionKind{}, apierrors.NewBadRequest(err.Error())
	}
	if meta.APIVersion == "" {
		gv = want.GroupVersion()
	}
	if meta.Kind == "" {
		meta.Kind = want.Kind
	}
	return gv.WithKind(meta.Kind), nil
}

// Decode reads body into the empty object into, which is of kind gvk. Fields that the kind does not have are refused,
// warned of or ignored as v says. A body of another kind, malformed or of the wrong types is a BadRequest.
func Decode(body []byte, enc Encoding, gvk schema.GroupVersionKind, into runtime.Object, v Validation) (warnings []string, err error) {
	data, err := toJSON(body, enc)
	if err != nil {
		return nil, cannotHandle(gvk, err)
	}
	got, err := kindOf(data, gvk)
	if err != nil {
		return nil, err
	}
	if got != gvk {
		return nil, wrongKind(got, gvk)
	}
	strict, err := decodeJSON(data, into, v)
	if err != nil {
		return nil, cannotHandle(gvk, err)
	}
	if enc == YAML && v != Ignore {
		if _, err := yaml.YAMLToJSONStrict(body); err != nil { // keys given twice do not survive the conversion above
			strict = append([]error{err}, strict...)
		}
	}
	into.GetObjectKind().SetGroupVersionKind(gvk)
	if len(strict) > 0 && v == Strict {
		return nil, cannotHandle(gvk, runtime.NewStrictDecodingError(strict))
	}
	return texts(strict), nil
}

func toJSON(body []byte, enc Encoding) ([]byte, error) {
	if enc != YAML {
		return body, nil
	}
	data, err := yaml.YAMLToJSON(body)
	if err != nil {
		return nil, fmt.Errorf("error converting YAML to JSON: %w", err)
	}
	return data, nil
}

// decodeJSON fills into and returns, unless v is Ignore, what a strict decoder objects to.
func decodeJSON(data []byte, into runtime.Object, v Validation) (strict []error, err error) {
	var target any = into
	fields := map[string]any{}
	u, custom := into.(runtime.Unstructured)
	if custom { // has an unmarshaller of its own, which would hide the field from the strict decoder
		target = &fields
	}
	if v == Ignore {
		err = kjson.UnmarshalCaseSensitivePreserveInts(data, target)
	} else {
		strict, err = kjson.UnmarshalStrict(data, target)
	}
	if err != nil {
		return nil, err
	}
	if custom {
		if fields == nil {
			return nil, errors.New("the body is null")
		}
		u.SetUnstructuredContent(fields)
	}
	return strict, nil
}

func texts(errs []error) []string {
	out := make([]string, 0, len(errs))
	for _, err := range errs {
		text, isYAML := strings.CutPrefix(err.Error(), "yaml: ")
		if !isYAML {
			out = append(out, text)
			continue
		}
		for line := range strings.SplitSeq(text, "\n") { // a warning is one line of a header
			out = append(out, strings.TrimSpace(line))
		}
	}
	return out
}

func wrongKind(got, want schema.GroupVersionKind) error {
	if got.GroupVersion() != want.GroupVersion() {
		return apierrors.NewBadRequest(fmt.Sprintf("the API version in the data (%s) does not match the expected API version (%s)", got.GroupVersion(), want.GroupVersion()))
	}
	return apierrors.NewBadRequest(fmt.Sprintf("%s in version %q cannot be handled as a %s: the kind in the data does not match the expected kind", got.Kind, got.Version, want.Kind))
}

func cannotHandle(gvk schema.GroupVersionKind, err error) error {
	return apierrors.NewBadRequest(fmt.Sprintf("%s in version %q cannot be handled as a %s: %v", gvk.Kind, gvk.Version, gvk.Kind, err))
}

func unrecognized(gvk schema.GroupVersionKind, err error) error {
	return apierrors.NewBadRequest(fmt.Sprintf("the object provided is unrecognized (must be of type %s): %v", gvk.Kind, err))
}

// asMap returns obj as JSON values that the caller may change, with kind and apiVersion set.
func asMap(obj runtime.Object, gvk schema.GroupVersionKind) (map[string]any, error) {
	m, err := runtime.DefaultUnstructuredConverter.ToUnstructured(obj)
	if err != nil {
		return nil, fmt.Errorf("convert %s to fields: %w", gvk.Kind, err)
	}
	if _, custom := obj.(runtime.Unstructured); custom { // the converter returns the object's own maps
		m = runtime.DeepCopyJSON(m)
	}
	m["apiVersion"], m["kind"] = gvk.ToAPIVersionAndKind()
	return m, nil
}

// asJSON returns obj as JSON with kind and apiVersion set.
func asJSON(obj runtime.Object, gvk schema.GroupVersionKind) ([]byte, error) {
	m, err := asMap(obj, gvk)
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", gvk.Kind, err)
	}
	return data, nil
}
