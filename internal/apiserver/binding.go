package apiserver

import (
	"fmt"
	"maps"
	"net/http"

	"canopus/internal/kinds"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func bindingKind() schema.GroupVersionKind { return corev1.SchemeGroupVersion.WithKind("Binding") }

// bindPod gives a pod its node. It serves pods/binding and the older bindings.
func (s *Server) bindPod(rq *request, ep *endpoint) error {
	b := &corev1.Binding{}
	p, err := rq.takePosted(bindingKind(), b)
	if err != nil {
		return err
	}
	pods := s.served.Load().paths[pathKey{"", "v1", "pods"}]
	if pods == nil {
		return errNoPage()
	}
	name := rq.route.name
	if name == "" {
		name = b.Name
	}
	if err := checkBinding(b, name); err != nil {
		return err
	}
	if err := s.admitPosted(rq, ep, bindingKind(), p); err != nil {
		return err
	}
	w := &write{ep: pods, sub: &kinds.Subresource{Name: "binding"}, subName: "binding", namespace: rq.route.namespace, name: name,
		options: p.options, dryRun: len(p.options.DryRun) > 0, admitted: true}
	if b.UID != "" || b.ResourceVersion != "" {
		w.pre = &metav1.Preconditions{}
		if b.UID != "" {
			w.pre.UID = &b.UID
		}
		if b.ResourceVersion != "" {
			w.pre.ResourceVersion = &b.ResourceVersion
		}
	}
	w.next = func(old kinds.Object) (kinds.Object, error) {
		return bound(old.(*corev1.Pod), b, metav1.NewTime(s.clock.Now()))
	}
	if _, err := s.run(rq, w); err != nil {
		return err
	}
	rq.succeed(http.StatusCreated)
	return nil
}

func checkBinding(b *corev1.Binding, name string) error {
	if b.Name != "" && b.Name != name {
		return apierrors.NewBadRequest("name in URL does not match name in Binding object")
	}
	var errs field.ErrorList
	target := field.NewPath("target")
	if k := b.Target.Kind; k != "" && k != "Node" {
		errs = append(errs, field.NotSupported(target.Child("kind"), k, []string{"Node", "<empty>"}))
	}
	if b.Target.Name == "" {
		errs = append(errs, field.Required(target.Child("name"), ""))
	}
	if len(errs) > 0 {
		return apierrors.NewInvalid(bindingKind().GroupKind(), name, errs)
	}
	return nil
}

// bound is pod on the node that b names.
func bound(pod *corev1.Pod, b *corev1.Binding, now metav1.Time) (*corev1.Pod, error) {
	refuse := func(format string, args ...any) error {
		return apierrors.NewConflict(schema.GroupResource{Resource: "pods/binding"}, pod.Name, fmt.Errorf(format, args...))
	}
	switch {
	case pod.DeletionTimestamp != nil:
		return nil, refuse("pod %s is being deleted, cannot be assigned to a host", pod.Name)
	case pod.Spec.NodeName != "":
		return nil, refuse("pod %v is already assigned to node %q", pod.Name, pod.Spec.NodeName)
	case len(pod.Spec.SchedulingGates) > 0:
		return nil, refuse("pod %v has non-empty .spec.schedulingGates", pod.Name)
	}
	out := pod.DeepCopy()
	out.Spec.NodeName = b.Target.Name
	if len(b.Annotations) > 0 && out.Annotations == nil {
		out.Annotations = map[string]string{}
	}
	maps.Copy(out.Annotations, b.Annotations)
	for key, value := range b.Labels { // the pod's own come first
		if _, ok := out.Labels[key]; !ok {
			if out.Labels == nil {
				out.Labels = map[string]string{}
			}
			out.Labels[key] = value
		}
	}
	setScheduled(&out.Status, now)
	return out, nil
}

// setScheduled says in a pod's conditions that it has a node.
func setScheduled(st *corev1.PodStatus, now metav1.Time) {
	want := corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: now}
	for i := range st.Conditions {
		if c := &st.Conditions[i]; c.Type == want.Type {
			if c.Status == want.Status {
				want.LastTransitionTime = c.LastTransitionTime
			}
			*c = want
			return
		}
	}
	st.Conditions = append(st.Conditions, want)
}
