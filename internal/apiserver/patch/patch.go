package patch

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/mergepatch"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"
)

// Patch is a change to an object in one of the three forms that name changes rather than wishes. For server-side apply
// see Owners.Apply.
type Patch struct {
	Type       types.PatchType         // JSONPatchType, MergePatchType or StrategicMergePatchType
	Body       []byte                  // JSON
	GVK        schema.GroupVersionKind // of the object, in the version the request names
	Validation Validation
}

// Types returns the patch types that an object accepts, in the order upstream names them; apply included.
func Types(obj runtime.Object) []types.PatchType {
	if _, custom := obj.(runtime.Unstructured); custom {
		return []types.PatchType{types.JSONPatchType, types.MergePatchType, types.ApplyYAMLPatchType}
	}
	return []types.PatchType{types.JSONPatchType, types.MergePatchType, types.StrategicMergePatchType, types.ApplyYAMLPatchType}
}

// Apply returns what p makes of current: a fresh object of the same Go type, not yet defaulted. Patch and result are
// checked for fields that the kind does not have as p.Validation says.
func Apply(current runtime.Object, p Patch) (patched runtime.Object, warnings []string, err error) {
	var strict []error
	switch p.Type {
	case types.JSONPatchType:
		patched, strict, err = p.applyJSON(current)
	case types.MergePatchType:
		if patched = p.quickly(current); patched == nil {
			patched, strict, err = p.applyMerge(current)
		}
	case types.StrategicMergePatchType:
		if patched = p.quickly(current); patched == nil {
			patched, strict, err = p.applyStrategic(current)
		}
	default:
		err = apierrors.NewBadRequest(fmt.Sprintf("%s is not a patch type", p.Type))
	}
	if err != nil {
		return nil, nil, err
	}
	if got := patched.GetObjectKind().GroupVersionKind(); got != p.GVK {
		return nil, nil, wrongKind(got, p.GVK)
	}
	switch {
	case len(strict) == 0 || p.Validation == Ignore:
		return patched, nil, nil
	case p.Validation == Strict:
		return nil, nil, invalidPatch(string(p.Body), runtime.NewStrictDecodingError(strict))
	}
	return patched, texts(strict), nil
}

// applyMerge applies an RFC 7386 merge patch.
func (p Patch) applyMerge(current runtime.Object) (runtime.Object, []error, error) {
	change := map[string]any{}
	strict, err := p.strictBody(&change, "")
	if err != nil {
		return nil, nil, err
	}
	if change == nil {
		return nil, nil, apierrors.NewBadRequest("the patch is null: it must be an object")
	}
	fields, err := asMap(current, p.GVK)
	if err != nil {
		return nil, nil, err
	}
	merge(fields, change)
	after, err := json.Marshal(fields)
	if err != nil {
		return nil, nil, fmt.Errorf("encode %s: %w", p.GVK.Kind, err)
	}
	return p.decode(after, current, strict)
}

// merge changes fields as RFC 7386 says.
func merge(fields, change map[string]any) {
	for key, value := range change {
		if value == nil {
			delete(fields, key)
			continue
		}
		below, ok := value.(map[string]any)
		if !ok {
			fields[key] = value
			continue
		}
		present, ok := fields[key].(map[string]any)
		if !ok {
			present = make(map[string]any, len(below))
			fields[key] = present
		}
		merge(present, below)
	}
}

// applyStrategic applies a strategic merge patch, whose rules are in the tags of the Go struct.
func (p Patch) applyStrategic(current runtime.Object) (runtime.Object, []error, error) {
	if _, custom := current.(runtime.Unstructured); custom {
		return nil, nil, apierrors.NewGenericServerResponse(http.StatusUnsupportedMediaType, "", schema.GroupResource{}, "",
			mergepatch.ErrUnsupportedStrategicMergePatchFormat.Error(), 0, false)
	}
	change := map[string]any{}
	strict, err := p.strictBody(&change, "")
	if err != nil {
		return nil, nil, err
	}
	before, err := asMap(current, p.GVK)
	if err != nil {
		return nil, nil, err
	}
	after, err := strategicpatch.StrategicMergeMapPatch(before, change, current)
	if err != nil {
		return nil, nil, strategicError(err)
	}
	patched := empty(current)
	err = runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(after, patched, p.Validation != Ignore)
	if more, ok := runtime.AsStrictDecodingError(err); ok {
		return patched, append(strict, more.Errors()...), nil
	}
	if err != nil {
		return nil, nil, invalidPatch(fmt.Sprintf("%+v", change), err)
	}
	return patched, strict, nil
}

// strictBody reads the patch into v and returns, unless validation is off, what is wrong with its form: keys given twice.
func (p Patch) strictBody(v any, prefix string) ([]error, error) {
	strict, err := kjson.UnmarshalStrict(p.Body, v)
	if err != nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("error decoding patch: %v", err))
	}
	if p.Validation == Ignore {
		return nil, nil
	}
	for i, err := range strict {
		strict[i] = fmt.Errorf("%s%w", prefix, err)
	}
	return strict, nil
}

// decode reads the patched JSON into a fresh object of current's Go type. strict is what the patch itself got wrong.
func (p Patch) decode(after []byte, current runtime.Object, strict []error) (runtime.Object, []error, error) {
	patched := empty(current)
	more, err := decodeJSON(after, patched, p.Validation)
	if err != nil {
		return nil, nil, invalidPatch(string(after), err)
	}
	return patched, append(strict, more...), nil
}

func empty(like runtime.Object) runtime.Object {
	return reflect.New(reflect.TypeOf(like).Elem()).Interface().(runtime.Object)
}

// invalidPatch is how a patch with an impossible result is refused; clients look for the cause on the field "patch".
func invalidPatch(value string, err error) error {
	return apierrors.NewInvalid(schema.GroupKind{}, "", field.ErrorList{field.Invalid(field.NewPath("patch"), value, err.Error())})
}

// unprocessable is a well-formed patch that the present object does not admit.
func unprocessable(err error) error {
	return apierrors.NewGenericServerResponse(http.StatusUnprocessableEntity, "", schema.GroupResource{}, "", err.Error(), 0, false)
}

func strategicError(err error) error {
	if errors.Is(err, mergepatch.ErrNoListOfLists) || errors.Is(err, mergepatch.ErrPatchContentNotMatchRetainKeys) {
		return unprocessable(err)
	}
	return apierrors.NewBadRequest(err.Error())
}
