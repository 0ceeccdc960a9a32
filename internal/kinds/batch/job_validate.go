package batch

import (
	"fmt"
	"slices"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds/check"
	"canopus/internal/kinds/podspec"
)

// Limits of Jobs: what is kept about indexes must fit into the status.
const (
	manyIndexes  = 100_000
	fewerIndexes = 10_000
	maxManagedBy = 63
)

func indexed(s *batchv1.JobSpec) bool { return orZero(s.CompletionMode) == batchv1.IndexedCompletion }

func validateJob(j *batchv1.Job) field.ErrorList {
	at := field.NewPath("spec")
	errs := validateOwnLabels(j)
	if j.Spec.Selector == nil {
		errs = append(errs, field.Required(at.Child("selector"), ""))
	}
	errs = append(errs, validateJobSelector(&j.Spec, at)...)
	errs = append(errs, validateJobSpec(&j.Spec, at)...)
	if indexed(&j.Spec) && orZero(j.Spec.Completions) > 0 {
		last := fmt.Sprintf("%s-%d", j.Name, *j.Spec.Completions-1)
		if len(validation.IsDNS1123Label(last)) > 0 {
			errs = append(errs, field.Invalid(field.NewPath("metadata", "name"), j.Name, "will not able to create pod with invalid DNS label: "+last))
		}
	}
	return errs
}

// validateOwnLabels refuses labels that would make the Job's pods another's.
func validateOwnLabels(j *batchv1.Job) field.ErrorList {
	if orZero(j.Spec.ManualSelector) || j.Spec.Selector == nil {
		return nil
	}
	var errs field.ErrorList
	if j.UID == "" {
		errs = append(errs, field.Required(field.NewPath("metadata", "uid"), ""))
	}
	want, at := ownLabels(j.Name, j.UID), field.NewPath("spec", "template", "metadata", "labels")
	for _, key := range []string{legacyUIDLabel, legacyNameLabel, batchv1.ControllerUidLabel, batchv1.JobNameLabel} {
		got, set := j.Spec.Template.Labels[key]
		switch {
		case !set:
			errs = append(errs, field.Required(at.Key(key), fmt.Sprintf("must be '%s'", want[key])))
		case got != want[key]:
			errs = append(errs, field.Invalid(at.Key(key), j.Spec.Template.Labels, fmt.Sprintf("must be '%s'", want[key])))
		}
	}
	if selector, err := metav1.LabelSelectorAsSelector(j.Spec.Selector); err == nil && !selector.Matches(labels.Set(want)) {
		errs = append(errs, field.Invalid(field.NewPath("spec", "selector"), j.Spec.Selector, "`selector` not auto-generated"))
	}
	return errs
}

func validateJobSelector(s *batchv1.JobSpec, at *field.Path) field.ErrorList {
	if s.Selector == nil {
		return nil
	}
	errs := check.Selector(s.Selector, at.Child("selector"))
	if selector, err := metav1.LabelSelectorAsSelector(s.Selector); err == nil && !selector.Matches(labels.Set(s.Template.Labels)) {
		errs = append(errs, field.Invalid(at.Child("template", "metadata", "labels"), s.Template.Labels, "`selector` does not match template `labels`"))
	}
	return errs
}

// validateJobSpec checks what a Job and a CronJob's template have in common.
func validateJobSpec(s *batchv1.JobSpec, at *field.Path) field.ErrorList {
	errs := check.OptionalNonNegative(s.Parallelism, at.Child("parallelism"))
	errs = append(errs, check.OptionalNonNegative(s.Completions, at.Child("completions"))...)
	errs = append(errs, check.OptionalNonNegative(s.ActiveDeadlineSeconds, at.Child("activeDeadlineSeconds"))...)
	errs = append(errs, check.OptionalNonNegative(s.BackoffLimit, at.Child("backoffLimit"))...)
	errs = append(errs, check.OptionalNonNegative(s.TTLSecondsAfterFinished, at.Child("ttlSecondsAfterFinished"))...)
	errs = append(errs, check.OptionalNonNegative(s.BackoffLimitPerIndex, at.Child("backoffLimitPerIndex"))...)
	errs = append(errs, check.OptionalNonNegative(s.MaxFailedIndexes, at.Child("maxFailedIndexes"))...)
	if s.MaxFailedIndexes != nil && s.BackoffLimitPerIndex == nil {
		errs = append(errs, field.Required(at.Child("backoffLimitPerIndex"), "when maxFailedIndexes is specified"))
	}
	if s.ManagedBy != nil {
		errs = append(errs, validation.IsDomainPrefixedPath(at.Child("managedBy"), *s.ManagedBy)...)
		if len(*s.ManagedBy) > maxManagedBy {
			errs = append(errs, field.TooLong(at.Child("managedBy"), *s.ManagedBy, maxManagedBy))
		}
	}
	errs = append(errs, validateMode(s, at)...)
	errs = append(errs, validateFailurePolicy(s, at.Child("podFailurePolicy"))...)
	errs = append(errs, validateSuccessPolicy(s, at.Child("successPolicy"))...)
	if r := s.PodReplacementPolicy; r != nil {
		allowed := []batchv1.PodReplacementPolicy{batchv1.Failed, batchv1.TerminatingOrFailed}
		if s.PodFailurePolicy != nil {
			allowed = allowed[:1]
		}
		errs = append(errs, check.OneOf(*r, at.Child("podReplacementPolicy"), allowed...)...)
	}
	return append(errs, validateJobTemplate(s, at.Child("template"))...)
}

