package nodettl

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestSettle(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ was, nodes, seconds int }{
		{0, 0, 0}, {0, 1, 0}, {0, 100, 0}, {0, 101, 15}, {0, 500, 15}, {0, 501, 30}, {0, 1000, 30}, {0, 1001, 60}, {0, 2000, 60}, {0, 2001, 300}, {0, 150000, 300},
		// On the way down each size lasts a little longer.
		{4, 1800, 300}, {4, 1799, 60}, {3, 900, 60}, {3, 899, 30}, {2, 450, 30}, {2, 449, 15}, {1, 90, 15}, {1, 89, 0}, {4, 0, 0},
	} {
		if got := sizes()[settle(tt.was, tt.nodes)].seconds; got != tt.seconds {
			t.Errorf("%d nodes, was %d: %d s, want %d", tt.nodes, tt.was, got, tt.seconds)
		}
	}
}

// TestSettleRests: whatever came before, the size found contains the nodes, and finding it again changes nothing.
func TestSettleRests(t *testing.T) {
	t.Parallel()
	all := sizes()
	for nodes := range 2500 {
		for was := range all {
			now := settle(was, nodes)
			s := all[now]
			if nodes < s.least || now < len(all)-1 && nodes > s.most {
				t.Fatalf("%d nodes, was %d: %+v", nodes, was, s)
			}
			if again := settle(now, nodes); again != now {
				t.Fatalf("%d nodes, was %d: %d, then %d", nodes, was, now, again)
			}
		}
	}
}

func TestChanged(t *testing.T) {
	t.Parallel()
	node := func(ttl string) *corev1.Node {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}
		if ttl != "" {
			n.Annotations = map[string]string{corev1.ObjectTTLAnnotationKey: ttl}
		}
		return n
	}
	for name, tt := range map[string]struct {
		old, now *corev1.Node
		want     []string
	}{
		"comes": {nil, node(""), []string{"", "n"}}, "goes": {node("0"), nil, []string{""}}, "reports": {node("0"), node("0"), nil},
		"is annotated by another": {node("0"), node("9"), []string{"n"}}, "loses it": {node("0"), node(""), []string{"n"}},
	} {
		if got := changed(tt.old, tt.now); !slices.Equal(got, tt.want) {
			t.Errorf("a node that %s: %q, want %q", name, got, tt.want)
		}
	}
}
