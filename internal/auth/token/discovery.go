package token

import (
	"encoding/json"
	"fmt"
	"sort"

	"github.com/go-jose/go-jose/v4"
)

// Paths of the documents that let others check our tokens, and the content type of the key set.
const (
	ConfigurationPath = "/.well-known/openid-configuration"
	KeySetPath        = "/openid/v1/jwks"
	KeySetType        = "application/jwk-set+json"
)

// Configuration returns the OpenID discovery document. server is the address at which clients reach the API server,
// for instance https://10.96.0.1:443; the key set is read there.
func (a *Authority) Configuration(server string) ([]byte, error) {
	algs := map[string]bool{}
	for _, alg := range a.keys.algorithms {
		algs[string(alg)] = true
	}
	doc := struct {
		Issuer        string   `json:"issuer"`
		KeySet        string   `json:"jwks_uri"`
		ResponseTypes []string `json:"response_types_supported"`
		SubjectTypes  []string `json:"subject_types_supported"`
		Algorithms    []string `json:"id_token_signing_alg_values_supported"`
	}{
		Issuer: a.issuer, KeySet: server + KeySetPath,
		ResponseTypes: []string{"id_token"}, SubjectTypes: []string{"public"}, Algorithms: sorted(algs),
	}
	b, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("encode the OpenID configuration: %w", err)
	}
	return b, nil
}

// KeySet returns the public keys whose tokens are accepted, as a JSON Web Key Set.
func (a *Authority) KeySet() ([]byte, error) {
	var set jose.JSONWebKeySet
	for _, id := range a.keys.order {
		set.Keys = append(set.Keys, a.keys.public[id])
	}
	b, err := json.Marshal(set)
	if err != nil {
		return nil, fmt.Errorf("encode the service account key set: %w", err)
	}
	return b, nil
}

func sorted(set map[string]bool) []string {
	list := make([]string, 0, len(set))
	for s := range set {
		list = append(list, s)
	}
	sort.Strings(list)
	return list
}