func validateMode(s *batchv1.JobSpec, at *field.Path) field.ErrorList {
	if s.CompletionMode == nil {
		return nil
	}
	errs := check.OneOf(*s.CompletionMode, at.Child("completionMode"), batchv1.NonIndexedCompletion, batchv1.IndexedCompletion)
	if *s.CompletionMode == batchv1.NonIndexedCompletion {
		if s.BackoffLimitPerIndex != nil {
			errs = append(errs, field.Invalid(at.Child("backoffLimitPerIndex"), *s.BackoffLimitPerIndex, "requires indexed completion mode"))
		}
		if s.MaxFailedIndexes != nil {
			errs = append(errs, field.Invalid(at.Child("maxFailedIndexes"), *s.MaxFailedIndexes, "requires indexed completion mode"))
		}
		return errs
	}
	if !indexed(s) {
		return errs
	}
	if s.Completions == nil {
		errs = append(errs, field.Required(at.Child("completions"), "when completion mode is "+string(batchv1.IndexedCompletion)))
	}
	if p := orZero(s.Parallelism); p > manyIndexes {
		errs = append(errs, field.Invalid(at.Child("parallelism"), p, fmt.Sprintf("must be less than or equal to %d when completion mode is %s", manyIndexes, batchv1.IndexedCompletion)))
	}
	return append(errs, validatePerIndex(s, at)...)
}

func validatePerIndex(s *batchv1.JobSpec, at *field.Path) field.ErrorList {
	if s.Completions == nil || s.BackoffLimitPerIndex == nil {
		return nil
	}
	var errs field.ErrorList
	if s.MaxFailedIndexes != nil && *s.MaxFailedIndexes > *s.Completions {
		errs = append(errs, field.Invalid(at.Child("maxFailedIndexes"), *s.MaxFailedIndexes, "must be less than or equal to completions"))
	}
	if *s.Completions <= manyIndexes {
		return errs
	}
	const above = "must be less than or equal to %d when completions are above %d and used with backoff limit per index"
	if p := orZero(s.Parallelism); p > fewerIndexes {
		errs = append(errs, field.Invalid(at.Child("parallelism"), p, fmt.Sprintf(above, fewerIndexes, manyIndexes)))
	}
	switch {
	case s.MaxFailedIndexes == nil:
		errs = append(errs, field.Required(at.Child("maxFailedIndexes"), fmt.Sprintf("must be specified when completions is above %d", manyIndexes)))
	case *s.MaxFailedIndexes > fewerIndexes:
		errs = append(errs, field.Invalid(at.Child("maxFailedIndexes"), *s.MaxFailedIndexes, fmt.Sprintf(above, fewerIndexes, manyIndexes)))
	}
	return errs
}

func validateJobTemplate(s *batchv1.JobSpec, at *field.Path) field.ErrorList {
	errs := podspec.ValidateTemplate(&s.Template, at)
	path, policy := at.Child("spec", "restartPolicy"), s.Template.Spec.RestartPolicy
	switch {
	case policy == "" || policy == corev1.RestartPolicyAlways:
		errs = append(errs, field.Required(path, fmt.Sprintf("valid values: %q, %q", corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever)))
	case policy != corev1.RestartPolicyOnFailure && policy != corev1.RestartPolicyNever:
		errs = append(errs, field.NotSupported(path, policy, []corev1.RestartPolicy{corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever}))
	case s.PodFailurePolicy != nil && policy != corev1.RestartPolicyNever:
		errs = append(errs, field.Invalid(path, policy, fmt.Sprintf("only %q is supported when podFailurePolicy is specified", corev1.RestartPolicyNever)))
	}
	return errs
}

