// Package patch turns what a client sends into an object: strict and lenient decoding of bodies, the four kinds of
// patch, and the bookkeeping of metadata.managedFields. It does no I/O and keeps no state but two caches; the objects
// it is given are never changed unless a function says so.
//
// Read decode.go (a whole object), patch.go (JSON, merge and strategic merge patch), quick.go (the latter two without a detour
// by way of JSON), jsonpatch.go (limits of RFC 6902), owners.go (managedFields and server-side apply), fast.go (when the
// bookkeeping can be skipped), scale.go (the scale subresource).
//
// Errors meant for the client are *apierrors.StatusError; any other error is a defect of the server.
package patch
