// Package probe asks containers how they are. Check runs one probe once; Set keeps the probes of all running containers
// going, each in a goroutine of its own, and rings for a pod when a verdict changes.
package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"canopus/internal/node/cri"
	"canopus/internal/node/hooks"
)

// maxBody bounds what of an answer appears in an event.
const maxBody = 10 << 10

// Target is the container a probe asks.
type Target struct {
	Container   *corev1.Container
	ContainerID string
	PodIP       string
}

// Check runs a probe once. ok is the verdict, message says why; err means that there is no verdict.
func Check(ctx context.Context, client *cri.Client, p *corev1.Probe, t Target) (ok bool, message string, err error) {
	timeout := time.Duration(max(p.TimeoutSeconds, 1)) * time.Second
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	switch {
	case p.Exec != nil:
		return checkExec(ctx, client, p, t)
	case p.HTTPGet != nil:
		return checkHTTP(ctx, p.HTTPGet, t)
	case p.TCPSocket != nil:
		return checkTCP(ctx, p.TCPSocket, t)
	case p.GRPC != nil:
		return checkGRPC(ctx, p.GRPC, t)
	}
	return false, "", fmt.Errorf("missing probe handler for container %q", t.Container.Name)
}

func checkExec(ctx context.Context, client *cri.Client, p *corev1.Probe, t Target) (bool, string, error) {
	resp, err := client.ExecSync(ctx, &runtimeapi.ExecSyncRequest{
		ContainerId: t.ContainerID, Cmd: p.Exec.Command, Timeout: int64(max(p.TimeoutSeconds, 1))})
	if err != nil {
		if ctx.Err() != nil || status.Code(err) == codes.DeadlineExceeded {
			return false, fmt.Sprintf("command timed out: %q timed out after %ds", strings.Join(p.Exec.Command, " "), max(p.TimeoutSeconds, 1)), nil
		}
		return false, "", err
	}
	out := append(resp.GetStdout(), resp.GetStderr()...)
	return resp.GetExitCode() == 0, string(out[:min(len(out), maxBody)]), nil
}

func checkHTTP(ctx context.Context, a *corev1.HTTPGetAction, t Target) (bool, string, error) {
	req, err := hooks.Request(ctx, a, t.Container, t.PodIP)
	if err != nil {
		return false, "", err
	}
	tr := hooks.Transport()
	defer tr.CloseIdleConnections()
	client := &http.Client{Transport: tr, CheckRedirect: func(next *http.Request, via []*http.Request) error {
		// A redirect elsewhere proves that the container answers; following it would test somebody else.
		if next.URL.Hostname() != via[0].URL.Hostname() {
			return http.ErrUseLastResponse
		}
		if len(via) >= 10 {
			return errors.New("stopped after 10 redirects")
		}
		return nil
	}}
	resp, err := client.Do(req)
	if err != nil {
		return false, err.Error(), nil
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, maxBody)); err != nil {
		return false, err.Error(), nil
	}
	if resp.StatusCode >= 200 && resp.StatusCode < 400 {
		return true, "", nil
	}
	return false, fmt.Sprintf("HTTP probe failed with statuscode: %d", resp.StatusCode), nil
}

func checkTCP(ctx context.Context, a *corev1.TCPSocketAction, t Target) (bool, string, error) {
	port, err := hooks.Port(a.Port, t.Container)
	if err != nil {
		return false, "", err
	}
	host := a.Host
	if host == "" {
		host = t.PodIP
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return false, err.Error(), nil
	}
	_ = conn.Close()
	return true, "", nil
}

func checkGRPC(ctx context.Context, a *corev1.GRPCAction, t Target) (bool, string, error) {
	conn, err := grpc.NewClient("passthrough:///"+net.JoinHostPort(t.PodIP, strconv.Itoa(int(a.Port))),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy(), grpc.WithUserAgent("kube-probe/1.37"))
	if err != nil {
		return false, err.Error(), nil
	}
	defer conn.Close()
	service := ""
	if a.Service != nil {
		service = *a.Service
	}
	resp, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{Service: service})
	if err != nil {
		return false, fmt.Sprintf("service unhealthy: %v", err), nil
	}
	if resp.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		return false, fmt.Sprintf("service unhealthy (responded with %q)", resp.GetStatus()), nil
	}
	return true, "", nil
}
