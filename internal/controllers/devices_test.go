package controllers

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/retry"
	"k8s.io/utils/ptr"
)

func deviceSpec() resourcev1.ResourceClaimSpec {
	return resourcev1.ResourceClaimSpec{Devices: resourcev1.DeviceClaim{Requests: []resourcev1.DeviceRequest{{Name: "r", Exactly: &resourcev1.ExactDeviceRequest{DeviceClassName: "gpu"}}}}}
}

func (c *cluster) newDeviceClaim(name string) {
	c.t.Helper()
	claim := &resourcev1.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: deviceSpec()}
	if _, err := c.ResourceV1().ResourceClaims("default").Create(c.t.Context(), claim, metav1.CreateOptions{}); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) newDevicePod(name, image string, ref corev1.PodResourceClaim) {
	c.t.Helper()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{
		ServiceAccountName: "none", AutomountServiceAccountToken: ptr.To(false),
		Containers: []corev1.Container{{Name: "c", Image: image}}, ResourceClaims: []corev1.PodResourceClaim{ref},
	}}
	if _, err := c.CoreV1().Pods("default").Create(c.t.Context(), pod, metav1.CreateOptions{}); err != nil {
		c.t.Fatal(err)
	}
}

// allocate does the scheduler's part for a claim: device, of pool "p".
func (c *cluster) allocate(name, device string, tolerations ...resourcev1.DeviceToleration) {
	c.t.Helper()
	claims := c.ResourceV1().ResourceClaims("default")
	if err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		claim, err := claims.Get(c.t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		claim.Finalizers = append(claim.Finalizers, resourcev1.Finalizer)
		if claim, err = claims.Update(c.t.Context(), claim, metav1.UpdateOptions{}); err != nil {
			return err
		}
		claim.Status.Allocation = &resourcev1.AllocationResult{Devices: resourcev1.DeviceAllocationResult{Results: []resourcev1.DeviceRequestAllocationResult{
			{Request: "r", Driver: "gpu.x.io", Pool: "p", Device: device, Tolerations: tolerations}}}}
		_, err = claims.UpdateStatus(c.t.Context(), claim, metav1.UpdateOptions{})
		return err
	}); err != nil {
		c.t.Fatal(err)
	}
}

// reserved waits until a claim is reserved for just these pods, and has devices if there are any.
func (c *cluster) reserved(claim string, pods ...string) {
	c.t.Helper()
	c.eventually(fmt.Sprintf("claim %s is reserved for %v", claim, pods), func(ctx context.Context) (string, error) {
		got, err := c.ResourceV1().ResourceClaims("default").Get(ctx, claim, metav1.GetOptions{})
		if err != nil {
			return err.Error(), err
		}
		users := []string{}
		for _, r := range got.Status.ReservedFor {
			users = append(users, r.Name)
		}
		slices.Sort(users)
		if slices.Equal(users, append([]string{}, pods...)) && (got.Status.Allocation != nil) == (len(pods) > 0) && slices.Contains(got.Finalizers, resourcev1.Finalizer) == (len(pods) > 0) {
			return "", nil
		}
		return fmt.Sprintf("for %v, given %v, finalizers %v", users, got.Status.Allocation != nil, got.Finalizers), nil
	})
}

