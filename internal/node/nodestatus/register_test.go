package nodestatus

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
)

func TestOverlay(t *testing.T) {
	t.Parallel()
	list := func(pairs ...string) corev1.ResourceList {
		out := corev1.ResourceList{}
		for i := 0; i < len(pairs); i += 2 {
			out[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
		}
		return out
	}
	for _, c := range []struct {
		name                 string
		there, machine, want corev1.ResourceList
	}{
		{"new node", nil, list("cpu", "2"), list("cpu", "2")},
		{"the machine shrank", list("cpu", "4"), list("cpu", "2"), list("cpu", "2")},
		{"someone gave the node a resource", list("cpu", "2", "vendor.test/card", "3"), list("cpu", "2"), list("cpu", "2", "vendor.test/card", "3")},
		{"huge pages that are gone", list("cpu", "2", "hugepages-2Mi", "4Mi"), list("cpu", "2"), list("cpu", "2")},
	} {
		machine := c.machine.DeepCopy()
		if got := overlay(c.there, c.machine); !apiequality.Semantic.DeepEqual(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
		if !apiequality.Semantic.DeepEqual(machine, c.machine) {
			t.Errorf("%s: what the machine has was changed", c.name)
		}
	}
}
