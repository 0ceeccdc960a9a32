package discovery

import (
	"bytes"
	"crypto/sha512"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"sigs.k8s.io/yaml"
)

const (
	typeJSON     = "application/json"
	typeYAML     = "application/yaml"
	typeProtobuf = "application/vnd.kubernetes.protobuf"
	// asAggregated names the aggregated form in Accept and Content-Type; clients compare it as text, so the order matters.
	asAggregated = ";g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
)

// Page is one discovery document in all its forms. It is an http.Handler for GET and HEAD.
type Page struct {
	plain, aggregated *form // aggregated is nil below the two roots
}

// form is a document as object and as JSON.
type form struct {
	obj  runtime.Object
	json []byte
	etag string
}

func newPage(plain, aggregated runtime.Object) (*Page, error) {
	p := &Page{}
	var err error
	if p.plain, err = newForm(plain); err != nil {
		return nil, err
	}
	if aggregated == nil {
		return p, nil
	}
	p.aggregated, err = newForm(aggregated)
	return p, err
}

func newForm(obj runtime.Object) (*form, error) {
	data, err := json.Marshal(obj)
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", obj, err)
	}
	sum := sha512.Sum512(data)
	return &form{obj: obj, json: append(data, '\n'), etag: strconv.Quote(fmt.Sprintf("%X", sum))}, nil
}

// ServeHTTP answers in the best form that the Accept header names, or with 304 when the client has it already.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Vary", "Accept")
	f, contentType := p.negotiate(r.Header.Get("Accept"))
	if f == nil {
		notAcceptable(w)
		return
	}
	body, err := f.encode(contentType)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", contentType)
	if f == p.aggregated {
		h.Set("ETag", f.etag)
		h.Set("Cache-Control", "public")
		if slices.Contains(r.Header.Values("If-None-Match"), f.etag) {
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body) // the client has gone: nobody to tell
}

func (f *form) encode(contentType string) ([]byte, error) {
	switch base, _, _ := strings.Cut(contentType, ";"); base {
	case typeProtobuf:
		var out bytes.Buffer
		err := protobuf.NewSerializer(nil, nil).Encode(f.obj, &out)
		return out.Bytes(), err
	case typeYAML:
		return yaml.JSONToYAML(f.json)
	}
	return f.json, nil
}

// negotiate picks the first acceptable clause of the highest quality.
func (p *Page) negotiate(accept string) (best *form, contentType string) {
	if accept == "" {
		return p.plain, typeJSON
	}
	quality := 0.0
	for clause := range strings.SplitSeq(accept, ",") {
		base, params, err := mime.ParseMediaType(clause)
		if err != nil {
			continue
		}
		q := 1.0
		if s, ok := params["q"]; ok {
			if q, err = strconv.ParseFloat(s, 64); err != nil {
				continue
			}
		}
		if f, ct := p.form(base, params); f != nil && q > quality {
			best, contentType, quality = f, ct, q
		}
	}
	return best, contentType
}

// form returns the form of one clause, or nil.
func (p *Page) form(base string, params map[string]string) (*form, string) {
	switch base {
	case "*/*", "application/*":
		base = typeJSON
	case typeJSON, typeYAML, typeProtobuf:
	default:
		return nil, ""
	}
	if params["as"] == "" && params["g"] == "" && params["v"] == "" {
		return p.plain, base
	}
	if p.aggregated == nil || params["as"] != "APIGroupDiscoveryList" || params["g"] != "apidiscovery.k8s.io" || params["v"] != "v2" {
		return nil, ""
	}
	return p.aggregated, base + asAggregated
}

func notAcceptable(w http.ResponseWriter) {
	status := metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status:   metav1.StatusFailure,
		Message:  "only the following media types are accepted: " + strings.Join([]string{typeJSON, typeYAML, typeProtobuf}, ", "),
		Reason:   metav1.StatusReasonNotAcceptable,
		Code:     http.StatusNotAcceptable,
	}
	w.Header().Set("Content-Type", typeJSON)
	w.WriteHeader(http.StatusNotAcceptable)
	_ = json.NewEncoder(w).Encode(status) // the client has gone: nobody to tell
}
