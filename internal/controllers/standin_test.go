package controllers

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"

	"canopus/internal/apiserver"
	"canopus/internal/kinds"
	"canopus/internal/kinds/builtin"
)

// standins adds kinds that builtin lacks still.
func standins(t testing.TB) func(*apiserver.Config) {
	return func(c *apiserver.Config) {
		set := builtin.Set()
		add := func(k *kinds.Kind) {
			if _, ok := set.Kind(k.GVK); ok {
				return
			}
			var err error
			if set, err = set.With(k); err != nil {
				t.Fatal(err)
			}
		}
		add(kinds.New(kinds.Spec[appsv1.Deployment, *appsv1.Deployment]{
			GVK: appsv1.SchemeGroupVersion.WithKind("Deployment"), Plural: "deployments", Namespaced: true, Generation: true,
			NewList: func() runtime.Object { return &appsv1.DeploymentList{} },
			Default: func(d *appsv1.Deployment) {
				if d.Spec.ProgressDeadlineSeconds == nil {
					n := int32(600)
					d.Spec.ProgressDeadlineSeconds = &n
				}
			},
			PrepareUpdate: func(d, old *appsv1.Deployment) {
				d.Status = old.Status
				if !equality.Semantic.DeepEqual(d.Spec, old.Spec) {
					d.Generation = old.Generation + 1
				}
			},
			Subresources: []kinds.Subresource{kinds.Status(func(d, old *appsv1.Deployment) { d.Spec = old.Spec }, nil)},
		}))
		add(kinds.New(kinds.Spec[appsv1.ReplicaSet, *appsv1.ReplicaSet]{
			GVK: appsv1.SchemeGroupVersion.WithKind("ReplicaSet"), Plural: "replicasets", Namespaced: true, Generation: true,
			NewList: func() runtime.Object { return &appsv1.ReplicaSetList{} },
			PrepareUpdate: func(d, old *appsv1.ReplicaSet) {
				d.Status = old.Status
				if !equality.Semantic.DeepEqual(d.Spec, old.Spec) {
					d.Generation = old.Generation + 1
				}
			},
			Subresources: []kinds.Subresource{kinds.Status(func(d, old *appsv1.ReplicaSet) { d.Spec = old.Spec }, nil)},
		}))
		add(kinds.New(kinds.Spec[discoveryv1.EndpointSlice, *discoveryv1.EndpointSlice]{
			GVK: discoveryv1.SchemeGroupVersion.WithKind("EndpointSlice"), Plural: "endpointslices", Namespaced: true,
			NewList: func() runtime.Object { return &discoveryv1.EndpointSliceList{} },
		}))
		add(kinds.New(kinds.Spec[corev1.Endpoints, *corev1.Endpoints]{
			GVK: corev1.SchemeGroupVersion.WithKind("Endpoints"), Plural: "endpoints", Namespaced: true,
			NewList: func() runtime.Object { return &corev1.EndpointsList{} },
		}))
		add(kinds.New(kinds.Spec[corev1.Event, *corev1.Event]{
			GVK: corev1.SchemeGroupVersion.WithKind("Event"), Plural: "events", Namespaced: true,
			NewList: func() runtime.Object { return &corev1.EventList{} },
		}))
		c.Kinds = set
	}
}
