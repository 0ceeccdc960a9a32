package plugins

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"canopus/internal/admission"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/labels"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	corelisters "k8s.io/client-go/listers/core/v1"
	resourcehelper "k8s.io/component-helpers/resource"
)

// limitRangerAnnotation tells which requests and limits of a pod come from its namespace's limit ranges.
const limitRangerAnnotation = "kubernetes.io/limit-ranger"

// LimitRanger gives containers the requests and limits that they leave out, and refuses pods and claims out of bounds.
type LimitRanger struct{ ranges corelisters.LimitRangeLister }

// NewLimitRanger makes the plugin.
func NewLimitRanger(c Config) *LimitRanger {
	i := c.Informers.Core().V1().LimitRanges()
	i.Informer()
	return &LimitRanger{ranges: i.Lister()}
}

// Name implements admission.Plugin.
func (l *LimitRanger) Name() string { return "LimitRanger" }

// Handles implements admission.Plugin. Of a pod's updates only a resize can change what is limited.
func (l *LimitRanger) Handles(r *admission.Request) bool {
	if r.Resource.Group != "" || r.Operation != admission.Create && r.Operation != admission.Update {
		return false
	}
	switch r.Resource.Resource {
	case "pods":
		return r.Operation == admission.Create && r.Subresource == "" || r.Operation == admission.Update && r.Subresource == "resize"
	case "persistentvolumeclaims":
		return r.Subresource == ""
	}
	return false
}

// Admit implements admission.Mutator.
func (l *LimitRanger) Admit(_ context.Context, r *admission.Request) error {
	pod, ok := r.Object.(*corev1.Pod)
	if !ok || pod.DeletionTimestamp != nil {
		return nil
	}
	ranges, err := l.in(r.Namespace)
	if err != nil {
		return err
	}
	for _, lr := range ranges {
		if r.Operation == admission.Create {
			completePod(pod, lr)
		}
	}
	return nil
}

// Validate implements admission.Validator.
func (l *LimitRanger) Validate(_ context.Context, r *admission.Request) error {
	ranges, err := l.in(r.Namespace)
	if err != nil {
		return err
	}
	for _, lr := range ranges {
		var errs []error
		switch obj := r.Object.(type) {
		case *corev1.Pod:
			if obj.DeletionTimestamp == nil {
				errs = podErrors(obj, lr)
			}
		case *corev1.PersistentVolumeClaim:
			if obj.DeletionTimestamp == nil {
				errs = claimErrors(obj, lr)
			}
		}
		if err := utilerrors.NewAggregate(errs); err != nil {
			return forbidden(r, err.Error())
		}
	}
	return nil
}

func (l *LimitRanger) in(namespace string) ([]*corev1.LimitRange, error) {
	ranges, err := l.ranges.LimitRanges(namespace).List(labels.Everything())
	if err != nil {
		return nil, fmt.Errorf("list the limit ranges of namespace %s: %w", namespace, err)
	}
	slices.SortFunc(ranges, func(a, b *corev1.LimitRange) int { return strings.Compare(a.Name, b.Name) })
	return ranges, nil
}

// completePod gives pod's containers what lr says for those that do not say it themselves, and notes it in an annotation.
func completePod(pod *corev1.Pod, lr *corev1.LimitRange) {
	requests, limits := corev1.ResourceList{}, corev1.ResourceList{}
	for i := range lr.Spec.Limits {
		if item := &lr.Spec.Limits[i]; item.Type == corev1.LimitTypeContainer {
			maps.Copy(requests, item.DefaultRequest)
			maps.Copy(limits, item.Default)
		}
	}
	var notes []string
	complete := func(what string, containers []corev1.Container) {
		for i := range containers {
			c := &containers[i]
			for _, part := range []struct {
				word     string
				list     *corev1.ResourceList
				defaults corev1.ResourceList
			}{{"request", &c.Resources.Requests, requests}, {"limit", &c.Resources.Limits, limits}} {
				if set := fill(part.list, part.defaults); len(set) > 0 {
					notes = append(notes, fmt.Sprintf("%s %s for %s %s", strings.Join(set, ", "), part.word, what, c.Name))
				}
			}
		}
	}
	complete("container", pod.Spec.Containers)
	complete("init container", pod.Spec.InitContainers)
	if len(notes) == 0 {
		return
	}
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	pod.Annotations[limitRangerAnnotation] = "LimitRanger plugin set: " + strings.Join(notes, "; ")
}

// fill adds to list what it lacks of defaults and names that.
func fill(list *corev1.ResourceList, defaults corev1.ResourceList) []string {
	var set []string
	for _, name := range slices.Sorted(maps.Keys(defaults)) {
		if _, ok := (*list)[name]; ok {
			continue
		}
		if *list == nil {
			*list = corev1.ResourceList{}
		}
		(*list)[name] = defaults[name].DeepCopy()
		set = append(set, string(name))
	}
	return set
}

