package apiserver

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"canopus/internal/apiserver/patch"
	"canopus/internal/kinds"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// maxBody is the largest body that is read.
const maxBody = 3 << 20

// readBody reads a whole body, up to maxBody.
func (rq *request) readBody() ([]byte, error) {
	if rq.ContentLength > maxBody {
		return nil, bodyTooLarge()
	}
	if rq.Body == nil || rq.Body == http.NoBody {
		return nil, nil
	}
	defer rq.cutBody()()
	if n := rq.ContentLength; n > 0 {
		buf := make([]byte, n)
		if _, err := io.ReadFull(rq.Body, buf); err != nil {
			return nil, rq.bodyError("the body ended early or could not be read", err)
		}
		return buf, nil
	}
	buf, err := io.ReadAll(io.LimitReader(rq.Body, maxBody+1))
	if err != nil {
		return nil, rq.bodyError("the body could not be read", err)
	}
	if len(buf) > maxBody {
		return nil, bodyTooLarge()
	}
	return buf, nil
}

// cutBody ends reading the body when the request's time is over: reading knows nothing of contexts, so the connection is
// told. The caller runs done after reading; it returns only when the connection will not be touched any more.
func (rq *request) cutBody() (done func()) {
	told := make(chan struct{})
	stop := context.AfterFunc(rq.Context(), func() {
		defer close(told)
		_ = http.NewResponseController(rq.w).SetReadDeadline(time.Unix(1, 0)) // in process there is no connection
	})
	return func() {
		if !stop() {
			<-told
		}
	}
}

// bodyError blames the time for a body that was cut when the request's was over, and else the body.
func (rq *request) bodyError(text string, err error) error {
	if over := rq.Context().Err(); over != nil {
		return over
	}
	return apierrors.NewBadRequest(fmt.Sprintf("%s: %v", text, err))
}

func bodyTooLarge() error { return errTooLarge(fmt.Sprintf("limit is %d", maxBody)) }

// body is a request's body, read but not decoded: a write that is run again decodes it again.
type body struct {
	data  []byte
	media media
	check patch.Validation
}

// takeBody reads a body that holds an object.
func (rq *request) takeBody(proto bool) (*body, error) {
	b := &body{check: patch.Warn}
	var ok bool
	b.media, ok = mediaOf(rq.Header.Get("Content-Type"))
	if !ok || b.media == mediaProtobuf && !proto {
		accepted := []string{typeJSON, typeYAML}
		if proto {
			accepted = append(accepted, typeProtobuf)
		}
		return nil, errMediaType(strings.Join(accepted, ", "))
	}
	var err error
	if v := rq.query.Get("fieldValidation"); v != "" {
		if b.check, err = patch.ParseValidation(v); err != nil {
			return nil, err
		}
	}
	if b.data, err = rq.readBody(); err != nil {
		return nil, err
	}
	return b, nil
}

// into decodes the body into an empty object of kind gvk, and leaves the object without kind and apiVersion.
func (b *body) into(gvk schema.GroupVersionKind, obj runtime.Object, warn func(string)) error {
	if b.media == mediaProtobuf {
		return decodeProto(b.data, gvk, obj)
	}
	enc := patch.JSON
	if b.media == mediaYAML {
		enc = patch.YAML
	}
	warnings, err := patch.Decode(b.data, enc, gvk, obj, b.check)
	if err != nil {
		return err
	}
	for _, w := range warnings {
		warn(w)
	}
	dropKind(obj)
	return nil
}

// dropKind removes kind and apiVersion, which the served bytes leave out. Custom resources keep them: they are all they have.
func dropKind(obj runtime.Object) {
	if _, custom := obj.(runtime.Unstructured); !custom {
		obj.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
	}
}

// decodeProto reads a protobuf body with its envelope.
func decodeProto(data []byte, gvk schema.GroupVersionKind, obj runtime.Object) error {
	m, ok := obj.(interface{ Unmarshal([]byte) error })
	if !ok {
		return errMediaType(typeJSON + ", " + typeYAML)
	}
	apiVersion, kind, raw, err := openEnvelope(data)
	if err != nil {
		return apierrors.NewBadRequest(fmt.Sprintf("the object provided is unrecognized (must be of type %s): %v", gvk.Kind, err))
	}
	if apiVersion != "" && apiVersion != gvk.GroupVersion().String() {
		return apierrors.NewBadRequest(fmt.Sprintf("the API version in the data (%s) does not match the expected API version (%s)", apiVersion, gvk.GroupVersion()))
	}
	if kind != "" && kind != gvk.Kind {
		return apierrors.NewBadRequest(fmt.Sprintf("%s in version %q cannot be handled as a %s", kind, apiVersion, gvk.Kind))
	}
	if err := unmarshal(m, raw); err != nil {
		return apierrors.NewBadRequest(fmt.Sprintf("%s in version %q cannot be handled as a %s: %v", gvk.Kind, gvk.Version, gvk.Kind, err))
	}
	return nil
}

// unmarshal turns a panic of a generated decoder into an error: bodies come from anywhere.
func unmarshal(m interface{ Unmarshal([]byte) error }, raw []byte) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("malformed message: %v", p)
		}
	}()
	return m.Unmarshal(raw)
}

var errEnvelope = errors.New("the body is not a protobuf envelope: it must begin with k8s\\x00 and hold a runtime.Unknown")

// openEnvelope returns what a protobuf body says of its kind, and the message in it. It copies nothing but the names.
func openEnvelope(data []byte) (apiVersion, kind string, raw []byte, err error) {
	rest, ok := strings.CutPrefix(string(data[:min(len(data), len(protoMagic))]), protoMagic)
	if !ok || rest != "" {
		return "", "", nil, errEnvelope
	}
	err = eachField(data[len(protoMagic):], func(tag byte, value []byte) error {
		switch tag {
		case tag1:
			return eachField(value, func(tag byte, value []byte) error {
				switch tag {
				case tag1:
					apiVersion = string(value)
				case tag2:
					kind = string(value)
				}
				return nil
			})
		case tag2:
			raw = value
		case tag3:
			if len(value) > 0 {
				return fmt.Errorf("content encoding %q is not spoken", value)
			}
		}
		return nil
	})
	return apiVersion, kind, raw, err
}

// eachField walks a message whose fields are all length-delimited and numbered below 16.
func eachField(data []byte, visit func(tag byte, value []byte) error) error {
	for len(data) > 0 {
		tag := data[0]
		n, used := binary.Uvarint(data[1:])
		if tag&7 != 2 || tag&0x80 != 0 || used <= 0 || n > uint64(len(data)-1-used) {
			return errEnvelope
		}
		start := 1 + used
		if err := visit(tag, data[start:start+int(n)]); err != nil {
			return err
		}
		data = data[start+int(n):]
	}
	return nil
}

// decodeObject decodes a body into a kind's hub version, defaulted.
func (s *Server) decodeObject(rq *request, ep *endpoint, b *body) (kinds.Object, error) {
	obj := ep.New()
	if err := b.into(ep.GVK, obj, rq.warn); err != nil {
		return nil, err
	}
	return toHub(ep, obj)
}

func toHub(ep *endpoint, obj runtime.Object) (kinds.Object, error) {
	hub, err := ep.ToHub(obj)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	return hub, nil
}
