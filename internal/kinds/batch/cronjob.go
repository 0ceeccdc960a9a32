package batch

import (
	"fmt"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds"
	"canopus/internal/kinds/check"
	"canopus/internal/kinds/podspec"
	"canopus/internal/kinds/show"
	"canopus/internal/schedule"
)

// maxCronJobName leaves room in the names of its Jobs for the time they were due at.
const maxCronJobName = 52

// CronJob is batch/v1 cronjobs.
func CronJob() *kinds.Kind {
	return kinds.New(kinds.Spec[batchv1.CronJob, *batchv1.CronJob]{
		GVK:        batchv1.SchemeGroupVersion.WithKind("CronJob"),
		Plural:     "cronjobs",
		ShortNames: []string{"cj"},
		Categories: []string{"all"},
		Namespaced: true,
		NewList:    func() runtime.Object { return &batchv1.CronJobList{} },

		Default:    defaultCronJob,
		Generation: true,
		PrepareCreate: func(c *batchv1.CronJob) {
			c.Status = batchv1.CronJobStatus{}
			dropGated(&c.Spec.JobTemplate.Spec, nil)
		},
		PrepareUpdate: func(obj, old *batchv1.CronJob) {
			obj.Status = old.Status
			dropGated(&obj.Spec.JobTemplate.Spec, &old.Spec.JobTemplate.Spec)
			kinds.Bump(obj, old, !equal(obj.Spec, old.Spec))
		},
		Validate:       func(c *batchv1.CronJob) field.ErrorList { return append(validateCronJob(c, nil), cronJobName(c)...) },
		ValidateUpdate: func(c, old *batchv1.CronJob) field.ErrorList { return validateCronJob(c, &old.Spec) },
		Warnings: func(c, old *batchv1.CronJob) []string {
			if old != nil && c.Generation == old.Generation {
				return nil
			}
			var out []string
			if old == nil {
				out = check.PodNameWarnings(c.Name)
			}
			out = append(out, jobSpecWarnings(&c.Spec.JobTemplate.Spec, field.NewPath("spec", "jobTemplate", "spec"))...)
			if zoned(c.Spec.Schedule) {
				out = append(out, "CRON_TZ or TZ used in spec.schedule is not officially supported, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details")
			}
			return out
		},
		Subresources: []kinds.Subresource{kinds.Status(func(obj, old *batchv1.CronJob) { obj.Spec = old.Spec }, nil)},
		Columns:      cronJobColumns(),
		Cells:        cronJobCells,
	})
}

func defaultCronJob(c *batchv1.CronJob) {
	if c.Spec.ConcurrencyPolicy == "" {
		c.Spec.ConcurrencyPolicy = batchv1.AllowConcurrent
	}
	setDefault(&c.Spec.Suspend, false)
	setDefault(&c.Spec.SuccessfulJobsHistoryLimit, 3)
	setDefault(&c.Spec.FailedJobsHistoryLimit, 1)
	podspec.Default(&c.Spec.JobTemplate.Spec.Template.Spec)
}

func cronJobName(c *batchv1.CronJob) field.ErrorList {
	if len(c.Name) <= maxCronJobName {
		return nil
	}
	return field.ErrorList{field.Invalid(field.NewPath("metadata", "name"), c.Name, fmt.Sprintf("must be no more than %d characters", maxCronJobName))}
}

