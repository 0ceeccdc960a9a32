package controllers

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

// TestCronJob makes a start due by moving the last one into the past.
func TestCronJob(t *testing.T) {
	t.Parallel()
	c := start(t, nil)
	c.hollow("node-1")
	cron := &batchv1.CronJob{
		ObjectMeta: metav1.ObjectMeta{Name: "tick", Namespace: "default"},
		Spec: batchv1.CronJobSpec{
			Schedule: "0 0 * * *", TimeZone: ptr.To("Asia/Tokyo"),
			JobTemplate: batchv1.JobTemplateSpec{Spec: work("any", "exit-0", nil).Spec},
		},
	}
	if _, err := c.BatchV1().CronJobs("default").Create(t.Context(), cron, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.due("tick")
	c.eventually("one job, complete", func(ctx context.Context) (string, error) {
		got, err := c.BatchV1().CronJobs("default").Get(ctx, "tick", metav1.GetOptions{})
		if err != nil {
			return err.Error(), err
		}
		jobs, err := c.BatchV1().Jobs("default").List(ctx, metav1.ListOptions{})
		if err != nil {
			return err.Error(), err
		}
		if len(jobs.Items) != 1 || jobs.Items[0].Status.Succeeded != 5 || got.Status.LastSuccessfulTime == nil || len(got.Status.Active) > 0 {
			return fmt.Sprintf("%d jobs, %+v", len(jobs.Items), got.Status), nil
		}
		return "", nil
	})
	if err := c.BatchV1().CronJobs("default").Delete(t.Context(), "tick", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventually("all goes with the cronjob", func(ctx context.Context) (string, error) {
		if n := len(c.pods(ctx)); n > 0 {
			return fmt.Sprint(n, " pods"), nil
		}
		return "", nil
	})
}

// due makes a daily CronJob start by moving the last start into the past.
func (c *cluster) due(name string) {
	c.t.Helper()
	patch, err := json.Marshal(map[string]any{"status": map[string]any{"lastScheduleTime": metav1.NewTime(time.Now().Add(-24 * time.Hour))}})
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := c.BatchV1().CronJobs("default").Patch(c.t.Context(), name, types.MergePatchType, patch, metav1.PatchOptions{}, "status"); err != nil {
		c.t.Fatal(err)
	}
}

// toldOfCron waits for an event about a CronJob.
func (c *cluster) toldOfCron(name, kind, reason, message string) {
	c.t.Helper()
	c.eventually(name+" is told of "+reason, func(ctx context.Context) (string, error) {
		list, err := c.CoreV1().Events("default").List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.kind=CronJob,involvedObject.name=" + name})
		if err != nil {
			return err.Error(), err
		}
		var got []string
		for _, e := range list.Items {
			if e.Type == kind && e.Reason == reason && strings.Contains(e.Message, message) {
				return "", nil
			}
			got = append(got, e.Type+" "+e.Reason+" "+e.Message)
		}
		return strings.Join(got, "; "), nil
	})
}

// TestCronJobFails: runs that fail are told of and no longer active, the last of them is kept, and none counts as a success.
func TestCronJobFails(t *testing.T) {
	t.Parallel()
	c := start(t, nil)
	c.hollow("node-1")
	cron := &batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{Name: "tick", Namespace: "default"}, Spec: batchv1.CronJobSpec{
		Schedule: "0 0 * * *", FailedJobsHistoryLimit: ptr.To(int32(1)), JobTemplate: batchv1.JobTemplateSpec{Spec: work("any", "exit-1", nil).Spec}}}
	crons := c.BatchV1().CronJobs("default")
	if _, err := crons.Create(t.Context(), cron, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	// failed waits for one failed Job, not before, and returns its name.
	failed := func(before string) (name string) {
		t.Helper()
		c.eventually("one failed job that is not "+before, func(ctx context.Context) (string, error) {
			got, err := crons.Get(ctx, "tick", metav1.GetOptions{})
			if err != nil {
				return err.Error(), err
			}
			jobs, err := c.BatchV1().Jobs("default").List(ctx, metav1.ListOptions{})
			if err != nil {
				return err.Error(), err
			}
			if len(jobs.Items) != 1 || jobs.Items[0].Name == before || jobs.Items[0].Status.Failed == 0 || got.Status.LastScheduleTime == nil || len(got.Status.Active) > 0 || got.Status.LastSuccessfulTime != nil {
				return fmt.Sprintf("%d jobs, %+v", len(jobs.Items), got.Status), nil
			}
			name = jobs.Items[0].Name
			return "", nil
		})
		c.toldOfCron("tick", corev1.EventTypeNormal, "SawCompletedJob", "Saw completed job: "+name+", condition: Failed")
		return name
	}
	c.due("tick")
	first := failed("")
	patch := []byte(`{"spec":{"schedule":"0 1 * * *"}}`) // another time of the day, so that another start is due
	if _, err := crons.Patch(t.Context(), "tick", types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	c.due("tick")
	failed(first)
}

// TestCronJobInUnknownTimeZone: the API server lets none in, but a stored one may name a zone that this program no longer knows. It
// makes no Job and says why, until the zone is corrected.
func TestCronJobInUnknownTimeZone(t *testing.T) {
	t.Parallel()
	c := start(t, nil)
	c.hollow("node-1")
	const known, unknown = "Asia/Tokyo", "Asia/Tokyp"
	cron := &batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{Name: "tick", Namespace: "default"}, Spec: batchv1.CronJobSpec{
		Schedule: "0 0 * * *", TimeZone: ptr.To(known), JobTemplate: batchv1.JobTemplateSpec{Spec: work("any", "exit-0", nil).Spec}}}
	crons := c.BatchV1().CronJobs("default")
	if _, err := crons.Create(t.Context(), cron, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	const key = "/registry/cronjobs/default/tick"
	c.eventually("the stored zone to be another", func(ctx context.Context) (string, error) {
		got, err := c.server.Etcd.Get(ctx, key)
		if err != nil || len(got.Kvs) != 1 {
			return "not stored", err
		}
		was := got.Kvs[0]
		value := strings.Replace(string(was.Value), known, unknown, 1) // equally long, so the encoding stays right
		done, err := c.server.Etcd.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", was.ModRevision)).Then(clientv3.OpPut(key, value)).Commit()
		if err != nil || !done.Succeeded || value == string(was.Value) {
			return "not written", err
		}
		return "", nil
	})
	c.toldOfCron("tick", corev1.EventTypeWarning, "UnknownTimeZone", `invalid timeZone: "`+unknown+`": `)
	c.due("tick")
	patch := []byte(`{"spec":{"timeZone":"Europe/Nowhere"}}`)
	if _, err := crons.Patch(t.Context(), "tick", types.MergePatchType, patch, metav1.PatchOptions{}); !apierrors.IsInvalid(err) {
		t.Errorf("another unknown zone: %v", err)
	}
	jobs, err := c.BatchV1().Jobs("default").List(t.Context(), metav1.ListOptions{})
	if err != nil || len(jobs.Items) > 0 {
		t.Errorf("%d jobs in an unknown zone, %v", len(jobs.Items), err)
	}
	if _, err := crons.Patch(t.Context(), "tick", types.MergePatchType, []byte(`{"spec":{"timeZone":"`+known+`"}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventually("a job after the zone is corrected", func(ctx context.Context) (string, error) {
		jobs, err := c.BatchV1().Jobs("default").List(ctx, metav1.ListOptions{})
		if err != nil || len(jobs.Items) != 1 {
			return "no job", err
		}
		return "", nil
	})
}
