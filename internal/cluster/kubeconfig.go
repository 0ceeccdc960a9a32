package cluster

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/utils/clock"
	"sigs.k8s.io/yaml"
)

// entryName is that of our cluster, user and context in a kubeconfig.
const entryName = "canopus"

// writeKubeconfigs writes the kubeconfigs of the present certificates.
func (cl *Cluster) writeKubeconfigs(leaves map[string]*pair) error {
	l, g := cl.c.Layout, errgroup.Group{}
	g.Go(func() error {
		p := leaves[adminName]
		return WriteKubeconfig(l.AdminKubeconfig(), Access{Server: cl.c.Server, CA: cl.CA(), Certificate: p.certPEM, Key: p.keyPEM})
	})
	for component, name := range map[string]string{"scheduler": schedulerName, "controller-manager": controllersName, "kubelet": nodeName} {
		g.Go(func() error {
			return WriteKubeconfig(l.Kubeconfig(component), Access{
				Server: cl.c.Server, CA: cl.CA(), CertificateFile: l.Certificate(name), KeyFile: l.Key(name),
			})
		})
	}
	return g.Wait()
}

// Access is what a kubeconfig says: where the API server is and who asks. Certificate and key are given as PEM, or as files that
// clients read again when they change.
type Access struct {
	Server                   string
	CA                       []byte
	Certificate, Key         []byte
	CertificateFile, KeyFile string
}

// WriteKubeconfig puts a into the kubeconfig at path, mode 0600. What else an existing kubeconfig holds stays; a file that is no kubeconfig,
// or of a version not known here, is refused and left as it is.
func WriteKubeconfig(path string, a Access) error {
	config, err := readKubeconfig(path)
	if err != nil {
		return err
	}
	cluster := clientcmdapi.NewCluster()
	cluster.Server, cluster.CertificateAuthorityData = a.Server, a.CA
	user := clientcmdapi.NewAuthInfo()
	user.ClientCertificateData, user.ClientKeyData = a.Certificate, a.Key
	user.ClientCertificate, user.ClientKey = a.CertificateFile, a.KeyFile
	context := clientcmdapi.NewContext()
	context.Cluster, context.AuthInfo = entryName, entryName
	if have := config.Contexts[entryName]; have != nil {
		context.Namespace = have.Namespace
	}
	config.Clusters[entryName], config.AuthInfos[entryName], config.Contexts[entryName] = cluster, user, context
	if config.CurrentContext == "" {
		config.CurrentContext = entryName
	}
	raw, err := clientcmd.Write(*config)
	if err != nil {
		return fmt.Errorf("encode kubeconfig %s: %w", path, err)
	}
	return WriteFile(path, raw, 0o600)
}

func readKubeconfig(path string) (*clientcmdapi.Config, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return clientcmdapi.NewConfig(), nil
	}
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig: %w", err)
	}
	var head struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
	}
	if err := yaml.Unmarshal(raw, &head); err != nil {
		return nil, fmt.Errorf("%s cannot be read as a kubeconfig; move it away and start again to get a new one: %w", path, err)
	}
	if head.Kind != "Config" || head.APIVersion != "v1" {
		return nil, fmt.Errorf("%s is %q of version %q, not the Config of version v1 that is known here: move it away and start again to get a new one", path, head.Kind, head.APIVersion)
	}
	config, err := clientcmd.Load(raw)
	if err != nil {
		return nil, fmt.Errorf("%s cannot be read as a kubeconfig; move it away and start again to get a new one: %w", path, err)
	}
	return config, nil
}

// Node is another machine that is to join.
type Node struct {
	Name      string
	Addresses []netip.Addr // at which its agent is reached
	Server    string       // URL at which it reaches the API server
}

// NodeFiles are the credentials of a node agent.
type NodeFiles struct {
	Kubeconfig, CA, ServingCertificate, ServingKey string
}

// IssueNode is Cluster.IssueNode with nothing but the authority in a server's layout: it changes nothing there.
func IssueNode(l Layout, clk clock.Clock, dir string, n Node) (*NodeFiles, error) {
	ca, err := load(l, caName)
	if err != nil {
		return nil, err
	}
	if ca == nil {
		return nil, fmt.Errorf("there is no cluster in %s: run this on a server, with the server's --data-dir", l.Data)
	}
	return (&Cluster{c: Config{Layout: l, Clock: clk}, ca: ca}).IssueNode(dir, n)
}

// IssueNode writes the credentials of another node's agent into dir, which then belongs on that machine.
func (cl *Cluster) IssueNode(dir string, n Node) (*NodeFiles, error) {
	if n.Name == "" || n.Server == "" {
		return nil, errors.New("node credentials: name and server URL are required")
	}
	user := request{name: "system:node:" + n.Name, organizations: []string{"system:nodes"}}
	serving := user
	serving.server, serving.names, serving.addresses = true, []string{n.Name, "localhost"}, n.Addresses
	now := cl.c.Clock.Now()
	client, err := cl.ca.issue(user, now)
	if err != nil {
		return nil, err
	}
	server, err := cl.ca.issue(serving, now)
	if err != nil {
		return nil, err
	}
	f := &NodeFiles{
		Kubeconfig: filepath.Join(dir, "kubelet.conf"), CA: filepath.Join(dir, "ca.crt"),
		ServingCertificate: filepath.Join(dir, "kubelet.crt"), ServingKey: filepath.Join(dir, "kubelet.key"),
	}
	return f, errors.Join(
		WriteFile(f.CA, cl.CA(), 0o644),
		WriteFile(f.ServingKey, server.keyPEM, 0o600),
		WriteFile(f.ServingCertificate, server.certPEM, 0o644),
		WriteKubeconfig(f.Kubeconfig, Access{Server: n.Server, CA: cl.CA(), Certificate: client.certPEM, Key: client.keyPEM}),
	)
}
