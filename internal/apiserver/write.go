package apiserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"

	"canopus/internal/admission"
	"canopus/internal/kinds"
	"canopus/internal/store"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Claims lets a write take something beside its object in the same transaction: an address, a port. It runs after
// the object is prepared and before it is validated, and again whenever the write is.
type Claims interface {
	// Claim may change c.Object. The changes it returns are committed with the write, or not at all.
	Claim(ctx context.Context, c *Claim) ([]store.Change, error)
}

// Claim is the write that Claims looks at.
type Claim struct {
	Operation   admission.Operation // Create, Update or Delete
	Kind        *kinds.Kind
	Subresource string
	Object      kinds.Object // nil for Delete; may be changed
	Old         kinds.Object // nil for Create; shared, never changed
	DryRun      bool         // the changes are computed but not committed
}

// write is one write of one object, in the terms that all verbs share.
type write struct {
	ep        *endpoint
	sub       *kinds.Subresource // nil: of the object itself
	subName   string
	namespace string
	name      string // "" for creates, which find it in the object
	options   runtime.Object
	dryRun    bool
	pre       *metav1.Preconditions
	remove    *metav1.DeleteOptions // not nil: the object is to be deleted, and next is not asked
	admitted  bool                  // admission has seen the request in another form
	upsert    bool                  // what is absent is created
	generated bool                  // the name came from generateName
	taken     int                   // how many names that generateName led to were taken

	// next returns the object as the request wants it: fresh, in the hub version, defaulted, its managers recorded.
	// old is nil if there is none yet; it is shared and stays as it is.
	next func(old kinds.Object) (kinds.Object, error)
}

// written is what a write led to: entry if something is stored, else obj, which was only tried or is gone.
type written struct {
	entry   *store.Entry
	obj     kinds.Object
	created bool
	gone    bool // deleted: entry or obj is its last state
}

// errStale says that a write named another resourceVersion than the state it found.
var errStale = errors.New("the object has been modified; please apply your changes to the latest version and try again")

// maxTaken bounds how many names are made up for one object.
const maxTaken = 8

// maxRuns bounds how often a write is run again because others write the same object.
const maxRuns = 64

// run performs a write: current → next → admit → prepare → validate → admit → commit, again from current as long as
// others come in between. A client that named a resourceVersion or precondition finds them checked in each run.
func (s *Server) run(rq *request, w *write) (*written, error) {
	var cur *store.Entry
	var err error
	if w.name != "" {
		if cur, err = w.current(rq.Context(), store.Any); err != nil {
			return nil, err
		}
	}
	fresh := w.name == ""
	for range maxRuns {
		out, err := s.attempt(rq, w, cur)
		var conflict *store.Conflict
		switch {
		case err == nil:
			return out, nil
		case !fresh && (errors.Is(err, errStale) || apierrors.IsNotFound(err)):
			// Memory may lag behind what the client has seen elsewhere: look again before refusing.
			fresh = true
			if cur, err = w.current(rq.Context(), store.Consistent); err != nil {
				return nil, err
			}
		case errors.As(err, &conflict):
			if cur, err = w.afterConflict(rq.Context(), conflict); err != nil {
				return nil, err
			}
			fresh = true
		default:
			return nil, w.failure(err)
		}
	}
	return nil, apierrors.NewConflict(w.ep.gr, w.name, fmt.Errorf("too many others write it at the same time: try again"))
}

// current reads the state a write starts from; nil if there is none.
func (w *write) current(ctx context.Context, m store.Match) (*store.Entry, error) {
	e, err := w.ep.res.Get(ctx, w.namespace, w.name, store.Freshness{Match: m})
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, readError(w.ep, w.name, err)
	}
	return e, nil
}

// afterConflict returns the state to run again from. A create that finds its name taken is over, unless the name was
// made up here, in which case it tries another.
func (w *write) afterConflict(ctx context.Context, c *store.Conflict) (*store.Entry, error) {
	if w.name == "" {
		if c.Change != 0 {
			return nil, ctx.Err()
		}
		name := lastSegment(c.Key)
		if !w.generated {
			return nil, apierrors.NewAlreadyExists(w.ep.gr, name)
		}
		if w.taken++; w.taken >= maxTaken {
			return nil, apierrors.NewGenerateNameConflict(w.ep.gr, name, 1)
		}
		return nil, ctx.Err()
	}
	if c.Current != nil && c.Change == 0 {
		return c.Current, nil
	}
	return w.current(ctx, store.Any)
}

func lastSegment(key string) string {
	for i := len(key) - 1; i >= 0; i-- {
		if key[i] == '/' {
			return key[i+1:]
		}
	}
	return key
}

// failure says an attempt's error in the API's terms.
func (w *write) failure(err error) error {
	var large *store.TooLarge
	var space *store.NoSpace
	switch {
	case errors.Is(err, errStale):
		return apierrors.NewConflict(w.ep.gr, w.name, errStale)
	case errors.As(err, &large):
		return errTooLarge(large.Error())
	case errors.As(err, &space):
		return apierrors.NewServiceUnavailable(space.Error())
	}
	return err
}

