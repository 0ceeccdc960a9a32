package controllers

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
)

// look is a kind that the state consists of. Of each object there is a line: its name, owners and finalizers, whether it is
// being deleted, and these fields.
type look struct {
	resource string   // pods, apps/v1/deployments
	fields   []string // dotted paths; after | another name than the last part, with a ? only whether it is there
}

// varying is what differs between two runs: UIDs, versions, times, dates, and numbers made from times.
var varying = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|\d{4}-\d\d-\d\d(T[\d:]+Z)?|\b\d{8}\b|"resourceVersion":"\d+"`)

// state is one line for each object, without what differs between two runs.
func (s *scenario) state(ctx context.Context, client dynamic.Interface) ([]string, error) {
	var lines []string
	for _, l := range s.looks {
		list, err := client.Resource(resourceOf(l.resource)).List(ctx, metav1.ListOptions{})
		if err != nil {
			return nil, err
		}
		for i := range list.Items {
			line, err := l.line(&list.Items[i])
			if err != nil {
				return nil, err
			}
			lines = append(lines, line)
		}
	}
	slices.Sort(lines)
	return lines, nil
}

// resourceOf reads group/version/resource, where the core group's is left out.
func resourceOf(text string) schema.GroupVersionResource {
	parts := strings.Split(text, "/")
	if len(parts) == 1 {
		return schema.GroupVersionResource{Version: "v1", Resource: text}
	}
	return schema.GroupVersionResource{Group: parts[0], Version: parts[1], Resource: parts[2]}
}

func (l *look) line(obj *unstructured.Unstructured) (string, error) {
	name := obj.GetName()
	if g := obj.GetGenerateName(); g != "" {
		name = g + "*"
	}
	if ref := obj.GetAnnotations()[resourcev1.PodResourceClaimAnnotation]; ref != "" {
		name = ref + "-*" // made from the pod's UID
	}
	line := resourceOf(l.resource).Resource + " " + name
	for _, ref := range obj.GetOwnerReferences() {
		line += fmt.Sprintf(" <%s/%s>", ref.Kind, ref.Name)
	}
	if f := obj.GetFinalizers(); len(f) > 0 {
		slices.Sort(f)
		line += " " + strings.Join(f, ",")
	}
	if obj.GetDeletionTimestamp() != nil {
		line += " deleting"
	}
	for _, path := range l.fields {
		path, label, named := strings.Cut(path, "|")
		if !named {
			label = path[strings.LastIndex(path, ".")+1:]
		}
		value, found, err := unstructured.NestedFieldNoCopy(obj.Object, strings.Split(path, ".")...)
		if err != nil {
			return "", err
		}
		label, hidden := strings.CutSuffix(label, "?")
		if !found {
			continue
		}
		line += " " + label
		if hidden {
			continue
		}
		text, err := json.Marshal(value)
		if err != nil {
			return "", err
		}
		line += "=" + strings.Trim(string(text), `"`)
	}
	if hash := obj.GetLabels()["pod-template-hash"]; hash != "" {
		line = strings.ReplaceAll(line, hash, "HASH")
	}
	return varying.ReplaceAllStringFunc(line, func(s string) string {
		switch {
		case strings.HasPrefix(s, `"`):
			return `"resourceVersion":"N"`
		case strings.Count(s, "-") == 4:
			return "UID"
		case strings.Contains(s, "-"):
			return "TIME"
		}
		return "N"
	}), nil
}
