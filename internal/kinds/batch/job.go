package batch

import (
	"fmt"
	"math"
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds"
	"canopus/internal/kinds/check"
	"canopus/internal/kinds/podspec"
	"canopus/internal/kinds/show"
)

// Labels of a Job's pods from before labels had prefixes; clients still select by them.
const (
	legacyNameLabel = "job-name"
	legacyUIDLabel  = "controller-uid"
)

// Job is batch/v1 jobs.
func Job() *kinds.Kind {
	return kinds.New(kinds.Spec[batchv1.Job, *batchv1.Job]{
		GVK:        batchv1.SchemeGroupVersion.WithKind("Job"),
		Plural:     "jobs",
		Categories: []string{"all"},
		Namespaced: true,
		NewList:    func() runtime.Object { return &batchv1.JobList{} },

		Default:       defaultJob,
		Generation:    true,
		PrepareCreate: prepareJob,
		PrepareUpdate: func(obj, old *batchv1.Job) {
			obj.Status = old.Status
			dropGated(&obj.Spec, &old.Spec)
			kinds.Bump(obj, old, !equal(obj.Spec, old.Spec))
		},
		Validate:       validateJob,
		ValidateUpdate: validateJobUpdate,
		Warnings:       jobWarnings,
		Fields: map[string]func(*batchv1.Job) string{
			"status.successful": func(j *batchv1.Job) string { return strconv.Itoa(int(j.Status.Succeeded)) },
		},
		Subresources: []kinds.Subresource{kinds.Status(
			func(obj, old *batchv1.Job) { obj.Spec = old.Spec }, validateJobStatus)},
		Columns: append([]metav1.TableColumnDefinition{
			show.Name(),
			show.Column("Status", "string", "Status of the job."),
			show.Column("Completions", "string", batchv1.JobStatus{}.SwaggerDoc()["succeeded"]),
			show.Column("Duration", "string", "Time required to complete the job."),
			show.AgeColumn(),
		}, wideColumns()...),
		Cells: func(j *batchv1.Job, now time.Time) []any {
			return append([]any{j.Name, jobState(j), completions(j), jobDuration(j, now), show.Age(j.CreationTimestamp, now)},
				wideCells(&j.Spec.Template.Spec, j.Spec.Selector)...)
		},
	})
}

func defaultJob(j *batchv1.Job) {
	s := &j.Spec
	if s.Completions == nil && s.Parallelism == nil {
		setDefault(&s.Completions, 1)
	}
	setDefault(&s.Parallelism, 1)
	if s.BackoffLimitPerIndex != nil {
		setDefault(&s.BackoffLimit, math.MaxInt32)
	}
	setDefault(&s.BackoffLimit, 6)
	if len(j.Labels) == 0 && len(s.Template.Labels) > 0 {
		j.Labels = map[string]string{}
		for k, v := range s.Template.Labels {
			j.Labels[k] = v
		}
	}
	setDefault(&s.CompletionMode, batchv1.NonIndexedCompletion)
	setDefault(&s.Suspend, false)
	setDefault(&s.ManualSelector, false)
	if s.PodFailurePolicy != nil {
		for i := range s.PodFailurePolicy.Rules {
			conditions := s.PodFailurePolicy.Rules[i].OnPodConditions
			for k := range conditions {
				if conditions[k].Status == "" {
					conditions[k].Status = corev1.ConditionTrue
				}
			}
		}
		setDefault(&s.PodReplacementPolicy, batchv1.Failed)
	}
	setDefault(&s.PodReplacementPolicy, batchv1.TerminatingOrFailed)
	podspec.Default(&s.Template.Spec)
}

