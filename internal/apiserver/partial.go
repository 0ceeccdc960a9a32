package apiserver

import (
	"encoding/binary"
	"encoding/json"
	"fmt"

	"canopus/internal/kinds"
	"canopus/internal/store"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// partialHead is PartialObjectMetadata (or its list, in which case list is set) in the version that f asks for.
func partialHead(f format, list string) head {
	return headOf(f.metaVersion(), "PartialObjectMetadata"+list)
}

// metadataField returns the first field of a message, tag and length included: in every object of the API that is its
// metadata, so it is all of a PartialObjectMetadata. ok is false if the message does not begin with it.
func metadataField(message []byte) (field []byte, ok bool) {
	if len(message) < 2 || message[0] != tag1 {
		return nil, false
	}
	n, used := binary.Uvarint(message[1:])
	end := 1 + used + int(n)
	if used <= 0 || n > uint64(len(message)) || end > len(message) {
		return nil, false
	}
	return message[:end], true
}

// partialOf is an object's metadata as an object of its own. It shares memory with the entry.
func partialOf(e *store.Entry) (*metav1.PartialObjectMetadata, error) {
	obj, err := e.Object()
	if err != nil {
		return nil, err
	}
	return kinds.Metadata(obj.(kinds.Object)), nil
}

// partialBytes encodes an object's metadata; proto says that the stored bytes are protobuf.
func partialBytes(e *store.Entry, f format, proto bool) ([]byte, error) {
	h := partialHead(f, "")
	if field, ok := metadataField(e.Body()); f.media == mediaProtobuf && proto && ok {
		return h.appendProto(nil, field), nil
	}
	p, err := partialOf(e)
	if err != nil {
		return nil, err
	}
	return h.encode(p, f)
}

func (s *Server) writePartial(rq *request, code int, e *store.Entry, f format) error {
	body, err := partialBytes(e, f, false)
	if err != nil {
		return err
	}
	rq.writeBody(code, f.media.contentType(), body)
	return nil
}

// writePartialList answers with the metadata of a page of objects; proto says that the stored bytes are protobuf.
func (s *Server) writePartialList(rq *request, l *store.List, meta metav1.ListMeta, f format, proto bool) error {
	h := partialHead(f, "List")
	if f.media == mediaProtobuf && proto {
		return writeProtoList(rq, h, meta, len(l.Entries), func(i int) []byte {
			field, _ := metadataField(l.Entries[i].Body())
			return field
		})
	}
	if f.media == mediaProtobuf {
		list := metav1.PartialObjectMetadataList{ListMeta: meta}
		for _, e := range l.Entries {
			p, err := partialOf(e)
			if err != nil {
				return err
			}
			list.Items = append(list.Items, *p)
		}
		body, err := h.encodeProto(&list)
		if err != nil {
			return err
		}
		rq.writeBody(200, typeProtobuf, body)
		return nil
	}
	return rq.writeJSONItems(h, meta, len(l.Entries), f, func(i int) ([]byte, error) {
		p, err := partialOf(l.Entries[i])
		if err != nil {
			return nil, err
		}
		body, err := json.Marshal(p)
		if err != nil {
			return nil, fmt.Errorf("encode metadata: %w", err)
		}
		return body, nil
	})
}
