package client

import (
	"context"
	"fmt"

	"k8s.io/client-go/informers"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// FromKubeconfig returns access over HTTPS as the current context of the kubeconfig at path. agent is the user agent, from
// which the API server takes the field manager's name: "kube-scheduler".
func FromKubeconfig(path, agent string) (*Access, error) {
	config, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", path, err)
	}
	return FromConfig(config, agent)
}

// FromConfig is FromKubeconfig for a configuration that is at hand. c is copied.
func FromConfig(c *rest.Config, agent string) (*Access, error) {
	config := rest.CopyConfig(c)
	tune(config, agent)
	clientset, meta, err := clients(config)
	if err != nil {
		return nil, err
	}
	return &Access{Config: config, Client: clientset, Metadata: meta, Informers: informers.NewSharedInformerFactory(clientset, 0)}, nil
}

// RunInformers runs the informers that were asked for before it was called, until ctx ends. It is for processes of parts that
// do not start them themselves.
func (a *Access) RunInformers(ctx context.Context) error {
	a.Informers.StartWithContext(ctx)
	<-ctx.Done()
	a.Informers.Shutdown()
	return nil
}
