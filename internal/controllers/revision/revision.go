// Package revision keeps the history of a workload's template as ControllerRevisions, for DaemonSets and StatefulSets.
// plan.go in their packages asks Pick which revision is the present one; Apply writes it.
package revision

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"reflect"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/client-go/kubernetes"
)

// maxStem leaves room for a hash in a name.
const maxStem = 223

// Owner is the workload whose history it is.
type Owner struct {
	metav1.Object
	GVK        schema.GroupVersionKind
	Template   *corev1.PodTemplateSpec
	Collisions *int32
	HashLabel  string // of revisions: the one by which DaemonSet pods name theirs unless set
}

// ErrCollision says that another object has the name of the present revision: count it and hash again.
type ErrCollision struct{ Name string }

// Error implements error.
func (e ErrCollision) Error() string {
	return fmt.Sprintf("the name of controllerrevision %s is taken by another template, trying another name", e.Name)
}

// patchOf is the strategic merge patch that brings the template back: what kubectl rollout undo applies.
func patchOf(t *corev1.PodTemplateSpec) ([]byte, error) {
	raw, err := json.Marshal(t)
	if err != nil {
		return nil, err
	}
	fields := map[string]any{}
	if err := json.Unmarshal(raw, &fields); err != nil {
		return nil, err
	}
	fields["$patch"] = "replace"
	return json.Marshal(map[string]any{"spec": map[string]any{"template": fields}})
}

// Pick returns the revision that o's template is, made anew if history has none, with the number it should have. Neither
// is written.
func Pick(o Owner, history []*appsv1.ControllerRevision) (*appsv1.ControllerRevision, error) {
	data, err := patchOf(o.Template)
	if err != nil {
		return nil, fmt.Errorf("describe the template: %w", err)
	}
	var newest int64
	var same *appsv1.ControllerRevision
	for _, r := range history {
		newest = max(newest, r.Revision)
		if sameData(r.Data.Raw, data) && (same == nil || r.Revision > same.Revision) {
			same = r
		}
	}
	if same != nil {
		if same.Revision < newest { // an old template is wanted again
			same = same.DeepCopy()
			same.Revision = newest + 1
		}
		return same, nil
	}
	hash := hashOf(data, o.Collisions)
	name := o.GetName()
	labels := maps.Clone(o.Template.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	labels[cmp.Or(o.HashLabel, appsv1.ControllerRevisionHashLabelKey)] = hash
	return &appsv1.ControllerRevision{
		ObjectMeta: metav1.ObjectMeta{
			Name: name[:min(len(name), maxStem)] + "-" + hash, Namespace: o.GetNamespace(), Labels: labels,
			Annotations:     maps.Clone(o.GetAnnotations()),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(o, o.GVK)},
		},
		Data: runtime.RawExtension{Raw: data}, Revision: newest + 1,
	}, nil
}

func hashOf(data []byte, collisions *int32) string {
	h := fnv.New32a()
	_, _ = h.Write(data)
	if collisions != nil {
		_, _ = fmt.Fprint(h, *collisions)
	}
	return rand.SafeEncodeString(fmt.Sprint(h.Sum32()))
}

// sameData compares two patches as JSON: the server may have written one anew.
func sameData(a, b []byte) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

// Hash is how pods of a DaemonSet name the revision that they were made from; those of a StatefulSet use its name.
func Hash(r *appsv1.ControllerRevision) string {
	return r.Labels[appsv1.ControllerRevisionHashLabelKey]
}

// Stale returns the revisions beyond limit that are neither the present one nor any pod's, oldest first. A negative limit
// keeps them all.
func Stale(history []*appsv1.ControllerRevision, live map[string]bool, limit int) []*appsv1.ControllerRevision {
	if limit < 0 {
		return nil
	}
	var unused []*appsv1.ControllerRevision
	for _, r := range history {
		if hash := Hash(r); !live[r.Name] && (hash == "" || !live[hash]) {
			unused = append(unused, r)
		}
	}
	slices.SortFunc(unused, func(a, b *appsv1.ControllerRevision) int { return cmp.Compare(a.Revision, b.Revision) })
	return unused[:max(0, len(unused)-limit)]
}

// Write creates r, or gives it its number. A name that is taken by another template is an ErrCollision.
func Write(ctx context.Context, client kubernetes.Interface, r *appsv1.ControllerRevision) (*appsv1.ControllerRevision, error) {
	revisions := client.AppsV1().ControllerRevisions(r.Namespace)
	if r.ResourceVersion != "" {
		got, err := revisions.Update(ctx, r, metav1.UpdateOptions{})
		if err != nil {
			return nil, fmt.Errorf("number controllerrevision %s: %w", r.Name, err)
		}
		return got, nil
	}
	got, err := revisions.Create(ctx, r, metav1.CreateOptions{})
	if !apierrors.IsAlreadyExists(err) {
		if err != nil {
			return nil, fmt.Errorf("create controllerrevision %s: %w", r.Name, err)
		}
		return got, nil
	}
	there, err := revisions.Get(ctx, r.Name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("read controllerrevision %s, whose name is taken: %w", r.Name, err)
	}
	if sameData(there.Data.Raw, r.Data.Raw) && metav1.IsControlledBy(there, &metav1.ObjectMeta{UID: r.OwnerReferences[0].UID}) {
		return there, nil
	}
	return nil, ErrCollision{r.Name}
}
