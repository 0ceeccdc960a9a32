package resourceclaim

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/utils/ptr"
)

func podWith(refs ...corev1.PodResourceClaim) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", UID: "u"}, Spec: corev1.PodSpec{ResourceClaims: refs}}
}

func own(name string) corev1.PodResourceClaim {
	return corev1.PodResourceClaim{Name: name, ResourceClaimName: ptr.To("own-" + name)}
}

func made(name string) corev1.PodResourceClaim {
	return corev1.PodResourceClaim{Name: name, ResourceClaimTemplateName: ptr.To("template")}
}

func said(p *corev1.Pod, name string, claim *string) *corev1.Pod {
	p.Status.ResourceClaimStatuses = append(p.Status.ResourceClaimStatuses, corev1.PodResourceClaimStatus{Name: name, ResourceClaimName: claim})
	return p
}

func TestWhatAPodLacks(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		pod             *corev1.Pod
		known           map[string]string
		missing, status string
	}{
		"its own claims":          {podWith(own("a")), nil, "", ""},
		"all to be made":          {podWith(own("a"), made("b"), made("c")), nil, "b c", ""},
		"one is made":             {podWith(made("b"), made("c")), map[string]string{"b": "x"}, "c", "b=x"},
		"all are made":            {podWith(made("b"), made("c")), map[string]string{"b": "x", "c": "y"}, "", "b=x c=y"},
		"the status says so":      {said(podWith(made("b")), "b", ptr.To("x")), map[string]string{"b": "x"}, "", ""},
		"the status says another": {said(podWith(made("b")), "b", ptr.To("w")), map[string]string{"b": "x"}, "", "b=x"},
		"the claim was deleted":   {said(podWith(made("b")), "b", ptr.To("x")), nil, "b", ""},
		"none is needed":          {said(podWith(made("b")), "b", nil), nil, "", ""},
	} {
		var lacks, says []string
		for _, ref := range missing(tt.pod, tt.known) {
			lacks = append(lacks, ref.Name)
		}
		for _, s := range statuses(tt.pod, tt.known) {
			says = append(says, s.Name+"="+*s.ResourceClaimName)
		}
		if got := strings.Join(lacks, " "); got != tt.missing {
			t.Errorf("%s: lacks %q, want %q", name, got, tt.missing)
		}
		if got := strings.Join(says, " "); got != tt.status {
			t.Errorf("%s: status %q, want %q", name, got, tt.status)
		}
	}
}

// TestClaimForExtendedResources: it is one of its pod's claims although the pod names none.
func TestClaimForExtendedResources(t *testing.T) {
	t.Parallel()
	pod := podWith()
	if got := podChanged(nil, pod); got != nil {
		t.Errorf("a pod without claims wakes %v", got)
	}
	pod.Status.ExtendedResourceClaimStatus = &corev1.PodExtendedResourceClaimStatus{ResourceClaimName: "special"}
	if got := podChanged(nil, pod); len(got) != 1 || got[0].claim {
		t.Errorf("one with such a claim wakes %v", got)
	}
	pod.Status.Phase = corev1.PodSucceeded
	for name, got := range map[string][]subject{"ended": podChanged(pod, pod), "gone": podChanged(pod, nil)} {
		if len(got) != 1 || !got[0].claim || got[0].Name != "special" || got[0].Namespace != "ns" {
			t.Errorf("one that has %s wakes %v", name, got)
		}
	}
}

func TestGenerate(t *testing.T) {
	t.Parallel()
	template := &resourcev1.ResourceClaimTemplate{Spec: resourcev1.ResourceClaimTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"a": "b"}, Annotations: map[string]string{"c": "d"}},
		Spec:       resourcev1.ResourceClaimSpec{Devices: resourcev1.DeviceClaim{Requests: []resourcev1.DeviceRequest{{Name: "r"}}}},
	}}
	pod := podWith(made("gpu"))
	ref := &pod.Spec.ResourceClaims[0]
	claim := generate(pod, ref, template, 0)
	if !strings.HasPrefix(claim.Name, "web-gpu-") || claim.Namespace != "ns" || claim.Labels["a"] != "b" || claim.Annotations["c"] != "d" ||
		claim.Annotations[resourcev1.PodResourceClaimAnnotation] != "gpu" || !metav1.IsControlledBy(claim, pod) || claim.Spec.Devices.Requests[0].Name != "r" {
		t.Errorf("got %+v", claim)
	}
	if template.Spec.Annotations[resourcev1.PodResourceClaimAnnotation] != "" {
		t.Error("the template was changed")
	}
	if again := generate(pod, ref, template, 0); again.Name != claim.Name {
		t.Errorf("made again it is %s, was %s", again.Name, claim.Name)
	}
	other := podWith(made("gpu"))
	other.UID = "v"
	names := []string{claim.Name, generate(pod, ref, template, 1).Name, generate(other, ref, template, 0).Name, nameFor(pod, "nic", 0)}
	slices.Sort(names)
	if len(slices.Compact(names)) != 4 {
		t.Errorf("some are the same: %v", names)
	}
	pod.Name = strings.Repeat("x.", 100) + "x"
	for _, ref := range []string{"gpu", strings.Repeat("y", 63)} {
		name := nameFor(pod, ref, 0)
		if wrong := validation.IsDNS1123Subdomain(name); len(wrong) > 0 || !strings.Contains(name, "-"+ref+"-") {
			t.Errorf("%s: %v", name, wrong)
		}
	}
}

