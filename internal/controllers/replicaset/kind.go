package replicaset

import (
	"context"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"canopus/internal/controllers/reconcile"
)

// flavour is what differs between ReplicaSets and ReplicationControllers, which are ReplicaSets by another name: all else sees
// ReplicaSets.
type flavour struct {
	gvk   schema.GroupVersionKind
	queue string
	// terminating says that the status counts the pods on their way out.
	terminating bool
	informer    cache.SharedIndexInformer
	// view shows an object of the informer as a ReplicaSet that nobody may change, nil for nil.
	view func(obj any) *appsv1.ReplicaSet
	// about is the object that events name.
	about func(rs *appsv1.ReplicaSet) runtime.Object
	// live reads from the server.
	live        func(ctx context.Context, namespace, name string) (metav1.Object, error)
	writeStatus func(ctx context.Context, rs *appsv1.ReplicaSet) error
}

func replicaSets(d reconcile.Deps) flavour {
	return flavour{
		gvk: appsv1.SchemeGroupVersion.WithKind("ReplicaSet"), queue: "replicaset", terminating: true,
		informer: d.Informers.Apps().V1().ReplicaSets().Informer(),
		view: func(obj any) *appsv1.ReplicaSet {
			rs, _ := obj.(*appsv1.ReplicaSet)
			return rs
		},
		about: func(rs *appsv1.ReplicaSet) runtime.Object { return rs },
		live: func(ctx context.Context, namespace, name string) (metav1.Object, error) {
			return d.Client.AppsV1().ReplicaSets(namespace).Get(ctx, name, metav1.GetOptions{})
		},
		writeStatus: func(ctx context.Context, rs *appsv1.ReplicaSet) error {
			_, err := d.Client.AppsV1().ReplicaSets(rs.Namespace).UpdateStatus(ctx, rs, metav1.UpdateOptions{})
			return err
		},
	}
}

func replicationControllers(d reconcile.Deps) flavour {
	return flavour{
		gvk: corev1.SchemeGroupVersion.WithKind("ReplicationController"), queue: "replicationmanager",
		informer: d.Informers.Core().V1().ReplicationControllers().Informer(),
		view: func(obj any) *appsv1.ReplicaSet {
			rc, ok := obj.(*corev1.ReplicationController)
			if !ok || rc == nil {
				return nil
			}
			return viewOf(rc)
		},
		about: func(rs *appsv1.ReplicaSet) runtime.Object {
			return &corev1.ReplicationController{ObjectMeta: rs.ObjectMeta}
		},
		live: func(ctx context.Context, namespace, name string) (metav1.Object, error) {
			return d.Client.CoreV1().ReplicationControllers(namespace).Get(ctx, name, metav1.GetOptions{})
		},
		writeStatus: func(ctx context.Context, rs *appsv1.ReplicaSet) error {
			return writeControllerStatus(ctx, d.Client, rs)
		},
	}
}

// viewOf shares all of rc but its conditions.
func viewOf(rc *corev1.ReplicationController) *appsv1.ReplicaSet {
	rs := &appsv1.ReplicaSet{
		ObjectMeta: rc.ObjectMeta,
		Spec: appsv1.ReplicaSetSpec{
			Replicas: rc.Spec.Replicas, MinReadySeconds: rc.Spec.MinReadySeconds,
			Selector: &metav1.LabelSelector{MatchLabels: rc.Spec.Selector},
		},
		Status: appsv1.ReplicaSetStatus{
			Replicas: rc.Status.Replicas, FullyLabeledReplicas: rc.Status.FullyLabeledReplicas,
			ReadyReplicas: rc.Status.ReadyReplicas, AvailableReplicas: rc.Status.AvailableReplicas,
			ObservedGeneration: rc.Status.ObservedGeneration,
		},
	}
	if rc.Spec.Template != nil {
		rs.Spec.Template = *rc.Spec.Template
	}
	for _, c := range rc.Status.Conditions {
		rs.Status.Conditions = append(rs.Status.Conditions, appsv1.ReplicaSetCondition{
			Type: appsv1.ReplicaSetConditionType(c.Type), Status: c.Status, LastTransitionTime: c.LastTransitionTime, Reason: c.Reason, Message: c.Message,
		})
	}
	return rs
}

// writeControllerStatus writes rs's status as that of the ReplicationController it is a view of. The API keeps the spec.
func writeControllerStatus(ctx context.Context, client kubernetes.Interface, rs *appsv1.ReplicaSet) error {
	rc := &corev1.ReplicationController{
		ObjectMeta: rs.ObjectMeta,
		Spec: corev1.ReplicationControllerSpec{
			Replicas: rs.Spec.Replicas, MinReadySeconds: rs.Spec.MinReadySeconds, Selector: rs.Spec.Selector.MatchLabels, Template: &rs.Spec.Template,
		},
		Status: corev1.ReplicationControllerStatus{
			Replicas: rs.Status.Replicas, FullyLabeledReplicas: rs.Status.FullyLabeledReplicas, ReadyReplicas: rs.Status.ReadyReplicas,
			AvailableReplicas: rs.Status.AvailableReplicas, ObservedGeneration: rs.Status.ObservedGeneration,
		},
	}
	for _, c := range rs.Status.Conditions {
		rc.Status.Conditions = append(rc.Status.Conditions, corev1.ReplicationControllerCondition{
			Type: corev1.ReplicationControllerConditionType(c.Type), Status: c.Status, LastTransitionTime: c.LastTransitionTime, Reason: c.Reason, Message: c.Message,
		})
	}
	_, err := client.CoreV1().ReplicationControllers(rs.Namespace).UpdateStatus(ctx, rc, metav1.UpdateOptions{})
	return err
}
