package core

import (
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"canopus/internal/kinds"
	"canopus/internal/kinds/podspec"
)

// Pod is v1 pods.
func Pod() *kinds.Kind {
	return kinds.New(kinds.Spec[corev1.Pod, *corev1.Pod]{
		GVK:        corev1.SchemeGroupVersion.WithKind("Pod"),
		Plural:     "pods",
		ShortNames: []string{"po"},
		Categories: []string{"all"},
		Namespaced: true,
		NewList:    func() runtime.Object { return &corev1.PodList{} },

		Default:        podspec.DefaultPod,
		PrepareCreate:  podspec.PrepareCreate,
		PrepareUpdate:  preparePodUpdate,
		Validate:       podspec.ValidatePod,
		ValidateUpdate: podspec.ValidatePodUpdate,
		Warnings:       podspec.PodWarnings,
		Columns:        podColumns(),
		Cells:          podCells,
		Fields:         podFields(),
		Indexed:        []string{"spec.nodeName"},
		Grace:          podspec.Grace,
		Generation:     true,
		ReturnDeleted:  true,
		Subresources:   podSubresources(),
	})
}

func preparePodUpdate(obj, old *corev1.Pod) {
	obj.Status = old.Status
	podspec.DropGated(&obj.Spec, &old.Spec)
	kinds.Bump(obj, old, !equal(obj.Spec, old.Spec))
}

func podFields() map[string]func(*corev1.Pod) string {
	return map[string]func(*corev1.Pod) string{
		"spec.nodeName":           func(p *corev1.Pod) string { return p.Spec.NodeName },
		"spec.restartPolicy":      func(p *corev1.Pod) string { return string(p.Spec.RestartPolicy) },
		"spec.schedulerName":      func(p *corev1.Pod) string { return p.Spec.SchedulerName },
		"spec.serviceAccountName": func(p *corev1.Pod) string { return p.Spec.ServiceAccountName },
		"spec.hostNetwork":        func(p *corev1.Pod) string { return strconv.FormatBool(p.Spec.HostNetwork) },
		"status.phase":            func(p *corev1.Pod) string { return string(p.Status.Phase) },
		"status.podIP": func(p *corev1.Pod) string {
			if len(p.Status.PodIPs) > 0 {
				return p.Status.PodIPs[0].IP
			}
			return p.Status.PodIP
		},
		"status.podIPs": func(p *corev1.Pod) string {
			ips := make([]string, len(p.Status.PodIPs))
			for i, ip := range p.Status.PodIPs {
				ips[i] = ip.IP
			}
			return strings.Join(ips, ",")
		},
		"status.nominatedNodeName": func(p *corev1.Pod) string { return p.Status.NominatedNodeName },
	}
}

func podSubresources() []kinds.Subresource {
	core := func(kind string) schema.GroupVersionKind { return corev1.SchemeGroupVersion.WithKind(kind) }
	return []kinds.Subresource{
		{Name: "attach", GVK: core("PodAttachOptions"), Verbs: []string{"create", "get"}},
		{
			Name: "binding", GVK: core("Binding"), Verbs: []string{"create"},
			New: func() runtime.Object { return &corev1.Binding{} },
		},
		kinds.Sub("ephemeralcontainers", podspec.PrepareEphemeral, podspec.ValidateEphemeralUpdate),
		{
			Name: "eviction", GVK: policyv1.SchemeGroupVersion.WithKind("Eviction"), Verbs: []string{"create"},
			New: func() runtime.Object { return &policyv1.Eviction{} },
		},
		{Name: "exec", GVK: core("PodExecOptions"), Verbs: []string{"create", "get"}},
		{Name: "log", Verbs: []string{"get"}},
		{Name: "portforward", GVK: core("PodPortForwardOptions"), Verbs: []string{"create", "get"}},
		{Name: "proxy", GVK: core("PodProxyOptions"), Verbs: proxyVerbs()},
		kinds.Sub("resize", podspec.PrepareResize, podspec.ValidateResize),
		kinds.Status(podspec.PrepareStatus, podspec.ValidateStatusUpdate),
	}
}

// proxyVerbs are what discovery shows for a path that passes on any method.
func proxyVerbs() []string { return []string{"create", "delete", "get", "patch", "update"} }
