package why

import (
	"io"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/randfill"
)

// TestAnyObject: whatever an API server answers is explained, and what is broken comes with advice.
func TestAnyObject(t *testing.T) {
	t.Parallel()
	fill := randfill.NewWithSeed(1).NilChance(.4).NumElements(0, 3).MaxDepth(12).Funcs(
		func(q *resource.Quantity, c randfill.Continue) { q.Set(c.Int63n(1 << 40)) },
		func(p *metav1.Time, c randfill.Continue) {
			p.Time = now().Add(time.Duration(c.Intn(1000)-900) * time.Second)
		},
		func(p *metav1.MicroTime, c randfill.Continue) {
			p.Time = now().Add(-time.Duration(c.Intn(1000)) * time.Second)
		},
		func(p *runtime.RawExtension, _ randfill.Continue) { *p = runtime.RawExtension{} },
		func(p *corev1.ContainerStatus, c randfill.Continue) { c.FillNoCustom(p); p.Name = "main" },
		func(p *corev1.Container, c randfill.Continue) { c.FillNoCustom(p); p.Name = "main" },
		func(p *corev1.ConditionStatus, c randfill.Continue) {
			*p = []corev1.ConditionStatus{corev1.ConditionTrue, corev1.ConditionFalse, corev1.ConditionUnknown}[c.Intn(3)]
		},
	)
	for range 20 {
		for _, o := range []metav1.Object{
			&corev1.Pod{}, &appsv1.Deployment{}, &appsv1.ReplicaSet{}, &appsv1.StatefulSet{}, &appsv1.DaemonSet{}, &batchv1.Job{}, &batchv1.CronJob{}, &corev1.ReplicationController{},
			&corev1.PersistentVolumeClaim{}, &corev1.Service{}, &corev1.Node{}, &autoscalingv2.HorizontalPodAutoscaler{}, &policyv1.PodDisruptionBudget{}, &resourcev1.ResourceClaim{},
		} {
			fill.Fill(o)
			f := empty(t)
			f.Object = o
			for range 3 {
				p := &corev1.Pod{}
				fill.Fill(p)
				f.Pods = append(f.Pods, p)
				f.Nodes[p.Spec.NodeName] = nil
			}
			var list []corev1.Event
			fill.Fill(&list)
			f.Events[o.GetUID()] = list
			r := Explain(f)
			advice := false
			for _, x := range r.Findings {
				advice = advice || x.Do != ""
				if x.Severity.rank() < 0 || x.Link == "" || x.Object == "" {
					t.Fatalf("half a finding about %T: %+v", o, x)
				}
			}
			if r.State == Broken && !advice {
				t.Errorf("no advice for %T: %+v", o, r.Findings)
			}
			if err := Print(io.Discard, r); err != nil {
				t.Fatal(err)
			}
		}
	}
}
