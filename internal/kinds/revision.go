package kinds

import "canopus/internal/store/splice"

// WithRevision returns a copy of served whose resourceVersion is revision.
func (c Codec) WithRevision(served []byte, revision int64) ([]byte, error) {
	if c.proto {
		return splice.Protobuf(served, revision)
	}
	return splice.JSON(served, revision)
}

// Same says whether two served forms differ in nothing but resourceVersion.
func (c Codec) Same(a, b []byte) bool {
	if c.proto {
		return splice.SameProtobuf(a, b)
	}
	return splice.SameJSON(a, b)
}
