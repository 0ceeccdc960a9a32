package bootstrap

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// The ConfigMaps about tokens: where machines that join find the cluster, and since when the use of tokens in Secrets is noted.
const (
	clusterInfoName = "cluster-info"
	clusterInfoKey  = "kubeconfig"
	trackingName    = "kube-apiserver-legacy-service-account-token-tracking"
	trackingKey     = "since"
)

// clusterInfo is a kubeconfig without a user. It is made once: administrators put the address in it at which joining machines
// really reach the cluster.
func clusterInfo(c *Config) (*corev1.ConfigMap, error) {
	entry := clientcmdapi.NewCluster()
	entry.Server = "https://" + net.JoinHostPort(c.Addresses[0].String(), strconv.Itoa(int(c.Port)))
	entry.CertificateAuthorityData = c.CA
	config := clientcmdapi.NewConfig()
	config.Clusters[""] = entry
	raw, err := clientcmd.Write(*config)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", clusterInfoName, err)
	}
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespacePublic, Name: clusterInfoName}, Data: map[string]string{clusterInfoKey: string(raw)},
	}, nil
}

func (b *Bootstrap) clusterInfo(ctx context.Context) error {
	api := b.c.Client.CoreV1().ConfigMaps(metav1.NamespacePublic)
	_, err := api.Get(ctx, clusterInfoName, metav1.GetOptions{})
	if !apierrors.IsNotFound(err) {
		return made("configmap "+clusterInfoName, err)
	}
	want, err := clusterInfo(&b.c)
	if err != nil {
		return err
	}
	_, err = api.Create(ctx, want, metav1.CreateOptions{})
	return made("configmap "+clusterInfoName, err)
}

// tokenTracking writes down the day from which on the use of tokens in Secrets is noted. A day that cannot be read, or lies in
// the future, becomes today: tokens live longer by that, never shorter.
func (b *Bootstrap) tokenTracking(ctx context.Context) error {
	api := b.c.Client.CoreV1().ConfigMaps(metav1.NamespaceSystem)
	today := b.c.Clock.Now().UTC().Format(time.DateOnly)
	have, err := api.Get(ctx, trackingName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		_, err = api.Create(ctx, &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: trackingName}, Data: map[string]string{trackingKey: today},
		}, metav1.CreateOptions{})
		return made("configmap "+trackingName, err)
	}
	if err != nil {
		return fmt.Errorf("read configmap %s: %w", trackingName, err)
	}
	if since, err := time.Parse(time.DateOnly, have.Data[trackingKey]); err == nil && !since.After(b.c.Clock.Now()) {
		return nil
	}
	next := have.DeepCopy()
	overlay(&next.Data, map[string]string{trackingKey: today})
	if _, err = api.Update(ctx, next, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("write configmap %s: %w", trackingName, err)
	}
	return nil
}
