package podspec_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/utils/ptr"

	"canopus/internal/kinds/podspec"
)

// gatedSpec returns a spec with every field that is off, if on says so, or without.
func gatedSpec(on bool) *corev1.PodSpec {
	user := func() *int64 {
		if on {
			return ptr.To(int64(7))
		}
		return nil
	}
	get := &corev1.HTTPGetAction{Path: "/"}
	spec := &corev1.PodSpec{
		Volumes: []corev1.Volume{
			{VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
			{VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{DefaultUser: user(), Items: []corev1.KeyToPath{{Key: "a", User: user()}}}}},
			{VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{DefaultUser: user(), Items: []corev1.KeyToPath{{Key: "a", User: user()}}}}},
			{VolumeSource: corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{DefaultUser: user(), Items: []corev1.DownwardAPIVolumeFile{{User: user()}}}}},
			{VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{DefaultUser: user(), Sources: []corev1.VolumeProjection{
				{Secret: &corev1.SecretProjection{Items: []corev1.KeyToPath{{User: user()}}}},
				{ConfigMap: &corev1.ConfigMapProjection{Items: []corev1.KeyToPath{{User: user()}}}},
				{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{{User: user()}}}},
				{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{User: user()}},
				{ClusterTrustBundle: &corev1.ClusterTrustBundleProjection{User: user()}},
				{PodCertificate: &corev1.PodCertificateProjection{User: user()}},
			}}}},
		},
		InitContainers: []corev1.Container{{VolumeMounts: []corev1.VolumeMount{{Name: "v"}}}},
		Containers: []corev1.Container{{
			LivenessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{GRPC: &corev1.GRPCAction{}}},
			StartupProbe:  &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: get}},
			Lifecycle:     &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{HTTPGet: get.DeepCopy()}},
		}},
	}
	if on {
		spec.EvictionResponders = []corev1.EvictionResponder{{Name: "a"}}
		spec.Volumes[0].EmptyDir.Mode = ptr.To(int32(7))
		spec.InitContainers[0].VolumeMounts[0].BindMountOptions = []string{"noexec"}
		c := &spec.Containers[0]
		c.LivenessProbe.GRPC.Mode = ptr.To(corev1.GRPCProbeMode("TLS"))
		c.StartupProbe.HTTPGet.Protocol = ptr.To(corev1.HTTPProtocol("H2C"))
		c.Lifecycle.PreStop.HTTPGet.Protocol = ptr.To(corev1.HTTPProtocol("H2C"))
	}
	return spec
}

func TestDropGated(t *testing.T) {
	t.Parallel()
	same := apiequality.Semantic.DeepEqual
	if got := gatedSpec(true); !same(got, gatedSpec(true)) || same(got, gatedSpec(false)) {
		t.Fatal("the two specs do not differ")
	}
	got := gatedSpec(true)
	if podspec.DropGated(got, nil); !same(got, gatedSpec(false)) {
		t.Errorf("of a new spec stays %+v", got)
	}
	if podspec.DropGated(got, gatedSpec(false)); !same(got, gatedSpec(false)) {
		t.Errorf("of a spec without them stays %+v", got)
	}
	got = gatedSpec(true)
	if podspec.DropGated(got, gatedSpec(true)); !same(got, gatedSpec(true)) {
		t.Errorf("of a spec that had them before stays %+v", got)
	}
	got = gatedSpec(true)
	one := &corev1.PodSpec{EvictionResponders: []corev1.EvictionResponder{{Name: "b"}}}
	podspec.DropGated(got, one)
	if len(got.EvictionResponders) != 1 || got.Volumes[0].EmptyDir.Mode != nil {
		t.Errorf("a field that the spec had before keeps its own group and no other: %+v", got)
	}
}
