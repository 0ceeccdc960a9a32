package apiserver

import (
	"net/http"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// media is an encoding of bodies.
type media uint8

const (
	mediaJSON media = iota
	mediaYAML
	mediaProtobuf
	mediaNone
)

const (
	typeJSON     = "application/json"
	typeYAML     = "application/yaml"
	typeProtobuf = "application/vnd.kubernetes.protobuf"
)

func (m media) contentType() string {
	switch m {
	case mediaYAML:
		return typeYAML
	case mediaProtobuf:
		return typeProtobuf
	}
	return typeJSON
}

// shape is what a response shows of objects.
type shape uint8

const (
	shapeFull shape = iota
	shapeTable
	shapePartial     // PartialObjectMetadata
	shapePartialList // PartialObjectMetadataList
)

// format is how the client wants to be answered.
type format struct {
	media  media
	shape  shape
	beta   bool // the shape in meta.k8s.io/v1beta1
	pretty bool
}

// metaVersion is the apiVersion of the shape.
func (f format) metaVersion() string {
	if f.beta {
		return "meta.k8s.io/v1beta1"
	}
	return "meta.k8s.io/v1"
}

// formatFor picks the best of what the Accept header names and we speak; ok is false if there is nothing.
// stream is set for watches, which YAML cannot frame.
func formatFor(r *http.Request, stream bool) (format, bool) {
	var f format
	ok := true
	switch accept := r.Header.Get("Accept"); accept {
	case "", "*/*", typeJSON:
	case typeProtobuf, typeProtobuf + ",application/json", typeProtobuf + ", application/json":
		f.media = mediaProtobuf
	default:
		f, ok = parseAccept(accept, stream)
	}
	if f.media != mediaProtobuf {
		f.pretty = wantsPretty(r)
	}
	return f, ok
}

func parseAccept(accept string, stream bool) (format, bool) {
	var best format
	bestQ := 0.0
	for clause := range strings.SplitSeq(accept, ",") {
		f, q, ok := parseClause(clause)
		if !ok || stream && f.media == mediaYAML {
			continue
		}
		if q > bestQ {
			best, bestQ = f, q
		}
	}
	return best, bestQ > 0
}

// parseClause reads one media range of an Accept header.
func parseClause(clause string) (f format, q float64, ok bool) {
	kind, params, _ := strings.Cut(clause, ";")
	switch strings.ToLower(strings.TrimSpace(kind)) {
	case typeJSON, "application/*", "*/*":
	case typeYAML:
		f.media = mediaYAML
	case typeProtobuf:
		f.media = mediaProtobuf
	default:
		return f, 0, false
	}
	q = 1
	var as, group, version string
	for p := range strings.SplitSeq(params, ";") {
		k, v, _ := strings.Cut(strings.TrimSpace(p), "=")
		v = strings.Trim(v, `"`)
		switch strings.ToLower(k) {
		case "q":
			n, err := strconv.ParseFloat(v, 64)
			if err != nil || n < 0 || n > 1 {
				return f, 0, false
			}
			q = n
		case "as":
			as = v
		case "g":
			group = v
		case "v":
			version = v
		case "stream":
			if v != "watch" {
				return f, 0, false
			}
		case "pretty":
			f.pretty = v == "1" || v == "true"
		}
	}
	if as == "" {
		return f, q, true
	}
	ok = f.setShape(as, group, version)
	return f, q, ok
}

func (f *format) setShape(as, group, version string) bool {
	if group != metav1.GroupName || version != "v1" && version != "v1beta1" {
		return false
	}
	f.beta = version == "v1beta1"
	switch as {
	case "Table":
		f.shape = shapeTable
		return f.media != mediaProtobuf // a Table has cells of any type, which protobuf cannot say
	case "PartialObjectMetadata":
		f.shape = shapePartial
	case "PartialObjectMetadataList":
		f.shape = shapePartialList
	default:
		return false
	}
	return true
}

// wantsPretty is true for ?pretty and for the programs people read from.
func wantsPretty(r *http.Request) bool {
	if strings.Contains(r.URL.RawQuery, "pretty=") {
		v := r.URL.Query().Get("pretty")
		return v != "" && v != "0" && v != "false"
	}
	agent := r.UserAgent()
	return strings.HasPrefix(agent, "curl") || strings.HasPrefix(agent, "Wget") || strings.HasPrefix(agent, "Mozilla/5.0")
}

// mediaOf reads a Content-Type; an absent one means JSON.
func mediaOf(contentType string) (media, bool) {
	kind, _, _ := strings.Cut(contentType, ";")
	switch strings.ToLower(strings.TrimSpace(kind)) {
	case "", typeJSON:
		return mediaJSON, true
	case typeYAML:
		return mediaYAML, true
	case typeProtobuf:
		return mediaProtobuf, true
	}
	return mediaNone, false
}
