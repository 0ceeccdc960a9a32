package batch_test

import (
	"math"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"canopus/internal/kinds"
	"canopus/internal/kinds/batch"
)

func template() corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{Spec: corev1.PodSpec{
		RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "main", Image: "x"}},
	}}
}

func job(edit func(*batchv1.JobSpec)) *batchv1.Job {
	j := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "work", Namespace: "default", UID: "u-1"}, Spec: batchv1.JobSpec{Template: template()}}
	if edit != nil {
		edit(&j.Spec)
	}
	return j
}

func fields(k *kinds.Kind, obj, old kinds.Object) string {
	k.Default(obj)
	k.PrepareCreate(obj)
	errs := k.Validate(obj)
	if old != nil {
		obj.SetResourceVersion("1")
		errs = k.ValidateUpdate(obj, old)
	}
	var out []string
	for _, e := range errs {
		out = append(out, e.Field)
	}
	return strings.Join(out, " ")
}

func TestJobDefaults(t *testing.T) {
	t.Parallel()
	k := batch.Job()
	j := job(func(s *batchv1.JobSpec) {
		s.BackoffLimitPerIndex = new(int32)
		s.PodFailurePolicy = &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{{
			OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{{Type: "x"}},
		}}}
	})
	k.Default(j)
	k.PrepareCreate(j)
	s := j.Spec
	if *s.Completions != 1 || *s.Parallelism != 1 || *s.BackoffLimit != math.MaxInt32 || *s.PodReplacementPolicy != batchv1.Failed ||
		s.PodFailurePolicy.Rules[0].OnPodConditions[0].Status != corev1.ConditionTrue || *s.CompletionMode != batchv1.NonIndexedCompletion {
		t.Errorf("%+v", s)
	}
	if s.Selector.MatchLabels[batchv1.ControllerUidLabel] != "u-1" || s.Template.Labels["job-name"] != "work" || j.Generation != 1 {
		t.Errorf("selector %v, labels %v", s.Selector, s.Template.Labels)
	}
}

