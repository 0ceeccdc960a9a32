package controllers

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
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
	patch, err := json.Marshal(map[string]any{"status": map[string]any{"lastScheduleTime": metav1.NewTime(time.Now().Add(-24 * time.Hour))}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.BatchV1().CronJobs("default").Patch(t.Context(), "tick", types.MergePatchType, patch, metav1.PatchOptions{}, "status"); err != nil {
		t.Fatal(err)
	}
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