// attempt runs a write once from cur, which is nil if the object does not exist.
func (s *Server) attempt(rq *request, w *write, cur *store.Entry) (*written, error) {
	if cur == nil {
		if w.name != "" && !w.upsert {
			return nil, apierrors.NewNotFound(w.ep.gr, w.name)
		}
		return s.attemptCreate(rq, w)
	}
	if w.remove != nil {
		return s.attemptDelete(rq, w, cur)
	}
	return s.attemptUpdate(rq, w, cur)
}

func (s *Server) attemptUpdate(rq *request, w *write, cur *store.Entry) (*written, error) {
	old, err := objectOf(cur)
	if err != nil {
		return nil, err
	}
	if err := checkPreconditions(w, old); err != nil {
		return nil, err
	}
	obj, err := w.next(old)
	if err != nil {
		return nil, err
	}
	if err := w.matchRevision(obj, cur); err != nil {
		return nil, err
	}
	ar := w.admission(rq, admission.Update, obj, old)
	if !w.admitted {
		if err := s.admit(rq.Context(), ar); err != nil {
			return nil, err
		}
	}
	keepMeta(obj, old)
	switch {
	case w.sub == nil:
		w.ep.Kind.PrepareUpdate(obj, old)
	case w.sub.PrepareUpdate != nil:
		w.sub.PrepareUpdate(obj, old)
	}
	switch {
	case w.sub == nil && w.ep.Kind.Stamp != nil:
		w.ep.Kind.Stamp(obj, s.clock.Now())
	case w.sub != nil && w.sub.Stamp != nil:
		w.sub.Stamp(obj, old, s.clock.Now())
	}
	more, err := s.claimUpdate(rq.Context(), w, obj, old)
	if err != nil {
		return nil, err
	}
	if err := w.validateUpdate(rq, obj, old); err != nil {
		return nil, err
	}
	if !w.admitted {
		if err := s.confirm(rq.Context(), ar); err != nil {
			return nil, err
		}
		charges, release, err := s.charge(rq.Context(), ar)
		if err != nil {
			return nil, err
		}
		defer release()
		more = append(more, charges...)
	}
	if w.dryRun {
		return &written{obj: obj}, nil
	}
	return s.store(rq.Context(), w, cur, obj, more)
}

// store commits an updated object; one that only waited for its last finalizer is removed.
func (s *Server) store(ctx context.Context, w *write, cur *store.Entry, obj kinds.Object, more []store.Change) (*written, error) {
	change := store.Change{Resource: w.ep.res, Namespace: w.namespace, Name: cur.Name, Was: cur, Now: obj}
	gone := removable(obj)
	if gone {
		change.Now = nil
	} else {
		keepTimes(obj, cur)
		obj.SetResourceVersion("")
	}
	entries, err := s.cfg.Store.Commit(ctx, append([]store.Change{change}, more...)...)
	if err != nil {
		return nil, err
	}
	if gone {
		obj.SetResourceVersion(strconv.FormatInt(entries[0].Revision, 10))
		return &written{obj: obj}, nil
	}
	return &written{entry: entries[0]}, nil
}

func objectOf(e *store.Entry) (kinds.Object, error) {
	o, err := e.Object()
	if err != nil {
		return nil, err
	}
	obj, ok := o.(kinds.Object)
	if !ok {
		return nil, fmt.Errorf("a stored %T has no metadata", o)
	}
	return obj, nil
}

// checkPreconditions compares what the client demands of the present state with it.
func checkPreconditions(w *write, old kinds.Object) error {
	if w.pre == nil {
		return nil
	}
	if uid := w.pre.UID; uid != nil && *uid != old.GetUID() {
		//lint:ignore ST1005 clients match upstream's text
		return apierrors.NewConflict(w.ep.gr, old.GetName(), fmt.Errorf("Precondition failed: UID in precondition: %v, UID in object meta: %v", *uid, old.GetUID()))
	}
	if rv := w.pre.ResourceVersion; rv != nil && *rv != old.GetResourceVersion() {
		//lint:ignore ST1005 clients match upstream's text
		return apierrors.NewConflict(w.ep.gr, old.GetName(), fmt.Errorf("Precondition failed: ResourceVersion in precondition: %v, ResourceVersion in object meta: %v", *rv, old.GetResourceVersion()))
	}
	return nil
}

// matchRevision compares the resourceVersion an update names with the present one, and fills it in if it names none.
func (w *write) matchRevision(obj kinds.Object, cur *store.Entry) error {
	rv := obj.GetResourceVersion()
	if rv == "" || rv == "0" {
		if !w.ep.Kind.StrictUpdate { // else validation says that it is required
			obj.SetResourceVersion(strconv.FormatInt(cur.Revision, 10))
		}
		return nil
	}
	n, err := parseRevision(rv)
	if err != nil {
		return err
	}
	if n != cur.Revision {
		return errStale
	}
	return nil
}

