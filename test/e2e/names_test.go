package e2e

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"canopus/test/harness"
)

// address picks the answers out of what nslookup prints; the name server's own line has a port.
var address = regexp.MustCompile(`(?m)^Address: ([0-9.]+)$`)

// lookup asks the pod's resolver for the addresses of a name.
func (s *scenario) lookup(t *testing.T, pod, name string) ([]string, error) {
	t.Helper()
	r := s.Try(t, "", s.args([]string{"exec", pod, "--", "nslookup", "-type=a", name})...)
	if r.Code != 0 {
		return nil, fmt.Errorf("%v", r)
	}
	var found []string
	for _, m := range address.FindAllStringSubmatch(r.Stdout, -1) {
		found = append(found, m[1])
	}
	slices.Sort(found)
	return found, nil
}

// names: Services, headless Services, pods with a host name, and the kubernetes Service.
func names(t *testing.T, s *scenario) {
	s.apply(t, "shell.yaml")
	s.apply(t, "names.yaml")
	s.k(t, "wait", "pod/shell", "pod/one", "pod/two", "--for=condition=Ready", "--timeout=60s")
	one, two := s.pod(t, "one").Status.PodIP, s.pod(t, "two").Status.PodIP
	both := []string{one, two}
	slices.Sort(both)
	suffix := "." + s.ns + ".svc.cluster.local"
	for name, want := range map[string][]string{
		"plain" + suffix:                       {s.jsonpath(t, "service/plain", "{.spec.clusterIP}")},
		"headless" + suffix:                    both,
		"one.headless" + suffix:                {one},
		"kubernetes.default.svc.cluster.local": {"10.96.0.1"},
	} {
		harness.Until(t, patience, "the address of "+name, func() error {
			got, err := s.lookup(t, "shell", name)
			if err == nil && !slices.Equal(got, want) {
				err = fmt.Errorf("%v, want %v", got, want)
			}
			return err
		})
	}
	// The resolver of a program, with the search list: a short name reaches a Service.
	if r := s.Try(t, "", s.args([]string{"exec", "shell", "--", "ping", "-c", "1", "-W", "3", "one.headless"})...); r.Code != 0 || !strings.Contains(r.Stdout, "("+one+")") {
		t.Errorf("a short name: %v", r)
	}
	if r := s.Try(t, "", s.args([]string{"exec", "shell", "--", "nslookup", "-type=a", "nothing" + suffix})...); !strings.Contains(r.Stdout+r.Stderr, "NXDOMAIN") {
		t.Errorf("a name that is not there: %v", r)
	}
}
