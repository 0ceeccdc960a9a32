package cluster

import "path/filepath"

// Layout says where a server keeps its files. Data and Config are required.
type Layout struct {
	Data   string // /var/lib/canopus
	Config string // /etc/canopus
}

// Format is the file that says which version of the layout the data directory has.
func (l Layout) Format() string { return filepath.Join(l.Data, "format") }

// PKI is the directory of certificates and keys; its file names are kubeadm's where that has one.
func (l Layout) PKI() string { return filepath.Join(l.Data, "pki") }

// Certificate and Key are the files of one certificate: "ca", "apiserver".
func (l Layout) Certificate(name string) string { return filepath.Join(l.PKI(), name+".crt") }

// Key is the private key's file.
func (l Layout) Key(name string) string { return filepath.Join(l.PKI(), name+".key") }

// ServiceAccountKey signs ServiceAccount tokens.
func (l Layout) ServiceAccountKey() string { return l.Key("sa") }

// Encryption is the EncryptionConfiguration with the keys of data at rest.
func (l Layout) Encryption() string { return filepath.Join(l.Data, "encryption.yaml") }

// Etcd is the data directory of the embedded etcd.
func (l Layout) Etcd() string { return filepath.Join(l.Data, "etcd") }

// AdminKubeconfig is for people: certificates inside, so that it can be copied.
func (l Layout) AdminKubeconfig() string { return filepath.Join(l.Config, "kubeconfig") }

// Kubeconfig is for one of our own processes ("scheduler", "controller-manager", "kubelet"): it names certificate files, which
// clients read again when they change.
func (l Layout) Kubeconfig(component string) string {
	return filepath.Join(l.Data, "kubeconfig", component+".conf")
}