// prepareJob gives a Job the labels and the selector that no other has, unless its author chose to name them.
func prepareJob(j *batchv1.Job) {
	j.Status = batchv1.JobStatus{}
	dropGated(&j.Spec, nil)
	if orZero(j.Spec.ManualSelector) {
		return
	}
	if j.Spec.Template.Labels == nil {
		j.Spec.Template.Labels = map[string]string{}
	}
	for key, value := range ownLabels(j.Name, j.UID) {
		if _, set := j.Spec.Template.Labels[key]; !set { // what the author set is left for validation to refuse
			j.Spec.Template.Labels[key] = value
		}
	}
	if j.Spec.Selector == nil {
		j.Spec.Selector = &metav1.LabelSelector{}
	}
	if j.Spec.Selector.MatchLabels == nil {
		j.Spec.Selector.MatchLabels = map[string]string{}
	}
	if _, set := j.Spec.Selector.MatchLabels[batchv1.ControllerUidLabel]; !set {
		j.Spec.Selector.MatchLabels[batchv1.ControllerUidLabel] = string(j.UID)
	}
}

// dropGated clears what has no effect here; how the pods of a Job are scheduled together is off by default upstream.
func dropGated(s, old *batchv1.JobSpec) {
	if old == nil {
		s.Scheduling = nil
		podspec.DropGated(&s.Template.Spec, nil)
		return
	}
	if old.Scheduling == nil {
		s.Scheduling = nil
	}
	podspec.DropGated(&s.Template.Spec, &old.Template.Spec)
}

func ownLabels(name string, uid types.UID) map[string]string {
	return map[string]string{
		batchv1.JobNameLabel: name, legacyNameLabel: name,
		batchv1.ControllerUidLabel: string(uid), legacyUIDLabel: string(uid),
	}
}

func jobWarnings(j, old *batchv1.Job) []string {
	var out []string
	if old == nil {
		out = check.PodNameWarnings(j.Name)
	} else if j.Generation == old.Generation {
		return nil
	}
	return append(out, jobSpecWarnings(&j.Spec, field.NewPath("spec"))...)
}

// jobSpecWarnings are about the spec of a Job or of a CronJob's template.
func jobSpecWarnings(s *batchv1.JobSpec, at *field.Path) []string {
	var out []string
	if indexed(s) && orZero(s.Completions) > manyIndexes && orZero(s.Parallelism) > fewerIndexes {
		out = append(out, at.Child("parallelism").String()+": with more than 100000 completions and a parallelism above 10000, the indexes that have failed or completed may become too many to keep track of")
	}
	return append(out, podspec.TemplateWarnings(&s.Template, at.Child("template"))...)
}

func hasCondition(j *batchv1.Job, t batchv1.JobConditionType) bool {
	for _, c := range j.Status.Conditions {
		if c.Type == t {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func jobState(j *batchv1.Job) string {
	switch {
	case hasCondition(j, batchv1.JobComplete):
		return "Complete"
	case hasCondition(j, batchv1.JobFailed):
		return "Failed"
	case j.DeletionTimestamp != nil:
		return "Terminating"
	}
	for _, t := range []batchv1.JobConditionType{batchv1.JobSuspended, batchv1.JobFailureTarget, batchv1.JobSuccessCriteriaMet} {
		if hasCondition(j, t) {
			return string(t)
		}
	}
	return "Running"
}

func completions(j *batchv1.Job) string {
	if j.Spec.Completions != nil {
		return fmt.Sprintf("%d/%d", j.Status.Succeeded, *j.Spec.Completions)
	}
	if p := orZero(j.Spec.Parallelism); p > 1 {
		return fmt.Sprintf("%d/1 of %d", j.Status.Succeeded, p)
	}
	return fmt.Sprintf("%d/1", j.Status.Succeeded)
}

func jobDuration(j *batchv1.Job, now time.Time) string {
	switch {
	case j.Status.StartTime == nil:
		return ""
	case j.Status.CompletionTime == nil:
		return duration.HumanDuration(now.Sub(j.Status.StartTime.Time))
	}
	return duration.HumanDuration(j.Status.CompletionTime.Sub(j.Status.StartTime.Time))
}
