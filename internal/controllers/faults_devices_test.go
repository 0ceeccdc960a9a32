package controllers

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// deviceScenarios are of claims to devices and the pods that use them.
func deviceScenarios() []*scenario {
	const spec = "spec: {devices: {requests: [{name: r, exactly: {deviceClassName: gpu}}]}}"
	user := func(name, claims string) string {
		return "{apiVersion: v1, kind: Pod, metadata: {name: " + name + "}, spec: {terminationGracePeriodSeconds: 0, containers: [{name: main, image: v1}], resourceClaims: [" + claims + "]}}\n"
	}
	claim := func(name string) string {
		return "{apiVersion: resource.k8s.io/v1, kind: ResourceClaim, metadata: {name: " + name + "}, " + spec + "}\n---\n"
	}
	allocated := func(c *cluster) {
		list, err := c.ResourceV1().ResourceClaims("default").List(c.t.Context(), metav1.ListOptions{})
		if err != nil {
			c.t.Fatal(err)
		}
		for i := range list.Items {
			c.allocate(list.Items[i].Name, "g")
		}
	}
	claims := look{"resource.k8s.io/v1/resourceclaims", []string{"status"}}
	return []*scenario{
		{controller: "resource_claim", kubelet: true, looks: []look{claims, {"pods", []string{"status.phase", "status.resourceClaimStatuses|claims?"}}},
			steps: []func(*cluster){
				add("{apiVersion: resource.k8s.io/v1, kind: ResourceClaimTemplate, metadata: {name: t}, spec: {" + spec + "}}\n---\n" +
					user("user", "{name: a, resourceClaimTemplateName: t}, {name: b, resourceClaimTemplateName: t}")),
				allocated,
				patchStatus("pods", "user", `{"status":{"phase":"Succeeded"}}`),
			}},
		{controller: "resource_claim", variant: "shared", kubelet: true, looks: []look{claims},
			steps: []func(*cluster){
				all(add(claim("shared")+user("a", "{name: a, resourceClaimName: shared}")), allocated),
				add(user("b", "{name: b, resourceClaimName: shared}")),
				remove("pods", "a", background),
				// Between its two writes, a claim without users keeps the finalizer: the scheduler may just have set it. So it is deleted, too.
				all(remove("pods", "b", background), remove("resource.k8s.io/v1/resourceclaims", "shared", background)),
			}},
		{controller: "device-taint-eviction-controller", beside: []string{"resource_claim"}, kubelet: true,
			looks: []look{claims, {"pods", []string{"status.phase"}}, {"resource.k8s.io/v1/devicetaintrules", []string{"status"}}},
			steps: []func(*cluster){
				all(add(claim("shared")+user("a", "{name: a, resourceClaimName: shared}")), allocated),
				add(user("b", "{name: b, resourceClaimName: shared}")),
				add("{apiVersion: resource.k8s.io/v1, kind: DeviceTaintRule, metadata: {name: broken}, spec: {deviceSelector: {device: g}, taint: {key: x.io/broken, effect: NoExecute}}}"),
			}},
	}
}