// validateCronJob accepts an old time zone that this server does not know, for it may once have known it.
func validateCronJob(c *batchv1.CronJob, old *batchv1.CronJobSpec) field.ErrorList {
	s, at := &c.Spec, field.NewPath("spec")
	var errs field.ErrorList
	if s.Schedule == "" {
		errs = append(errs, field.Required(at.Child("schedule"), ""))
	} else {
		errs = append(errs, validateSchedule(s, old, at.Child("schedule"))...)
	}
	errs = append(errs, check.OptionalNonNegative(s.StartingDeadlineSeconds, at.Child("startingDeadlineSeconds"))...)
	errs = append(errs, check.RequiredOneOf(s.ConcurrencyPolicy, at.Child("concurrencyPolicy"),
		batchv1.AllowConcurrent, batchv1.ForbidConcurrent, batchv1.ReplaceConcurrent)...)
	errs = append(errs, check.OptionalNonNegative(s.SuccessfulJobsHistoryLimit, at.Child("successfulJobsHistoryLimit"))...)
	errs = append(errs, check.OptionalNonNegative(s.FailedJobsHistoryLimit, at.Child("failedJobsHistoryLimit"))...)
	if old == nil || !equal(s.TimeZone, old.TimeZone) {
		errs = append(errs, validateTimeZone(s.TimeZone, at.Child("timeZone"))...)
	}
	template := at.Child("jobTemplate", "spec")
	if orZero(s.JobTemplate.Spec.ManualSelector) {
		errs = append(errs, field.NotSupported(template.Child("manualSelector"), *s.JobTemplate.Spec.ManualSelector, []string{"nil", "false"}))
	}
	if s.JobTemplate.Spec.Selector != nil {
		errs = append(errs, field.Invalid(template.Child("selector"), s.JobTemplate.Spec.Selector, "`selector` will be auto-generated"))
	}
	return append(errs, validateJobSpec(&s.JobTemplate.Spec, template)...)
}

// zoned says whether a schedule names a time zone by itself.
func zoned(schedule string) bool { return strings.Contains(schedule, "TZ") }

func validateSchedule(s, old *batchv1.CronJobSpec, at *field.Path) field.ErrorList {
	if _, err := schedule.Parse(s.Schedule); err != nil {
		return field.ErrorList{field.Invalid(at, s.Schedule, err.Error())}
	}
	switch {
	case zoned(s.Schedule) && s.TimeZone != nil:
		return field.ErrorList{field.Invalid(at, s.Schedule, "cannot use both timeZone field and TZ or CRON_TZ in schedule")}
	case zoned(s.Schedule) && (old == nil || !zoned(old.Schedule)):
		return field.ErrorList{field.Invalid(at, s.Schedule, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead")}
	}
	return nil
}

func validateTimeZone(zone *string, at *field.Path) field.ErrorList {
	switch {
	case zone == nil:
		return nil
	case *zone == "":
		return field.ErrorList{field.Invalid(at, *zone, "timeZone must be nil or non-empty string")}
	case strings.EqualFold(*zone, "Local"):
		return field.ErrorList{field.Invalid(at, *zone, "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones")}
	}
	if _, err := schedule.Zone(*zone); err != nil {
		return field.ErrorList{field.Invalid(at, *zone, err.Error())}
	}
	return nil
}

func cronJobColumns() []metav1.TableColumnDefinition {
	spec, status := batchv1.CronJobSpec{}.SwaggerDoc(), batchv1.CronJobStatus{}.SwaggerDoc()
	return append([]metav1.TableColumnDefinition{
		show.Name(),
		show.Column("Schedule", "string", spec["schedule"]),
		show.Column("Timezone", "string", spec["timeZone"]),
		show.Column("Suspend", "boolean", spec["suspend"]),
		show.Column("Active", "integer", status["active"]),
		show.Column("Last Schedule", "string", status["lastScheduleTime"]),
		show.AgeColumn(),
	}, wideColumns()...)
}

func cronJobCells(c *batchv1.CronJob, now time.Time) []any {
	zone, last := show.None, show.None
	if c.Spec.TimeZone != nil {
		zone = *c.Spec.TimeZone
	}
	if c.Status.LastScheduleTime != nil {
		last = show.Age(*c.Status.LastScheduleTime, now)
	}
	return append([]any{
		c.Name, c.Spec.Schedule, zone, fmt.Sprint(orZero(c.Spec.Suspend)), int64(len(c.Status.Active)), last, show.Age(c.CreationTimestamp, now),
	}, wideCells(&c.Spec.JobTemplate.Spec.Template.Spec, c.Spec.JobTemplate.Spec.Selector)...)
}
