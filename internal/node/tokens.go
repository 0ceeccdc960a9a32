package node

import (
	"context"
	"fmt"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// tokens requests tokens bound to pods.
type tokens struct{ client kubernetes.Interface }

// Token requests a token for the pod's service account.
func (t *tokens) Token(ctx context.Context, pod *corev1.Pod, audience string, seconds int64) (string, time.Time, error) {
	req := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: &seconds,
		BoundObjectRef:    &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID},
	}}
	if audience != "" {
		req.Spec.Audiences = []string{audience}
	}
	got, err := t.client.CoreV1().ServiceAccounts(pod.Namespace).CreateToken(ctx, pod.Spec.ServiceAccountName, req, metav1.CreateOptions{})
	if err != nil {
		return "", time.Time{}, fmt.Errorf("token for service account %s/%s: %w", pod.Namespace, pod.Spec.ServiceAccountName, err)
	}
	return got.Status.Token, got.Status.ExpirationTimestamp.Time, nil
}

// claims reads claims, volumes and the node's own object.
type claims struct {
	client kubernetes.Interface
	node   string
}

// Claim implements volume.Claims.
func (c *claims) Claim(ctx context.Context, namespace, name string) (*corev1.PersistentVolumeClaim, error) {
	pvc, err := c.client.CoreV1().PersistentVolumeClaims(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("failed to fetch PVC from API server: %w", err)
	}
	return pvc, nil
}

// Volume implements volume.Claims.
func (c *claims) Volume(ctx context.Context, name string) (*corev1.PersistentVolume, error) {
	pv, err := c.client.CoreV1().PersistentVolumes().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("failed to fetch PV %s from API server: %w", name, err)
	}
	return pv, nil
}

// Node implements volume.Claims.
func (c *claims) Node(ctx context.Context) (*corev1.Node, error) {
	n, err := c.client.CoreV1().Nodes().Get(ctx, c.node, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("read node %s for its labels: %w", c.node, err)
	}
	return n, nil
}
