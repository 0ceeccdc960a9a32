// Package cri talks to the container runtime over the Container Runtime Interface and remembers what the runtime runs.
// Client is the connection; Cache is the remembered state per pod, fed by the runtime's event stream with a slow relist
// as a safety net. The package decides nothing about pods.
package cri

import (
	"context"
	"fmt"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// maxMessage bounds one CRI answer; a node with thousands of containers lists in a few MiB.
const maxMessage = 32 << 20

// Labels and annotations the node agent puts on sandboxes and containers, the same as every Kubernetes node does.
const (
	LabelPodName       = "io.kubernetes.pod.name"
	LabelPodNamespace  = "io.kubernetes.pod.namespace"
	LabelPodUID        = "io.kubernetes.pod.uid"
	LabelContainerName = "io.kubernetes.container.name"

	AnnotationHash              = "io.kubernetes.container.hash"
	AnnotationRestartCount      = "io.kubernetes.container.restartCount"
	AnnotationTerminationPath   = "io.kubernetes.container.terminationMessagePath"
	AnnotationTerminationPolicy = "io.kubernetes.container.terminationMessagePolicy"
	AnnotationGracePeriod       = "io.kubernetes.pod.terminationGracePeriod"
)

// Client is a connection to a CRI runtime: both of its services.
type Client struct {
	runtimeapi.RuntimeServiceClient
	Images   runtimeapi.ImageServiceClient
	Endpoint string
	conn     *grpc.ClientConn
}

// Dial prepares a connection to the runtime at endpoint, a path or a unix:// URL. It connects on first use and again
// whenever the runtime comes back.
func Dial(endpoint string) (*Client, error) {
	if endpoint == "" {
		return nil, fmt.Errorf("no container runtime endpoint: set it to the runtime's socket, for example unix:///run/containerd/containerd.sock")
	}
	target := endpoint
	if !strings.Contains(target, "://") {
		target = "unix://" + target
	}
	if !strings.HasPrefix(target, "unix://") {
		return nil, fmt.Errorf("container runtime endpoint %q: only unix sockets are supported, write unix:///path", endpoint)
	}
	conn, err := grpc.NewClient(target,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithAuthority("localhost"),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.WaitForReady(false)))
	if err != nil {
		return nil, fmt.Errorf("container runtime endpoint %q: %w", endpoint, err)
	}
	return &Client{
		RuntimeServiceClient: runtimeapi.NewRuntimeServiceClient(conn),
		Images:               runtimeapi.NewImageServiceClient(conn),
		Endpoint:             endpoint,
		conn:                 conn,
	}, nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }

// Conditions returns whether the runtime and its network are ready, and the message of the first that is not.
func (c *Client) Conditions(ctx context.Context) (runtimeReady, networkReady bool, message string, err error) {
	resp, err := c.Status(ctx, &runtimeapi.StatusRequest{})
	if err != nil {
		return false, false, "", fmt.Errorf("container runtime at %s does not answer: %w", c.Endpoint, err)
	}
	for _, cond := range resp.GetStatus().GetConditions() {
		switch cond.GetType() {
		case runtimeapi.RuntimeReady:
			runtimeReady = cond.GetStatus()
		case runtimeapi.NetworkReady:
			networkReady = cond.GetStatus()
		}
		if !cond.GetStatus() && message == "" && cond.GetType() != "ContainerdHasNoDeprecationWarnings" {
			message = fmt.Sprintf("container runtime network not ready: %s=%v reason:%s message:%s",
				cond.GetType(), cond.GetStatus(), cond.GetReason(), cond.GetMessage())
		}
	}
	return runtimeReady, networkReady, message, nil
}
