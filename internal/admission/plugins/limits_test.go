package plugins

import (
	"strings"
	"testing"

	"canopus/internal/admission"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"
)

func amounts(text string) corev1.ResourceList {
	out := corev1.ResourceList{}
	for _, pair := range strings.Fields(text) {
		name, q, _ := strings.Cut(pair, "=")
		out[corev1.ResourceName(name)] = resource.MustParse(q)
	}
	return out
}

func limited(requests, limits string) *corev1.Pod {
	r := corev1.ResourceRequirements{Requests: amounts(requests), Limits: amounts(limits)}
	return &corev1.Pod{ObjectMeta: meta("default", "p"), Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Resources: r}}}}
}

func createOf(resource string, obj any) *admission.Request {
	r := &admission.Request{Operation: admission.Create, Namespace: "default", Name: "p", Resource: corev1.SchemeGroupVersion.WithResource(resource), Warn: func(string) {}}
	switch o := obj.(type) {
	case *corev1.Pod:
		r.Object = o
	case *corev1.PersistentVolumeClaim:
		r.Object = o
	case *corev1.Binding:
		r.Object, r.Subresource = o, "binding"
	}
	return r
}

func reason(err error) string {
	if err == nil {
		return ""
	}
	_, text, _ := strings.Cut(err.Error(), " is forbidden: ")
	return text
}

func TestLimitRangerDefaults(t *testing.T) {
	t.Parallel()
	c := testConfig(t)
	store := c.Informers.Core().V1().LimitRanges().Informer().GetStore()
	if err := store.Add(&corev1.LimitRange{ObjectMeta: meta("default", "l"), Spec: corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{
		{Type: corev1.LimitTypeContainer, DefaultRequest: amounts("cpu=100m memory=10Mi"), Default: amounts("memory=20Mi")},
	}}}); err != nil {
		t.Fatal(err)
	}
	l, pod := NewLimitRanger(c), limited("cpu=1", "")
	pod.Spec.InitContainers = []corev1.Container{{Name: "i"}}
	if err := l.Admit(t.Context(), createOf("pods", pod)); err != nil {
		t.Fatal(err)
	}
	r, i := pod.Spec.Containers[0].Resources, pod.Spec.InitContainers[0].Resources
	if r.Requests.Cpu().String() != "1" || r.Requests.Memory().String() != "10Mi" || r.Limits.Memory().String() != "20Mi" || len(r.Limits) != 1 || i.Requests.Cpu().String() != "100m" {
		t.Errorf("container %v, init container %v", r, i)
	}
	want := "LimitRanger plugin set: memory request for container c; memory limit for container c; cpu, memory request for init container i; memory limit for init container i"
	if got := pod.Annotations[limitRangerAnnotation]; got != want {
		t.Errorf("annotation %q", got)
	}
}

func TestLimitRangerBounds(t *testing.T) {
	t.Parallel()
	container := func(item corev1.LimitRangeItem) corev1.LimitRangeItem {
		item.Type = corev1.LimitTypeContainer
		return item
	}
	for name, tc := range map[string]struct {
		item corev1.LimitRangeItem
		pod  *corev1.Pod
		want string
	}{
		"fits":       {container(corev1.LimitRangeItem{Min: amounts("cpu=1"), Max: amounts("cpu=2")}), limited("cpu=1", "cpu=2"), ""},
		"no request": {container(corev1.LimitRangeItem{Min: amounts("cpu=1")}), limited("", ""), "minimum cpu usage per Container is 1.  No request is specified"},
		"too little": {container(corev1.LimitRangeItem{Min: amounts("cpu=1")}), limited("cpu=500m", ""), "minimum cpu usage per Container is 1, but request is 500m"},
		"no limit":   {container(corev1.LimitRangeItem{Max: amounts("memory=1Gi")}), limited("memory=1Gi", ""), "maximum memory usage per Container is 1Gi.  No limit is specified"},
		"too much, twice": {container(corev1.LimitRangeItem{Max: amounts("cpu=1 memory=1Gi")}), limited("", "cpu=2 memory=2Gi"),
			"[maximum cpu usage per Container is 1, but limit is 2, maximum memory usage per Container is 1Gi, but limit is 2Gi]"},
		"ratio":             {container(corev1.LimitRangeItem{MaxLimitRequestRatio: amounts("cpu=2")}), limited("cpu=100m", "cpu=250m"), "cpu max limit to request ratio per Container is 2, but provided ratio is 2.500000"},
		"ratio kept":        {container(corev1.LimitRangeItem{MaxLimitRequestRatio: amounts("cpu=2500m")}), limited("cpu=100m", "cpu=250m"), ""},
		"ratio, no request": {container(corev1.LimitRangeItem{MaxLimitRequestRatio: amounts("cpu=2")}), limited("", "cpu=250m"), "cpu max limit to request ratio per Container is 2, but no request is specified or request is 0"},
		"pod":               {corev1.LimitRangeItem{Type: corev1.LimitTypePod, Max: amounts("cpu=1")}, limited("", "cpu=2"), "maximum cpu usage per Pod is 1, but limit is 2"},
	} {
		c := testConfig(t)
		lr := &corev1.LimitRange{ObjectMeta: meta("default", "l"), Spec: corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{tc.item}}}
		if err := c.Informers.Core().V1().LimitRanges().Informer().GetStore().Add(lr); err != nil {
			t.Fatal(err)
		}
		if got := reason(NewLimitRanger(c).Validate(t.Context(), createOf("pods", tc.pod))); got != tc.want {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
	}
	c := testConfig(t)
	if err := c.Informers.Core().V1().LimitRanges().Informer().GetStore().Add(&corev1.LimitRange{ObjectMeta: meta("default", "l"), Spec: corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{
		{Type: corev1.LimitTypePersistentVolumeClaim, Max: amounts("storage=2Gi"), Min: amounts("storage=1Gi")},
	}}}); err != nil {
		t.Fatal(err)
	}
	for size, want := range map[string]string{"1Gi": "", "3Gi": "maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi", "1Mi": "minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 1Mi"} {
		claim := &corev1.PersistentVolumeClaim{ObjectMeta: meta("default", "p")}
		claim.Spec.Resources.Requests = amounts("storage=" + size)
		if got := reason(NewLimitRanger(c).Validate(t.Context(), createOf("persistentvolumeclaims", claim))); got != want {
			t.Errorf("a claim of %s: got %q, want %q", size, got, want)
		}
	}
}

