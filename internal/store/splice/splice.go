// Package splice puts a resourceVersion into an encoded object without decoding it. An object is stored without one, since
// the revision is only known once it is stored; this is how the served form gets it for the price of a copy.
package splice

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
)

// Field numbers of the protobuf form: metadata in every Kubernetes object, resourceVersion in ObjectMeta.
const (
	metadataField        = 1
	resourceVersionField = 6
)

// span is the part of a buffer a field takes, tag included.
type span struct{ start, end, value int }

// Protobuf returns a copy of msg, an object's protobuf message, with metadata.resourceVersion set to revision. Field order
// and all other bytes stay.
func Protobuf(msg []byte, revision int64) ([]byte, error) {
	meta, err := find(msg, metadataField)
	if err != nil {
		return nil, fmt.Errorf("set resourceVersion: metadata: %w", err)
	}
	inside := msg[meta.value:meta.end]
	old, err := find(inside, resourceVersionField)
	if err != nil {
		return nil, fmt.Errorf("set resourceVersion: %w", err)
	}
	var digits [20]byte
	version := strconv.AppendInt(digits[:0], revision, 10)
	size := len(inside) - (old.end - old.start) + 2 + len(version) // a version is shorter than 128 bytes: tag and length take one byte each

	out := make([]byte, 0, len(msg)+len(version)+12)
	out = append(out, msg[:meta.start]...)
	out = append(out, metadataField<<3|2)
	out = binary.AppendUvarint(out, uint64(size))
	out = append(out, inside[:old.start]...)
	out = append(out, resourceVersionField<<3|2, byte(len(version)))
	out = append(out, version...)
	out = append(out, inside[old.end:]...)
	return append(out, msg[meta.end:]...), nil
}

// SameProtobuf says whether two objects' messages differ in nothing but metadata.resourceVersion. Messages that cannot be read differ.
func SameProtobuf(a, b []byte) bool {
	metaA, errA := find(a, metadataField)
	metaB, errB := find(b, metadataField)
	if errA != nil || errB != nil || !bytes.Equal(a[metaA.end:], b[metaB.end:]) || !bytes.Equal(a[:metaA.start], b[:metaB.start]) {
		return false
	}
	return sameBut(a[metaA.value:metaA.end], b[metaB.value:metaB.end])
}

// sameBut compares two metadata messages without their resourceVersion.
func sameBut(a, b []byte) bool {
	versionA, errA := find(a, resourceVersionField)
	versionB, errB := find(b, resourceVersionField)
	return errA == nil && errB == nil &&
		bytes.Equal(a[:versionA.start], b[:versionB.start]) && bytes.Equal(a[versionA.end:], b[versionB.end:])
}

var errTruncated = errors.New("truncated protobuf message")

// find returns where the first field with this number is. When there is none, an empty span before the first higher number:
// where a canonical encoder would put it.
func find(msg []byte, number uint64) (span, error) {
	for at := 0; at < len(msg); {
		f, n, err := field(msg, at)
		switch {
		case err != nil:
			return span{}, err
		case n == number:
			return f, nil
		case n > number:
			return span{start: at, end: at, value: at}, nil
		}
		at = f.end
	}
	return span{start: len(msg), end: len(msg), value: len(msg)}, nil
}

// field reads the field that starts at msg[at].
func field(msg []byte, at int) (span, uint64, error) {
	tag, n := binary.Uvarint(msg[at:])
	if n <= 0 {
		return span{}, 0, errTruncated
	}
	f := span{start: at, value: at + n}
	switch tag & 7 {
	case 0:
		_, n := binary.Uvarint(msg[f.value:])
		if n <= 0 {
			return span{}, 0, errTruncated
		}
		f.end = f.value + n
	case 1:
		f.end = f.value + 8
	case 5:
		f.end = f.value + 4
	case 2:
		size, n := binary.Uvarint(msg[f.value:])
		if n <= 0 || size > uint64(len(msg)) {
			return span{}, 0, errTruncated
		}
		f.value += n
		f.end = f.value + int(size)
	default:
		return span{}, 0, fmt.Errorf("wire type %d is not used by Kubernetes objects", tag&7)
	}
	if f.end > len(msg) {
		return span{}, 0, errTruncated
	}
	return f, tag >> 3, nil
}
