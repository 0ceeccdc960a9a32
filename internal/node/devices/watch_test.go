package devices_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/dynamic-resource-allocation/kubeletplugin"
	"k8s.io/utils/ptr"
)

// well is a report about the device g0, which is as it says, and the device g1, which is well.
func well(state kubeletplugin.HealthStatus, message string, holds time.Duration) kubeletplugin.DeviceHealthReport {
	return kubeletplugin.DeviceHealthReport{Devices: []kubeletplugin.DeviceHealth{
		{PoolName: "n", DeviceName: "g0", Health: state, Message: message, HealthCheckTimeout: holds},
		{PoolName: "n", DeviceName: "g1", Health: kubeletplugin.HealthStatusHealthy, HealthCheckTimeout: time.Hour}}}
}

// health is what the status of a pod is to say of its devices.
func (r *rig) health(pod *corev1.Pod) string {
	by, _ := r.Health(pod)
	var out []string
	for _, c := range pod.Spec.Containers {
		for _, one := range by[c.Name] {
			text := c.Name + " " + string(one.Name)
			for _, d := range one.Resources {
				text += fmt.Sprintf(" %s=%s", d.ResourceID, d.Health)
				if d.Message != nil {
					text += "(" + *d.Message + ")"
				}
			}
			out = append(out, text)
		}
	}
	return strings.Join(out, "; ")
}

// TestHealthOfClaimedDevices: what a driver reports, by either version of the service, is told of the containers that use the devices.
func TestHealthOfClaimedDevices(t *testing.T) {
	t.Parallel()
	for name, options := range map[string][]kubeletplugin.Option{
		"v1": {kubeletplugin.HealthV1alpha1(false)}, "v1alpha1": {kubeletplugin.HealthV1(false)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			pod := podUsing("a", "x")
			uses := func(name string, claims ...corev1.ResourceClaim) corev1.Container {
				return corev1.Container{Name: name, Resources: corev1.ResourceRequirements{Claims: claims}}
			}
			pod.Spec.Containers = []corev1.Container{uses("all", corev1.ResourceClaim{Name: "gpu"}), uses("one", corev1.ResourceClaim{Name: "gpu", Request: "small"}), uses("none"), uses("extended")}
			pod.Status.ExtendedResourceClaimStatus = &corev1.PodExtendedResourceClaimStatus{ResourceClaimName: "x",
				RequestMappings: []corev1.ContainerExtendedResourceRequest{{ContainerName: "extended", ResourceName: "x.io/gpu", RequestName: "big"}}}
			r.own(r.claim("x", pod), pod)
			v := newVendor()
			v.reports = make(chan kubeletplugin.DeviceHealthReport)
			r.start(v, options...)
			r.registered(v)
			if got := r.health(pod); got != "" {
				t.Errorf("before it is prepared: %s", got)
			}
			r.prepares(pod, "")
			told := func(state string) string {
				return fmt.Sprintf("all claim:gpu gpu.x.io/n/g0=%[1]s gpu.x.io/n/g1=Healthy; one claim:gpu/small gpu.x.io/n/g1=Healthy; extended claim:x/big gpu.x.io/n/g0=%[1]s", state)
			}
			says := func(report kubeletplugin.DeviceHealthReport, want string) {
				t.Helper()
				select {
				case v.reports <- report:
				case <-time.After(patience):
					t.Fatal("nobody listens to the driver")
				}
				r.until("the health "+want, func() string {
					if got := r.health(pod); got != want {
						return got
					}
					return ""
				})
			}
			says(well(kubeletplugin.HealthStatusHealthy, "", time.Hour), told("Healthy"))
			select {
			case <-r.news:
			case <-time.After(patience):
				t.Error("nobody is told that the health changed")
			}
			says(well(kubeletplugin.HealthStatusUnhealthy, "ECC errors", time.Hour), told("Unhealthy(ECC errors)"))
			says(well(kubeletplugin.HealthStatusHealthy, "", time.Second), told("Unknown"))
			says(well(kubeletplugin.HealthStatusHealthy, "", time.Hour), told("Healthy"))
		})
	}
}

// TestHealthWithoutReports: of devices of a driver that reports nothing no health is known, and a driver that stops is heard again.
func TestHealthWithoutReports(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	pod := podUsing("a", "x")
	pod.Spec.Containers = []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{Claims: []corev1.ResourceClaim{{Name: "gpu", Request: "big"}}}}}
	r.claim("x", pod)
	silent := newVendor()
	h := r.start(silent)
	r.registered(silent)
	r.prepares(pod, "")
	by, until := r.Health(pod)
	if got := r.health(pod); got != "c claim:gpu/big gpu.x.io/n/g0=" || until.IsZero() || by["c"][0].Resources[0].Message != nil {
		t.Errorf("before anybody can have reported: %s until %v", got, until)
	}
	h.Stop()
	loud := newVendor()
	loud.reports = make(chan kubeletplugin.DeviceHealthReport, 1)
	h = r.start(loud)
	loud.reports <- well(kubeletplugin.HealthStatusHealthy, "", time.Hour)
	r.until("a report", func() string { return strings.TrimPrefix(r.health(pod), "c claim:gpu/big gpu.x.io/n/g0=Healthy") })
	close(loud.reports)
	h.Stop()
	again := newVendor()
	again.reports = make(chan kubeletplugin.DeviceHealthReport, 1)
	r.start(again)
	again.reports <- well(kubeletplugin.HealthStatusUnhealthy, "", time.Hour)
	r.until("a report of the driver that came back", func() string { return strings.TrimPrefix(r.health(pod), "c claim:gpu/big gpu.x.io/n/g0=Unhealthy") })
	other := podUsing("other", "y")
	other.Spec.ResourceClaims[0].ResourceClaimName = ptr.To("y")
	if got := r.health(other); got != "" {
		t.Errorf("of a pod without devices: %s", got)
	}
}
