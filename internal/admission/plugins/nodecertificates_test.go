package plugins

import (
	"testing"

	"canopus/internal/admission"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
)

func TestNodesAskForCertificatesOfTheirPods(t *testing.T) {
	t.Parallel()
	pod := func(name, node string) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: meta("apps", name), Spec: corev1.PodSpec{NodeName: node, ServiceAccountName: "bot", Volumes: []corev1.Volume{
			{VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
			{VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
				{PodCertificate: &corev1.PodCertificateProjection{SignerName: "example.com/a"}},
			}}}},
		}}}
	}
	mirror := pod("static", "n1")
	mirror.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"}
	self, account := &corev1.Node{ObjectMeta: meta("", "n1")}, &corev1.ServiceAccount{ObjectMeta: meta("apps", "bot")}
	p := NewNodeRestriction(testConfig(t, pod("mine", "n1"), pod("theirs", "n2"), mirror, self, account))
	type spec = certificatesv1.PodCertificateRequestSpec
	ask := func(op admission.Operation, sub string, change func(*spec)) *admission.Request {
		o := &certificatesv1.PodCertificateRequest{ObjectMeta: meta("apps", "r"), Spec: spec{
			SignerName: "example.com/a", PodName: "mine", PodUID: "uid-1", ServiceAccountName: "bot", ServiceAccountUID: account.UID, NodeName: "n1", NodeUID: "uid-1",
		}}
		change(&o.Spec)
		r := req(op, "PodCertificateRequest", "podcertificaterequests", o, o)
		r.Resource, r.Namespace, r.Subresource = certificatesv1.SchemeGroupVersion.WithResource("podcertificaterequests"), "apps", sub
		return asNode(r)
	}
	for name, c := range map[string]struct {
		r    *admission.Request
		text string
	}{
		"its pod":         {ask(admission.Create, "", func(*spec) {}), ""},
		"as another node": {ask(admission.Create, "", func(s *spec) { s.NodeName = "n2" }), "not the requesting node"},
		"former self":     {ask(admission.Create, "", func(s *spec) { s.NodeUID = "old" }), "spec.nodeUID"},
		"no pod":          {ask(admission.Create, "", func(s *spec) { s.PodName = "none" }), "error looking up pod none"},
		"former pod":      {ask(admission.Create, "", func(s *spec) { s.PodUID = "old" }), "spec.podUID"},
		"another's pod":   {ask(admission.Create, "", func(s *spec) { s.PodName = "theirs" }), "not scheduled on the requesting node"},
		"mirror pod":      {ask(admission.Create, "", func(s *spec) { s.PodName = "static" }), "is a mirror pod"},
		"another account": {ask(admission.Create, "", func(s *spec) { s.ServiceAccountName = "admin" }), "runs as \"bot\""},
		"former account":  {ask(admission.Create, "", func(s *spec) { s.ServiceAccountUID = "old" }), "spec.serviceAccountUID"},
		"another signer":  {ask(admission.Create, "", func(s *spec) { s.SignerName = "example.com/b" }), "no podCertificate volume"},
		"issue it":        {ask(admission.Update, "status", func(*spec) {}), "can only create them"},
		"delete it":       {ask(admission.Delete, "", func(*spec) {}), "can only create them"},
	} {
		expect(t, name, admit(t, p, c.r), c.text)
	}
}
