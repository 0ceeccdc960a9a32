package bootstrap

import (
	"encoding/json"

	"canopus/internal/localvolume"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

type (
	service       = corev1.Service
	priorityClass = schedulingv1.PriorityClass
)

// kubernetesService is the name of the API server's Service and of its endpoints, in namespace default.
const kubernetesService = "kubernetes"

// defaultClass marks the StorageClass of claims that name none.
const defaultClass = "storageclass.kubernetes.io/is-default-class"

// httpsPort is the name of the API server's port.
const httpsPort = "https"

func systemNamespaces() []string {
	return []string{metav1.NamespaceSystem, metav1.NamespacePublic, corev1.NamespaceNodeLease, metav1.NamespaceDefault}
}

func namespace(name string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
}

func services(c *Config) []service {
	single, cluster := corev1.IPFamilyPolicySingleStack, corev1.ServiceInternalTrafficPolicyCluster
	family := corev1.IPv4Protocol
	if c.ServiceCIDR.Addr().Is6() {
		family = corev1.IPv6Protocol
	}
	spec := func(ip string, ports ...corev1.ServicePort) corev1.ServiceSpec {
		return corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: ip, ClusterIPs: []string{ip}, Ports: ports, SessionAffinity: corev1.ServiceAffinityNone,
			IPFamilyPolicy: &single, IPFamilies: []corev1.IPFamily{family}, InternalTrafficPolicy: &cluster,
		}
	}
	port := func(name string, protocol corev1.Protocol, number, target int32) corev1.ServicePort {
		return corev1.ServicePort{Name: name, Protocol: protocol, Port: number, TargetPort: intstr.FromInt32(target)}
	}
	return []service{
		{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: metav1.NamespaceDefault, Name: kubernetesService, Labels: map[string]string{"component": "apiserver", "provider": "kubernetes"},
			},
			Spec: spec(c.ServiceCIDR.Masked().Addr().Next().String(), port(httpsPort, corev1.ProtocolTCP, 443, c.Port)),
		},
		{
			// No selector: each node's own DNS server answers at this address.
			ObjectMeta: metav1.ObjectMeta{
				Namespace: metav1.NamespaceSystem, Name: "kube-dns",
				Labels:      map[string]string{"k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS"},
				Annotations: map[string]string{"prometheus.io/port": "9153", "prometheus.io/scrape": "true"},
			},
			Spec: spec(c.DNS.String(), port("dns", corev1.ProtocolUDP, 53, 53), port("dns-tcp", corev1.ProtocolTCP, 53, 53),
				port("metrics", corev1.ProtocolTCP, 9153, 9153)),
		},
	}
}

func priorityClasses() []priorityClass {
	lower := corev1.PreemptLowerPriority
	return []priorityClass{
		{
			ObjectMeta: metav1.ObjectMeta{Name: "system-node-critical"}, Value: 2000001000, PreemptionPolicy: &lower,
			Description: "For system pods that must not be moved from their current node.",
		},
		{
			ObjectMeta: metav1.ObjectMeta{Name: "system-cluster-critical"}, Value: 2000000000, PreemptionPolicy: &lower,
			Description: "For system pods that must run in the cluster, but may be moved to another node.",
		},
	}
}

// localClass is the StorageClass of claims that name none: directories of the node that the pod is scheduled to.
func localClass() *storagev1.StorageClass {
	reclaim, mode, expand := corev1.PersistentVolumeReclaimDelete, storagev1.VolumeBindingWaitForFirstConsumer, false
	return &storagev1.StorageClass{
		ObjectMeta:  metav1.ObjectMeta{Name: localvolume.Class, Annotations: map[string]string{defaultClass: "true"}},
		Provisioner: localvolume.Provisioner, ReclaimPolicy: &reclaim, VolumeBindingMode: &mode, AllowVolumeExpansion: &expand,
	}
}

func defaultServiceCIDR(c *Config) *networkingv1.ServiceCIDR {
	return &networkingv1.ServiceCIDR{
		ObjectMeta: metav1.ObjectMeta{Name: "kubernetes"}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{c.ServiceCIDR.Masked().String()}},
	}
}

// extensionConfig tells extension API servers how the API server proves who it is and whom it speaks for.
func extensionConfig(c *Config) *corev1.ConfigMap {
	data := map[string]string{"client-ca-file": string(c.CA)}
	if c.FrontProxy != nil {
		data["requestheader-client-ca-file"] = string(c.FrontProxy)
		for key, value := range map[string]string{
			"allowed-names": "front-proxy-client", "username-headers": "X-Remote-User", "uid-headers": "X-Remote-Uid",
			"group-headers": "X-Remote-Group", "extra-headers-prefix": "X-Remote-Extra-",
		} {
			list, _ := json.Marshal([]string{value}) // cannot fail for strings
			data["requestheader-"+key] = string(list)
		}
	}
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: "extension-apiserver-authentication"}, Data: data,
	}
}
