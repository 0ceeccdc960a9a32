package splice

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// JSON returns a copy of doc, an object's JSON, with metadata.resourceVersion set to revision. doc is valid JSON with
// a metadata object, as an encoder writes it.
func JSON(doc []byte, revision int64) ([]byte, error) {
	meta, found, err := member(doc, 0, "metadata")
	if err != nil {
		return nil, fmt.Errorf("set resourceVersion: %w", err)
	}
	if !found || doc[meta.start] != '{' {
		return nil, errors.New("set resourceVersion: the JSON document has no metadata object")
	}
	old, found, err := member(doc, meta.start, "resourceVersion")
	if err != nil {
		return nil, fmt.Errorf("set resourceVersion: metadata: %w", err)
	}
	out := make([]byte, 0, len(doc)+48)
	if found {
		out = append(out, doc[:old.start]...)
		out = append(strconv.AppendInt(append(out, '"'), revision, 10), '"')
		return append(out, doc[old.end:]...), nil
	}
	inside := meta.start + 1
	out = append(out, doc[:inside]...)
	out = append(out, `"resourceVersion":"`...)
	out = append(strconv.AppendInt(out, revision, 10), '"')
	if inside = skipSpace(doc, inside); doc[inside] != '}' {
		out = append(out, ',')
	}
	return append(out, doc[inside:]...), nil
}

// SameJSON says whether two objects' JSON, as one encoder writes it, differs in nothing but metadata.resourceVersion. What
// cannot be read differs.
func SameJSON(a, b []byte) bool {
	const one = 1 // whatever it is
	a, errA := JSON(a, one)
	b, errB := JSON(b, one)
	return errA == nil && errB == nil && bytes.Equal(a, b)
}

var errJSON = errors.New("malformed JSON")

// member finds the value of a member of the object that starts at or after doc[at].
func member(doc []byte, at int, name string) (span, bool, error) {
	at = skipSpace(doc, at)
	if at >= len(doc) || doc[at] != '{' {
		return span{}, false, errJSON
	}
	at = skipSpace(doc, at+1)
	for at < len(doc) && doc[at] != '}' {
		end := skipString(doc, at)
		if end < 0 {
			return span{}, false, errJSON
		}
		key := doc[at+1 : end-1]
		at = skipSpace(doc, end)
		if at >= len(doc) || doc[at] != ':' {
			return span{}, false, errJSON
		}
		at = skipSpace(doc, at+1)
		end = skipValue(doc, at)
		if end < 0 {
			return span{}, false, errJSON
		}
		if string(key) == name {
			return span{start: at, end: end}, true, nil
		}
		if at = skipSpace(doc, end); at < len(doc) && doc[at] == ',' {
			at = skipSpace(doc, at+1)
		}
	}
	if at >= len(doc) {
		return span{}, false, errJSON
	}
	return span{}, false, nil
}

func skipSpace(doc []byte, at int) int {
	for at < len(doc) && (doc[at] == ' ' || doc[at] == '\n' || doc[at] == '\t' || doc[at] == '\r') {
		at++
	}
	return at
}

// skipString returns the index after the string that starts at doc[at], or -1.
func skipString(doc []byte, at int) int {
	if at >= len(doc) || doc[at] != '"' {
		return -1
	}
	for at++; at < len(doc); at++ {
		switch doc[at] {
		case '\\':
			at++
		case '"':
			return at + 1
		}
	}
	return -1
}

// skipValue returns the index after the value that starts at doc[at], or -1.
func skipValue(doc []byte, at int) int {
	depth := 0
	for at < len(doc) {
		switch doc[at] {
		case '"':
			if at = skipString(doc, at); at < 0 {
				return -1
			}
			if depth == 0 {
				return at
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return at + 1
			}
		default:
			if depth == 0 {
				if n := bytes.IndexAny(doc[at:], ",}] \t\r\n"); n > 0 {
					return at + n
				}
				return -1
			}
		}
		at++
	}
	return -1
}
