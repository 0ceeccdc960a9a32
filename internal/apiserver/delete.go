package apiserver

import (
	"fmt"
	"net/http"
	"slices"
	"time"

	"canopus/internal/admission"
	"canopus/internal/apiserver/patch"
	"canopus/internal/kinds"
	"canopus/internal/store"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// delete removes an object, or marks it for its finalizers and its grace period.
func (s *Server) delete(rq *request, ep *endpoint) error {
	f, err := rq.negotiate(ep, false)
	if err != nil {
		return err
	}
	o, err := rq.deleteOptions()
	if err != nil {
		return err
	}
	out, err := s.run(rq, rq.deletion(ep, rq.namespaceOf(ep), rq.route.name, o))
	if err != nil {
		return err
	}
	return s.respondDeleted(rq, ep, out, o, f)
}

// deletion is the write that deletes an object.
func (rq *request) deletion(ep *endpoint, namespace, name string, o *metav1.DeleteOptions) *write {
	return &write{ep: ep, namespace: namespace, name: name, options: o, remove: o, dryRun: len(o.DryRun) > 0, pre: o.Preconditions}
}

// deleteOptions reads the options from the body, or, if there is none, from the query.
func (rq *request) deleteOptions() (*metav1.DeleteOptions, error) {
	o := &metav1.DeleteOptions{}
	data, err := rq.readBody()
	if err != nil {
		return nil, err
	}
	if len(data) > 0 {
		if err := rq.decodeDeleteOptions(data, o); err != nil {
			return nil, err
		}
	} else if rq.query != nil {
		if err := metav1.Convert_url_Values_To_v1_DeleteOptions(&rq.query, o, nil); err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
	}
	if errs := validation.ValidateDeleteOptions(o); len(errs) > 0 {
		return nil, apierrors.NewInvalid(optionsKind("DeleteOptions"), "", errs)
	}
	return o, nil
}

// decodeDeleteOptions reads a body whose apiVersion may be that of any group: all of them have these options.
func (rq *request) decodeDeleteOptions(data []byte, o *metav1.DeleteOptions) error {
	m, ok := mediaOf(rq.Header.Get("Content-Type"))
	if !ok {
		return errMediaType(typeJSON + ", " + typeYAML + ", " + typeProtobuf)
	}
	want := metav1.SchemeGroupVersion.WithKind("DeleteOptions")
	enc := patch.JSON
	switch m {
	case mediaProtobuf:
		apiVersion, _, _, err := openEnvelope(data)
		if gv, e := schema.ParseGroupVersion(apiVersion); err == nil && e == nil && apiVersion != "" {
			want = gv.WithKind(want.Kind)
		}
		return decodeProto(data, want, o)
	case mediaYAML:
		enc = patch.YAML
	}
	got, err := patch.KindOf(data, enc, want)
	if err != nil {
		return err
	}
	if got.Kind != want.Kind {
		return apierrors.NewBadRequest(fmt.Sprintf("%s in version %q cannot be handled as a DeleteOptions", got.Kind, got.Version))
	}
	if _, err := patch.Decode(data, enc, got, o, patch.Ignore); err != nil {
		return err
	}
	dropKind(o)
	return nil
}

// attemptDelete runs a deletion once.
func (s *Server) attemptDelete(rq *request, w *write, cur *store.Entry) (*written, error) {
	old, err := objectOf(cur)
	if err != nil {
		return nil, err
	}
	if err := checkPreconditions(w, old); err != nil {
		return nil, err
	}
	ar := w.admission(rq, admission.Delete, nil, old)
	if err := s.admit(rq.Context(), ar); err != nil {
		return nil, err
	}
	if err := s.confirm(rq.Context(), ar); err != nil {
		return nil, err
	}
	next, gone := planDelete(w.ep.Kind, old, w.remove, s.clock.Now())
	switch {
	case !gone && next == nil: // already on its way
		return &written{entry: cur}, nil
	case w.dryRun && gone:
		return &written{obj: old, gone: true}, nil
	case w.dryRun:
		return &written{obj: next}, nil
	}
	var more []store.Change
	if gone {
		if more, err = s.claim(rq.Context(), w, admission.Delete, nil, old); err != nil {
			return nil, err
		}
	}
	change := store.Change{Resource: w.ep.res, Namespace: w.namespace, Name: cur.Name, Was: cur}
	if !gone {
		next.SetResourceVersion("")
		change.Now = next
	}
	entries, err := s.cfg.Store.Commit(rq.Context(), append([]store.Change{change}, more...)...)
	if err != nil {
		return nil, err
	}
	return &written{entry: entries[0], gone: gone}, nil
}

// planDelete decides what a deletion does to old: it is gone, or next is stored, or, with neither, nothing changes.
func planDelete(k *kinds.Kind, old kinds.Object, o *metav1.DeleteOptions, now time.Time) (next kinds.Object, gone bool) {
	obj := old.DeepCopyObject().(kinds.Object)
	graceful, pending := graceOf(k, obj, o, now)
	if pending {
		return nil, false
	}
	before := obj.GetFinalizers()
	obj.SetFinalizers(finalizersFor(before, o))
	if graceful && *obj.GetDeletionGracePeriodSeconds() > 0 {
		return obj, false
	}
	held := markHeld(obj, now)
	if len(obj.GetFinalizers()) == 0 && !held {
		return nil, true
	}
	if old.GetDeletionTimestamp() != nil && !graceful && slices.Equal(before, obj.GetFinalizers()) {
		return nil, false
	}
	if !graceful && !held {
		markDeleting(obj, now)
	}
	return obj, false
}

// graceOf gives obj its grace period if its kind has one. pending is true if obj has one already that the request does not shorten.
func graceOf(k *kinds.Kind, obj kinds.Object, o *metav1.DeleteOptions, now time.Time) (graceful, pending bool) {
	if k.Grace == nil {
		return false, false
	}
	if since := obj.GetDeletionTimestamp(); since != nil {
		present := obj.GetDeletionGracePeriodSeconds()
		if present == nil {
			return false, false
		}
		asked := o.GracePeriodSeconds
		if asked == nil || max(*asked, 0) >= *present {
			return false, true
		}
		shorter := max(*asked, 0)
		end := metav1.NewTime(since.Add(time.Duration(shorter-*present) * time.Second))
		obj.SetDeletionTimestamp(&end)
		obj.SetDeletionGracePeriodSeconds(&shorter)
		return true, false
	}
	seconds := k.Grace(obj, o.GracePeriodSeconds)
	end := metav1.NewTime(now.Add(time.Duration(seconds) * time.Second).UTC().Truncate(time.Second))
	obj.SetDeletionTimestamp(&end)
	obj.SetDeletionGracePeriodSeconds(&seconds)
	if g := obj.GetGeneration(); g > 0 {
		obj.SetGeneration(g + 1)
	}
	return true, false
}

// markDeleting marks an object that only its finalizers keep.
func markDeleting(obj kinds.Object, now time.Time) {
	if g := obj.GetGeneration(); obj.GetDeletionTimestamp() == nil && g > 0 {
		obj.SetGeneration(g + 1)
	}
	if t := obj.GetDeletionTimestamp(); t == nil || t.After(now) {
		end := metav1.NewTime(now.UTC().Truncate(time.Second))
		obj.SetDeletionTimestamp(&end)
	}
	obj.SetDeletionGracePeriodSeconds(new(int64))
}

// finalizersFor returns an object's finalizers with those that the garbage collector is told by.
func finalizersFor(present []string, o *metav1.DeleteOptions) []string {
	orphan, foreground := slices.Contains(present, metav1.FinalizerOrphanDependents), slices.Contains(present, metav1.FinalizerDeleteDependents)
	switch {
	case o.OrphanDependents != nil:
		orphan, foreground = *o.OrphanDependents, foreground && !*o.OrphanDependents
	case o.PropagationPolicy != nil:
		orphan = *o.PropagationPolicy == metav1.DeletePropagationOrphan
		foreground = *o.PropagationPolicy == metav1.DeletePropagationForeground
	}
	out := slices.DeleteFunc(slices.Clone(present), func(f string) bool {
		return f == metav1.FinalizerOrphanDependents && !orphan || f == metav1.FinalizerDeleteDependents && !foreground
	})
	if orphan && !slices.Contains(out, metav1.FinalizerOrphanDependents) {
		out = append(out, metav1.FinalizerOrphanDependents)
	}
	if foreground && !slices.Contains(out, metav1.FinalizerDeleteDependents) {
		out = append(out, metav1.FinalizerDeleteDependents)
	}
	return out
}

// removable says whether an object that is being deleted waits for nothing any more.
func removable(obj kinds.Object) bool {
	if obj.GetDeletionTimestamp() == nil || len(obj.GetFinalizers()) > 0 || heldBack(obj) {
		return false
	}
	grace := obj.GetDeletionGracePeriodSeconds()
	return grace == nil || *grace == 0
}

// respondDeleted answers a deletion: with the object if it stays for now or its kind shows what went, else with a Status.
func (s *Server) respondDeleted(rq *request, ep *endpoint, out *written, o *metav1.DeleteOptions, f format) error {
	code := http.StatusOK
	if !out.gone {
		foreground := o.PropagationPolicy != nil && *o.PropagationPolicy == metav1.DeletePropagationForeground
		if foreground || o.OrphanDependents != nil && !*o.OrphanDependents {
			code = http.StatusAccepted
		}
	}
	if out.gone && !ep.Kind.ReturnDeleted {
		obj := out.obj
		if obj == nil {
			var err error
			if obj, err = objectOf(out.entry); err != nil {
				return err
			}
		}
		rq.writeStatus(&metav1.Status{Status: metav1.StatusSuccess, Code: 0, Details: &metav1.StatusDetails{
			Name: obj.GetName(), Group: ep.gr.Group, Kind: ep.gr.Resource, UID: obj.GetUID()}})
		return nil
	}
	if out.entry != nil {
		return s.writeEntry(rq, ep, code, out.entry, f)
	}
	return s.writeObject(rq, ep, code, out.obj, f)
}
