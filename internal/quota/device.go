package quota

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// DeviceClaims is the kind of claims to devices.
func DeviceClaims() schema.GroupResource {
	return schema.GroupResource{Group: resourcev1.GroupName, Resource: "resourceclaims"}
}

// devicesOfClass ends the name under which the devices of a class are limited: gpu.deviceclass.resource.k8s.io/devices.
const devicesOfClass = ".deviceclass.resource.k8s.io/devices"

func deviceName(name corev1.ResourceName) bool {
	return strings.HasSuffix(string(name), devicesOfClass)
}

// deviceUsage counts the devices that a claim may get, by their classes: of alternatives the most of each class.
func deviceUsage(obj runtime.Object, _ time.Time) corev1.ResourceList {
	c, ok := obj.(*resourcev1.ResourceClaim)
	if !ok {
		return nil
	}
	sum := map[string]int64{}
	for i := range c.Spec.Devices.Requests {
		r := &c.Spec.Devices.Requests[i]
		if e := r.Exactly; e != nil {
			sum[e.DeviceClassName] += devicesAsked(e.AllocationMode, e.Count)
		}
		most := map[string]int64{}
		for j := range r.FirstAvailable {
			s := &r.FirstAvailable[j]
			most[s.DeviceClassName] = max(most[s.DeviceClassName], devicesAsked(s.AllocationMode, s.Count))
		}
		for class, n := range most {
			sum[class] += n
		}
	}
	out := corev1.ResourceList{}
	for class, n := range sum {
		out[corev1.ResourceName(class+devicesOfClass)] = *resource.NewQuantity(n, resource.DecimalSI)
	}
	return out
}

// devicesAsked is how many devices a request may get. All of them are as many as a claim can name.
func devicesAsked(mode resourcev1.DeviceAllocationMode, count int64) int64 {
	if mode == resourcev1.DeviceAllocationModeAll {
		return resourcev1.AllocationResultsMaxSize
	}
	return count
}
