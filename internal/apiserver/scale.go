package apiserver

import (
	"fmt"

	"canopus/internal/apiserver/patch"
	"canopus/internal/kinds"
	"canopus/internal/store"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// scaleOf shows an object as its scale.
func scaleOf(k *kinds.Kind, obj kinds.Object) *autoscalingv1.Scale {
	want, have := k.Scale.Replicas(obj)
	return &autoscalingv1.Scale{
		ObjectMeta: metav1.ObjectMeta{
			Name: obj.GetName(), Namespace: obj.GetNamespace(), UID: obj.GetUID(),
			ResourceVersion: obj.GetResourceVersion(), CreationTimestamp: obj.GetCreationTimestamp(),
		},
		Spec:   autoscalingv1.ScaleSpec{Replicas: want},
		Status: autoscalingv1.ScaleStatus{Replicas: have, Selector: k.Scale.Selector(obj)},
	}
}

// scale reads or writes the replicas of an object.
func (s *Server) scale(rq *request, ep *endpoint) error {
	f, err := rq.negotiate(ep, false)
	if err != nil {
		return err
	}
	switch rq.route.verb {
	case "get":
		fresh, err := rq.freshness()
		if err != nil {
			return err
		}
		e, err := ep.res.Get(rq.Context(), rq.namespaceOf(ep), rq.route.name, fresh)
		if err != nil {
			return readError(ep, rq.route.name, err)
		}
		return s.writeScale(rq, ep, e, f)
	case "update":
		return s.updateScale(rq, ep, f)
	case "patch":
		return s.patchScale(rq, ep, f)
	}
	return errMethod()
}

func (s *Server) writeScale(rq *request, ep *endpoint, e *store.Entry, f format) error {
	obj, err := objectOf(e)
	if err != nil {
		return err
	}
	return rq.writeAs(scaleHead(), 200, scaleOf(ep.Kind, obj), f)
}

func scaleHead() head { return newHead(autoscalingv1.SchemeGroupVersion.WithKind("Scale")) }

// scaleChange makes the scale that a request wants from the present one, and says which managers the object then has.
type scaleChange func(live *autoscalingv1.Scale, managers []metav1.ManagedFieldsEntry) (*autoscalingv1.Scale, []metav1.ManagedFieldsEntry, error)

func (s *Server) updateScale(rq *request, ep *endpoint, f format) error {
	o, err := rq.updateOptions()
	if err != nil {
		return err
	}
	b, err := rq.takeBody(true)
	if err != nil {
		return err
	}
	want := &autoscalingv1.Scale{}
	if err := b.into(autoscalingv1.SchemeGroupVersion.WithKind("Scale"), want, rq.warn); err != nil {
		return err
	}
	owners, err := patch.NewScaleOwners(s.schemas, s.served.Load().set, ep.Served)
	if err != nil {
		return err
	}
	w := rq.newWrite(ep, ep.Kind.Subresource("scale"))
	w.options, w.dryRun = o, len(o.DryRun) > 0
	if want.UID != "" {
		w.pre = &metav1.Preconditions{UID: &want.UID}
	}
	return s.runScale(rq, w, f, func(live *autoscalingv1.Scale, managers []metav1.ManagedFieldsEntry) (*autoscalingv1.Scale, []metav1.ManagedFieldsEntry, error) {
		if want.Name != "" && want.Name != w.name {
			return nil, nil, apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s) does not match the name on the URL (%s)", want.Name, w.name))
		}
		after, err := owners.Update(managers, live, want.DeepCopy(), rq.managerName(o.FieldManager))
		if err != nil {
			s.log.Warn("field managers not recorded", "path", rq.URL.Path, "error", err)
		}
		return want, after, nil
	})
}

func (s *Server) patchScale(rq *request, ep *endpoint, f format) error {
	p, err := rq.takePatch(patch.Types(&autoscalingv1.Scale{}))
	if err != nil {
		return err
	}
	owners, err := patch.NewScaleOwners(s.schemas, s.served.Load().set, ep.Served)
	if err != nil {
		return err
	}
	w := rq.newWrite(ep, ep.Kind.Subresource("scale"))
	w.options, w.dryRun = p.options, len(p.options.DryRun) > 0
	return s.runScale(rq, w, f, func(live *autoscalingv1.Scale, managers []metav1.ManagedFieldsEntry) (*autoscalingv1.Scale, []metav1.ManagedFieldsEntry, error) {
		if p.kind == types.ApplyYAMLPatchType {
			force := p.options.Force != nil && *p.options.Force
			scale, after, warnings, err := owners.Apply(managers, live, patch.Wish{Body: p.body, Manager: p.options.FieldManager, Force: force, Validation: p.check})
			rq.warnAll(warnings)
			return scale, after, err
		}
		out, warnings, err := patch.Apply(live, patch.Patch{Type: p.kind, Body: p.body, GVK: autoscalingv1.SchemeGroupVersion.WithKind("Scale"), Validation: p.check})
		if err != nil {
			return nil, nil, err
		}
		rq.warnAll(warnings)
		scale := out.(*autoscalingv1.Scale)
		after, err := owners.Update(managers, live, scale.DeepCopy(), rq.managerName(p.options.FieldManager))
		if err != nil {
			s.log.Warn("field managers not recorded", "path", rq.URL.Path, "error", err)
		}
		return scale, after, nil
	})
}

// runScale writes an object as change wants its scale.
func (s *Server) runScale(rq *request, w *write, f format, change scaleChange) error {
	k := w.ep.Kind
	sub := *w.sub
	if sub.PrepareUpdate == nil {
		sub.PrepareUpdate = k.PrepareUpdate // only replicas can have changed: the kind knows whether that is a new generation
	}
	if sub.ValidateUpdate == nil {
		sub.ValidateUpdate = k.ValidateUpdate
	}
	w.sub = &sub
	w.next = func(old kinds.Object) (kinds.Object, error) {
		want, managers, err := change(scaleOf(k, old), old.GetManagedFields())
		if err != nil {
			return nil, err
		}
		if want.Spec.Replicas < 0 {
			return nil, apierrors.NewInvalid(autoscalingv1.SchemeGroupVersion.WithKind("Scale").GroupKind(), w.name, field.ErrorList{
				field.Invalid(field.NewPath("spec", "replicas"), want.Spec.Replicas, "must be greater than or equal to 0")})
		}
		obj := old.DeepCopyObject().(kinds.Object)
		k.Scale.SetReplicas(obj, want.Spec.Replicas)
		obj.SetManagedFields(managers)
		obj.SetResourceVersion(want.ResourceVersion)
		return obj, nil
	}
	out, err := s.run(rq, w)
	if err != nil {
		return err
	}
	if out.entry != nil {
		return s.writeScale(rq, w.ep, out.entry, f)
	}
	return rq.writeAs(scaleHead(), 200, scaleOf(k, out.obj), f)
}

func (rq *request) warnAll(texts []string) {
	for _, text := range texts {
		rq.warn(text)
	}
}

// managerName is the field manager of a request.
func (rq *request) managerName(asked string) string {
	if asked != "" {
		return asked
	}
	return managerOf(rq.UserAgent())
}
