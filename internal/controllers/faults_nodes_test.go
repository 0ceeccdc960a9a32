package controllers

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

const hour = time.Hour

// nodeScenarios are of nodes and the pods on them.
func nodeScenarios() []*scenario {
	node := func(name, ready string) string {
		return "{apiVersion: v1, kind: Node, metadata: {name: " + name + "}, status: {conditions: [{type: Ready, status: '" + ready +
			"', reason: Kubelet, lastHeartbeatTime: '2026-01-01T00:00:00Z', lastTransitionTime: '2026-01-01T00:00:00Z'}]}}\n"
	}
	on := func(node, name string) string {
		return "{apiVersion: v1, kind: Pod, metadata: {name: " + name + "}, spec: {nodeName: " + node + ", containers: [{name: main, image: v1}]}, " +
			"status: {phase: Running, conditions: [{type: Ready, status: 'True'}]}}\n"
	}
	pods := look{"pods", []string{"status.phase", "status.conditions"}}
	ended := func(c *cluster) {
		for _, name := range []string{"e1", "e2", "e3"} {
			add("{apiVersion: v1, kind: Pod, metadata: {generateName: ended-, name: " + name + "}, spec: {containers: [{name: main, image: exit-0}]}}")(c)
		}
	}
	return []*scenario{
		{controller: "node-controller", variant: "silent", tune: func(c *Config) { c.NodeGrace, c.NodeStartupGrace = 100*time.Millisecond, 100*time.Millisecond },
			looks: []look{{"nodes", []string{"spec.taints", "status.conditions"}}, pods},
			steps: []func(*cluster){add(node("n1", "True") + "---\n" + on("n1", "a") + "---\n" + on("n1", "b"))}},
		{controller: "node-controller", variant: "ill", looks: []look{{"nodes", []string{"metadata.labels", "spec.taints"}}, pods},
			steps: []func(*cluster){
				add(node("n1", "True") + "---\n" + node("n2", "True") + "---\n" + on("n2", "a") + "---\n" + on("n2", "b")),
				patchStatus("nodes", "n2", `{"status":{"conditions":[{"type":"Ready","status":"False","reason":"Kubelet"}]}}`),
				patchStatus("nodes", "n2", `{"status":{"conditions":[{"type":"Ready","status":"True","reason":"Kubelet"}]}}`),
			}},
		{controller: "cidrAllocator", looks: []look{{"nodes", []string{"spec.podCIDRs"}}},
			steps: []func(*cluster){
				add(node("n1", "True")), add(node("n2", "True")),
				remove("nodes", "n1", background), add(node("n3", "True")),
			}},
		{controller: "ttl-controller", looks: []look{{"nodes", []string{"metadata.annotations"}}},
			steps: []func(*cluster){
				add(node("n1", "True") + "---\n" + node("n2", "True")),
				patch("nodes", "n1", `{"metadata":{"annotations":{"node.alpha.kubernetes.io/ttl":"9"}}}`),
				remove("nodes", "n1", background),
			}},
		{controller: "taint-eviction-controller", kubelet: true, looks: []look{pods},
			steps: []func(*cluster){
				add(podManifest("a", "v1") + "---\n" + podManifest("b", "v1")),
				patch("nodes", "node-1", `{"spec":{"taints":[{"key":"x","effect":"NoExecute","timeAdded":"2026-01-01T00:00:00Z"}]}}`),
			}},
		{controller: "pod-garbage-collector-controller", variant: "ended", kubelet: true, tune: func(c *Config) { c.TerminatedPods = 1 },
			looks: []look{{"pods", []string{"status.phase"}}}, steps: []func(*cluster){add(podManifest("a", "v1")), ended}},
		{controller: "pod-garbage-collector-controller", variant: "orphans", faster: 400, looks: []look{{"nodes", nil}, pods},
			steps: []func(*cluster){
				add(node("n1", "True") + "---\n" + node("n2", "True") + "---\n" + on("n1", "a") + "---\n" + on("n1", "b") + "---\n" + on("n2", "c")),
				remove("nodes", "n1", background),
			}},
		{controller: "pod-garbage-collector-controller", variant: "out-of-service", looks: []look{{"nodes", nil}, pods},
			steps: []func(*cluster){
				all(add(node("n1", "False")+"---\n"+on("n1", "a")+"---\n"+on("n1", "b")), remove("pods", "a", background), remove("pods", "b", background)),
				patch("nodes", "n1", `{"spec":{"taints":[{"key":"node.kubernetes.io/out-of-service","value":"x","effect":"NoExecute"}]}}`),
			}},
	}
}

