package apiserver

import (
	"fmt"

	"canopus/internal/kinds"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/validation"
)

// update replaces an object, or the part of it that sub writes.
func (s *Server) update(rq *request, ep *endpoint, sub *kinds.Subresource) error {
	f, err := rq.negotiate(ep, false)
	if err != nil {
		return err
	}
	o, err := rq.updateOptions()
	if err != nil {
		return err
	}
	b, err := rq.takeBody(ep.proto)
	if err != nil {
		return err
	}
	w := rq.newWrite(ep, sub)
	w.options, w.dryRun = o, len(o.DryRun) > 0
	w.upsert = sub == nil && ep.Kind.CreateOnUpdate
	first, err := s.decodeObject(rq, ep, b)
	if err != nil {
		return err
	}
	if uid := first.GetUID(); uid != "" {
		w.pre = &metav1.Preconditions{UID: &uid}
	}
	w.next = func(old kinds.Object) (kinds.Object, error) {
		obj := first
		if first = nil; obj == nil { // run again: the one before was changed on its way
			if obj, err = s.decodeObject(rq, ep, b); err != nil {
				return nil, err
			}
		}
		if err := checkName(rq, obj, w); err != nil {
			return nil, err
		}
		if old == nil {
			if err := rq.mayCreate(); err != nil {
				return nil, err
			}
		}
		return obj, s.own(rq, ep, old, obj, o.FieldManager)
	}
	out, err := s.run(rq, w)
	if err != nil {
		return err
	}
	return s.respond(rq, ep, out, f)
}

// newWrite is a write of the object that the path names.
func (rq *request) newWrite(ep *endpoint, sub *kinds.Subresource) *write {
	return &write{ep: ep, sub: sub, subName: rq.route.subresource, namespace: rq.namespaceOf(ep), name: rq.route.name}
}

func (rq *request) updateOptions() (*metav1.UpdateOptions, error) {
	o := &metav1.UpdateOptions{}
	if rq.query == nil {
		return o, nil
	}
	if err := metav1.Convert_url_Values_To_v1_UpdateOptions(&rq.query, o, nil); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	if errs := validation.ValidateUpdateOptions(o); len(errs) > 0 {
		return nil, apierrors.NewInvalid(optionsKind("UpdateOptions"), "", errs)
	}
	return o, nil
}

// checkName refuses a body that names another object than the path does.
func checkName(rq *request, obj kinds.Object, w *write) error {
	switch name := obj.GetName(); {
	case name == "":
		return apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s based on URL) was undeterminable: name must be provided", w.name))
	case name != w.name:
		return apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s) does not match the name on the URL (%s)", name, w.name))
	}
	if ns := obj.GetNamespace(); ns != "" && w.namespace != "" && ns != w.namespace {
		return apierrors.NewBadRequest(fmt.Sprintf("the namespace of the object (%s) does not match the namespace on the request (%s)", ns, w.namespace))
	}
	return fitNamespace(obj, w.namespace)
}

// mayCreate asks whether a sender who may update may also create, for updates of what does not exist.
func (rq *request) mayCreate() error {
	a := rq.attributes()
	a.Verb, a.Name = "create", ""
	return rq.allowed(a)
}
