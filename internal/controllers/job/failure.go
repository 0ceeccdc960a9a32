package job

import (
	"fmt"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

// verdict is what a failed pod means to its Job.
type verdict struct {
	action  batchv1.PodFailurePolicyAction
	message string // what matched, as a failed Job tells it; "": no rule did
}

// judge applies the Job's pod failure policy to a failed pod; the first rule that matches decides.
func judge(s *batchv1.JobSpec, p *corev1.Pod) verdict {
	if s.PodFailurePolicy == nil {
		return verdict{action: batchv1.PodFailurePolicyActionCount}
	}
	for i, r := range s.PodFailurePolicy.Rules {
		why := ""
		if r.OnExitCodes != nil {
			why = matchExitCode(r.OnExitCodes, p)
		} else {
			why = matchCondition(r.OnPodConditions, p)
		}
		known := r.Action != batchv1.PodFailurePolicyActionFailIndex || s.BackoffLimitPerIndex != nil
		if why == "" || !known {
			continue
		}
		return verdict{r.Action, fmt.Sprintf("%s matching %s rule at index %d", why, r.Action, i)}
	}
	return verdict{action: batchv1.PodFailurePolicyActionCount}
}

func matchExitCode(r *batchv1.PodFailurePolicyOnExitCodesRequirement, p *corev1.Pod) string {
	for _, c := range slices.Concat(p.Status.ContainerStatuses, p.Status.InitContainerStatuses) {
		ended := c.State.Terminated
		if ended == nil || ended.ExitCode == 0 || r.ContainerName != nil && *r.ContainerName != c.Name {
			continue
		}
		in := slices.Contains(r.Values, ended.ExitCode)
		if in && r.Operator == batchv1.PodFailurePolicyOnExitCodesOpIn || !in && r.Operator == batchv1.PodFailurePolicyOnExitCodesOpNotIn {
			return fmt.Sprintf("Container %s for pod %s/%s failed with exit code %v", c.Name, p.Namespace, p.Name, ended.ExitCode)
		}
	}
	return ""
}

func matchCondition(patterns []batchv1.PodFailurePolicyOnPodConditionsPattern, p *corev1.Pod) string {
	for _, c := range p.Status.Conditions {
		for _, want := range patterns {
			if c.Type == want.Type && c.Status == want.Status {
				return fmt.Sprintf("Pod %s/%s has condition %v", p.Namespace, p.Name, c.Type)
			}
		}
	}
	return ""
}

// The pause before a pod replaces a failed one doubles with each failure in a row.
const (
	firstPause   = 10 * time.Second
	longestPause = 10 * time.Minute
)

// pauseAfter is the pause after so many failures in a row.
func pauseAfter(failures int) time.Duration {
	pause := firstPause
	for i := 1; i < failures && pause < longestPause; i++ {
		pause *= 2
	}
	return min(pause, longestPause)
}

// ended is when p finished, as well as its status tells.
func ended(p *corev1.Pod) time.Time {
	var last time.Time
	for _, c := range slices.Concat(p.Status.ContainerStatuses, p.Status.InitContainerStatuses) {
		if t := c.State.Terminated; t != nil && t.FinishedAt.After(last) {
			last = t.FinishedAt.Time
		}
	}
	if !last.IsZero() {
		return last
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady && c.LastTransitionTime.After(last) {
			last = c.LastTransitionTime.Time
		}
	}
	switch {
	case !last.IsZero():
		return last
	case p.DeletionTimestamp != nil:
		return p.DeletionTimestamp.Time
	}
	return p.CreationTimestamp.Time
}

// backoff is how long the next pod must wait for failures since the last success among finished pods.
func backoff(pods []*corev1.Pod, failed func(*corev1.Pod) bool, now time.Time) time.Duration {
	var lastSuccess, lastFailure time.Time
	for _, p := range pods {
		if p.Status.Phase == corev1.PodSucceeded {
			lastSuccess = latest(lastSuccess, ended(p))
		}
	}
	failures := 0
	for _, p := range pods {
		if at := ended(p); failed(p) && at.After(lastSuccess) {
			failures++
			lastFailure = latest(lastFailure, at)
		}
	}
	if failures == 0 {
		return 0
	}
	return max(0, pauseAfter(failures)-now.Sub(lastFailure))
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