func TestPlanClaim(t *testing.T) {
	t.Parallel()
	claim := func(ours, given, going bool, users ...string) *resourcev1.ResourceClaim {
		c := &resourcev1.ResourceClaim{}
		if ours {
			c.Finalizers = []string{"x.io/other", resourcev1.Finalizer}
		}
		if given {
			c.Status.Allocation = &resourcev1.AllocationResult{}
			c.Status.Devices = make([]resourcev1.AllocatedDeviceStatus, 1)
		}
		if going {
			c.DeletionTimestamp = &metav1.Time{}
		}
		for _, u := range users {
			c.Status.ReservedFor = append(c.Status.ReservedFor, resourcev1.ResourceClaimConsumerReference{Resource: "pods", Name: u, UID: types.UID(u)})
		}
		return c
	}
	for name, tt := range map[string]struct {
		claim *resourcev1.ResourceClaim
		want  string
	}{
		"nobody wants it":            {claim(false, false, false), "unused"},
		"nobody took it yet":         {claim(true, true, false), "unused"},
		"in use":                     {claim(true, true, false, "p"), ""},
		"one of two has ended":       {claim(true, true, false, "ended", "p"), "given to p"},
		"the last has ended":         {claim(true, true, false, "ended"), "given back release unused"},
		"allocated by another":       {claim(false, true, false, "ended"), "given to unused"},
		"going, in use":              {claim(true, true, true, "p"), ""},
		"going, the last has ended":  {claim(true, true, true, "ended"), "given back release unused"},
		"going, never used":          {claim(true, true, true), "given back release unused"},
		"going, given back before":   {claim(true, false, true), "release unused"},
		"going, by another's leave":  {claim(false, true, true), "unused"},
		"given back, still shielded": {claim(true, false, false), "unused"},
	} {
		before := tt.claim.DeepCopy()
		p := planClaim(tt.claim, func(ref *resourcev1.ResourceClaimConsumerReference) bool { return ref.Name != "ended" })
		var got []string
		if p.status != nil {
			text := "given to"
			if p.status.Allocation == nil {
				text = "given back"
				if p.status.Devices != nil {
					t.Errorf("%s: what drivers said is left", name)
				}
			}
			for _, r := range p.status.ReservedFor {
				text += " " + r.Name
			}
			got = append(got, text)
		}
		if p.release {
			got = append(got, "release")
		}
		if p.unused {
			got = append(got, "unused")
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%s: got %v, want %s", name, got, tt.want)
		}
		if len(before.Status.ReservedFor) != len(tt.claim.Status.ReservedFor) || (before.Status.Allocation == nil) != (tt.claim.Status.Allocation == nil) {
			t.Errorf("%s: the claim was changed", name)
		}
	}
}

func TestDone(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		phase       corev1.PodPhase
		node        string
		going, want bool
	}{
		"waits": {corev1.PodPending, "", false, false}, "goes before it ran": {corev1.PodPending, "", true, true},
		"runs": {corev1.PodRunning, "n", false, false}, "stops": {corev1.PodRunning, "n", true, false}, "has ended": {corev1.PodFailed, "n", false, true},
	} {
		p := podWith()
		p.Status.Phase, p.Spec.NodeName = tt.phase, tt.node
		if tt.going {
			p.DeletionTimestamp = &metav1.Time{}
		}
		if done(p) != tt.want {
			t.Errorf("%s: %v", name, !tt.want)
		}
	}
}

func TestReservable(t *testing.T) {
	t.Parallel()
	pod := podWith()
	base := func() *resourcev1.ResourceClaim {
		return &resourcev1.ResourceClaim{Status: resourcev1.ResourceClaimStatus{Allocation: &resourcev1.AllocationResult{}}}
	}
	for name, tt := range map[string]struct {
		change func(*resourcev1.ResourceClaim)
		want   bool
	}{
		"given":     {func(*resourcev1.ResourceClaim) {}, true},
		"not given": {func(c *resourcev1.ResourceClaim) { c.Status.Allocation = nil }, false},
		"going":     {func(c *resourcev1.ResourceClaim) { c.DeletionTimestamp = &metav1.Time{} }, false},
		"made for it": {func(c *resourcev1.ResourceClaim) {
			c.OwnerReferences = generate(pod, ptr.To(made("g")), &resourcev1.ResourceClaimTemplate{}, 0).OwnerReferences
		}, true},
		"made for other": {func(c *resourcev1.ResourceClaim) {
			other := podWith()
			other.UID = "v"
			c.OwnerReferences = generate(other, ptr.To(made("g")), &resourcev1.ResourceClaimTemplate{}, 0).OwnerReferences
		}, false},
		"reserved already": {func(c *resourcev1.ResourceClaim) {
			c.Status.ReservedFor = []resourcev1.ResourceClaimConsumerReference{{UID: pod.UID}}
		}, false},
		"crowded": {func(c *resourcev1.ResourceClaim) {
			c.Status.ReservedFor = make([]resourcev1.ResourceClaimConsumerReference, resourcev1.ResourceClaimReservedForMaxSize)
		}, false},
	} {
		c := base()
		tt.change(c)
		if reservable(pod, c) != tt.want {
			t.Errorf("%s: %v", name, !tt.want)
		}
	}
}
