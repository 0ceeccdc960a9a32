package deployment

import (
	"math"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// bounds are the limits of a rollout, in pods.
type bounds struct {
	replicas    int32 // wanted
	surge       int32 // allowed above replicas
	unavailable int32 // allowed to be missing from replicas
}

// boundsOf resolves percentages: surge rounds up, unavailability down. If both come to nothing a rollout could not move,
// so one pod may be unavailable.
func boundsOf(d *appsv1.Deployment) bounds {
	b := bounds{replicas: 1}
	if d.Spec.Replicas != nil {
		b.replicas = *d.Spec.Replicas
	}
	if d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
		return b
	}
	var surge, unavailable *intstr.IntOrString
	if ru := d.Spec.Strategy.RollingUpdate; ru != nil {
		surge, unavailable = ru.MaxSurge, ru.MaxUnavailable
	}
	b.surge = resolve(surge, b.replicas, true)
	b.unavailable = resolve(unavailable, b.replicas, false)
	if b.surge == 0 && b.unavailable == 0 {
		b.unavailable = 1
	}
	b.unavailable = min(b.unavailable, b.replicas)
	return b
}

// resolve returns 25 % when nothing is set, the API's default.
func resolve(v *intstr.IntOrString, replicas int32, up bool) int32 {
	quarter := intstr.FromString("25%")
	if v == nil {
		v = &quarter
	}
	n, err := intstr.GetScaledValueFromIntOrPercent(v, int(replicas), up)
	if err != nil {
		return 0 // validation admits no such value
	}
	return int32(min(max(n, 0), math.MaxInt32))
}
