package store

import (
	"encoding/base64"
	"encoding/json"
)

// token is what a continue string holds; its form is upstream's. Start is relative to what the list walks: the resource, or
// one namespace of it, so no token reaches outside. Revision -1 goes on at the latest revision.
type token struct {
	Version  string `json:"v"`
	Revision int64  `json:"rv"`
	Start    string `json:"start"`
}

const tokenVersion = "meta.k8s.io/v1"

func encodeToken(rev int64, start string) string {
	b, err := json.Marshal(token{tokenVersion, rev, start})
	if err != nil { // two strings and a number: not reached
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

func decodeToken(s string) (token, error) {
	var t token
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return t, &InvalidContinue{Why: "it is not base64"}
	}
	if err := json.Unmarshal(b, &t); err != nil {
		return t, &InvalidContinue{Why: "it holds no JSON of the right form"}
	}
	switch {
	case t.Version != tokenVersion:
		return t, &InvalidContinue{Why: "its version is not " + tokenVersion}
	case t.Revision == 0 || t.Revision < -1:
		return t, &InvalidContinue{Why: "its revision is not one"}
	case t.Start == "":
		return t, &InvalidContinue{Why: "its start key is not one"}
	}
	return t, nil
}