// keepMeta restores what no update may change of an object's metadata.
func keepMeta(obj, old kinds.Object) {
	if obj.GetUID() == "" {
		obj.SetUID(old.GetUID())
	}
	if obj.GetCreationTimestamp().Time.IsZero() {
		obj.SetCreationTimestamp(old.GetCreationTimestamp())
	}
	if obj.GetNamespace() == "" {
		obj.SetNamespace(old.GetNamespace())
	}
	obj.SetGeneration(old.GetGeneration())
	obj.SetDeletionTimestamp(old.GetDeletionTimestamp())
	obj.SetDeletionGracePeriodSeconds(old.GetDeletionGracePeriodSeconds())
	obj.SetSelfLink("")
}

func (w *write) validateUpdate(rq *request, obj, old kinds.Object) error {
	validate := w.ep.ValidateUpdate
	if w.sub != nil {
		validate = w.sub.ValidateUpdate
	}
	if validate != nil {
		if errs := validate(obj, old); len(errs) > 0 {
			return apierrors.NewInvalid(w.ep.Kind.GVK.GroupKind(), obj.GetName(), errs)
		}
	}
	if w.sub == nil {
		for _, text := range w.ep.Kind.Warnings(obj, old) {
			rq.warn(text)
		}
	}
	return nil
}

// keepTimes takes over old's managers if nothing else but the times of their last changes would be written: then
// nothing is.
func keepTimes(obj kinds.Object, cur *store.Entry) {
	old, err := objectOf(cur)
	if err != nil {
		return
	}
	now, before := obj.GetManagedFields(), old.GetManagedFields()
	if len(now) == 0 || !sameManagers(now, before) {
		return
	}
	m, ok := obj.(protoMessage)
	obj.SetManagedFields(before)
	obj.SetResourceVersion(strconv.FormatInt(cur.Revision, 10))
	if !ok || m.Size() != len(cur.Body()) {
		obj.SetManagedFields(now)
		return
	}
	buf := make([]byte, len(cur.Body()))
	if _, err := m.MarshalToSizedBuffer(buf); err != nil || !bytes.Equal(buf, cur.Body()) {
		obj.SetManagedFields(now)
	}
}

// sameManagers compares everything but times.
func sameManagers(a, b []metav1.ManagedFieldsEntry) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		x, y := &a[i], &b[i]
		if x.Manager != y.Manager || x.Operation != y.Operation || x.APIVersion != y.APIVersion || x.Subresource != y.Subresource || x.FieldsType != y.FieldsType {
			return false
		}
		if (x.FieldsV1 == nil) != (y.FieldsV1 == nil) || x.FieldsV1 != nil && !x.FieldsV1.Equal(*y.FieldsV1) {
			return false
		}
	}
	return true
}

// admission is a write as admission sees it.
func (w *write) admission(rq *request, op admission.Operation, obj, old kinds.Object) *admission.Request {
	ar := &admission.Request{
		Operation: op, Kind: w.ep.Kind.GVK, Resource: w.ep.Kind.GVK.GroupVersion().WithResource(w.ep.Kind.Plural), Subresource: w.subName,
		Namespace: w.namespace, Name: w.name, Options: w.options, DryRun: w.dryRun, User: rq.user, Warn: rq.warn,
	}
	if obj != nil {
		ar.Object = obj
		if ar.Name == "" {
			ar.Name = obj.GetName()
		}
	}
	if old != nil {
		ar.Old = old
	}
	return ar
}

func (s *Server) admit(ctx context.Context, r *admission.Request) error {
	if s.cfg.Admission == nil {
		return nil
	}
	return s.cfg.Admission.Admit(ctx, r)
}

func (s *Server) confirm(ctx context.Context, r *admission.Request) error {
	if s.cfg.Admission == nil {
		return nil
	}
	return s.cfg.Admission.Validate(ctx, r)
}

func (s *Server) claim(ctx context.Context, w *write, op admission.Operation, obj, old kinds.Object) ([]store.Change, error) {
	if s.cfg.Claims == nil {
		return nil, nil
	}
	return s.cfg.Claims.Claim(ctx, &Claim{Operation: op, Kind: w.ep.Kind, Subresource: w.subName, Object: obj, Old: old, DryRun: w.dryRun})
}

// claimUpdate claims for an update; one that removes the last finalizer is a delete.
func (s *Server) claimUpdate(ctx context.Context, w *write, obj, old kinds.Object) ([]store.Change, error) {
	if removable(obj) {
		return s.claim(ctx, w, admission.Delete, nil, old)
	}
	return s.claim(ctx, w, admission.Update, obj, old)
}

// respond answers with what a write led to.
func (s *Server) respond(rq *request, ep *endpoint, out *written, f format) error {
	code := 200
	if out.created {
		code = 201
	}
	if out.entry != nil {
		return s.writeEntry(rq, ep, code, out.entry, f)
	}
	return s.writeObject(rq, ep, code, out.obj, f)
}
