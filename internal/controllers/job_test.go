package controllers

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/ptr"
)

func work(name, image string, change func(*batchv1.JobSpec)) *batchv1.Job {
	j := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"},
		Spec: batchv1.JobSpec{
			Completions: ptr.To(int32(5)), Parallelism: ptr.To(int32(2)), BackoffLimit: ptr.To(int32(0)),
			Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{
				RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "main", Image: image}},
			}},
		},
	}
	if change != nil {
		change(&j.Spec)
	}
	return j
}

// ended waits for a Job's end and for all its pods to be free of the finalizer.
func (c *cluster) ended(name string, how batchv1.JobConditionType) *batchv1.Job {
	c.t.Helper()
	var out *batchv1.Job
	c.eventually(name+" is "+string(how), func(ctx context.Context) (string, error) {
		j, err := c.BatchV1().Jobs("default").Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err.Error(), err
		}
		out = j
		for _, p := range c.pods(ctx) {
			if p.Labels[batchv1.JobNameLabel] == name && len(p.Finalizers) > 0 {
				return "pod " + p.Name + " is not accounted for", nil
			}
		}
		for _, condition := range j.Status.Conditions {
			if condition.Type == how && condition.Status == corev1.ConditionTrue {
				return "", nil
			}
		}
		return fmt.Sprintf("%+v", j.Status), nil
	})
	return out
}

func (c *cluster) runJob(j *batchv1.Job) {
	c.t.Helper()
	if _, err := c.BatchV1().Jobs("default").Create(c.t.Context(), j, metav1.CreateOptions{}); err != nil {
		c.t.Fatal(err)
	}
}

