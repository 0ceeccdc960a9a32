package node_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"canopus/internal/kinds/node"
)

func TestRuntimeClass(t *testing.T) {
	t.Parallel()
	k := node.RuntimeClass()
	base := &nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: "sandboxed"}, Handler: "runc"}
	for name, tc := range map[string]struct {
		edit func(*nodev1.RuntimeClass)
		want string
	}{
		"plain":      {func(*nodev1.RuntimeClass) {}, ""},
		"handler":    {func(c *nodev1.RuntimeClass) { c.Handler = "No" }, "handler"},
		"no handler": {func(c *nodev1.RuntimeClass) { c.Handler = "" }, "handler"},
		"overhead": {func(c *nodev1.RuntimeClass) {
			c.Overhead = &nodev1.Overhead{PodFixed: corev1.ResourceList{"pods": resource.MustParse("1")}}
		}, "overhead.limits[pods]"},
		"selector": {func(c *nodev1.RuntimeClass) {
			c.Scheduling = &nodev1.Scheduling{NodeSelector: map[string]string{"a b": ""}}
		}, "scheduling.nodeSelector"},
		"tolerations": {func(c *nodev1.RuntimeClass) {
			t := corev1.Toleration{Key: "a", Operator: "Exists", Effect: "NoExecute"}
			longer := t
			longer.TolerationSeconds = ptr.To(int64(5))
			c.Scheduling = &nodev1.Scheduling{Tolerations: []corev1.Toleration{t, longer}}
		}, "scheduling.tolerations[1]"},
	} {
		c := base.DeepCopy()
		tc.edit(c)
		var fields []string
		for _, e := range k.Validate(c) {
			fields = append(fields, e.Field)
		}
		if got := strings.Join(fields, " "); got != tc.want {
			t.Errorf("%s: refused %q, want %q", name, got, tc.want)
		}
	}
	other := base.DeepCopy()
	other.Handler, other.ResourceVersion = "kata", "1"
	if errs := k.ValidateUpdate(other, base); len(errs) != 1 || errs[0].Field != "handler" {
		t.Errorf("changed handler: %v", errs)
	}
}
