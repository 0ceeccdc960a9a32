package kinds

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utiljson "k8s.io/apimachinery/pkg/util/json"
)

// envelope opens every stored protobuf value; a runtime.Unknown with the type and the message follows.
const envelope = "k8s\x00"

// afterMessage is what follows the message: runtime.Unknown's contentEncoding and contentType, empty, a tag and a length each.
const afterMessage = 4

// message is what every k8s.io/api struct is in protobuf.
type message interface {
	Size() int
	Marshal() ([]byte, error)
	MarshalTo([]byte) (int, error)
	MarshalToSizedBuffer([]byte) (int, error)
	Unmarshal([]byte) error
}

// Codec turns a kind's objects into their stored and served forms and back: protobuf for kinds that have it, JSON for the
// others. It meets store.Codec. It has no state.
type Codec struct {
	kind  *Kind
	proto bool
}

// NewCodec returns the codec of k.
func NewCodec(k *Kind) Codec {
	_, proto := k.New().(message)
	return Codec{kind: k, proto: proto}
}

// Encode returns the stored and the served form of obj, which is in the hub version and has no resourceVersion. In protobuf the
// one is the end of the other.
func (c Codec) Encode(obj runtime.Object) (stored, served []byte, err error) {
	if !c.proto {
		if stored, err = c.encodeJSON(obj); err != nil {
			return nil, nil, err
		}
		served, err = c.JSON(obj)
		return stored, served, err
	}
	m, ok := obj.(message)
	if !ok {
		return nil, nil, c.wrongType(obj)
	}
	apiVersion, kind := c.kind.GVK.ToAPIVersionAndKind()
	unknown := runtime.Unknown{TypeMeta: runtime.TypeMeta{APIVersion: apiVersion, Kind: kind}}
	size := m.Size()
	frame := unknown.Size() + 1 + varintLen(uint64(size)) + size
	buf := make([]byte, len(envelope)+frame)
	copy(buf, envelope)
	n, err := unknown.NestedMarshalTo(buf[len(envelope):], m, uint64(size))
	if err != nil {
		return nil, nil, fmt.Errorf("encode %s: %w", kind, err)
	}
	stored = buf[:len(envelope)+n]
	end := len(stored) - afterMessage
	return stored, stored[end-size : end : end], nil
}

func varintLen(v uint64) int {
	n := 1
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}

// encodeJSON stores kind and apiVersion with the object, so that a reader knows the version it was written in.
func (c Codec) encodeJSON(obj runtime.Object) ([]byte, error) {
	if obj.GetObjectKind().GroupVersionKind() != c.kind.GVK {
		obj = obj.DeepCopyObject()
		obj.GetObjectKind().SetGroupVersionKind(c.kind.GVK)
	}
	data, err := json.Marshal(obj)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", c.kind.GVK.Kind, err)
	}
	return data, nil
}

// Decode returns the stored object in the hub version, defaulted. It also reads values that are stored as JSON or in
// another version of the kind.
func (c Codec) Decode(stored []byte) (runtime.Object, error) {
	var gvk schema.GroupVersionKind
	var read func(runtime.Object) error
	switch {
	case bytes.HasPrefix(stored, []byte(envelope)):
		var unknown runtime.Unknown
		if err := unknown.Unmarshal(stored[len(envelope):]); err != nil {
			return nil, fmt.Errorf("decode stored %s: %w", c.kind.GVK.Kind, err)
		}
		gvk = schema.FromAPIVersionAndKind(unknown.APIVersion, unknown.Kind)
		read = func(into runtime.Object) error { return unmarshal(unknown.Raw, into) }
	case bytes.HasPrefix(bytes.TrimLeft(stored, " \t\r\n"), []byte("{")):
		var meta runtime.TypeMeta
		if err := json.Unmarshal(stored, &meta); err != nil {
			return nil, fmt.Errorf("decode stored %s: %w", c.kind.GVK.Kind, err)
		}
		gvk = schema.FromAPIVersionAndKind(meta.APIVersion, meta.Kind)
		read = func(into runtime.Object) error { return utiljson.Unmarshal(stored, into) }
	default:
		return nil, fmt.Errorf("decode stored %s: neither protobuf nor JSON: is it encrypted under a key that is not configured?", c.kind.GVK.Kind)
	}
	served, err := c.version(gvk)
	if err != nil {
		return nil, err
	}
	obj := served.New()
	if err := read(obj); err != nil {
		return nil, fmt.Errorf("decode stored %s: %w", gvk, err)
	}
	hub, err := served.ToHub(obj)
	if err != nil {
		return nil, err
	}
	if _, custom := hub.(*unstructured.Unstructured); !custom {
		hub.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
	}
	hub.SetResourceVersion("")
	return hub, nil
}