func TestJobRules(t *testing.T) {
	t.Parallel()
	indexed := ptr.To(batchv1.IndexedCompletion)
	for name, tc := range map[string]struct {
		edit func(*batchv1.JobSpec)
		want string
	}{
		"plain":             {nil, ""},
		"always":            {func(s *batchv1.JobSpec) { s.Template.Spec.RestartPolicy = "" }, "spec.template.spec.restartPolicy"},
		"negative":          {func(s *batchv1.JobSpec) { s.Parallelism = ptr.To(int32(-1)) }, "spec.parallelism"},
		"no completions":    {func(s *batchv1.JobSpec) { s.CompletionMode, s.Parallelism = indexed, ptr.To(int32(2)) }, "spec.completions"},
		"per index":         {func(s *batchv1.JobSpec) { s.BackoffLimitPerIndex = new(int32) }, "spec.backoffLimitPerIndex"},
		"others' label":     {func(s *batchv1.JobSpec) { s.Template.Labels = map[string]string{"job-name": "other"} }, "spec.template.metadata.labels[job-name]"},
		"manual":            {func(s *batchv1.JobSpec) { s.ManualSelector = ptr.To(true) }, "spec.selector"},
		"managed by nobody": {func(s *batchv1.JobSpec) { s.ManagedBy = ptr.To("me") }, "spec.managedBy"},
		"success policy":    {func(s *batchv1.JobSpec) { s.SuccessPolicy = &batchv1.SuccessPolicy{} }, "spec.successPolicy"},
		"success indexes": {func(s *batchv1.JobSpec) {
			s.CompletionMode, s.Completions = indexed, ptr.To(int32(5))
			s.SuccessPolicy = &batchv1.SuccessPolicy{Rules: []batchv1.SuccessPolicyRule{{SucceededIndexes: ptr.To("1,3-5")}}}
		}, "spec.successPolicy.rules[0].succeededIndexes"},
		"failure policy": {func(s *batchv1.JobSpec) {
			s.PodFailurePolicy = &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{{
				Action: batchv1.PodFailurePolicyActionFailIndex,
				OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{
					Operator: batchv1.PodFailurePolicyOnExitCodesOpIn, Values: []int32{0, 0}, ContainerName: ptr.To("side"),
				},
			}}}
			s.Template.Spec.RestartPolicy = corev1.RestartPolicyOnFailure
		}, "spec.podFailurePolicy.rules[0].action spec.podFailurePolicy.rules[0].onExitCodes.containerName " +
			"spec.podFailurePolicy.rules[0].onExitCodes.values[0] spec.podFailurePolicy.rules[0].onExitCodes.values[1] " +
			"spec.podFailurePolicy.rules[0].onExitCodes.values[1] spec.template.spec.restartPolicy"},
	} {
		if got := fields(batch.Job(), job(tc.edit), nil); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

func TestJobUpdate(t *testing.T) {
	t.Parallel()
	k := batch.Job()
	for name, tc := range map[string]struct {
		was, now func(*batchv1.JobSpec)
		want     string
	}{
		"parallelism": {nil, func(s *batchv1.JobSpec) { s.Completions, s.Parallelism = ptr.To(int32(1)), ptr.To(int32(4)) }, ""},
		"completions": {nil, func(s *batchv1.JobSpec) { s.Completions = ptr.To(int32(4)) }, "spec.completions"},
		"elastic": {func(s *batchv1.JobSpec) {
			s.CompletionMode, s.Completions = ptr.To(batchv1.IndexedCompletion), ptr.To(int32(1))
		},
			func(s *batchv1.JobSpec) {
				s.CompletionMode, s.Completions, s.Parallelism = ptr.To(batchv1.IndexedCompletion), ptr.To(int32(4)), ptr.To(int32(4))
			}, ""},
		"image":    {nil, func(s *batchv1.JobSpec) { s.Template.Spec.Containers[0].Image = "y" }, "spec.template"},
		"selector": {nil, func(s *batchv1.JobSpec) { s.Template.Spec.NodeSelector = map[string]string{"a": "b"} }, "spec.template"},
		"selector while held": {func(s *batchv1.JobSpec) { s.Suspend = ptr.To(true) },
			func(s *batchv1.JobSpec) { s.Template.Spec.NodeSelector = map[string]string{"a": "b"} }, ""},
	} {
		old := job(tc.was)
		k.Default(old)
		k.PrepareCreate(old)
		if got := fields(k, job(tc.now), old); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

func TestCronJobRules(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		edit func(*batchv1.CronJob)
		want string
	}{
		"plain":    {func(*batchv1.CronJob) {}, ""},
		"zone":     {func(c *batchv1.CronJob) { c.Spec.TimeZone = ptr.To("Europe/Berlin") }, ""},
		"no zone":  {func(c *batchv1.CronJob) { c.Spec.TimeZone = ptr.To("Mars/Olympus") }, "spec.timeZone"},
		"local":    {func(c *batchv1.CronJob) { c.Spec.TimeZone = ptr.To("local") }, "spec.timeZone"},
		"schedule": {func(c *batchv1.CronJob) { c.Spec.Schedule = "TZ=" }, "spec.schedule"},
		"prefix":   {func(c *batchv1.CronJob) { c.Spec.Schedule = "TZ=UTC 0 * * * *" }, "spec.schedule"},
		"name":     {func(c *batchv1.CronJob) { c.Name = strings.Repeat("a", 53) }, "metadata.name"},
		"selector": {func(c *batchv1.CronJob) { c.Spec.JobTemplate.Spec.Selector = &metav1.LabelSelector{} }, "spec.jobTemplate.spec.selector"},
	} {
		c := &batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{Name: "tick", Namespace: "default"}, Spec: batchv1.CronJobSpec{Schedule: "*/5 * * * *"}}
		c.Spec.JobTemplate.Spec.Template = template()
		tc.edit(c)
		if got := fields(batch.CronJob(), c, nil); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

func TestJobCells(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 1, 0, 0, time.UTC)
	j := job(func(s *batchv1.JobSpec) { s.Parallelism = ptr.To(int32(3)) })
	started := metav1.NewTime(now.Add(-90 * time.Second))
	j.Status = batchv1.JobStatus{StartTime: &started, Succeeded: 1}
	cells := batch.Job().Cells(j, now)
	if cells[1] != "Running" || cells[2] != "1/1 of 3" || cells[3] != "90s" {
		t.Errorf("%v", cells)
	}
}

// TestJobScheduling: what is off does not come in, and is not lost once there.
func TestJobScheduling(t *testing.T) {
	t.Parallel()
	with := func() *batchv1.Job {
		return &batchv1.Job{Spec: batchv1.JobSpec{Scheduling: &batchv1.JobSchedulingConfiguration{}}}
	}
	k := batch.Job()
	j := with()
	if k.PrepareCreate(j); j.Spec.Scheduling != nil {
		t.Error("a create brings it in")
	}
	j = with()
	if k.PrepareUpdate(j, &batchv1.Job{}); j.Spec.Scheduling != nil {
		t.Error("an update brings it in")
	}
	if k.PrepareUpdate(j, with()); j.Spec.Scheduling != nil {
		t.Error("an update without it keeps it")
	}
	j = with()
	if k.PrepareUpdate(j, with()); j.Spec.Scheduling == nil {
		t.Error("an update loses it")
	}
}
