package admission

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

func TestCalled(t *testing.T) {
	t.Parallel()
	pod := func(name, beginning string) runtime.Object {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, GenerateName: beginning}}
	}
	for _, tt := range []struct {
		name   string
		object runtime.Object
		want   string
	}{
		{"p", nil, "p"}, {"p", pod("q", "q-"), "p"}, {"", pod("q", "q-"), "q"}, {"", pod("", "q-"), "q-"}, {"", pod("", ""), ""}, {"", nil, ""}, {"", &metav1.Status{}, ""},
	} {
		if got := (&Request{Name: tt.name, Object: tt.object}).Called(); got != tt.want {
			t.Errorf("request for %q with %v is called %q, want %q", tt.name, tt.object, got, tt.want)
		}
	}
}
