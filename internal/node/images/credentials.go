package images

import (
	"encoding/base64"
	"encoding/json"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

type dockerAuth struct {
	Username      string `json:"username"`
	Password      string `json:"password"`
	Auth          string `json:"auth"`
	IdentityToken string `json:"identitytoken"`
	RegistryToken string `json:"registrytoken"`
}

// Credentials returns what the pull secrets hold for the registry of an image, the most specific entry first.
func Credentials(image string, secrets []*corev1.Secret) []*runtimeapi.AuthConfig {
	type match struct {
		key  string
		auth *runtimeapi.AuthConfig
	}
	var found []match
	for _, s := range secrets {
		for key, a := range entries(s) {
			if matches(key, image) {
				found = append(found, match{key, authConfig(a)})
			}
		}
	}
	slices.SortStableFunc(found, func(a, b match) int {
		if d := len(b.key) - len(a.key); d != 0 {
			return d
		}
		return strings.Compare(a.key, b.key)
	})
	out := make([]*runtimeapi.AuthConfig, len(found))
	for i, m := range found {
		out[i] = m.auth
	}
	return out
}

// entries reads both formats of pull secrets. One that cannot be read has no entries: the pull then fails with the
// registry's own words.
func entries(s *corev1.Secret) map[string]dockerAuth {
	if b, ok := s.Data[corev1.DockerConfigJsonKey]; ok && s.Type == corev1.SecretTypeDockerConfigJson {
		var cfg struct {
			Auths map[string]dockerAuth `json:"auths"`
		}
		if json.Unmarshal(b, &cfg) == nil {
			return cfg.Auths
		}
	}
	if b, ok := s.Data[corev1.DockerConfigKey]; ok && s.Type == corev1.SecretTypeDockercfg {
		var cfg map[string]dockerAuth
		if json.Unmarshal(b, &cfg) == nil {
			return cfg
		}
	}
	return nil
}

func authConfig(a dockerAuth) *runtimeapi.AuthConfig {
	out := &runtimeapi.AuthConfig{Username: a.Username, Password: a.Password, IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken}
	if a.Auth != "" && out.Username == "" {
		if b, err := base64.StdEncoding.DecodeString(a.Auth); err == nil {
			out.Username, out.Password, _ = strings.Cut(string(b), ":")
			out.Password = strings.TrimRight(out.Password, "\x00")
		}
	}
	return out
}

// matches says whether a registry key ("host", "*.host", "https://host/v1/", "host/path") covers an image.
func matches(key, image string) bool {
	key = strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://")
	host, prefix, _ := strings.Cut(strings.TrimSuffix(key, "/"), "/")
	if prefix == "v1" || prefix == "v2" {
		prefix = ""
	}
	imgHost, imgPath := split(image)
	if host == "index.docker.io" || host == "registry-1.docker.io" {
		host = "docker.io"
	}
	hostLabels, imgLabels := strings.Split(host, "."), strings.Split(imgHost, ".")
	if len(hostLabels) != len(imgLabels) {
		return false
	}
	for i := range hostLabels {
		if ok, err := path.Match(hostLabels[i], imgLabels[i]); err != nil || !ok {
			return false
		}
	}
	return strings.HasPrefix(imgPath, prefix)
}

// split returns the registry host of an image and the rest.
func split(image string) (host, rest string) {
	first, rest, ok := strings.Cut(image, "/")
	if !ok || !strings.ContainsAny(first, ".:") && first != "localhost" {
		return "docker.io", image
	}
	return first, rest
}
