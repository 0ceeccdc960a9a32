// Package client is the one way to the API for every part but the API server itself. A part gets an Access: a clientset and
// a factory of shared informers, and cannot tell where they lead:
//
//	local.go      in the server's own process: requests are handed to its handler, informers stream the store's own objects
//	remote.go     elsewhere: HTTPS with a kubeconfig
//
// In reading order: client.go, local.go, transport.go (requests without sockets), source.go (informers without copies),
// metadata.go (watches of metadata alone), factory.go (one set of informers for all identities of a process), remote.go.
package client

import (
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
)

// Access is a part's way to the API as one identity.
type Access struct {
	// Config makes further clients (dynamic, discovery) of the same identity.
	Config *rest.Config
	Client kubernetes.Interface
	// Metadata reads the metadata of any kind. Objects that its watches send may be shared: never change them.
	Metadata metadata.Interface
	// Informers are shared by all parts of the process. Objects they hand out are shared too: never change them.
	Informers informers.SharedInformerFactory
}

// clients makes the clients that an Access has, of the identity in config.
func clients(config *rest.Config) (kubernetes.Interface, metadata.Interface, error) {
	clientset, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, nil, err
	}
	meta, err := metadata.NewForConfig(metadata.ConfigFor(config))
	return clientset, meta, err
}

const protobuf = "application/vnd.kubernetes.protobuf"

// tune sets what holds for every client of ours: protobuf, and no rate limit, since fairness is the server's work.
func tune(c *rest.Config, agent string) {
	c.QPS, c.Burst = -1, -1
	c.ContentType = protobuf
	c.AcceptContentTypes = protobuf + ",application/json"
	c.UserAgent = agent
	c.WarningHandler = rest.NoWarnings{} // deprecations are for people; ours are decided here
}