// version finds the version that a stored value was written in.
func (c Codec) version(gvk schema.GroupVersionKind) (Served, error) {
	if gvk == c.kind.GVK {
		return Served{Kind: c.kind, GVK: gvk}, nil
	}
	for i := range c.kind.Versions {
		v := &c.kind.Versions[i]
		group := v.Group
		if group == "" {
			group = c.kind.GVK.Group
		}
		if gvk == (schema.GroupVersionKind{Group: group, Version: v.Version, Kind: c.kind.GVK.Kind}) {
			return Served{Kind: c.kind, GVK: gvk, alt: v}, nil
		}
	}
	return Served{}, fmt.Errorf("decode stored %s: the value says %q, which this release does not read", c.kind.GVK, gvk)
}

// Serve returns obj as an element of a list: protobuf without envelope, or JSON.
func (c Codec) Serve(obj runtime.Object) ([]byte, error) {
	if !c.proto {
		return c.JSON(obj)
	}
	m, ok := obj.(message)
	if !ok {
		return nil, c.wrongType(obj)
	}
	data, err := m.Marshal()
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", c.kind.GVK.Kind, err)
	}
	return data, nil
}

// Parse is the inverse of Serve.
func (c Codec) Parse(served []byte) (runtime.Object, error) {
	obj := c.kind.New()
	if u, ok := obj.(*unstructured.Unstructured); ok {
		if err := utiljson.Unmarshal(served, &u.Object); err != nil {
			return nil, fmt.Errorf("parse %s: %w", c.kind.GVK.Kind, err)
		}
		u.SetGroupVersionKind(c.kind.GVK)
		return u, nil
	}
	read := utiljson.Unmarshal
	if c.proto {
		read = func(data []byte, into any) error { return unmarshal(data, into) }
	}
	if err := read(served, obj); err != nil {
		return nil, fmt.Errorf("parse %s: %w", c.kind.GVK.Kind, err)
	}
	return obj, nil
}

// JSON returns obj as JSON without kind and apiVersion.
func (c Codec) JSON(obj runtime.Object) ([]byte, error) {
	var data []byte
	var err error
	if u, ok := obj.(*unstructured.Unstructured); ok {
		bare := make(map[string]any, len(u.Object))
		for key, value := range u.Object {
			if key != "kind" && key != "apiVersion" {
				bare[key] = value
			}
		}
		data, err = json.Marshal(bare)
	} else {
		if !obj.GetObjectKind().GroupVersionKind().Empty() {
			obj = obj.DeepCopyObject()
			obj.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
		}
		data, err = json.Marshal(obj)
	}
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", c.kind.GVK.Kind, err)
	}
	return data, nil
}

func (c Codec) wrongType(obj runtime.Object) error {
	return fmt.Errorf("encode %s: %T is not its hub version", c.kind.GVK, obj)
}

func unmarshal(data []byte, into any) error {
	m, ok := into.(message)
	if !ok {
		return errors.New("the kind has no protobuf form")
	}
	return m.Unmarshal(data)
}
