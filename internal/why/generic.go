package why

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// fresh is how old an event may be to tell of the present state of an object that has no chain of its own.
const fresh = 15 * time.Minute

// badWhenTrue are conditions that tell of trouble by being True; most tell of it by being False.
var badWhenTrue = map[string]bool{
	"Failed": true, "Degraded": true, "Stalled": true, "ScalingLimited": true,
	"NamespaceDeletionDiscoveryFailure": true, "NamespaceDeletionGroupVersionParsingFailure": true, "NamespaceDeletionContentFailure": true,
	"NamespaceContentRemaining": true, "NamespaceFinalizersRemaining": true, "Terminating": true, "NonStructuralSchema": true,
}

// explainOther tells what an object of any kind says of itself: its conditions, and the warnings about it.
func (f *Facts) explainOther(o metav1.Object) (string, []Finding) {
	var out []Finding
	u, ok := o.(*unstructured.Unstructured)
	if !ok {
		return "it is there", nil
	}
	summary := "it is there"
	if phase, _, err := unstructured.NestedString(u.Object, "status", "phase"); err == nil && phase != "" {
		summary = phase
	}
	if phase := summary; phase == "Failed" || phase == "Lost" {
		word := func(key string) string { s, _, _ := unstructured.NestedString(u.Object, "status", key); return s } //nolint:errcheck // of another type: not known
		out = append(out, Finding{Link: LinkCondition, Severity: Error, Reason: orElse(word("reason"), phase), Object: f.Target.String(),
			Message: orElse(word("message"), "it is "+phase+" and says no more"), Do: "mend what the message says; `" + f.inNamespace("describe %s %s", f.Target.Kind, f.Target.Name) + "` shows the rest"})
	}
	conditions, _, err := unstructured.NestedSlice(u.Object, "status", "conditions")
	if err != nil {
		conditions = nil // whatever stands there has another meaning
	}
	for _, raw := range conditions {
		c, ok := raw.(map[string]any)
		if !ok {
			continue
		}
		word := func(key string) string { s, _ := c[key].(string); return s }
		if word("status") != "Unknown" && (word("status") == "True") != badWhenTrue[word("type")] {
			if word("status") == "True" {
				summary += ", " + word("type")
			}
			continue
		}
		out = append(out, Finding{Link: LinkCondition, Severity: Warning, Reason: word("reason"), Object: f.Target.String(),
			Message: fmt.Sprintf("%s is %s: %s", word("type"), word("status"), orElse(word("message"), word("reason"))),
			Do:      "mend what the message says; `" + f.inNamespace("describe %s %s", f.Target.Kind, f.Target.Name) + "` shows the rest"})
	}
	e := lastOf(f.Events[o.GetUID()], func(e *corev1.Event) bool {
		return e.Type == corev1.EventTypeWarning && f.Now.Sub(eventTime(e)) < fresh
	})
	if e != nil {
		out = append(out, Finding{Link: LinkCondition, Severity: Warning, Reason: e.Reason, Object: f.Target.String(),
			Message: fmt.Sprintf("%s ago: %s", f.since(eventTime(e)), e.Message), Do: "mend what the message says"})
	}
	return summary, out
}
