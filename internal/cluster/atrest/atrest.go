// Package atrest encrypts what is stored in etcd, in upstream's formats: a prefix that names provider and key, then the
// ciphertext, bound to its etcd key. Its keys are an EncryptionConfiguration file, so that a data directory and its keys can be
// taken over in either direction.
//
// New files encrypt Secrets with secretbox (XSalsa20 and Poly1305), whose random nonces are long enough to need no count of writes
// per key, as AES-GCM's would. All of upstream's local providers are read and written; KMS is not there yet.
package atrest

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strings"

	"canopus/internal/store"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"
	"sigs.k8s.io/yaml"
)

const (
	configVersion = "apiserver.config.k8s.io/v1"
	configKind    = "EncryptionConfiguration"
)

// Config is a checked EncryptionConfiguration.
type Config struct {
	rules []rule
}

// rule says how the resources that it names are stored. The first rule for a resource counts.
type rule struct {
	resources []string
	chain     *chain
}

// Generate returns a new configuration file: Secrets by secretbox under a random key, plain ones still readable.
func Generate() ([]byte, error) {
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return nil, fmt.Errorf("make an encryption key: %w", err)
	}
	file := apiserverv1.EncryptionConfiguration{
		TypeMeta: metav1.TypeMeta{APIVersion: configVersion, Kind: configKind},
		Resources: []apiserverv1.ResourceConfiguration{{
			Resources: []string{"secrets"},
			Providers: []apiserverv1.ProviderConfiguration{
				{Secretbox: &apiserverv1.SecretboxConfiguration{Keys: []apiserverv1.Key{{Name: "key1", Secret: base64.StdEncoding.EncodeToString(key)}}}},
				{Identity: &apiserverv1.IdentityConfiguration{}},
			},
		}},
	}
	out, err := yaml.Marshal(file)
	if err != nil {
		return nil, fmt.Errorf("encode the encryption configuration: %w", err)
	}
	return out, nil
}

// Open reads the file at path. When there is none, it makes one through write, which must be atomic.
func Open(path string, write func(path string, data []byte, mode os.FileMode) error) (*Config, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		if raw, err = Generate(); err == nil {
			err = write(path, raw, 0o600)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("encryption configuration: %w", err)
	}
	c, err := Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("encryption configuration %s: %w; without its keys the stored Secrets cannot be read, so it is not made anew: restore it", path, err)
	}
	return c, nil
}

// Parse checks a configuration.
func Parse(raw []byte) (*Config, error) {
	var file apiserverv1.EncryptionConfiguration
	if err := yaml.UnmarshalStrict(raw, &file); err != nil {
		return nil, err
	}
	if file.APIVersion != configVersion || file.Kind != configKind {
		return nil, fmt.Errorf("it is a %q of version %q, not an %s of %s", file.Kind, file.APIVersion, configKind, configVersion)
	}
	if len(file.Resources) == 0 {
		return nil, errors.New("it names no resources")
	}
	c := &Config{}
	for i, r := range file.Resources {
		ch, err := newChain(r.Providers)
		if err != nil {
			return nil, fmt.Errorf("resources[%d]: %w", i, err)
		}
		if len(r.Resources) == 0 {
			return nil, fmt.Errorf("resources[%d] names no resource", i)
		}
		c.rules = append(c.rules, rule{r.Resources, ch})
	}
	return c, nil
}

// Transformer returns how gr is stored; nil when the configuration does not name it: it is plain then.
func (c *Config) Transformer(gr schema.GroupResource) store.Transformer {
	for _, r := range c.rules {
		for _, pattern := range r.resources {
			if matches(pattern, gr) {
				return r.chain
			}
		}
	}
	return nil
}

// matches compares with "secrets", "deployments.apps", "*.apps", "*." (the core group) and "*.*".
func matches(pattern string, gr schema.GroupResource) bool {
	resource, group, _ := strings.Cut(pattern, ".")
	return (resource == "*" || resource == gr.Resource) && (group == "*" || group == gr.Group)
}