func podErrors(pod *corev1.Pod, lr *corev1.LimitRange) []error {
	var errs []error
	for i := range lr.Spec.Limits {
		item := &lr.Spec.Limits[i]
		switch item.Type {
		case corev1.LimitTypeContainer:
			for _, containers := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
				for j := range containers {
					r := &containers[j].Resources
					errs = append(errs, outOfBounds(item, r.Requests, r.Limits)...)
				}
			}
		case corev1.LimitTypePod:
			options := resourcehelper.PodResourcesOptions{ExcludeOverhead: true}
			errs = append(errs, outOfBounds(item, resourcehelper.PodRequests(pod, options), resourcehelper.PodLimits(pod, options))...)
		}
	}
	return errs
}

// claimErrors: a claim has a request but no limit, so its request is what both bounds hold for.
func claimErrors(claim *corev1.PersistentVolumeClaim, lr *corev1.LimitRange) []error {
	var errs []error
	requests := claim.Spec.Resources.Requests
	for i := range lr.Spec.Limits {
		item := &lr.Spec.Limits[i]
		if item.Type != corev1.LimitTypePersistentVolumeClaim {
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(item.Min)) {
			errs = append(errs, bound{item.Type, name, item.Min[name]}.least(requests, nil))
		}
		for _, name := range slices.Sorted(maps.Keys(item.Max)) {
			errs = append(errs, bound{item.Type, name, item.Max[name]}.mostRequest(requests))
		}
	}
	return errs
}

func outOfBounds(item *corev1.LimitRangeItem, requests, limits corev1.ResourceList) []error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(item.Min)) {
		errs = append(errs, bound{item.Type, name, item.Min[name]}.least(requests, limits))
	}
	for _, name := range slices.Sorted(maps.Keys(item.Max)) {
		errs = append(errs, bound{item.Type, name, item.Max[name]}.most(requests, limits))
	}
	for _, name := range slices.Sorted(maps.Keys(item.MaxLimitRequestRatio)) {
		errs = append(errs, bound{item.Type, name, item.MaxLimitRequestRatio[name]}.ratio(requests, limits))
	}
	return errs
}

// bound is one number that a limit range sets. Its errors are worded as clients know them, two spaces included.
type bound struct {
	of    corev1.LimitType
	name  corev1.ResourceName
	value resource.Quantity
}

func (b bound) refuse(extreme, why string) error {
	return fmt.Errorf("%s %s usage per %s is %s%s", extreme, b.name, b.of, b.value.String(), why)
}

func (b bound) least(requests, limits corev1.ResourceList) error {
	request, requested := requests[b.name]
	limit, limited := limits[b.name]
	switch {
	case !requested:
		return b.refuse("minimum", ".  No request is specified")
	case request.Cmp(b.value) < 0:
		return b.refuse("minimum", ", but request is "+request.String())
	case limited && limit.Cmp(b.value) < 0:
		return b.refuse("minimum", ", but limit is "+limit.String())
	}
	return nil
}

func (b bound) most(requests, limits corev1.ResourceList) error {
	request, requested := requests[b.name]
	limit, limited := limits[b.name]
	switch {
	case !limited:
		return b.refuse("maximum", ".  No limit is specified")
	case limit.Cmp(b.value) > 0:
		return b.refuse("maximum", ", but limit is "+limit.String())
	case requested && request.Cmp(b.value) > 0:
		return b.refuse("maximum", ", but request is "+request.String())
	}
	return nil
}

func (b bound) mostRequest(requests corev1.ResourceList) error {
	request, requested := requests[b.name]
	switch {
	case !requested:
		return b.refuse("maximum", ".  No request is specified")
	case request.Cmp(b.value) > 0:
		return b.refuse("maximum", ", but request is "+request.String())
	}
	return nil
}

func (b bound) ratio(requests, limits corev1.ResourceList) error {
	prefix := fmt.Sprintf("%s max limit to request ratio per %s is %s, but ", b.name, b.of, b.value.String())
	request, limit := requests[b.name], limits[b.name]
	switch {
	case request.IsZero():
		return errors.New(prefix + "no request is specified or request is 0")
	case limit.IsZero():
		return errors.New(prefix + "no limit is specified or limit is 0")
	}
	ratio, most := inUnits(limit)/inUnits(request), inUnits(b.value)
	if ratio > most {
		return fmt.Errorf("%sprovided ratio is %f", prefix, ratio)
	}
	return nil
}

// inUnits is q as a number, in thousandths as far as those fit.
func inUnits(q resource.Quantity) float64 {
	if q.Value() < math.MaxInt64/1000 {
		return float64(q.MilliValue()) / 1000
	}
	return float64(q.Value())
}
