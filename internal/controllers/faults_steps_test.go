package controllers

import (
	"encoding/json"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"
)

// add creates the objects of a manifest, in namespace default unless they say otherwise, and then sets their status.
func add(manifest string) func(*cluster) {
	return func(c *cluster) {
		c.t.Helper()
		for text := range strings.SplitSeq(manifest, "---\n") {
			obj := &unstructured.Unstructured{}
			if err := yaml.Unmarshal([]byte(text), &obj.Object); err != nil {
				c.t.Fatalf("%v in\n%s", err, text)
			}
			gvr, _ := meta.UnsafeGuessKindToResource(obj.GroupVersionKind())
			api := c.resource(gvr, obj.GetNamespace())
			if _, err := api.Create(c.t.Context(), obj, metav1.CreateOptions{}); err != nil {
				c.t.Fatal(err)
			}
			status, ok := obj.Object["status"]
			if !ok {
				continue
			}
			body, err := json.Marshal(map[string]any{"status": status})
			if err != nil {
				c.t.Fatal(err)
			}
			if _, err := api.Patch(c.t.Context(), obj.GetName(), types.MergePatchType, body, metav1.PatchOptions{}, "status"); err != nil {
				c.t.Fatal(err)
			}
		}
	}
}

// patch changes an object (name, or namespace/name) by a merge patch.
func patch(resource, name, body string) func(*cluster) {
	return patchPart(resource, name, body)
}

// patchStatus is patch of its status.
func patchStatus(resource, name, body string) func(*cluster) {
	return patchPart(resource, name, body, "status")
}

func patchPart(resource, name, body string, part ...string) func(*cluster) {
	return func(c *cluster) {
		c.t.Helper()
		namespace, name := cut(name)
		if _, err := c.resource(resourceOf(resource), namespace).Patch(c.t.Context(), name, types.MergePatchType, []byte(body), metav1.PatchOptions{}, part...); err != nil {
			c.t.Fatal(err)
		}
	}
}

// remove deletes an object (name, or namespace/name).
func remove(resource, name string, how metav1.DeletionPropagation) func(*cluster) {
	return func(c *cluster) {
		c.t.Helper()
		namespace, name := cut(name)
		if err := c.resource(resourceOf(resource), namespace).Delete(c.t.Context(), name, metav1.DeleteOptions{PropagationPolicy: &how}); err != nil {
			c.t.Fatal(err)
		}
	}
}

// cut parts namespace/name.
func cut(name string) (string, string) {
	before, after, found := strings.Cut(name, "/")
	if !found {
		return "", name
	}
	return before, after
}

// all does one thing after the other.
func all(steps ...func(*cluster)) func(*cluster) {
	return func(c *cluster) {
		for _, do := range steps {
			do(c)
		}
	}
}

// resource is the way to one kind of objects.
func (c *cluster) resource(gvr schema.GroupVersionResource, namespace string) dynamic.ResourceInterface {
	c.t.Helper()
	client := c.dynamic()
	everywhere := []string{
		"nodes", "namespaces", "persistentvolumes", "clusterroles", "storageclasses", "volumeattributesclasses", "csidrivers", "csinodes",
		"servicecidrs", "ipaddresses", "certificatesigningrequests", "clustertrustbundles", "storageversionmigrations", "volumeattachments", "devicetaintrules",
	}
	if slices.Contains(everywhere, gvr.Resource) {
		return client.Resource(gvr)
	}
	if namespace == "" {
		namespace = corev1.NamespaceDefault
	}
	return client.Resource(gvr).Namespace(namespace)
}

// dynamic is a client that keeps warnings of the server to itself.
func (c *cluster) dynamic() dynamic.Interface {
	c.t.Helper()
	config := rest.CopyConfig(c.server.Admin)
	config.WarningHandler = rest.NoWarnings{}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		c.t.Fatal(err)
	}
	return client
}