// storageScenarios are of volumes and claims.
func storageScenarios() []*scenario {
	claim := func(name, more string) string {
		return "{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: " + name + "}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}" + more + "}}\n"
	}
	const volume = "{apiVersion: v1, kind: PersistentVolume, metadata: {name: disk}, spec: {capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], persistentVolumeReclaimPolicy: Retain, hostPath: {path: /srv}}}\n"
	const attachment = "csi-90a21650cea0708c0a9a42089ec20a438a9aaeb6ede96bc10b4c0052db66cae5" // of this handle, driver and node
	disks := look{"persistentvolumes", []string{"status.phase", "spec.claimRef.name|claim"}}
	claims := look{"persistentvolumeclaims", []string{"status.phase", "spec.volumeName|volume"}}
	remote := "{apiVersion: v1, kind: PersistentVolume, metadata: {name: disk}, spec: {capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], persistentVolumeReclaimPolicy: Retain, " +
		"csi: {driver: example.com, volumeHandle: h}}}\n---\n" + claim("data", ", storageClassName: '', volumeName: disk")
	attached := func(c *cluster) {
		add(remote + `---
{apiVersion: storage.k8s.io/v1, kind: CSIDriver, metadata: {name: example.com}, spec: {attachRequired: true}}
---
{apiVersion: v1, kind: Node, metadata: {name: n1, annotations: {volumes.kubernetes.io/controller-managed-attach-detach: 'true'}}}
---
{apiVersion: storage.k8s.io/v1, kind: CSINode, metadata: {name: n1}, spec: {drivers: [{name: example.com, nodeID: n1}]}}
`)(c)
		c.claimIs("data", corev1.ClaimBound, "disk")
		add(`{apiVersion: v1, kind: Pod, metadata: {name: user}, spec: {nodeName: n1, terminationGracePeriodSeconds: 0, containers: [{name: main, image: v1}], volumes: [{name: v, persistentVolumeClaim: {claimName: data}}]}}`)(c)
	}
	return []*scenario{
		{controller: "persistentvolume-controller", looks: []look{disks, claims},
			steps: []func(*cluster){
				add(volume + "---\n" + claim("data", ", storageClassName: ''")),
				remove("persistentvolumeclaims", "data", background),
			}},
		{controller: "attachdetach-controller", beside: []string{"persistentvolume-controller"},
			looks: []look{{"storage.k8s.io/v1/volumeattachments", []string{"spec"}}, {"nodes", []string{"status.volumesAttached"}}},
			steps: []func(*cluster){
				attached,
				patchStatus("storage.k8s.io/v1/volumeattachments", attachment, `{"status":{"attached":true}}`),
				remove("pods", "user", background),
			}},
		{controller: "ephemeral_volume", looks: []look{claims},
			steps: []func(*cluster){add(`{apiVersion: v1, kind: Pod, metadata: {name: web}, spec: {containers: [{name: main, image: v1}], volumes: [` +
				`{name: a, ephemeral: {volumeClaimTemplate: {spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}}},` +
				`{name: b, ephemeral: {volumeClaimTemplate: {spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}}}]}}`)}},
		// Growing is the work of somebody else: the controller only says so in an event.
		{controller: "volume_expand", beside: []string{"persistentvolume-controller"},
			looks: []look{{"persistentvolumes", []string{"spec.capacity"}}, {"persistentvolumeclaims", []string{"spec.resources", "status.capacity"}}},
			steps: []func(*cluster){
				add(remote),
				patch("persistentvolumeclaims", "data", `{"spec":{"resources":{"requests":{"storage":"2Gi"}}}}`),
			}},
		{controller: "persistentvolumeclaim-protection-controller", looks: []look{claims},
			steps: []func(*cluster){add(claim("data", "")), remove("persistentvolumeclaims", "data", background)}},
		{controller: "persistentvolume-protection-controller", looks: []look{disks},
			steps: []func(*cluster){add(volume), remove("persistentvolumes", "disk", background)}},
		{controller: "volumeattributesclass-protection-controller", looks: []look{{"storage.k8s.io/v1/volumeattributesclasses", nil}},
			steps: []func(*cluster){
				add("{apiVersion: storage.k8s.io/v1, kind: VolumeAttributesClass, metadata: {name: gold}, driverName: example.com, parameters: {a: b}}"),
				remove("storage.k8s.io/v1/volumeattributesclasses", "gold", background),
			}},
		{controller: "local-volume-controller", beside: []string{"persistentvolume-controller"}, looks: []look{disks, claims},
			steps: []func(*cluster){
				add("{apiVersion: v1, kind: Node, metadata: {name: n1, labels: {kubernetes.io/hostname: n1}, annotations: {canopus.io/volume-root: /data}}}\n---\n" +
					"{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: local}, provisioner: canopus.io/local, volumeBindingMode: WaitForFirstConsumer}\n---\n" +
					"{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: data, annotations: {volume.kubernetes.io/selected-node: n1}}, spec: {storageClassName: local, accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}"),
				remove("persistentvolumeclaims", "data", background),
				remove("nodes", "n1", background),
			}},
	}
}
