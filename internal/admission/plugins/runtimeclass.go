package plugins

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"canopus/internal/admission"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	nodelisters "k8s.io/client-go/listers/node/v1"
)

// RuntimeClass gives pods what the runtime class they name costs, and where it can run.
type RuntimeClass struct {
	client  kubernetes.Interface
	classes nodelisters.RuntimeClassLister
}

// NewRuntimeClass makes the plugin.
func NewRuntimeClass(c Config) *RuntimeClass {
	i := c.Informers.Node().V1().RuntimeClasses()
	i.Informer()
	return &RuntimeClass{client: c.Client, classes: i.Lister()}
}

// Name implements admission.Plugin.
func (c *RuntimeClass) Name() string { return "RuntimeClass" }

// Handles implements admission.Plugin.
func (c *RuntimeClass) Handles(r *admission.Request) bool {
	return isPod(r) && r.Operation == admission.Create
}

// Admit implements admission.Mutator.
func (c *RuntimeClass) Admit(ctx context.Context, r *admission.Request) error {
	pod, ok := r.Object.(*corev1.Pod)
	if !ok {
		return nil
	}
	class, err := c.of(ctx, r, pod)
	if err != nil || class == nil {
		return err
	}
	if o := class.Overhead; o != nil {
		if len(pod.Spec.Overhead) > 0 && !apiequality.Semantic.DeepEqual(pod.Spec.Overhead, o.PodFixed) {
			return forbidden(r, "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")
		}
		pod.Spec.Overhead = o.PodFixed.DeepCopy()
	}
	if s := class.Scheduling; s != nil {
		return mergeScheduling(r, pod, s)
	}
	return nil
}

// of returns the class that pod names, nil if it names none.
func (c *RuntimeClass) of(ctx context.Context, r *admission.Request, pod *corev1.Pod) (*nodev1.RuntimeClass, error) {
	if pod.Spec.RuntimeClassName == nil {
		return nil, nil
	}
	name := *pod.Spec.RuntimeClassName
	class, err := c.classes.Get(name)
	if apierrors.IsNotFound(err) {
		class, err = c.client.NodeV1().RuntimeClasses().Get(ctx, name, metav1.GetOptions{})
	}
	switch {
	case apierrors.IsNotFound(err):
		return nil, forbidden(r, fmt.Sprintf("pod rejected: RuntimeClass %q not found", name))
	case err != nil:
		return nil, fmt.Errorf("read runtime class %s: %w", name, err)
	}
	return class, nil
}

func mergeScheduling(r *admission.Request, pod *corev1.Pod, s *nodev1.Scheduling) error {
	for _, key := range slices.Sorted(maps.Keys(s.NodeSelector)) {
		want := s.NodeSelector[key]
		if have, ok := pod.Spec.NodeSelector[key]; ok && have != want {
			return forbidden(r, fmt.Sprintf("conflict: runtimeClass.scheduling.nodeSelector[%s] = %s; pod.spec.nodeSelector[%s] = %s", key, want, key, have))
		}
	}
	if len(s.NodeSelector) > 0 && pod.Spec.NodeSelector == nil {
		pod.Spec.NodeSelector = map[string]string{}
	}
	maps.Copy(pod.Spec.NodeSelector, s.NodeSelector)
	for _, t := range s.Tolerations {
		if !slices.ContainsFunc(pod.Spec.Tolerations, func(have corev1.Toleration) bool { return covers(have, t) }) {
			pod.Spec.Tolerations = append(pod.Spec.Tolerations, *t.DeepCopy())
		}
	}
	return nil
}

// covers says whether a tolerates all that b does, for as long.
func covers(a, b corev1.Toleration) bool {
	if a.Key != "" && a.Key != b.Key || a.Key == "" && a.Operator != corev1.TolerationOpExists {
		return false
	}
	if a.Effect != "" && a.Effect != b.Effect {
		return false
	}
	if a.Effect == corev1.TaintEffectNoExecute && a.TolerationSeconds != nil &&
		(b.TolerationSeconds == nil || *b.TolerationSeconds > *a.TolerationSeconds) {
		return false
	}
	if a.Operator == corev1.TolerationOpExists {
		return true
	}
	return operatorOf(a) == operatorOf(b) && a.Value == b.Value
}

func operatorOf(t corev1.Toleration) corev1.TolerationOperator {
	if t.Operator == "" {
		return corev1.TolerationOpEqual
	}
	return t.Operator
}

// Validate implements admission.Validator: a pod costs what its class says, however it was changed on its way.
func (c *RuntimeClass) Validate(ctx context.Context, r *admission.Request) error {
	pod, ok := r.Object.(*corev1.Pod)
	if !ok {
		return nil
	}
	class, err := c.of(ctx, r, pod)
	if err != nil {
		return err
	}
	switch {
	case class != nil && class.Overhead != nil:
		if !apiequality.Semantic.DeepEqual(pod.Spec.Overhead, class.Overhead.PodFixed) {
			return forbidden(r, "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")
		}
	case len(pod.Spec.Overhead) > 0:
		return forbidden(r, "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead")
	}
	return nil
}
