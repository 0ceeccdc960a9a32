package core

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"canopus/internal/kinds"
	"canopus/internal/kinds/show"
)

// ComponentStatus is v1 componentstatuses: how the parts of the control plane are. Never stored, and only read.
func ComponentStatus() *kinds.Kind {
	return kinds.New(kinds.Spec[corev1.ComponentStatus, *corev1.ComponentStatus]{
		GVK:        corev1.SchemeGroupVersion.WithKind("ComponentStatus"),
		Plural:     "componentstatuses",
		ShortNames: []string{"cs"},
		Virtual:    true,
		Deprecated: "v1 ComponentStatus is deprecated in v1.19+",
		Verbs:      []string{"get", "list"},
		NewList:    func() runtime.Object { return &corev1.ComponentStatusList{} },
		Columns: []metav1.TableColumnDefinition{
			show.Name(),
			show.Column("Status", "string", "Status of the component conditions"),
			show.Column("Message", "string", "Message of the component conditions"),
			show.Column("Error", "string", "Error of the component conditions"),
		},
		Cells: func(s *corev1.ComponentStatus, _ time.Time) []any {
			for _, c := range s.Conditions {
				if c.Type != corev1.ComponentHealthy {
					continue
				}
				if c.Status == corev1.ConditionTrue {
					return []any{s.Name, "Healthy", c.Message, c.Error}
				}
				return []any{s.Name, "Unhealthy", c.Message, c.Error}
			}
			return []any{s.Name, "Unknown", "", ""}
		},
	})
}
