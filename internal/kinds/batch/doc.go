// Package batch describes the kinds of batch: Jobs, which run pods until enough of them have succeeded, and CronJobs,
// which make Jobs by the clock.
package batch

import (
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"canopus/internal/kinds/show"
)

func equal(a, b any) bool { return apiequality.Semantic.DeepEqual(a, b) }

func setDefault[T any](p **T, v T) {
	if *p == nil {
		*p = &v
	}
}

// orZero is what p points to, or nothing.
func orZero[T any](p *T) T {
	var zero T
	if p == nil {
		return zero
	}
	return *p
}

// wideColumns are what -o wide shows of a workload.
func wideColumns() []metav1.TableColumnDefinition {
	return []metav1.TableColumnDefinition{
		show.Wide("Containers", "string", "Names of each container in the template."),
		show.Wide("Images", "string", "Images referenced by each container in the template."),
		show.Wide("Selector", "string", batchv1.JobSpec{}.SwaggerDoc()["selector"]),
	}
}

func wideCells(spec *corev1.PodSpec, s *metav1.LabelSelector) []any {
	names := make([]string, len(spec.Containers))
	images := make([]string, len(spec.Containers))
	for i := range spec.Containers {
		names[i], images[i] = spec.Containers[i].Name, spec.Containers[i].Image
	}
	return []any{strings.Join(names, ","), strings.Join(images, ","), show.Selector(s)}
}
