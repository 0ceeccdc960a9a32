// Package hooks runs what a pod asks to be run at the start and the end of its containers: a command inside the
// container, an HTTP request to it, or a pause.
package hooks

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/clock"

	"canopus/internal/node/cri"
)

// httpTimeout bounds a hook's request where the caller's context does not end sooner.
const httpTimeout = 30 * time.Second

// Runner runs hooks.
type Runner struct {
	Client *cri.Client
	Clock  clock.Clock
}

// Target is the container a hook belongs to.
type Target struct {
	Container   *corev1.Container
	ContainerID string
	PodIP       string
}

// Run runs one hook and waits for its end.
func (r *Runner) Run(ctx context.Context, h *corev1.LifecycleHandler, t Target) error {
	switch {
	case h.Exec != nil:
		resp, err := r.Client.ExecSync(ctx, &runtimeapi.ExecSyncRequest{ContainerId: t.ContainerID, Cmd: h.Exec.Command})
		if err != nil {
			return fmt.Errorf("exec %q: %w", h.Exec.Command, err)
		}
		if resp.GetExitCode() != 0 {
			return fmt.Errorf("command '%s' exited with %d: %s", strings.Join(h.Exec.Command, " "), resp.GetExitCode(), append(resp.GetStdout(), resp.GetStderr()...))
		}
		return nil
	case h.HTTPGet != nil:
		return r.get(ctx, h.HTTPGet, t)
	case h.Sleep != nil:
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.Clock.After(time.Duration(h.Sleep.Seconds) * time.Second):
			return nil
		}
	}
	return fmt.Errorf("the hook names no action that this node supports: use exec, httpGet or sleep")
}

func (r *Runner) get(ctx context.Context, a *corev1.HTTPGetAction, t Target) error {
	ctx, cancel := context.WithTimeout(ctx, httpTimeout)
	defer cancel()
	req, err := Request(ctx, a, t.Container, t.PodIP)
	if err != nil {
		return err
	}
	tr := Transport()
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr}).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, 10<<10))
	return err
}

// Transport returns a transport for requests to containers: no proxy, no reuse, any certificate.
func Transport() *http.Transport {
	return &http.Transport{
		TLSClientConfig:    &tls.Config{InsecureSkipVerify: true},
		DisableKeepAlives:  true,
		DisableCompression: true,
		DialContext:        (&net.Dialer{}).DialContext,
	}
}

// Request builds the request of an httpGet action against the container at podIP.
func Request(ctx context.Context, a *corev1.HTTPGetAction, c *corev1.Container, podIP string) (*http.Request, error) {
	port, err := Port(a.Port, c)
	if err != nil {
		return nil, err
	}
	host := a.Host
	if host == "" {
		host = podIP
	}
	u, err := url.Parse(a.Path)
	if err != nil {
		u = &url.URL{Path: a.Path}
	}
	u.Scheme = strings.ToLower(string(a.Scheme))
	if u.Scheme == "" {
		u.Scheme = "http"
	}
	u.Host = net.JoinHostPort(host, strconv.Itoa(port))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("httpGet: %w", err)
	}
	req.Header.Set("User-Agent", "kube-probe/1.37")
	req.Header.Set("Accept", "*/*")
	for i, h := range a.HTTPHeaders {
		if strings.EqualFold(h.Name, "Host") {
			req.Host = h.Value
		}
		if i == 0 || !hasHeader(a.HTTPHeaders[:i], h.Name) {
			req.Header.Del(h.Name)
		}
		req.Header.Add(h.Name, h.Value)
	}
	return req, nil
}

func hasHeader(hs []corev1.HTTPHeader, name string) bool {
	for _, h := range hs {
		if strings.EqualFold(h.Name, name) {
			return true
		}
	}
	return false
}

// Port returns the number of a port given by number or by its name in the container.
func Port(p intstr.IntOrString, c *corev1.Container) (int, error) {
	n := p.IntValue()
	if p.Type == intstr.String {
		for _, cp := range c.Ports {
			if cp.Name == p.StrVal {
				n = int(cp.ContainerPort)
			}
		}
	}
	if n <= 0 || n > 65535 {
		return 0, fmt.Errorf("port %q of container %q is neither a valid number nor one of its named ports", p.String(), c.Name)
	}
	return n, nil
}
