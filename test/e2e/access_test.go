package e2e

import (
	"strings"
	"testing"
)

// token: a pod reaches the API by the kubernetes Service with its own token, and may do what its role says.
func token(t *testing.T, s *scenario) {
	s.apply(t, "roles.yaml")
	s.apply(t, "access.yaml", "KUBECTL", s.Node.Bin("kubectl"))
	s.k(t, "wait", "pod/reader", "pod/nobody", "--for=condition=Ready", "--timeout=60s")
	// By address: name resolution is another story.
	kubectl := "/kubectl --server=https://$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT " +
		"--certificate-authority=/var/run/secrets/kubernetes.io/serviceaccount/ca.crt --token=$(cat /var/run/secrets/kubernetes.io/serviceaccount/token) " +
		"-n $(cat /var/run/secrets/kubernetes.io/serviceaccount/namespace) "
	if out := s.shell(t, "reader", kubectl+"get pods -o name"); !strings.Contains(out, "pod/nobody\n") {
		t.Errorf("pods as seen from a pod: %q", out)
	}
	if out := s.shell(t, "reader", kubectl+"auth whoami -o jsonpath={.status.userInfo.username}"); out != "system:serviceaccount:"+s.ns+":reader" {
		t.Errorf("whoami: %q", out)
	}
	for _, c := range []struct{ pod, do, verb, what string }{
		{"nobody", "get pods", "list", "pods"},
		{"reader", "get secrets", "list", "secrets"},
		{"reader", "delete pod nobody", "delete", "pods"},
	} {
		r := s.Try(t, "", s.args([]string{"exec", c.pod, "--", "sh", "-c", kubectl + c.do})...)
		if r.Code == 0 || !strings.Contains(r.Stderr, "(Forbidden)") ||
			!strings.Contains(r.Stderr, `User "system:serviceaccount:`+s.ns+":"+c.pod+`" cannot `+c.verb+` resource "`+c.what+`" in API group ""`) {
			t.Errorf("%s: %s: %v", c.pod, c.do, r)
		}
	}
	// In a pod kubectl finds all of that by itself.
	if out := s.shell(t, "reader", "/kubectl get pod reader -o name"); out != "pod/reader\n" {
		t.Errorf("in-cluster configuration: %q", out)
	}
}

// access: what kubectl auth can-i says, as the admin and as others, and short-lived tokens.
func access(t *testing.T, s *scenario) {
	s.apply(t, "roles.yaml")
	reader := "--as=system:serviceaccount:" + s.ns + ":reader"
	for _, c := range []struct{ args, want string }{
		{"auth can-i create deployments", "yes"},
		{"auth can-i * *", "yes"},
		{"auth can-i list pods " + reader, "yes"},
		{"auth can-i get pods --subresource=log " + reader, "no"},
		{"auth can-i create pods " + reader, "no"},
		{"auth can-i list pods --as=nobody", "no"},
	} {
		r := s.Try(t, "", s.args(strings.Fields(c.args))...)
		if got := strings.TrimSpace(r.Stdout); got != c.want && !strings.HasPrefix(got, c.want+" ") || (c.want == "yes") != (r.Code == 0) {
			t.Errorf("want %s: %v", c.want, r)
		}
	}
	if out := s.k(t, "auth", "can-i", "--list", reader); !strings.Contains(out, "[get list watch]") {
		t.Errorf("can-i --list:\n%s", out)
	}
	made := strings.TrimSpace(s.k(t, "create", "token", "reader", "--duration=10m"))
	if out := s.k(t, "auth", "whoami", "--kubeconfig=/dev/null", "--server="+s.Config.Host, "--insecure-skip-tls-verify", "--token="+made, "-o", "jsonpath={.status.userInfo.username}"); !strings.HasSuffix(out, ":reader") {
		t.Errorf("whoami with a token: %q", out)
	}
}
