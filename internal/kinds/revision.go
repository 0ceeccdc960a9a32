package kinds

import "canopus/internal/store/splice"

// WithRevision returns a copy of served whose resourceVersion is revision.
func (c Codec) WithRevision(served []byte, revision int64) ([]byte, error) {
	if c.proto {
		return splice.Protobuf(served, revision)
	}
	return splice.JSON(served, revision)
}
