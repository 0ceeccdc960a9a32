package openapi

import (
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const typeJSON = "application/json"

// binaryTypes are the names under which clients ask for the protobuf form of each version; the first is how we label it,
// because it is a valid media type and the second, older one is not.
var binaryTypes = map[string][2]string{
	"v2": {"application/com.github.proto-openapi.spec.v2.v1.0+protobuf", "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"},
	"v3": {"application/com.github.proto-openapi.spec.v3.v1.0+protobuf", "application/com.github.proto-openapi.spec.v3@v1.0+protobuf"},
}

// ServeHTTP answers /openapi/v2, /openapi/v3 and /openapi/v3/<document>.
func (d *Documents) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p := strings.TrimSuffix(r.URL.Path, "/")
	name, below := strings.CutPrefix(p, "/openapi/v3/")
	switch {
	case p == "/openapi/v3":
		d.serveIndex(w, r)
	case p == "/openapi/v2":
		d.serve(w, r, "v2", "v2")
	case below && name != "v2" && d.hashes[name] != "":
		if d.redirected(w, r, name) {
			return
		}
		d.serve(w, r, name, "v3")
	default:
		refuse(w, http.StatusNotFound, metav1.StatusReasonNotFound, "there is no OpenAPI document at "+p+": see /openapi/v3 for those there are")
	}
}

func (d *Documents) serveIndex(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", typeJSON)
	w.Header().Set("ETag", d.index.etag)
	if notModified(w, r, d.index.etag) {
		return
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(d.index.body)))
	_, _ = w.Write(d.index.body) // the client has gone: nobody to tell
}

// redirected sends a client that asks for another version of a document to the present one. An answer to the right hash
// can be kept for ever.
func (d *Documents) redirected(w http.ResponseWriter, r *http.Request, name string) bool {
	asked := r.URL.Query().Get("hash")
	if asked == "" {
		return false
	}
	if asked != d.hashes[name] {
		http.Redirect(w, r, location(name, d.hashes[name]), http.StatusMovedPermanently)
		return true
	}
	w.Header().Set("Cache-Control", "public, immutable")
	w.Header().Set("Expires", time.Now().AddDate(1, 0, 0).UTC().Format(http.TimeFormat))
	return false
}

// serve answers with a document in the form that the client prefers, unpacked unless it takes gzip.
func (d *Documents) serve(w http.ResponseWriter, r *http.Request, name, version string) {
	h := w.Header()
	h.Add("Vary", "Accept")
	h.Add("Vary", "Accept-Encoding")
	contentType := negotiate(r.Header.Get("Accept"), version)
	if contentType == "" {
		refuse(w, http.StatusNotAcceptable, metav1.StatusReasonNotAcceptable,
			"only the following media types are accepted: "+typeJSON+", "+strings.Join([]string{binaryTypes[version][0], binaryTypes[version][1]}, ", "))
		return
	}
	tag := strconv.Quote(d.hashes[name])
	h.Set("ETag", tag)
	if notModified(w, r, tag) {
		return
	}
	packed, err := files.ReadFile(file(name, contentType != typeJSON))
	if err != nil {
		refuse(w, http.StatusInternalServerError, metav1.StatusReasonInternalError, err.Error())
		return
	}
	h.Set("Content-Type", contentType)
	if takesGzip(r) {
		h.Set("Content-Encoding", "gzip")
		h.Set("Content-Length", strconv.Itoa(len(packed)))
		_, _ = w.Write(packed) // the client has gone: nobody to tell
		return
	}
	unpacked, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		refuse(w, http.StatusInternalServerError, metav1.StatusReasonInternalError, err.Error())
		return
	}
	_, _ = io.Copy(w, unpacked) // as above; the data is checked by a test
}

func etag(data []byte) string {
	return strconv.Quote(fmt.Sprintf("%X", sha512.Sum512(data)))
}

// notModified answers 304 if the client has the version with this tag. Caches mark tags of packed answers as weak.
func notModified(w http.ResponseWriter, r *http.Request, tag string) bool {
	for have := range strings.SplitSeq(r.Header.Get("If-None-Match"), ",") {
		if have = strings.TrimPrefix(strings.TrimSpace(have), "W/"); have == tag || have == "*" {
			w.WriteHeader(http.StatusNotModified)
			return true
		}
	}
	return false
}

// negotiate returns the content type of the answer, or "" if nothing that the client takes is there.
func negotiate(accept, version string) string {
	if accept == "" {
		return typeJSON
	}
	best, bestQ := "", 0.0
	for clause := range strings.SplitSeq(accept, ",") {
		kind, q := parseClause(clause)
		if kind == "*/*" || kind == "application/*" {
			kind = typeJSON
		}
		names := binaryTypes[version]
		if kind == names[1] {
			kind = names[0]
		}
		if (kind == typeJSON || kind == names[0]) && q > bestQ {
			best, bestQ = kind, q
		}
	}
	return best
}

// parseClause reads a media range. The '@' of the older protobuf types is not allowed in one, so mime is not asked for
// the type itself.
func parseClause(clause string) (kind string, q float64) {
	kind, rest, _ := strings.Cut(clause, ";")
	kind, q = strings.ToLower(strings.TrimSpace(kind)), 1
	if rest == "" {
		return kind, q
	}
	_, params, err := mime.ParseMediaType("a/b;" + rest)
	if err != nil {
		return "", 0
	}
	if s, ok := params["q"]; ok {
		if q, err = strconv.ParseFloat(s, 64); err != nil {
			return "", 0
		}
	}
	return kind, q
}

func takesGzip(r *http.Request) bool {
	for c := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		name, params, _ := strings.Cut(c, ";")
		if strings.TrimSpace(name) == "gzip" && strings.TrimSpace(params) != "q=0" {
			return true
		}
	}
	return false
}

func refuse(w http.ResponseWriter, code int32, reason metav1.StatusReason, message string) {
	status := metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status:   metav1.StatusFailure, Message: message, Reason: reason, Code: code,
	}
	w.Header().Set("Content-Type", typeJSON)
	w.WriteHeader(int(code))
	_ = json.NewEncoder(w).Encode(status) // the client has gone: nobody to tell
}
