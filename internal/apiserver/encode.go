package apiserver

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"
)

// protoMagic opens every protobuf body; runtime.Unknown follows.
const protoMagic = "k8s\x00"

// The field tags of runtime.Unknown, runtime.TypeMeta, a list and metav1.WatchEvent: number<<3 | 2 (length-delimited).
const (
	tag1 = 1<<3 | 2
	tag2 = 2<<3 | 2
	tag3 = 3<<3 | 2
	tag4 = 4<<3 | 2
)

// protoMessage is what generated API types offer.
type protoMessage interface {
	Size() int
	MarshalToSizedBuffer([]byte) (int, error)
}

// head is the constant part of an object's encoding in one version of its kind, made once per served version.
type head struct {
	json  []byte // {"kind":"Pod","apiVersion":"v1"
	types []byte // the TypeMeta field of runtime.Unknown, tag and length included
}

func newHead(gvk schema.GroupVersionKind) head {
	return headOf(gvk.GroupVersion().String(), gvk.Kind)
}

func headOf(apiVersion, kind string) head {
	k, _ := json.Marshal(kind)
	v, _ := json.Marshal(apiVersion)
	var meta []byte
	meta = appendField(meta, tag1, apiVersion)
	meta = appendField(meta, tag2, kind)
	return head{
		json:  fmt.Appendf(nil, `{"kind":%s,"apiVersion":%s`, k, v),
		types: appendField(nil, tag1, meta),
	}
}

func appendField[B string | []byte](dst []byte, tag byte, b B) []byte {
	dst = append(dst, tag)
	dst = binary.AppendUvarint(dst, uint64(len(b)))
	return append(dst, b...)
}

// fieldSize is the size of a length-delimited field with a one-byte tag and n bytes of content.
func fieldSize(n int) int { return 1 + uvarintSize(uint64(n)) + n }

func uvarintSize(v uint64) int {
	n := 1
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}

// protoSize is the size of an object of n bytes with its envelope.
func (h head) protoSize(n int) int { return len(protoMagic) + len(h.types) + fieldSize(n) + 4 }

// appendProto appends the envelope around message.
func (h head) appendProto(dst, message []byte) []byte {
	dst = h.openProto(dst, len(message))
	dst = append(dst, message...)
	return append(dst, tag3, 0, tag4, 0)
}

// openProto appends what comes before a message of n bytes; closeProto what comes after it.
func (h head) openProto(dst []byte, n int) []byte {
	dst = append(dst, protoMagic...)
	dst = append(dst, h.types...)
	dst = append(dst, tag2)
	return binary.AppendUvarint(dst, uint64(n))
}

func closeProto(dst []byte) []byte { return append(dst, tag3, 0, tag4, 0) }

// appendJSON appends body, a JSON object without kind and apiVersion, with them.
func (h head) appendJSON(dst, body []byte) []byte {
	dst = append(dst, h.json...)
	body = bytes.TrimRight(body, "\n")
	if len(body) <= 2 { // {}
		return append(dst, '}')
	}
	dst = append(dst, ',')
	return append(dst, body[1:]...)
}

// encodeProto returns obj with its envelope.
func (h head) encodeProto(obj runtime.Object) ([]byte, error) {
	m, ok := obj.(protoMessage)
	if !ok {
		return nil, fmt.Errorf("%T has no protobuf form: ask for application/json", obj)
	}
	n := m.Size()
	buf := make([]byte, h.protoSize(n))
	open := h.openProto(buf[:0], n)
	if _, err := m.MarshalToSizedBuffer(buf[len(open) : len(open)+n]); err != nil {
		return nil, fmt.Errorf("encode %T: %w", obj, err)
	}
	closeProto(buf[:len(open)+n])
	return buf, nil
}

// encode returns obj, whose kind and apiVersion are unset, in the media type of f.
func (h head) encode(obj runtime.Object, f format) ([]byte, error) {
	if f.media == mediaProtobuf {
		return h.encodeProto(obj)
	}
	body, err := json.Marshal(obj)
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", obj, err)
	}
	return finishText(h.appendJSON(make([]byte, 0, len(h.json)+len(body)+2), body), f)
}

// finishText turns JSON into the text the client asked for: YAML, indented or plain JSON with a newline.
func finishText(doc []byte, f format) ([]byte, error) {
	switch {
	case f.media == mediaYAML:
		out, err := yaml.JSONToYAML(doc)
		if err != nil {
			return nil, fmt.Errorf("encode as YAML: %w", err)
		}
		return out, nil
	case f.pretty:
		var b bytes.Buffer
		if err := json.Indent(&b, doc, "", "  "); err != nil {
			return nil, fmt.Errorf("indent JSON: %w", err)
		}
		b.WriteByte('\n')
		return b.Bytes(), nil
	}
	return append(doc, '\n'), nil
}
