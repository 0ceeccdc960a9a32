package authn

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/csv"
	"fmt"
	"io"
	"net/http"
	"strings"
	"unicode/utf8"

	"canopus/internal/auth"
)

// protocolPrefix marks a WebSocket subprotocol that carries a bearer token: browsers cannot set the Authorization header.
const protocolPrefix = "base64url.bearer.authorization.k8s.io."

const protocolHeader = "Sec-Websocket-Protocol"

// bearer returns the token that r carries, or "".
func bearer(r *http.Request) string {
	if h := r.Header.Get("Authorization"); h != "" {
		scheme, token, ok := strings.Cut(strings.TrimSpace(h), " ")
		if ok && strings.EqualFold(scheme, "bearer") {
			return strings.TrimSpace(token)
		}
		return ""
	}
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		return ""
	}
	for _, h := range r.Header[protocolHeader] {
		for p := range strings.SplitSeq(h, ",") {
			encoded, ok := strings.CutPrefix(strings.TrimSpace(p), protocolPrefix)
			if !ok {
				continue
			}
			if raw, err := base64.RawURLEncoding.DecodeString(encoded); err == nil && utf8.Valid(raw) {
				return string(raw)
			}
		}
	}
	return ""
}

// forget removes every token from r, the one that was used and others.
func forget(r *http.Request) {
	r.Header.Del("Authorization")
	if len(r.Header[protocolHeader]) == 0 {
		return
	}
	var rest []string
	for _, h := range r.Header[protocolHeader] {
		for p := range strings.SplitSeq(h, ",") {
			if p = strings.TrimSpace(p); !strings.HasPrefix(p, protocolPrefix) {
				rest = append(rest, p)
			}
		}
	}
	r.Header.Set(protocolHeader, strings.Join(rest, ","))
}

// Static knows a fixed set of tokens.
type Static struct {
	users map[[sha256.Size]byte]*auth.User // by hash, so that looking up tells nothing about a token by its timing
}

// ReadStatic reads tokens in upstream's format: lines of token,user,uid[,"group,group"].
func ReadStatic(in io.Reader) (*Static, error) {
	r := csv.NewReader(bufio.NewReader(in))
	r.FieldsPerRecord, r.Comment = -1, '#'
	s := &Static{users: map[[sha256.Size]byte]*auth.User{}}
	for n := 1; ; n++ {
		line, err := r.Read()
		if err == io.EOF {
			return s, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read the token file: %w", err)
		}
		if len(line) < 3 || line[0] == "" || line[1] == "" {
			return nil, fmt.Errorf("token file, record %d: token, user and uid are required", n)
		}
		u := &auth.User{Name: line[1], UID: line[2]}
		if len(line) > 3 && line[3] != "" {
			u.Groups = strings.Split(line[3], ",")
		}
		key := sha256.Sum256([]byte(line[0]))
		if s.users[key] != nil {
			return nil, fmt.Errorf("token file, record %d: the token of user %q is there twice", n, line[1])
		}
		s.users[key] = authenticated(u)
	}
}

// AuthenticateToken implements TokenAuthenticator. Static tokens are good for the API server only.
func (s *Static) AuthenticateToken(_ context.Context, token string, want []string) (*auth.User, []string, error) {
	if u := s.users[sha256.Sum256([]byte(token))]; u != nil {
		return u, want, nil
	}
	return nil, nil, nil
}
