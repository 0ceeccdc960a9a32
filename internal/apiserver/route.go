package apiserver

import (
	"net/http"
	"strings"
)

// route is what method and path of a request say. It is parsed once, without knowing which kinds are served.
type route struct {
	resource    bool // false: verb and path alone count
	verb        string
	group       string
	version     string
	plural      string
	namespace   string // of the object named; for namespaces themselves their own name, as RBAC expects
	name        string
	subresource string
	tail        string // what follows the subresource, with its leading slash and still escaped; for proxies
	watchPath   bool   // the deprecated /watch/ prefix
}

// maxSegments bounds how much of a path is split: only a proxied path may be longer.
const maxSegments = 10

// parseRoute reads method and path; escaped is the path as it was sent. It never fails: what is no resource path is a plain one.
func parseRoute(method, path, escaped string) route {
	var buf [maxSegments]string
	seg := segments(path, buf[:0])
	var rt route
	var used int
	switch {
	case len(seg) >= 3 && seg[0] == "api":
		rt.version, used = seg[1], 2
	case len(seg) >= 4 && seg[0] == "apis":
		rt.group, rt.version, used = seg[1], seg[2], 3
	default:
		rt.verb = strings.ToLower(method)
		return rt
	}
	rt.resource = true
	if seg[used] == "watch" && len(seg) > used+1 {
		rt.watchPath = true
		used++
	}
	if rest := seg[used:]; rest[0] == "namespaces" && len(rest) > 1 {
		rt.namespace = rest[1]
		if len(rest) > 2 && !(len(rest) == 3 && (rest[2] == "status" || rest[2] == "finalize")) {
			used += 2
		}
	}
	rest := seg[used:]
	rt.plural = rest[0]
	if len(rest) > 1 {
		rt.name = rest[1]
	}
	if len(rest) > 2 {
		rt.subresource = rest[2]
		rt.tail = afterSegments(escaped, used+3)
	}
	rt.verb = resourceVerb(method, &rt)
	return rt
}

// segments splits a path at slashes into out, as far as out has room, without the empty ends.
func segments(path string, out []string) []string {
	path = strings.Trim(path, "/")
	for path != "" && len(out) < cap(out) {
		i := strings.IndexByte(path, '/')
		if i < 0 {
			return append(out, path)
		}
		out = append(out, path[:i])
		path = path[i+1:]
	}
	return out
}

// afterSegments returns what follows the first n segments of a path, with its slash; "" if nothing does.
func afterSegments(path string, n int) string {
	path = strings.TrimLeft(path, "/")
	for range n {
		i := strings.IndexByte(path, '/')
		if i < 0 {
			return ""
		}
		path = path[i+1:]
	}
	return "/" + path
}

func resourceVerb(method string, rt *route) string {
	switch method {
	case http.MethodPost:
		return "create"
	case http.MethodGet, http.MethodHead:
		switch {
		case rt.watchPath:
			return "watch"
		case rt.name == "":
			return "list"
		}
		return "get"
	case http.MethodPut:
		return "update"
	case http.MethodPatch:
		return "patch"
	case http.MethodDelete:
		if rt.name == "" {
			return "deletecollection"
		}
		return "delete"
	}
	return ""
}