func validateJobUpdate(j, old *batchv1.Job) field.ErrorList {
	at := field.NewPath("spec")
	errs := validateJobSelector(&j.Spec, at)
	if j.Spec.Selector == nil {
		errs = append(errs, field.Required(at.Child("selector"), ""))
	}
	errs = append(errs, validateJobSpec(&j.Spec, at)...)
	errs = append(errs, validateCompletionsUpdate(&j.Spec, &old.Spec, at.Child("completions"))...)
	errs = append(errs, apivalidation.ValidateImmutableField(j.Spec.Selector, old.Spec.Selector, at.Child("selector"))...)
	errs = append(errs, validateTemplateUpdate(j, old, at.Child("template"))...)
	for _, f := range []struct {
		name     string
		now, was any
	}{
		{"completionMode", j.Spec.CompletionMode, old.Spec.CompletionMode},
		{"podFailurePolicy", j.Spec.PodFailurePolicy, old.Spec.PodFailurePolicy},
		{"backoffLimitPerIndex", j.Spec.BackoffLimitPerIndex, old.Spec.BackoffLimitPerIndex},
		{"managedBy", j.Spec.ManagedBy, old.Spec.ManagedBy},
		{"successPolicy", j.Spec.SuccessPolicy, old.Spec.SuccessPolicy},
	} {
		errs = append(errs, apivalidation.ValidateImmutableField(f.now, f.was, at.Child(f.name))...)
	}
	return errs
}

// validateCompletionsUpdate lets an indexed Job grow and shrink, as long as all of it runs at once.
func validateCompletionsUpdate(s, old *batchv1.JobSpec, at *field.Path) field.ErrorList {
	if equal(s.Completions, old.Completions) {
		return nil
	}
	if !indexed(s) || s.Completions == nil || old.Completions == nil {
		return apivalidation.ValidateImmutableField(s.Completions, old.Completions, at)
	}
	if !equal(s.Completions, s.Parallelism) {
		return field.ErrorList{field.Invalid(at, *s.Completions, "can only be modified in tandem with spec.parallelism")}
	}
	return nil
}

// validateTemplateUpdate lets a queueing system say where the pods of a Job that it holds back shall run, and with what.
func validateTemplateUpdate(j, old *batchv1.Job, at *field.Path) field.ErrorList {
	masked := old.Spec.Template.DeepCopy()
	stopped := old.Status.StartTime == nil || hasCondition(old, batchv1.JobSuspended) && old.Status.Active == 0
	if orZero(old.Spec.Suspend) && stopped {
		now := &j.Spec.Template
		masked.Annotations, masked.Labels = now.Annotations, now.Labels
		masked.Spec.NodeSelector, masked.Spec.Tolerations = now.Spec.NodeSelector, now.Spec.Tolerations
		masked.Spec.SchedulingGates = now.Spec.SchedulingGates
		maskNodeAffinity(&masked.Spec, &now.Spec)
		maskResources(masked.Spec.Containers, now.Spec.Containers)
		maskResources(masked.Spec.InitContainers, now.Spec.InitContainers)
	}
	return apivalidation.ValidateImmutableField(j.Spec.Template, *masked, at)
}

func maskNodeAffinity(was, now *corev1.PodSpec) {
	switch {
	case was.Affinity == nil && now.Affinity != nil:
		was.Affinity = &corev1.Affinity{NodeAffinity: now.Affinity.NodeAffinity}
	case was.Affinity != nil && now.Affinity != nil:
		was.Affinity.NodeAffinity = now.Affinity.NodeAffinity
	case was.Affinity != nil:
		was.Affinity.NodeAffinity = nil
		if *was.Affinity == (corev1.Affinity{}) {
			was.Affinity = nil
		}
	}
}

func maskResources(was, now []corev1.Container) {
	for i := range min(len(was), len(now)) {
		was[i].Resources = now[i].Resources
	}
}

func validateJobStatus(obj, old *batchv1.Job) field.ErrorList {
	s, at := &obj.Status, field.NewPath("status")
	errs := check.NonNegative(s.Active, at.Child("active"))
	errs = append(errs, check.NonNegative(s.Succeeded, at.Child("succeeded"))...)
	errs = append(errs, check.NonNegative(s.Failed, at.Child("failed"))...)
	errs = append(errs, check.OptionalNonNegative(s.Ready, at.Child("ready"))...)
	errs = append(errs, check.OptionalNonNegative(s.Terminating, at.Child("terminating"))...)
	if orZero(s.Ready) > s.Active {
		errs = append(errs, field.Invalid(at.Child("ready"), orZero(s.Ready), "cannot set more ready pods than active"))
	}
	errs = append(errs, validateUncounted(s.UncountedTerminatedPods, at.Child("uncountedTerminatedPods"))...)
	return append(errs, validateFinish(obj, old, at)...)
}

