package controllers

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestHintsByZone: endpoints get hints while both zones have a ready node, lose them with one of the nodes, and events say so.
func TestHintsByZone(t *testing.T) {
	t.Parallel()
	c := start(t, nil)
	for i, zone := range []string{"a", "b"} {
		name := "node-" + zone
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelTopologyZone: zone}}}
		if _, err := c.CoreV1().Nodes().Create(t.Context(), n, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		c.sayReady(name, corev1.ConditionTrue)
		c.serving(fmt.Sprint("web-", zone), name, fmt.Sprintf("10.244.%d.2", i))
	}
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Annotations: map[string]string{corev1.AnnotationTopologyMode: "Auto"}},
		Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": "web"}, Ports: []corev1.ServicePort{{Port: 80}}},
	}
	if _, err := c.CoreV1().Services("default").Create(t.Context(), svc, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.hinted("a for a, b for b", "Normal TopologyAwareHintsEnabled: Topology Aware Hints has been enabled, addressType: IPv4")
	c.sayReady("node-b", corev1.ConditionUnknown)
	c.hinted("", "Warning TopologyAwareHintsDisabled: Nodes only ready in one zone, addressType: IPv4")
}

// sayReady posts a status with CPUs and the Ready condition.
func (c *cluster) sayReady(node string, status corev1.ConditionStatus) {
	c.t.Helper()
	patch, err := json.Marshal(map[string]any{"status": map[string]any{
		"capacity": map[string]string{"cpu": "2"}, "allocatable": map[string]string{"cpu": "2"},
		"conditions": []corev1.NodeCondition{{Type: corev1.NodeReady, Status: status, LastHeartbeatTime: metav1.Now(), LastTransitionTime: metav1.Now()}},
	}})
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := c.CoreV1().Nodes().Patch(c.t.Context(), node, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status"); err != nil {
		c.t.Fatal(err)
	}
}

// serving makes a ready pod of app web on a node.
func (c *cluster) serving(name, node, ip string) {
	c.t.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": "web"}},
		Spec: corev1.PodSpec{
			NodeName: node, Containers: []corev1.Container{{Name: "c", Image: "i"}},
			Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}}, // of the node that is lost
		},
	}
	pods := c.CoreV1().Pods("default")
	pod, err := pods.Create(c.t.Context(), pod, metav1.CreateOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	pod.Status = corev1.PodStatus{
		Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}},
		Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
	}
	if _, err := pods.UpdateStatus(c.t.Context(), pod, metav1.UpdateOptions{}); err != nil {
		c.t.Fatal(err)
	}
}

// hinted waits for the endpoints to have these hints, and for the event that says so.
func (c *cluster) hinted(want, event string) {
	c.t.Helper()
	c.eventually("hints "+want, func(ctx context.Context) (string, error) {
		list, err := c.DiscoveryV1().EndpointSlices("default").List(ctx, metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=web"})
		if err != nil || len(list.Items) != 1 {
			return fmt.Sprintf("%d slices", len(list.Items)), err
		}
		var got []string
		for _, e := range list.Items[0].Endpoints {
			if e.Hints != nil {
				got = append(got, *e.Zone+" for "+e.Hints.ForZones[0].Name)
			}
		}
		slices.Sort(got)
		if text := strings.Join(got, ", "); text != want {
			return fmt.Sprintf("hints %q", text), nil
		}
		events, err := c.CoreV1().Events("default").List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.name=web"})
		if err != nil {
			return "", err
		}
		for _, e := range events.Items {
			if e.Type+" "+e.Reason+": "+e.Message == event {
				return "", nil
			}
		}
		return fmt.Sprintf("%d other events", len(events.Items)), nil
	})
}
