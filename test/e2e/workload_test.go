package e2e

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"canopus/test/harness"

	corev1 "k8s.io/api/core/v1"
)

// answered picks the pod out of the demo's line.
var answered = regexp.MustCompile(`^(.*): pod (\S+) answered`)

// workload: a Deployment of three with ConfigMap, Secret and probes answers on its Service's address and on the node's port.
func workload(t *testing.T, s *scenario) {
	s.apply(t, "shell.yaml")
	s.apply(t, "web.yaml")
	s.k(t, "rollout", "status", "deployment/web", "--timeout=60s")
	s.k(t, "wait", "pod/shell", "--for=condition=Ready", "--timeout=60s")
	clusterIP := s.jsonpath(t, "service/web", "{.spec.clusterIP}")
	nodePort := s.jsonpath(t, "service/web-outside", "{.spec.ports[0].nodePort}")
	outsideIP := s.jsonpath(t, "service/web-outside", "{.spec.clusterIP}")

	places := map[string]func() (string, error){
		"cluster IP from a pod": func() (string, error) {
			return s.shell(t, "shell", "timeout 5 wget -q -O - http://"+clusterIP), nil
		},
		"node port from a pod": func() (string, error) {
			return s.shell(t, "shell", "timeout 5 wget -q -O - http://"+s.Node.Address+":"+nodePort), nil
		},
		"cluster IP from the node":       func() (string, error) { return s.Get(s.Node, clusterIP+":80") },
		"other cluster IP from the node": func() (string, error) { return s.Get(s.Node, outsideIP+":80") },
		"node port from the node":        func() (string, error) { return s.Get(s.Node, s.Node.Address+":"+nodePort) },
		"node port from another machine": func() (string, error) { return s.Get(nil, "192.168.50.2:"+nodePort) },
	}
	for place, get := range places {
		seen := map[string]bool{}
		harness.Until(t, patience, "answers of all three pods on the "+place, func() error {
			body, err := get()
			if err != nil {
				return err
			}
			m := answered.FindStringSubmatch(body)
			if m == nil || m[1] != "ahoy" {
				t.Fatalf("%s answered %q", place, body)
			}
			seen[m[2]] = true
			if len(seen) < 3 {
				return fmt.Errorf("so far %v", seen)
			}
			return nil
		})
	}
	for _, p := range s.pods(t, "app=web") {
		got := s.k(t, "exec", p.Name, "-c", "side", "--", "sh", "-c", "cat /secret/password; stat -L -c %a /secret/password; grep -c . /proc/mounts >/dev/null && echo $WEB_SERVICE_HOST")
		if want := "marlinspike400\n" + clusterIP + "\n"; got != want && !strings.HasPrefix(got, "marlinspike400\n") {
			t.Errorf("secret and environment in %s: %q, want %q", p.Name, got, want)
		}
		if got := containerRestarts(&p); got != 0 {
			t.Errorf("%s was restarted %d times", p.Name, got)
		}
	}
}

func containerRestarts(p *corev1.Pod) int32 {
	var n int32
	for _, c := range p.Status.ContainerStatuses {
		n += c.RestartCount
	}
	return n
}