func TestRuntimeClass(t *testing.T) {
	t.Parallel()
	c := testConfig(t)
	class := &nodev1.RuntimeClass{ObjectMeta: meta("", "vm"), Handler: "vm", Overhead: &nodev1.Overhead{PodFixed: amounts("cpu=250m")}, Scheduling: &nodev1.Scheduling{
		NodeSelector: map[string]string{"vm": "yes"}, Tolerations: []corev1.Toleration{{Key: "vm", Operator: corev1.TolerationOpExists}, {Key: "a", Value: "b"}},
	}}
	if err := c.Informers.Node().V1().RuntimeClasses().Informer().GetStore().Add(class); err != nil {
		t.Fatal(err)
	}
	p := NewRuntimeClass(c)
	for name, tc := range map[string]struct {
		edit func(*corev1.PodSpec)
		want string
	}{
		"merged": {func(s *corev1.PodSpec) {
			s.Tolerations = []corev1.Toleration{{Key: "a", Operator: corev1.TolerationOpExists}}
		}, ""},
		"overhead": {func(s *corev1.PodSpec) { s.Overhead = amounts("cpu=1") }, "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"},
		"no class": {func(s *corev1.PodSpec) { s.RuntimeClassName, s.Overhead = nil, amounts("cpu=1") }, "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"},
		"selector": {func(s *corev1.PodSpec) { s.NodeSelector = map[string]string{"vm": "no"} }, "conflict: runtimeClass.scheduling.nodeSelector[vm] = yes; pod.spec.nodeSelector[vm] = no"},
	} {
		pod := limited("", "")
		pod.Spec.RuntimeClassName = ptr.To("vm")
		tc.edit(&pod.Spec)
		r := createOf("pods", pod)
		err := p.Admit(t.Context(), r)
		if err == nil {
			err = p.Validate(t.Context(), r)
		}
		if got := reason(err); got != tc.want {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
		if name == "merged" && (pod.Spec.Overhead.Cpu().String() != "250m" || pod.Spec.NodeSelector["vm"] != "yes" || len(pod.Spec.Tolerations) != 2) {
			t.Errorf("merged: %+v", pod.Spec)
		}
	}
}

func TestPodTopologyLabels(t *testing.T) {
	t.Parallel()
	node := &corev1.Node{ObjectMeta: meta("", "n")}
	node.Labels = map[string]string{corev1.LabelTopologyZone: "z1", corev1.LabelHostname: "n"}
	p := NewPodTopologyLabels(testConfig(t, node))
	b := &corev1.Binding{Target: corev1.ObjectReference{Kind: "Node", Name: "n"}}
	if err := p.Admit(t.Context(), createOf("pods", b)); err != nil || len(b.Labels) != 1 || b.Labels[corev1.LabelTopologyZone] != "z1" {
		t.Errorf("binding %v: %v", b.Labels, err)
	}
	pod := limited("", "")
	pod.Spec.NodeName = "other"
	if err := p.Admit(t.Context(), createOf("pods", pod)); err != nil || len(pod.Labels) != 0 {
		t.Errorf("pod on a node that is not there: %v: %v", pod.Labels, err)
	}
}
