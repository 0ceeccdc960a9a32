package apiserver

import (
	"fmt"
	"slices"
	"strings"

	"canopus/internal/apiserver/patch"
	"canopus/internal/kinds"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/types"
)

// patchRequest is a patch as it was sent.
type patchRequest struct {
	kind    types.PatchType
	body    []byte
	check   patch.Validation
	options *metav1.PatchOptions
}

// patch changes an object, or the part of it that sub writes, in one of the four ways to say a change.
func (s *Server) patch(rq *request, ep *endpoint, sub *kinds.Subresource) error {
	f, err := rq.negotiate(ep, false)
	if err != nil {
		return err
	}
	p, err := rq.takePatch(ep.patches)
	if err != nil {
		return err
	}
	w := rq.newWrite(ep, sub)
	w.options, w.dryRun = p.options, len(p.options.DryRun) > 0
	w.upsert = sub == nil && p.kind == types.ApplyYAMLPatchType
	w.next = func(old kinds.Object) (kinds.Object, error) {
		if p.kind == types.ApplyYAMLPatchType {
			return s.applied(rq, ep, old, p)
		}
		obj, err := s.patched(rq, ep, old, p)
		if err != nil {
			return nil, err
		}
		if err := checkName(rq, obj, w); err != nil {
			return nil, err
		}
		return obj, s.own(rq, ep, old, obj, p.options.FieldManager)
	}
	out, err := s.run(rq, w)
	if err != nil {
		return err
	}
	return s.respond(rq, ep, out, f)
}

// takePatch reads a patch of one of the accepted types.
func (rq *request) takePatch(accepted []types.PatchType) (*patchRequest, error) {
	kind, _, _ := strings.Cut(rq.Header.Get("Content-Type"), ";")
	p := &patchRequest{kind: types.PatchType(strings.TrimSpace(kind)), check: patch.Warn, options: &metav1.PatchOptions{}}
	if !slices.Contains(accepted, p.kind) {
		names := make([]string, len(accepted))
		for i, t := range accepted {
			names[i] = string(t)
		}
		return nil, errMediaType(strings.Join(names, ", "))
	}
	if rq.query != nil {
		if err := metav1.Convert_url_Values_To_v1_PatchOptions(&rq.query, p.options, nil); err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
	}
	if errs := validation.ValidatePatchOptions(p.options, p.kind); len(errs) > 0 {
		return nil, apierrors.NewInvalid(optionsKind("PatchOptions"), "", errs)
	}
	var err error
	if p.check, err = patch.ParseValidation(p.options.FieldValidation); err != nil {
		return nil, err
	}
	p.body, err = rq.readBody()
	return p, err
}

// patched applies one of the patches that name changes, in the version that the request names.
func (s *Server) patched(rq *request, ep *endpoint, old kinds.Object, p *patchRequest) (kinds.Object, error) {
	shown, err := ep.FromHub(old)
	if err != nil {
		return nil, err
	}
	out, warnings, err := patch.Apply(shown, patch.Patch{Type: p.kind, Body: p.body, GVK: ep.GVK, Validation: p.check})
	if err != nil {
		return nil, err
	}
	for _, text := range warnings {
		rq.warn(text)
	}
	dropKind(out)
	return toHub(ep, out)
}

// applied performs a server-side apply.
func (s *Server) applied(rq *request, ep *endpoint, old kinds.Object, p *patchRequest) (kinds.Object, error) {
	live := old
	if old == nil {
		if err := rq.mayCreate(); err != nil {
			return nil, err
		}
		fresh, ok := ep.Kind.New().(kinds.Object)
		if !ok {
			return nil, fmt.Errorf("%s has no metadata", ep.GVK)
		}
		fresh.SetName(rq.route.name)
		fresh.SetNamespace(rq.namespaceOf(ep))
		live = fresh
	}
	owners, err := s.owners(ep, rq.route.subresource)
	if err != nil {
		return nil, err
	}
	force := p.options.Force != nil && *p.options.Force
	obj, warnings, err := owners.Apply(live, patch.Wish{Body: p.body, Manager: p.options.FieldManager, Force: force, Validation: p.check})
	if err != nil {
		return nil, err
	}
	for _, text := range warnings {
		rq.warn(text)
	}
	dropKind(obj)
	if obj.GetName() != rq.route.name {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s) does not match the name on the URL (%s)", obj.GetName(), rq.route.name))
	}
	return obj, fitNamespace(obj, rq.namespaceOf(ep))
}
