package images

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestNormalize(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"nginx": "nginx:latest", "nginx:1": "nginx:1", "reg.io:5000/a/b": "reg.io:5000/a/b:latest", "reg.io:5000/a:x": "reg.io:5000/a:x",
		"a@sha256:0011": "a@sha256:0011", "a:1@sha256:0011": "a:1@sha256:0011", "localhost/x": "localhost/x:latest",
		"": "", "UPPER": "", "a b": "", "a:": "", "/a": "", "a//b": "", "a@sha": "", "a:b c": "",
	} {
		got, err := Normalize(in)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
}

func FuzzNormalize(f *testing.F) {
	f.Add("reg.io:5000/a/b:c@sha256:00")
	f.Fuzz(func(t *testing.T, s string) {
		if out, err := Normalize(s); err == nil {
			if again, err := Normalize(out); err != nil || again != out {
				t.Errorf("%q: %q is not stable: %q, %v", s, out, again, err)
			}
		}
	})
}

func TestPolicy(t *testing.T) {
	t.Parallel()
	for img, want := range map[string]corev1.PullPolicy{"a": corev1.PullAlways, "a:latest": corev1.PullAlways, "a:1": corev1.PullIfNotPresent, "a@sha256:00": corev1.PullIfNotPresent} {
		if got := Policy(&corev1.Container{Image: img}); got != want {
			t.Errorf("%s: %s", img, got)
		}
	}
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	secret := func(json string) *corev1.Secret {
		return &corev1.Secret{Type: corev1.SecretTypeDockerConfigJson, Data: map[string][]byte{corev1.DockerConfigJsonKey: []byte(json)}}
	}
	all := []*corev1.Secret{
		secret(`{"auths":{"reg.io":{"username":"u","password":"p"},"reg.io/team":{"auth":"dGVhbTpzM2NyZXQ="},"*.wild.io":{"username":"w"},"https://index.docker.io/v1/":{"username":"hub"}}}`),
		secret(`broken`), {Type: corev1.SecretTypeOpaque},
	}
	for img, want := range map[string][]string{
		"reg.io/app": {"u"}, "reg.io/team/app": {"team", "u"}, "a.wild.io/x": {"w"}, "a.b.wild.io/x": nil, "nginx": {"hub"}, "library/nginx": {"hub"}, "other.io/x": nil,
	} {
		got := Credentials(img, all)
		if len(got) != len(want) {
			t.Errorf("%s: %v", img, got)
			continue
		}
		for i := range want {
			if got[i].Username != want[i] {
				t.Errorf("%s: %v, want %v", img, got, want)
			}
		}
	}
}

func TestVictims(t *testing.T) {
	t.Parallel()
	now := time.Now()
	imgs := []*runtimeapi.Image{{Id: "used", Size: 10}, {Id: "old", Size: 10}, {Id: "older", Size: 10}, {Id: "pinned", Size: 10, Pinned: true}, {Id: "young", Size: 10}}
	idle := map[string]time.Time{"used": now, "old": now.Add(-time.Hour), "older": now.Add(-2 * time.Hour), "pinned": now.Add(-3 * time.Hour)}
	for need, want := range map[int64]string{0: "", 5: "older ", 15: "older old ", 1000: "older old "} {
		got := ""
		for _, v := range Victims(imgs, map[string]bool{"used": true}, idle, need) {
			got += v.GetId() + " "
		}
		if got != want {
			t.Errorf("need %d: %q, want %q", need, got, want)
		}
	}
}