func validateUncounted(u *batchv1.UncountedTerminatedPods, at *field.Path) field.ErrorList {
	if u == nil {
		return nil
	}
	var errs field.ErrorList
	seen := check.Duplicates[types.UID]{}
	for _, f := range []struct {
		name string
		uids []types.UID
	}{{"succeeded", u.Succeeded}, {"failed", u.Failed}} {
		for i, uid := range f.uids {
			if uid == "" {
				errs = append(errs, field.Invalid(at.Child(f.name).Index(i), uid, "must not be empty"))
				continue
			}
			errs = append(errs, seen.Check(uid, at.Child(f.name).Index(i))...)
		}
	}
	return errs
}

// validateFinish: a Job ends once, either well or badly, and stays ended.
func validateFinish(obj, old *batchv1.Job, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	bad := func(name string, value any, why string) {
		errs = append(errs, field.Invalid(at.Child(name), value, why))
	}
	complete, failed := hasCondition(obj, batchv1.JobComplete), hasCondition(obj, batchv1.JobFailed)
	if complete && failed {
		bad("conditions", field.OmitValueType{}, "cannot set Complete=True and Failed=true conditions")
	}
	if complete && hasCondition(obj, batchv1.JobFailureTarget) {
		bad("conditions", field.OmitValueType{}, "cannot set Complete=True and FailureTarget=true conditions")
	}
	if hasCondition(obj, batchv1.JobSuccessCriteriaMet) && (failed || hasCondition(obj, batchv1.JobFailureTarget)) {
		bad("conditions", field.OmitValueType{}, "cannot set SuccessCriteriaMet=True together with Failed or FailureTarget")
	}
	for _, t := range []batchv1.JobConditionType{
		batchv1.JobComplete, batchv1.JobFailed, batchv1.JobFailureTarget, batchv1.JobSuccessCriteriaMet,
	} {
		if hasCondition(old, t) && !hasCondition(obj, t) {
			bad("conditions", field.OmitValueType{}, "cannot disable the terminal "+string(t)+"=True condition")
		}
	}
	s := &obj.Status
	if (complete || failed) && s.Active > 0 {
		bad("active", s.Active, "active>0 is invalid for finished job")
	}
	if s.CompletionTime != nil && !complete {
		bad("completionTime", s.CompletionTime, "cannot set completionTime when there is no Complete=True condition")
	}
	if complete && s.CompletionTime == nil {
		errs = append(errs, field.Required(at.Child("completionTime"), "completionTime is required for Complete jobs"))
	}
	if s.CompletionTime != nil && s.StartTime != nil && s.CompletionTime.Before(s.StartTime) {
		bad("completionTime", s.CompletionTime, "completionTime cannot be set before startTime")
	}
	if !indexed(&obj.Spec) && s.CompletedIndexes != "" {
		bad("completedIndexes", s.CompletedIndexes, "cannot set non-empty completedIndexes when non-indexed completion mode")
	}
	return errs
}

// intervals checks "1,3-5,7": whole numbers below n, each larger than the last.
func intervals(text string, n int32) error {
	last := -1
	for part := range strings.SplitSeq(text, ",") {
		from, to, err := parseInterval(part)
		switch {
		case err != nil:
			return err
		case from <= last:
			return fmt.Errorf("non-increasing order, previous: %d, current: %d", last, from)
		case to < from || strings.Contains(part, "-") && to == from:
			return fmt.Errorf("non-increasing order, previous: %d, current: %d", from, to)
		case int64(to) >= int64(n):
			return fmt.Errorf("too large index: %q", part)
		}
		last = to
	}
	return nil
}

func parseInterval(text string) (from, to int, err error) {
	a, b, isRange := strings.Cut(text, "-")
	if !isRange {
		b = a
	}
	for i, s := range []string{a, b} {
		if s == "" || strings.ContainsFunc(s, func(r rune) bool { return r < '0' || r > '9' }) || len(s) > 9 {
			return 0, 0, fmt.Errorf("cannot convert string to integer for index: %q", s)
		}
		n := 0
		for _, r := range s {
			n = n*10 + int(r-'0')
		}
		if i == 0 {
			from = n
		}
		to = n
	}
	return from, to, nil
}

func ascending(values []int32) bool { return slices.IsSorted(values) }
