package token

import (
	"context"
	"errors"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
)

// cached answers from informers, and from the API when asked for a fresh state. Secrets are always read from the API: few
// tokens are bound to one, and no informer should keep them all in memory for that.
type cached struct {
	client   kubernetes.Interface
	accounts corelisters.ServiceAccountLister
	pods     corelisters.PodLister
	nodes    corelisters.NodeLister
}

// NewObjects looks objects up through informers and a client of the cluster.
func NewObjects(client kubernetes.Interface, f informers.SharedInformerFactory) (Objects, error) {
	if client == nil || f == nil {
		return nil, errors.New("token objects: client and informers are required")
	}
	core := f.Core().V1()
	// Asking for the informers registers them with the factory, which must happen before it starts.
	core.ServiceAccounts().Informer()
	core.Pods().Informer()
	core.Nodes().Informer()
	return &cached{client: client, accounts: core.ServiceAccounts().Lister(), pods: core.Pods().Lister(), nodes: core.Nodes().Lister()}, nil
}

func (c *cached) ServiceAccount(ctx context.Context, namespace, name string, fresh bool) (Object, error) {
	if fresh {
		return c.client.CoreV1().ServiceAccounts(namespace).Get(ctx, name, metav1.GetOptions{})
	}
	return c.accounts.ServiceAccounts(namespace).Get(name)
}

func (c *cached) Pod(ctx context.Context, namespace, name string, fresh bool) (PodObject, error) {
	get := c.pods.Pods(namespace).Get
	if fresh {
		get = func(name string) (*corev1.Pod, error) {
			return c.client.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
		}
	}
	p, err := get(name)
	if err != nil {
		return PodObject{}, err
	}
	return PodObject{Object: p, ServiceAccount: p.Spec.ServiceAccountName, Node: p.Spec.NodeName}, nil
}

func (c *cached) Secret(ctx context.Context, namespace, name string, _ bool) (Object, error) {
	return c.client.CoreV1().Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
}

func (c *cached) Node(ctx context.Context, name string, fresh bool) (Object, error) {
	if fresh {
		return c.client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	}
	return c.nodes.Get(name)
}