func TestJobs(t *testing.T) {
	t.Parallel()
	c := start(t, nil)
	c.hollow("node-1")
	indexed := ptr.To(batchv1.IndexedCompletion)
	c.runJob(work("plain", "exit-0", nil))
	c.runJob(work("indexed", "exit-0", func(s *batchv1.JobSpec) { s.CompletionMode = indexed }))
	c.runJob(work("failing", "exit-1", nil))
	c.runJob(work("per-index", "exit-1", func(s *batchv1.JobSpec) {
		s.CompletionMode, s.BackoffLimitPerIndex, s.BackoffLimit = indexed, new(int32), nil
	}))
	c.runJob(work("short", "exit-0", func(s *batchv1.JobSpec) { s.TTLSecondsAfterFinished = new(int32) }))
	c.runJob(work("held", "exit-0", func(s *batchv1.JobSpec) { s.Suspend = ptr.To(true) }))
	c.runJob(work("policy", "exit-1", func(s *batchv1.JobSpec) {
		s.PodFailurePolicy = &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{{
			Action: batchv1.PodFailurePolicyActionFailJob,
			OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{
				Operator: batchv1.PodFailurePolicyOnExitCodesOpIn, Values: []int32{1},
			},
		}}}
		s.BackoffLimit = ptr.To(int32(6))
	}))
	for _, name := range []string{"plain", "indexed"} {
		if s := c.ended(name, batchv1.JobComplete).Status; s.Succeeded != 5 || s.Failed != 0 || s.Active != 0 || s.CompletionTime == nil {
			t.Errorf("%s: %+v", name, s)
		}
	}
	if s := c.ended("indexed", batchv1.JobComplete).Status; s.CompletedIndexes != "0-4" {
		t.Errorf("completed indexes %s", s.CompletedIndexes)
	}
	if s := c.ended("failing", batchv1.JobFailed).Status; s.Failed == 0 || s.Conditions[len(s.Conditions)-1].Reason != batchv1.JobReasonBackoffLimitExceeded {
		t.Errorf("failing: %+v", s)
	}
	if s := c.ended("per-index", batchv1.JobFailed).Status; ptr.Deref(s.FailedIndexes, "") != "0-4" || s.Failed != 5 {
		t.Errorf("per-index: %+v, failed indexes %v", s, ptr.Deref(s.FailedIndexes, ""))
	}
	if s := c.ended("policy", batchv1.JobFailed).Status; s.Conditions[len(s.Conditions)-1].Reason != batchv1.JobReasonPodFailurePolicy {
		t.Errorf("policy: %+v", s)
	}
	c.eventually("the end of the short-lived job", func(ctx context.Context) (string, error) {
		_, err := c.BatchV1().Jobs("default").Get(ctx, "short", metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return "", nil
		}
		return fmt.Sprint("it is there: ", err), err
	})
	c.ended("held", batchv1.JobSuspended)
	if _, err := c.BatchV1().Jobs("default").Patch(t.Context(), "held", "application/merge-patch+json", []byte(`{"spec":{"suspend":false}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	if s := c.ended("held", batchv1.JobComplete).Status; s.Succeeded != 5 {
		t.Errorf("held: %+v", s)
	}
	background := metav1.DeletePropagationBackground
	if err := c.BatchV1().Jobs("default").Delete(t.Context(), "plain", metav1.DeleteOptions{PropagationPolicy: &background}); err != nil {
		t.Fatal(err)
	}
	c.eventually("the pods go with the job", func(ctx context.Context) (string, error) {
		for _, p := range c.pods(ctx) {
			if p.Labels[batchv1.JobNameLabel] == "plain" {
				return p.Name, nil
			}
		}
		return "", nil
	})
}

// TestJobTakenOverIsCountedOnce starts a controller whose cache of pods is from before its predecessor counted one.
func TestJobTakenOverIsCountedOnce(t *testing.T) {
	t.Parallel()
	late := make(chan struct{})
	var counted metav1.ObjectMeta
	c := start(t, func(config *Config, _ *rest.Config) {
		client := config.Reader
		counted = countedPod(t, client)
		before, err := client.CoreV1().Pods("").List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		countAway(t, client, counted)
		config.Informers.InformerFor(&corev1.Pod{}, func(kubernetes.Interface, time.Duration) cache.SharedIndexInformer {
			return cache.NewSharedIndexInformer(listFirst{&cache.ListWatch{
				ListWithContextFunc: func(context.Context, metav1.ListOptions) (runtime.Object, error) { return before.DeepCopy(), nil },
				WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
					select {
					case <-late:
						return client.CoreV1().Pods("").Watch(ctx, o)
					case <-ctx.Done():
						return nil, ctx.Err()
					}
				},
			}}, &corev1.Pod{}, 0, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})
		})
	})
	c.eventually("a pod for what is left to do", func(ctx context.Context) (string, error) {
		j, err := c.BatchV1().Jobs("default").Get(ctx, "taken", metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		if u := j.Status.UncountedTerminatedPods; j.Status.Succeeded != 1 || u != nil && len(u.Succeeded) > 0 {
			t.Fatalf("the pod is counted again: %+v", j.Status)
		}
		if len(c.pods(ctx)) < 2 {
			return "there is none", nil
		}
		return "", nil
	})
	close(late)
	c.hollow("node-1")
	if s := c.ended("taken", batchv1.JobComplete).Status; s.Succeeded != 2 {
		t.Errorf("%+v", s)
	}
	if pods := c.pods(t.Context()); len(pods) != 2 {
		t.Errorf("%d pods ran for two completions", len(pods))
	}
}

// listFirst makes a reflector list before it watches.
type listFirst struct{ *cache.ListWatch }

// IsWatchListSemanticsUnSupported is asked for by reflectors, by this name.
func (listFirst) IsWatchListSemanticsUnSupported() bool { return true }

// countedPod makes a Job of two completions and its first pod, which has succeeded and waits to be counted.
func countedPod(t *testing.T, client kubernetes.Interface) metav1.ObjectMeta {
	t.Helper()
	_, err := client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	j, err := client.BatchV1().Jobs("default").Create(t.Context(), work("taken", "exit-0", func(s *batchv1.JobSpec) {
		s.Completions, s.Parallelism = ptr.To(int32(2)), ptr.To(int32(1))
	}), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := client.CoreV1().Pods("default").Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: "first", Labels: j.Spec.Template.Labels, Finalizers: []string{batchv1.JobTrackingFinalizer},
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(j, batchv1.SchemeGroupVersion.WithKind("Job"))},
		},
		Spec: j.Spec.Template.Spec,
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.CoreV1().Pods("default").Patch(t.Context(), p.Name, types.MergePatchType, []byte(`{"status":{"phase":"Succeeded"}}`), metav1.PatchOptions{}, "status")
	if err != nil {
		t.Fatal(err)
	}
	return p.ObjectMeta
}

// countAway does with the pod what a controller does: it takes the finalizer away and counts.
func countAway(t *testing.T, client kubernetes.Interface, pod metav1.ObjectMeta) {
	t.Helper()
	_, err := client.CoreV1().Pods("default").Patch(t.Context(), pod.Name, types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	now := metav1.Now().UTC().Format(time.RFC3339)
	_, err = client.BatchV1().Jobs("default").Patch(t.Context(), "taken", types.MergePatchType,
		[]byte(`{"status":{"succeeded":1,"startTime":"`+now+`","uncountedTerminatedPods":{}}}`), metav1.PatchOptions{}, "status")
	if err != nil {
		t.Fatal(err)
	}
}

// TestJobStopsAtAnyWrite fails each write of a Job's life in turn: every pod is counted, and once.
func TestJobStopsAtAnyWrite(t *testing.T) {
	t.Parallel()
	for n := 1; n <= 28; n += 9 {
		t.Run(fmt.Sprintf("write %d", n), func(t *testing.T) {
			var mu sync.Mutex
			left := -1
			c := start(t, func(_ *Config, writer *rest.Config) {
				writer.Wrap(func(next http.RoundTripper) http.RoundTripper { return faults{next, &mu, &left} })
			})
			c.hollow("node-1")
			mu.Lock()
			left = n
			mu.Unlock()
			c.runJob(work("plain", "exit-0", nil))
			if s := c.ended("plain", batchv1.JobComplete).Status; s.Succeeded != 5 || s.Failed != 0 {
				t.Errorf("%+v", s)
			}
			if got := len(c.pods(t.Context())); got != 5 {
				t.Errorf("%d pods ran, want 5", got)
			}
		})
	}
}
