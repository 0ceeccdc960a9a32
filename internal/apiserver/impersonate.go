package apiserver

import (
	"net/url"
	"slices"
	"strings"

	"canopus/internal/auth"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// Headers by which a sender who may do so acts as somebody else.
const (
	headerAs      = "Impersonate-User"
	headerAsUID   = "Impersonate-Uid"
	headerAsGroup = "Impersonate-Group"
	headerAsExtra = "Impersonate-Extra-"
)

const serviceAccountPrefix = "system:serviceaccount:"

// impersonate replaces the sender by whom it asks to act as, if it may.
func (s *Server) impersonate(rq *request) error {
	as := asked(rq)
	if as == nil {
		return nil
	}
	if as.Name == "" {
		return apierrors.NewBadRequest("requested impersonation of uid, groups or extra without impersonating a user")
	}
	for _, a := range impersonations(rq.user, as) {
		if err := rq.allowed(a); err != nil {
			return err
		}
	}
	completeGroups(as)
	rq.from, rq.user = rq.user, as
	rq.Request = rq.WithContext(auth.WithUser(rq.Context(), as))
	for name := range rq.Header { // a proxied request must not carry them on
		if strings.HasPrefix(name, "Impersonate-") {
			rq.Header.Del(name)
		}
	}
	return nil
}

// asked reads the headers; nil if there are none.
func asked(rq *request) *auth.User {
	as := &auth.User{Name: rq.Header.Get(headerAs), UID: rq.Header.Get(headerAsUID), Groups: slices.Clone(rq.Header[headerAsGroup])}
	for name, values := range rq.Header {
		key, ok := strings.CutPrefix(name, headerAsExtra)
		if !ok {
			continue
		}
		key = strings.ToLower(key)
		if plain, err := url.PathUnescape(key); err == nil {
			key = plain
		}
		if as.Extra == nil {
			as.Extra = map[string][]string{}
		}
		as.Extra[key] = append(as.Extra[key], values...)
	}
	if as.Name == "" && as.UID == "" && as.Groups == nil && as.Extra == nil {
		return nil
	}
	return as
}

// impersonations lists what u must be allowed for acting as as.
func impersonations(u, as *auth.User) []*auth.Attributes {
	one := func(group, resource, namespace, name, sub string) *auth.Attributes {
		return &auth.Attributes{User: u, Verb: "impersonate", IsResource: true, Version: "v1",
			Group: group, Resource: resource, Subresource: sub, Namespace: namespace, Name: name}
	}
	var out []*auth.Attributes
	if account, ok := strings.CutPrefix(as.Name, serviceAccountPrefix); ok && strings.Count(account, ":") == 1 {
		namespace, name, _ := strings.Cut(account, ":")
		out = append(out, one("", "serviceaccounts", namespace, name, ""))
	} else {
		out = append(out, one("", "users", "", as.Name, ""))
	}
	for _, g := range as.Groups {
		out = append(out, one("", "groups", "", g, ""))
	}
	if as.UID != "" {
		out = append(out, one("authentication.k8s.io", "uids", "", as.UID, ""))
	}
	for key, values := range as.Extra {
		for _, v := range values {
			out = append(out, one("authentication.k8s.io", "userextras", "", v, key))
		}
	}
	return out
}

// completeGroups adds the groups that every user of that kind is in.
func completeGroups(as *auth.User) {
	if account, ok := strings.CutPrefix(as.Name, serviceAccountPrefix); ok && len(as.Groups) == 0 {
		namespace, _, _ := strings.Cut(account, ":")
		as.Groups = []string{"system:serviceaccounts", "system:serviceaccounts:" + namespace}
	}
	if as.Name == auth.AnonymousUser {
		if !slices.Contains(as.Groups, auth.UnauthenticatedGroup) {
			as.Groups = append(as.Groups, auth.UnauthenticatedGroup)
		}
		return
	}
	if !slices.Contains(as.Groups, auth.AuthenticatedGroup) && !slices.Contains(as.Groups, auth.UnauthenticatedGroup) {
		as.Groups = append(as.Groups, auth.AuthenticatedGroup)
	}
}
