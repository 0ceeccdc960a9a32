package env

import (
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

type objects struct {
	maps    map[string]map[string]string
	secrets map[string]map[string][]byte
	err     error
}

func (o objects) ConfigMap(_, name string) (*corev1.ConfigMap, bool, error) {
	d, ok := o.maps[name]
	return &corev1.ConfigMap{Data: d}, ok, o.err
}

func (o objects) Secret(_, name string) (*corev1.Secret, bool, error) {
	d, ok := o.secrets[name]
	return &corev1.Secret{Data: d}, ok, o.err
}

func TestExpand(t *testing.T) {
	t.Parallel()
	lookup := func(n string) (string, bool) { v, ok := map[string]string{"A": "1", "B": "$(A)"}[n]; return v, ok }
	for in, want := range map[string]string{
		"plain": "plain", "$(A)": "1", "x$(A)y": "x1y", "$(B)": "$(A)", "$$(A)": "$(A)", "$(NO)": "$(NO)", "$": "$", "$A": "$A", "$(A": "$(A", "$$": "$", "a$$b$(A)": "a$b1", "": "",
	} {
		if got := Expand(in, lookup); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func FuzzExpand(f *testing.F) {
	f.Add("$(A)$$(B)$(")
	f.Fuzz(func(t *testing.T, s string) {
		if got := Expand(s, func(string) (string, bool) { return "", false }); len(got) > len(s) {
			t.Errorf("%q grew to %q", s, got)
		}
	})
}

func TestMake(t *testing.T) {
	t.Parallel()
	key := func(name, k string, opt *bool) *corev1.EnvVarSource {
		return &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: name}, Key: k, Optional: opt}}
	}
	from := func(name, prefix string, opt *bool) corev1.EnvFromSource {
		return corev1.EnvFromSource{Prefix: prefix, ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: name}, Optional: opt}}
	}
	objs := objects{maps: map[string]map[string]string{"m": {"K": "v", "bad=key": "x"}}, secrets: map[string]map[string][]byte{"s": {"p": []byte("q")}}}
	for name, c := range map[string]struct {
		c    corev1.Container
		objs objects
		want string // NAME=value …, or the error
	}{
		"value":           {corev1.Container{Env: []corev1.EnvVar{{Name: "A", Value: "1"}, {Name: "B", Value: "$(A)2"}}}, objs, "A=1 B=12"},
		"from, prefix":    {corev1.Container{EnvFrom: []corev1.EnvFromSource{from("m", "P_", nil)}}, objs, "P_K=v skipped P_bad=key"},
		"env over from":   {corev1.Container{EnvFrom: []corev1.EnvFromSource{from("m", "", nil)}, Env: []corev1.EnvVar{{Name: "K", Value: "mine"}}}, objs, "K=mine skipped bad=key"},
		"from, missing":   {corev1.Container{EnvFrom: []corev1.EnvFromSource{from("no", "", nil)}}, objs, `configmap "no" not found`},
		"from, optional":  {corev1.Container{EnvFrom: []corev1.EnvFromSource{from("no", "", ptr.To(true))}}, objs, ""},
		"key":             {corev1.Container{Env: []corev1.EnvVar{{Name: "A", ValueFrom: key("m", "K", nil)}}}, objs, "A=v"},
		"key, missing":    {corev1.Container{Env: []corev1.EnvVar{{Name: "A", ValueFrom: key("m", "no", nil)}}}, objs, "couldn't find key no in ConfigMap ns/m"},
		"key, optional":   {corev1.Container{Env: []corev1.EnvVar{{Name: "A", ValueFrom: key("m", "no", ptr.To(true))}}}, objs, ""},
		"unreachable API": {corev1.Container{Env: []corev1.EnvVar{{Name: "A", ValueFrom: key("m", "K", nil)}}}, objects{err: errors.New("away")}, "away"},
		"field": {corev1.Container{Env: []corev1.EnvVar{{Name: "A", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels['x/y']"}}}}},
			objs, "A=z"},
		"bad field": {corev1.Container{Env: []corev1.EnvVar{{Name: "A", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "spec.x"}}}}},
			objs, "unsupported fieldPath: spec.x"},
		"limit, from the node": {corev1.Container{Env: []corev1.EnvVar{{Name: "A", ValueFrom: &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "limits.memory", Divisor: resource.MustParse("1Mi")}}}}},
			objs, "A=2048"},
		"request, rounded up": {corev1.Container{Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": resource.MustParse("1500m")}},
			Env: []corev1.EnvVar{{Name: "A", ValueFrom: &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "requests.cpu"}}}}}, objs, "A=2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Labels: map[string]string{"x/y": "z"}}}
			res, err := Make(Input{Pod: pod, Container: &c.c, Objects: c.objs, Allocatable: corev1.ResourceList{"memory": resource.MustParse("2Gi")}})
			var out []string
			for _, v := range res.Vars {
				out = append(out, v.Name+"="+v.Value)
			}
			for _, s := range res.Skipped {
				out = append(out, "skipped "+s)
			}
			got := strings.Join(out, " ")
			if err != nil {
				got = err.Error()
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestServices(t *testing.T) {
	t.Parallel()
	svc := func(ns, name, ip string) *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}, Spec: corev1.ServiceSpec{ClusterIP: ip,
			Ports: []corev1.ServicePort{{Name: "web-ui", Port: 80, Protocol: corev1.ProtocolTCP}, {Port: 53, Protocol: corev1.ProtocolUDP}}}}
	}
	all := []*corev1.Service{svc("shop", "red-cart", "10.96.1.1"), svc("other", "x", "10.96.1.2"), svc("default", "kubernetes", "10.96.0.1"), svc("shop", "headless", "None")}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop"}}
	got := serviceVars(all, pod)
	for k, want := range map[string]string{
		"RED_CART_SERVICE_HOST": "10.96.1.1", "RED_CART_SERVICE_PORT": "80", "RED_CART_SERVICE_PORT_WEB_UI": "80", "RED_CART_PORT": "tcp://10.96.1.1:80",
		"RED_CART_PORT_80_TCP_ADDR": "10.96.1.1", "RED_CART_PORT_53_UDP": "udp://10.96.1.1:53", "KUBERNETES_SERVICE_HOST": "10.96.0.1", "X_SERVICE_HOST": "", "HEADLESS_SERVICE_HOST": "",
	} {
		if got[k] != want {
			t.Errorf("%s: %q, want %q", k, got[k], want)
		}
	}
	pod.Spec.EnableServiceLinks = ptr.To(false)
	if got = serviceVars(all, pod); got["KUBERNETES_SERVICE_HOST"] == "" || got["RED_CART_SERVICE_HOST"] != "" {
		t.Errorf("without links: %v", got)
	}
}
