package apiserver

import (
	"fmt"

	"canopus/internal/admission"
	"canopus/internal/kinds"
	"canopus/internal/store"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/uuid"
)

// create makes a new object.
func (s *Server) create(rq *request, ep *endpoint) error {
	f, err := rq.negotiate(ep, false)
	if err != nil {
		return err
	}
	o, err := rq.createOptions()
	if err != nil {
		return err
	}
	b, err := rq.takeBody(ep.proto)
	if err != nil {
		return err
	}
	w := &write{ep: ep, namespace: rq.namespaceOf(ep), options: o, dryRun: len(o.DryRun) > 0}
	w.next = func(kinds.Object) (kinds.Object, error) {
		obj, err := s.decodeObject(rq, ep, b)
		if err != nil {
			return nil, err
		}
		if err := fitNamespace(obj, w.namespace); err != nil {
			return nil, err
		}
		w.generated = obj.GetName() == "" && obj.GetGenerateName() != ""
		return obj, s.own(rq, ep, nil, obj, o.FieldManager)
	}
	out, err := s.run(rq, w)
	if err != nil {
		return err
	}
	return s.respond(rq, ep, out, f)
}

func optionsKind(kind string) schema.GroupKind {
	return schema.GroupKind{Group: metav1.GroupName, Kind: kind}
}

// fitNamespace makes the object's namespace agree with the path's.
func fitNamespace(obj kinds.Object, namespace string) error {
	switch obj.GetNamespace() {
	case namespace:
	case "":
		obj.SetNamespace(namespace)
	default:
		if namespace != "" {
			return apierrors.NewBadRequest("the namespace of the provided object does not match the namespace sent on the request")
		}
		obj.SetNamespace("")
	}
	return nil
}

// attemptCreate runs a create once.
func (s *Server) attemptCreate(rq *request, w *write) (*written, error) {
	obj, err := w.next(nil)
	if err != nil {
		return nil, err
	}
	if err := checkNew(w, obj); err != nil {
		return nil, err
	}
	ar := w.admission(rq, admission.Create, obj, nil)
	if err := s.admit(rq.Context(), ar); err != nil {
		return nil, err
	}
	if err := s.prepareCreate(w, obj); err != nil {
		return nil, err
	}
	if w.ep.Kind.Author != nil {
		w.ep.Kind.Author(obj, userInfo(rq.user))
	}
	if w.ep.Kind.Stamp != nil {
		w.ep.Kind.Stamp(obj, s.clock.Now())
	}
	more, err := s.claim(rq.Context(), w, admission.Create, obj, nil)
	if err != nil {
		return nil, err
	}
	if errs := w.ep.Validate(obj); len(errs) > 0 {
		return nil, apierrors.NewInvalid(w.ep.Kind.GVK.GroupKind(), obj.GetName(), errs)
	}
	for _, text := range w.ep.Kind.Warnings(obj, nil) {
		rq.warn(text)
	}
	if err := s.confirm(rq.Context(), ar); err != nil {
		return nil, err
	}
	charges, release, err := s.charge(rq.Context(), ar)
	if err != nil {
		return nil, err
	}
	defer release()
	more = append(more, charges...)
	if w.dryRun {
		return s.dryCreate(rq, w, obj)
	}
	change := store.Change{Resource: w.ep.res, Namespace: w.namespace, Name: obj.GetName(), Now: obj}
	entries, err := s.cfg.Store.Commit(rq.Context(), append([]store.Change{change}, more...)...)
	if err != nil {
		return nil, err
	}
	return &written{entry: entries[0], created: true}, nil
}

// dryCreate ends a create that is only tried: it still fails if the name is taken.
func (s *Server) dryCreate(rq *request, w *write, obj kinds.Object) (*written, error) {
	_, err := w.ep.res.Get(rq.Context(), w.namespace, obj.GetName(), store.Freshness{Match: store.Any})
	if err == nil {
		return nil, apierrors.NewAlreadyExists(w.ep.gr, obj.GetName())
	}
	return &written{obj: obj, created: true}, nil
}

// checkNew refuses what a new object cannot say, before anything is done with it.
func checkNew(w *write, obj kinds.Object) error {
	if rv := obj.GetResourceVersion(); rv != "" && rv != "0" {
		if w.name != "" { // an update of what does not exist
			return apierrors.NewNotFound(w.ep.gr, w.name)
		}
		return apierrors.NewBadRequest("resourceVersion should not be set on objects to be created")
	}
	if w.pre != nil && w.pre.UID != nil {
		//lint:ignore ST1005 clients match upstream's text
		return apierrors.NewConflict(w.ep.gr, w.name, fmt.Errorf("Precondition failed: UID in precondition: %v, UID in object meta: ", *w.pre.UID))
	}
	obj.SetResourceVersion("")
	return nil
}

// The longest name that generateName may lead to, and how much of it is made up.
const (
	maxGenerated = 63
	randomLength = 5
)

// prepareCreate sets what only the server sets.
func (s *Server) prepareCreate(w *write, obj kinds.Object) error {
	obj.SetDeletionTimestamp(nil)
	obj.SetDeletionGracePeriodSeconds(nil)
	obj.SetSelfLink("")
	if base := obj.GetGenerateName(); obj.GetName() == "" && base != "" {
		if len(base) > maxGenerated-randomLength {
			base = base[:maxGenerated-randomLength]
		}
		obj.SetName(base + rand.String(randomLength))
	}
	obj.SetCreationTimestamp(metav1.NewTime(s.clock.Now().UTC().Truncate(1e9)))
	obj.SetUID(uuid.NewUUID())
	w.ep.Kind.PrepareCreate(obj) // last: a Job's labels and selector carry its name and UID
	if w.ep.Kind.Generation {
		obj.SetGeneration(1)
	}
	return nil
}