// figuresOf gathers what a registry shows under names that begin with prefix: values by name and labels.
func figuresOf(t *testing.T, r *prometheus.Registry, prefix string) map[string]float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetName() + "=" + l.GetValue()
			}
			if strings.HasPrefix(name, prefix) {
				out[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return out
}

func TestDeviceClaimFromTemplate(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	c := start(t, func(c *Config, _ *rest.Config) { c.Metrics = registry })
	c.hollow("n")
	ref := corev1.PodResourceClaim{Name: "gpu", ResourceClaimTemplateName: ptr.To("t")}
	c.newDevicePod("web", "run", ref)
	c.eventually("it is said that the template is not there", func(ctx context.Context) (string, error) {
		list, err := c.CoreV1().Events("default").List(ctx, metav1.ListOptions{})
		if err != nil {
			return err.Error(), err
		}
		for _, e := range list.Items {
			if e.Reason == "FailedResourceClaimCreation" && e.InvolvedObject.Name == "web" &&
				e.Message == `PodResourceClaim gpu: resource claim template "t": resourceclaimtemplate.resource.k8s.io "t" not found` {
				return "", nil
			}
		}
		return fmt.Sprintf("%d events", len(list.Items)), nil
	})
	template := &resourcev1.ResourceClaimTemplate{ObjectMeta: metav1.ObjectMeta{Name: "t"}, Spec: resourcev1.ResourceClaimTemplateSpec{Spec: deviceSpec()}}
	if _, err := c.ResourceV1().ResourceClaimTemplates("default").Create(t.Context(), template, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	claim := ""
	c.eventually("the pod names its claim", func(ctx context.Context) (string, error) {
		p, err := c.CoreV1().Pods("default").Get(ctx, "web", metav1.GetOptions{})
		if err != nil || len(p.Status.ResourceClaimStatuses) == 0 {
			return "it names none", err
		}
		claim = *p.Status.ResourceClaimStatuses[0].ResourceClaimName
		got, err := c.ResourceV1().ResourceClaims("default").Get(ctx, claim, metav1.GetOptions{})
		if err != nil || !metav1.IsControlledBy(got, p) {
			return "the claim is not its own", err
		}
		return "", nil
	})
	c.newDeviceClaim("by-hand")
	c.allocate(claim, "g")
	c.reserved(claim, "web")
	const figures = "dynamic_resource_allocation_"
	want := map[string]float64{
		figures + "resourceclaim_creates_total admin_access=false owner_api_group= owner_api_kind=Pod status=success": 1,
		figures + "resource_claims admin_access=false allocated=true source=resource_claim_template":                  1,
		figures + "resource_claims admin_access=false allocated=false source=":                                        1,
	}
	c.eventually("the figures", func(context.Context) (string, error) {
		if got := figuresOf(t, registry, figures); !maps.Equal(got, want) {
			return fmt.Sprint(got), nil
		}
		return "", nil
	})

	if err := c.CoreV1().Pods("default").Delete(t.Context(), "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventually("the claim goes with its pod", func(ctx context.Context) (string, error) {
		got, err := c.ResourceV1().ResourceClaims("default").Get(ctx, claim, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return "", nil
		}
		return fmt.Sprintf("%+v", got), err
	})
}

func TestDeviceClaimOfSeveralPods(t *testing.T) {
	t.Parallel()
	c := start(t, nil)
	c.hollow("n")
	c.newDeviceClaim("shared")
	c.allocate("shared", "g")
	ref := corev1.PodResourceClaim{Name: "gpu", ResourceClaimName: ptr.To("shared")}
	c.newDevicePod("a", "run", ref)
	c.reserved("shared", "a")
	c.newDevicePod("b", "run", ref)
	c.reserved("shared", "a", "b")
	c.newDevicePod("done", "exit-0", ref)
	for name, left := range map[string][]string{"b": {"a"}} {
		if err := c.CoreV1().Pods("default").Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		c.reserved("shared", left...)
	}
	if err := c.CoreV1().Pods("default").Delete(t.Context(), "a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.reserved("shared")

	// Unused and to be deleted, it is let go.
	c.allocate("shared", "g")
	if err := c.ResourceV1().ResourceClaims("default").Delete(t.Context(), "shared", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventually("the claim goes", func(ctx context.Context) (string, error) {
		_, err := c.ResourceV1().ResourceClaims("default").Get(ctx, "shared", metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return "", nil
		}
		return "it is there", err
	})
}

// TestDeviceClaimForExtendedResources: the claim that the scheduler makes for a pod without claims is as good as one that it names:
// a taint of its device evicts the pod, and it goes with its pod.
func TestDeviceClaimForExtendedResources(t *testing.T) {
	t.Parallel()
	c := start(t, nil)
	c.hollow("n")
	slice := &resourcev1.ResourceSlice{ObjectMeta: metav1.ObjectMeta{Name: "s"}, Spec: resourcev1.ResourceSliceSpec{
		Driver: "gpu.x.io", Pool: resourcev1.ResourcePool{Name: "p", ResourceSliceCount: 1}, AllNodes: ptr.To(true), Devices: []resourcev1.Device{{Name: "g"}}}}
	slice, err := c.ResourceV1().ResourceSlices().Create(t.Context(), slice, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	amount := corev1.ResourceList{"x.io/gpu": resource.MustParse("1")}
	pod, err := c.CoreV1().Pods("default").Create(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: corev1.PodSpec{
		ServiceAccountName: "none", AutomountServiceAccountToken: ptr.To(false), SchedulingGates: []corev1.PodSchedulingGate{{Name: "x.io/wait"}},
		Containers: []corev1.Container{{Name: "c", Image: "run", Resources: corev1.ResourceRequirements{Requests: amount, Limits: amount}}},
	}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	special := &resourcev1.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Name: "special", Annotations: map[string]string{resourcev1.ExtendedResourceClaimAnnotation: "true"},
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(pod, corev1.SchemeGroupVersion.WithKind("Pod"))}}, Spec: deviceSpec()}
	if _, err := c.ResourceV1().ResourceClaims("default").Create(t.Context(), special, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.allocate("special", "g")
	for _, step := range []struct {
		patch       string
		subresource []string
	}{
		{`{"status":{"extendedResourceClaimStatus":{"resourceClaimName":"special","requestMappings":[{"containerName":"c","resourceName":"x.io/gpu","requestName":"r"}]}}}`, []string{"status"}},
		{`{"spec":{"schedulingGates":[{"$patch":"delete","name":"x.io/wait"}]}}`, nil},
	} {
		if _, err := c.CoreV1().Pods("default").Patch(t.Context(), "web", types.StrategicMergePatchType, []byte(step.patch), metav1.PatchOptions{}, step.subresource...); err != nil {
			t.Fatal(err)
		}
	}
	c.reserved("special", "web")
	slice.Spec.Devices[0].Taints = []resourcev1.DeviceTaint{{Key: "x.io/broken", Effect: resourcev1.DeviceTaintEffectNoExecute}}
	if _, err := c.ResourceV1().ResourceSlices().Update(t.Context(), slice, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.evicted("web")
	c.eventually("the claim goes with its pod", func(ctx context.Context) (string, error) {
		got, err := c.ResourceV1().ResourceClaims("default").Get(ctx, "special", metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return "", nil
		}
		return fmt.Sprintf("%+v", got), err
	})
}

func TestDeviceTaintsEvict(t *testing.T) {
	t.Parallel()
	c := start(t, nil)
	c.hollow("n")
	slice := &resourcev1.ResourceSlice{ObjectMeta: metav1.ObjectMeta{Name: "s"}, Spec: resourcev1.ResourceSliceSpec{
		Driver: "gpu.x.io", Pool: resourcev1.ResourcePool{Name: "p", ResourceSliceCount: 1}, AllNodes: ptr.To(true), Devices: []resourcev1.Device{{Name: "g"}, {Name: "h"}}}}
	slice, err := c.ResourceV1().ResourceSlices().Create(t.Context(), slice, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	bears := resourcev1.DeviceToleration{Key: "x.io/broken", Operator: resourcev1.DeviceTolerationOpExists}
	for name, device := range map[string]string{"hit": "g", "bears": "g", "other": "h"} {
		c.newDeviceClaim(name)
		if name == "bears" {
			c.allocate(name, device, bears)
		} else {
			c.allocate(name, device)
		}
		c.newDevicePod(name, "run", corev1.PodResourceClaim{Name: "gpu", ResourceClaimName: &name})
		c.reserved(name, name)
	}
	slice.Spec.Devices[0].Taints = []resourcev1.DeviceTaint{{Key: "x.io/broken", Effect: resourcev1.DeviceTaintEffectNoExecute}}
	if _, err := c.ResourceV1().ResourceSlices().Update(t.Context(), slice, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.evicted("hit")

	rule := &resourcev1.DeviceTaintRule{ObjectMeta: metav1.ObjectMeta{Name: "maintenance"}, Spec: resourcev1.DeviceTaintRuleSpec{
		DeviceSelector: &resourcev1.DeviceTaintSelector{Driver: ptr.To("gpu.x.io"), Device: ptr.To("h")}, Taint: resourcev1.DeviceTaint{Key: "x.io/replace", Effect: resourcev1.DeviceTaintEffectNone}}}
	if _, err = c.ResourceV1().DeviceTaintRules().Create(t.Context(), rule, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.ruleSays("the effect NoExecute would evict 1 pod in 1 namespace")
	for _, name := range []string{"bears", "other"} {
		if p, err := c.CoreV1().Pods("default").Get(t.Context(), name, metav1.GetOptions{}); err != nil || p.DeletionTimestamp != nil {
			t.Errorf("%s was evicted: %v", name, err)
		}
	}
	if rule, err = c.ResourceV1().DeviceTaintRules().Get(t.Context(), "maintenance", metav1.GetOptions{}); err != nil {
		t.Fatal(err)
	}
	rule.Spec.Taint.Effect = resourcev1.DeviceTaintEffectNoExecute
	if _, err := c.ResourceV1().DeviceTaintRules().Update(t.Context(), rule, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.evicted("other")
	c.ruleSays("no pods are left to be evicted")
}

func (c *cluster) evicted(pod string) {
	c.t.Helper()
	c.eventually(pod+" is evicted", func(ctx context.Context) (string, error) {
		_, err := c.CoreV1().Pods("default").Get(ctx, pod, metav1.GetOptions{})
		if err == nil || !apierrors.IsNotFound(err) {
			return "it is there", err
		}
		list, err := c.CoreV1().Events("default").List(ctx, metav1.ListOptions{})
		if err != nil {
			return err.Error(), err
		}
		for _, e := range list.Items {
			if e.Reason == "DeviceTaintManagerEviction" && e.InvolvedObject.Name == pod && e.Message == "Marking for deletion" {
				return "", nil
			}
		}
		return "nobody said so", nil
	})
}

func (c *cluster) ruleSays(want string) {
	c.t.Helper()
	c.eventually("the rule says: "+want, func(ctx context.Context) (string, error) {
		rule, err := c.ResourceV1().DeviceTaintRules().Get(ctx, "maintenance", metav1.GetOptions{})
		if err != nil {
			return err.Error(), err
		}
		got := meta.FindStatusCondition(rule.Status.Conditions, resourcev1.DeviceTaintConditionEvictionInProgress)
		if got == nil {
			return "nothing", nil
		}
		if got.Message != want {
			return got.Message, nil
		}
		return "", nil
	})
}
