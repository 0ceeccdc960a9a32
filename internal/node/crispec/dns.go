package crispec

import (
	"bufio"
	"fmt"
	"os"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// The resolver's limits, which Kubernetes nodes enforce.
const (
	maxNameservers  = 3
	maxSearches     = 32
	maxSearchLength = 2048
)

// DNS is the cluster's and the node's side of name resolution.
type DNS struct {
	ClusterIPs []string              // of the cluster's DNS Service; empty: pods use the node's resolver
	Domain     string                // cluster.local
	Node       *runtimeapi.DNSConfig // what the node itself uses
}

// ParseResolvConf reads a resolv.conf.
func ParseResolvConf(path string) (*runtimeapi.DNSConfig, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("the node's resolver: %w", err)
	}
	defer f.Close()
	out := &runtimeapi.DNSConfig{}
	s := bufio.NewScanner(f)
	for s.Scan() {
		fields := strings.Fields(s.Text())
		if len(fields) < 2 {
			continue
		}
		switch fields[0] {
		case "nameserver":
			out.Servers = append(out.Servers, fields[1])
		case "search", "domain":
			out.Searches = nil
			for _, d := range fields[1:] {
				if d != "." {
					d = strings.TrimSuffix(d, ".")
				}
				out.Searches = append(out.Searches, d)
			}
		case "options":
			out.Options = fields[1:]
		}
	}
	return out, s.Err()
}

// Resolve returns a pod's resolver configuration and what had to be left out to keep the resolver's limits.
func (d *DNS) Resolve(pod *corev1.Pod) (*runtimeapi.DNSConfig, []string) {
	out := &runtimeapi.DNSConfig{}
	policy := pod.Spec.DNSPolicy
	if policy == corev1.DNSClusterFirst && pod.Spec.HostNetwork || policy == corev1.DNSClusterFirstWithHostNet && len(d.ClusterIPs) == 0 {
		policy = corev1.DNSDefault
	}
	switch policy {
	case corev1.DNSNone:
	case corev1.DNSDefault:
		d.copyNode(out)
	default:
		if len(d.ClusterIPs) == 0 {
			d.copyNode(out)
			break
		}
		out.Servers = slices.Clone(d.ClusterIPs)
		out.Searches = append([]string{pod.Namespace + ".svc." + d.Domain, "svc." + d.Domain, d.Domain}, d.Node.GetSearches()...)
		out.Options = []string{"ndots:5"}
	}
	if c := pod.Spec.DNSConfig; c != nil {
		out.Servers = append(out.Servers, c.Nameservers...)
		out.Searches = append(out.Searches, c.Searches...)
		out.Options = mergeOptions(out.Options, c.Options)
	}
	out.Servers, out.Searches = unique(out.Servers), unique(out.Searches)
	return out, bound(out)
}

func (d *DNS) copyNode(out *runtimeapi.DNSConfig) {
	out.Servers = slices.Clone(d.Node.GetServers())
	out.Searches = slices.Clone(d.Node.GetSearches())
	out.Options = slices.Clone(d.Node.GetOptions())
}

// bound cuts what exceeds the resolver's limits and says so.
func bound(c *runtimeapi.DNSConfig) []string {
	var notes []string
	if len(c.Servers) > maxNameservers {
		c.Servers = c.Servers[:maxNameservers]
		notes = append(notes, "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: "+strings.Join(c.Servers, " "))
	}
	cut := false
	if len(c.Searches) > maxSearches {
		c.Searches, cut = c.Searches[:maxSearches], true
	}
	for len(strings.Join(c.Searches, " ")) > maxSearchLength {
		c.Searches, cut = c.Searches[:len(c.Searches)-1], true
	}
	if cut {
		notes = append(notes, "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: "+strings.Join(c.Searches, " "))
	}
	return notes
}

// mergeOptions lets the pod's options replace those of the same name.
func mergeOptions(base []string, extra []corev1.PodDNSConfigOption) []string {
	out := slices.Clone(base)
	for _, o := range extra {
		text := o.Name
		if o.Value != nil && *o.Value != "" {
			text += ":" + *o.Value
		}
		i := slices.IndexFunc(out, func(have string) bool {
			name, _, _ := strings.Cut(have, ":")
			return name == o.Name
		})
		if i < 0 {
			out = append(out, text)
		} else {
			out[i] = text
		}
	}
	return out
}

func unique(in []string) []string {
	var out []string
	for _, s := range in {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// Hostname returns the host name of a pod and its domain, empty when it has none.
func (d *DNS) Hostname(pod *corev1.Pod) (host, domain string, err error) {
	host = pod.Name
	if pod.Spec.Hostname != "" {
		host = pod.Spec.Hostname
	}
	const maxHost = 63
	if len(host) > maxHost {
		host = strings.TrimRight(host[:maxHost], "-.")
	}
	if pod.Spec.Subdomain != "" {
		domain = fmt.Sprintf("%s.%s.svc.%s", pod.Spec.Subdomain, pod.Namespace, d.Domain)
	}
	if o := pod.Spec.HostnameOverride; o != nil {
		return *o, "", nil
	}
	if pod.Spec.SetHostnameAsFQDN != nil && *pod.Spec.SetHostnameAsFQDN && domain != "" {
		fqdn := host + "." + domain
		if len(fqdn) > 64 {
			return "", "", fmt.Errorf("failed to construct FQDN from pod hostname and cluster domain, FQDN %s is too long (64 characters is the max, %d characters requested)", fqdn, len(fqdn))
		}
		return fqdn, domain, nil
	}
	return host, domain, nil
}
