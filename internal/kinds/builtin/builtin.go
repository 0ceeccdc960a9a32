// Package builtin lists the kinds that are part of the server.
package builtin

import (
	"canopus/internal/kinds"
	"canopus/internal/kinds/apps"
	"canopus/internal/kinds/authentication"
	"canopus/internal/kinds/authorization"
	"canopus/internal/kinds/autoscaling"
	"canopus/internal/kinds/batch"
	"canopus/internal/kinds/certificates"
	"canopus/internal/kinds/coordination"
	"canopus/internal/kinds/core"
	"canopus/internal/kinds/discovery"
	"canopus/internal/kinds/metrics"
	"canopus/internal/kinds/networking"
	"canopus/internal/kinds/node"
	"canopus/internal/kinds/policy"
	"canopus/internal/kinds/rbac"
	"canopus/internal/kinds/resource"
	"canopus/internal/kinds/scheduling"
	"canopus/internal/kinds/storage"
	"canopus/internal/kinds/storagemigration"
)

// All returns every built-in kind, each made anew, those included that are off by default.
func All() []*kinds.Kind {
	return []*kinds.Kind{
		core.Binding(),
		core.ComponentStatus(),
		core.ConfigMap(),
		core.Endpoints(),
		core.Event(),
		core.LimitRange(),
		core.Namespace(),
		core.Node(),
		core.PersistentVolume(),
		core.PersistentVolumeClaim(),
		core.Pod(),
		core.PodTemplate(),
		core.ReplicationController(),
		core.ResourceQuota(),
		core.Secret(),
		core.Service(),
		core.ServiceAccount(),

		apps.ControllerRevision(),
		apps.DaemonSet(),
		apps.Deployment(),
		apps.ReplicaSet(),
		apps.StatefulSet(),

		authentication.TokenReview(),
		authentication.SelfSubjectReview(),

		authorization.SubjectAccessReview(),
		authorization.LocalSubjectAccessReview(),
		authorization.SelfSubjectAccessReview(),
		authorization.SelfSubjectRulesReview(),

		autoscaling.HorizontalPodAutoscaler(),

		batch.CronJob(),
		batch.Job(),

		certificates.CertificateSigningRequest(),
		certificates.ClusterTrustBundle(),
		certificates.PodCertificateRequest(),

		coordination.Lease(),

		discovery.EndpointSlice(),

		metrics.NodeMetrics(),
		metrics.PodMetrics(),

		networking.IPAddress(),
		networking.ServiceCIDR(),

		node.RuntimeClass(),

		policy.PodDisruptionBudget(),

		rbac.Role(),
		rbac.ClusterRole(),
		rbac.RoleBinding(),
		rbac.ClusterRoleBinding(),

		resource.DeviceClass(),
		resource.DeviceTaintRule(),
		resource.ResourceClaim(),
		resource.ResourceClaimTemplate(),
		resource.ResourceSlice(),

		scheduling.PodGroup(),
		scheduling.PriorityClass(),
		scheduling.Workload(),

		storage.CSIDriver(),
		storage.CSINode(),
		storage.CSIStorageCapacity(),
		storage.StorageClass(),
		storage.VolumeAttachment(),
		storage.VolumeAttributesClass(),

		storagemigration.StorageVersionMigration(),
	}
}

// Set returns the set of the kinds that are served unless a runtime configuration says otherwise.
func Set() *kinds.Set {
	set, err := Choose(nil)
	if err != nil { // two kinds under one name are a programmer's error
		panic(err)
	}
	return set
}

// Whole returns the set of all kinds, those included that are off by default.
func Whole() *kinds.Set {
	set, err := kinds.NewSet(All()...)
	if err != nil {
		panic(err)
	}
	return set
}
