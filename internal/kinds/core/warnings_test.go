package core_test

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"canopus/internal/kinds"
	"canopus/internal/kinds/core"
)

func TestWarnings(t *testing.T) {
	t.Parallel()
	annotated := func(key string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Name: "a", Annotations: map[string]string{key: "x"}}
	}
	headless := service(func(s *corev1.ServiceSpec) {
		s.ClusterIP, s.SessionAffinity, s.ExternalIPs = "None", corev1.ServiceAffinityClientIP, []string{"10.0.0.1"}
	})
	volume := func(edit func(*corev1.PersistentVolumeSpec)) *corev1.PersistentVolume {
		pv := &corev1.PersistentVolume{}
		edit(&pv.Spec)
		return pv
	}
	for name, tc := range map[string]struct {
		kind *kinds.Kind
		obj  kinds.Object
		want []string
	}{
		"service": {core.Service(), service(func(s *corev1.ServiceSpec) { s.ClusterIP = "10.96.0.9" }), nil},
		"headless service": {core.Service(), headless, []string{
			"spec.externalIPs is ignored for headless services", "spec.SessionAffinity is ignored for headless services",
		}},
		"external name with addresses": {core.Service(), service(func(s *corev1.ServiceSpec) {
			s.Type, s.ExternalName, s.ExternalIPs = corev1.ServiceTypeExternalName, "a.b", []string{"10.0.0.1"}
		}), []string{`spec.externalIPs is ignored when spec.type is "ExternalName"`}},
		"external name of another type": {core.Service(), service(func(s *corev1.ServiceSpec) { s.ExternalName = "a.b" }),
			[]string{`spec.externalName is ignored when spec.type is not "ExternalName"`}},
		"unusual forms": {core.Service(), service(func(s *corev1.ServiceSpec) {
			s.ClusterIP, s.LoadBalancerIP, s.LoadBalancerSourceRanges = "010.96.0.9", "010.0.0.1", []string{"10.0.0.7/24"}
		}), []string{
			`spec.clusterIPs[0]: non-standard IP address "010.96.0.9" is invalid: use "10.96.0.9"`,
			`spec.loadBalancerIP: non-standard IP address "010.0.0.1" is invalid: use "10.0.0.1"`,
			`spec.loadBalancerSourceRanges[0]: CIDR value "10.0.0.7/24" is ambiguous in this context (should be "10.0.0.0/24" or "10.0.0.7/32"?)`,
		}},
		"old hints": {core.Service(), &corev1.Service{ObjectMeta: annotated("service.kubernetes.io/topology-aware-hints")},
			[]string{"annotation service.kubernetes.io/topology-aware-hints is deprecated, please use service.kubernetes.io/topology-mode instead"}},
		"node": {core.Node(), &corev1.Node{Spec: corev1.NodeSpec{DoNotUseExternalID: "x"}, Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{
			{Type: corev1.NodeHostName, Address: "010.0.0.1"}, {Type: corev1.NodeInternalIP, Address: "010.0.0.1"},
		}}}, []string{
			"spec.externalID: this field is deprecated, and is unused by Kubernetes",
			`status.addresses[1].address: non-standard IP address "010.0.0.1" is invalid: use "10.0.0.1"`,
		}},
		"secret": {core.Secret(), &corev1.Secret{}, nil},
		"tls without a certificate": {core.Secret(), &corev1.Secret{Type: corev1.SecretTypeTLS},
			[]string{"tls: failed to find any PEM data in certificate input"}},
		"mountable secrets": {core.ServiceAccount(), &corev1.ServiceAccount{ObjectMeta: annotated("kubernetes.io/enforce-mountable-secrets")}, []string{
			"metadata.annotations[kubernetes.io/enforce-mountable-secrets]: deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets",
		}},
		"recycled volume": {core.PersistentVolume(), volume(func(s *corev1.PersistentVolumeSpec) {
			s.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimRecycle
		}), []string{"spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning."}},
		"volume of an old sort in an old zone": {core.PersistentVolume(), volume(func(s *corev1.PersistentVolumeSpec) {
			s.RBD = &corev1.RBDPersistentVolumeSource{}
			s.NodeAffinity = &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "failure-domain.beta.kubernetes.io/region"}},
			}}}}
		}), []string{
			`spec.nodeAffinity.required.nodeSelectorTerms[0].matchExpressions[0].key: failure-domain.beta.kubernetes.io/region is deprecated since v1.17; use "topology.kubernetes.io/region" instead`,
			"spec.rbd: deprecated in v1.28, non-functional in v1.31+",
		}},
		"volume with annotations": {core.PersistentVolume(), &corev1.PersistentVolume{ObjectMeta: annotated("volume.beta.kubernetes.io/mount-options")},
			[]string{`metadata.annotations[volume.beta.kubernetes.io/mount-options]: deprecated since v1.31; use "mountOptions" attribute instead`}},
		"claim": {core.PersistentVolumeClaim(), &corev1.PersistentVolumeClaim{
			ObjectMeta: annotated("volume.beta.kubernetes.io/storage-class"),
			Spec:       corev1.PersistentVolumeClaimSpec{Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{"storage": resource.MustParse("100m")}}},
		}, []string{
			`metadata.annotations[volume.beta.kubernetes.io/storage-class]: deprecated since v1.8; use "storageClassName" attribute instead`,
			`spec.resources.requests[storage]: fractional byte value "100m" is invalid, must be an integer`,
		}},
	} {
		tc.kind.Default(tc.obj)
		if got := tc.kind.Warnings(tc.obj, nil); !slices.Equal(got, tc.want) {
			t.Errorf("%s: warned\n%q, want\n%q", name, got, tc.want)
		}
	}
	kept := &corev1.ServiceAccount{ObjectMeta: annotated("kubernetes.io/enforce-mountable-secrets")}
	if got := core.ServiceAccount().Warnings(kept, kept); got != nil {
		t.Errorf("of an annotation that was there before: %q", got)
	}
}
