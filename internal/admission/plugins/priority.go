package plugins

import (
	"context"
	"fmt"

	"canopus/internal/admission"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"
	schedulinglisters "k8s.io/client-go/listers/scheduling/v1"
)

// Priority turns a pod's priorityClassName into its priority and preemption policy, and that of a group of pods into its
// priority, and keeps the default class unique.
type Priority struct {
	client  kubernetes.Interface
	classes schedulinglisters.PriorityClassLister
}

// NewPriority makes the plugin.
func NewPriority(c Config) *Priority {
	i := c.Informers.Scheduling().V1().PriorityClasses()
	i.Informer()
	return &Priority{client: c.Client, classes: i.Lister()}
}

// Name implements admission.Plugin.
func (p *Priority) Name() string { return "Priority" }

// Handles implements admission.Plugin.
func (p *Priority) Handles(r *admission.Request) bool {
	if r.Operation != admission.Create && r.Operation != admission.Update || r.Subresource != "" {
		return false
	}
	return isPod(r) || isPriorityClass(r) || isPodGroup(r)
}

func isPodGroup(r *admission.Request) bool {
	return r.Resource.Resource == "podgroups" && r.Resource.Group == schedulingv1.GroupName
}

func isPriorityClass(r *admission.Request) bool {
	return r.Resource.Resource == "priorityclasses" && r.Resource.Group == schedulingv1.GroupName
}

// Admit implements admission.Mutator.
func (p *Priority) Admit(ctx context.Context, r *admission.Request) error {
	if g, ok := r.Object.(*schedulingv1beta1.PodGroup); ok {
		return p.admitGroup(ctx, r, g)
	}
	pod, ok := r.Object.(*corev1.Pod)
	if !ok {
		return nil
	}
	if r.Operation == admission.Update {
		old, ok := r.Old.(*corev1.Pod)
		if !ok {
			return nil
		}
		// Neither can change; clients that know only the class's name leave them out.
		if pod.Spec.Priority == nil {
			pod.Spec.Priority = old.Spec.Priority
		}
		if pod.Spec.PreemptionPolicy == nil {
			pod.Spec.PreemptionPolicy = old.Spec.PreemptionPolicy
		}
		return nil
	}
	class, err := p.class(ctx, r, &pod.Spec.PriorityClassName)
	if err != nil {
		return err
	}
	if pod.Spec.Priority != nil && *pod.Spec.Priority != class.value {
		return forbidden(r, fmt.Sprintf("the integer value of priority (%d) must not be provided in pod spec; priority admission controller computed %d from the given PriorityClass name", *pod.Spec.Priority, class.value))
	}
	pod.Spec.Priority = &class.value
	if have := pod.Spec.PreemptionPolicy; have != nil && *have != class.preemption {
		return forbidden(r, fmt.Sprintf("the string value of PreemptionPolicy (%s) must not be provided in pod spec; priority admission controller computed %s from the given PriorityClass name", *have, class.preemption))
	}
	pod.Spec.PreemptionPolicy = &class.preemption
	return nil
}

// admitGroup is Admit for a group of pods.
func (p *Priority) admitGroup(ctx context.Context, r *admission.Request, g *schedulingv1beta1.PodGroup) error {
	if r.Operation == admission.Update {
		if old, ok := r.Old.(*schedulingv1beta1.PodGroup); ok && g.Spec.Priority == nil {
			g.Spec.Priority = old.Spec.Priority // it cannot change
		}
		return nil
	}
	class, err := p.class(ctx, r, &g.Spec.PriorityClassName)
	if err != nil {
		return err
	}
	if have := g.Spec.Priority; have != nil && *have != class.value {
		return forbidden(r, fmt.Sprintf("the integer value of priority (%d) must not be provided in the spec of a pod group; priority admission controller computed %d from the given PriorityClass name", *have, class.value))
	}
	g.Spec.Priority = &class.value
	return nil
}

type priority struct {
	value      int32
	preemption corev1.PreemptionPolicy
}

// class finds the class named in a spec; one that names none gets the default one's name, if there is one.
func (p *Priority) class(ctx context.Context, r *admission.Request, named *string) (priority, error) {
	if *named == "" {
		found := priority{preemption: corev1.PreemptLowerPriority}
		c, err := p.defaultClass()
		if err != nil {
			return found, err
		}
		if c != nil {
			*named = c.Name
			found = of(c)
		}
		return found, nil
	}
	name := *named
	c, err := p.classes.Get(name)
	if apierrors.IsNotFound(err) {
		c, err = p.client.SchedulingV1().PriorityClasses().Get(ctx, name, metav1.GetOptions{})
	}
	switch {
	case apierrors.IsNotFound(err):
		return priority{}, forbidden(r, fmt.Sprintf("no PriorityClass with name %v was found", name))
	case err != nil:
		return priority{}, fmt.Errorf("read priority class %s: %w", name, err)
	}
	return of(c), nil
}

func of(c *schedulingv1.PriorityClass) priority {
	found := priority{value: c.Value, preemption: corev1.PreemptLowerPriority}
	if c.PreemptionPolicy != nil {
		found.preemption = *c.PreemptionPolicy
	}
	return found
}

// defaultClass returns the class for pods that name none: of several, the lowest.
func (p *Priority) defaultClass() (*schedulingv1.PriorityClass, error) {
	list, err := p.classes.List(labels.Everything())
	if err != nil {
		return nil, fmt.Errorf("list priority classes: %w", err)
	}
	var found *schedulingv1.PriorityClass
	for _, c := range list {
		if c.GlobalDefault && (found == nil || c.Value < found.Value) {
			found = c
		}
	}
	return found, nil
}

// Validate implements admission.Validator: there is at most one default class.
func (p *Priority) Validate(_ context.Context, r *admission.Request) error {
	c, ok := r.Object.(*schedulingv1.PriorityClass)
	if !ok || !c.GlobalDefault {
		return nil
	}
	have, err := p.defaultClass()
	if err != nil || have == nil {
		return err
	}
	if r.Operation == admission.Create || have.Name != c.Name {
		return forbidden(r, fmt.Sprintf("PriorityClass %v is already marked as globalDefault. Only one PriorityClass can be marked as globalDefault", have.Name))
	}
	return nil
}
