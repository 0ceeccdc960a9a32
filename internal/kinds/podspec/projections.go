package podspec

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds/check"
)

// Bounds of a projected service account token's life in seconds.
const (
	minTokenSeconds = 10 * 60
	maxTokenSeconds = 1 << 32
)

// validateProjections checks the sources of a projected volume; no two of them may write the same file.
func validateProjections(sources []corev1.VolumeProjection, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	files := map[string]bool{}
	claim := func(file string, at *field.Path) {
		if file == "" {
			return
		}
		if files[file] {
			errs = append(errs, field.Invalid(at, file, "conflicting duplicate paths"))
		}
		files[file] = true
	}
	for i := range sources {
		s, at := &sources[i], path.Index(i)
		set := setMembers(s)
		if len(set) == 0 {
			errs = append(errs, field.Required(at, "must specify a projected source type")) // nothing to project
			continue
		}
		for _, extra := range set[1:] {
			errs = append(errs, field.Forbidden(at.Child(extra), "may not specify more than 1 volume type"))
		}
		errs = append(errs, validateProjection(s, at)...)
		for _, file := range projectedFiles(s) {
			claim(file, at.Child(set[0]))
		}
	}
	return errs
}

func validateProjection(s *corev1.VolumeProjection, path *field.Path) field.ErrorList {
	switch {
	case s.Secret != nil:
		at := path.Child("secret")
		return append(check.Required(s.Secret.Name, at.Child("name")), keyPaths(s.Secret.Items, at.Child("items"))...)
	case s.ConfigMap != nil:
		at := path.Child("configMap")
		return append(check.Required(s.ConfigMap.Name, at.Child("name")), keyPaths(s.ConfigMap.Items, at.Child("items"))...)
	case s.DownwardAPI != nil:
		return downwardFiles(s.DownwardAPI.Items, path.Child("downwardAPI", "items"))
	case s.ServiceAccountToken != nil:
		return validateTokenProjection(s.ServiceAccountToken, path.Child("serviceAccountToken"))
	case s.ClusterTrustBundle != nil:
		return validateTrustProjection(s.ClusterTrustBundle, path.Child("clusterTrustBundle"))
	case s.PodCertificate != nil:
		return validateCertificateProjection(s.PodCertificate, path.Child("podCertificate"))
	}
	return nil
}

func validateTokenProjection(t *corev1.ServiceAccountTokenProjection, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if s := t.ExpirationSeconds; s != nil {
		if *s < minTokenSeconds {
			errs = append(errs, field.Invalid(path.Child("expirationSeconds"), *s, "may not specify a duration less than 10 minutes"))
		}
		if *s > maxTokenSeconds {
			errs = append(errs, field.Invalid(path.Child("expirationSeconds"), *s, "may not specify a duration larger than 2^32 seconds"))
		}
	}
	if t.Path == "" {
		return append(errs, field.Required(path.Child("path"), ""))
	}
	return append(errs, reservedPath(t.Path, path.Child("path"))...)
}

func validateTrustProjection(t *corev1.ClusterTrustBundleProjection, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch {
	case t.Name != nil && t.SignerName != nil:
		errs = append(errs, field.Invalid(path, t, "only one of name and signerName may be used"))
	case t.Name != nil:
		errs = append(errs, check.Required(*t.Name, path.Child("name"))...)
		if t.LabelSelector != nil {
			errs = append(errs, field.Invalid(path.Child("labelSelector"), t.LabelSelector, "labelSelector must be unset if name is specified"))
		}
	case t.SignerName != nil:
		errs = append(errs, check.Required(*t.SignerName, path.Child("signerName"))...)
		errs = append(errs, check.Selector(t.LabelSelector, path.Child("labelSelector"))...)
	default:
		errs = append(errs, field.Required(path, "either name or signerName must be specified"))
	}
	if t.Path == "" {
		return append(errs, field.Required(path.Child("path"), ""))
	}
	return append(errs, reservedPath(t.Path, path.Child("path"))...)
}

func validateCertificateProjection(c *corev1.PodCertificateProjection, path *field.Path) field.ErrorList {
	errs := check.Required(c.SignerName, path.Child("signerName"))
	errs = append(errs, check.RequiredOneOf(c.KeyType, path.Child("keyType"),
		"RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519")...)
	if s := c.MaxExpirationSeconds; s != nil && (*s < 60*60 || *s > 91*24*60*60) {
		errs = append(errs, field.Invalid(path.Child("maxExpirationSeconds"), *s, "must be between 1 hour and 91 days, inclusive"))
	}
	if c.CredentialBundlePath == "" && c.KeyPath == "" && c.CertificateChainPath == "" {
		errs = append(errs, field.Required(path, "specify at least one of credentialBundlePath, keyPath, and certificateChainPath"))
	}
	for name, file := range map[string]string{
		"credentialBundlePath": c.CredentialBundlePath, "keyPath": c.KeyPath, "certificateChainPath": c.CertificateChainPath,
	} {
		if file != "" {
			errs = append(errs, reservedPath(file, path.Child(name))...)
		}
	}
	return errs
}

// projectedFiles lists the files that a source is known to write.
func projectedFiles(s *corev1.VolumeProjection) []string {
	var files []string
	keys := func(items []corev1.KeyToPath) {
		for _, item := range items {
			files = append(files, item.Path)
		}
	}
	switch {
	case s.Secret != nil:
		keys(s.Secret.Items)
	case s.ConfigMap != nil:
		keys(s.ConfigMap.Items)
	case s.DownwardAPI != nil:
		for _, item := range s.DownwardAPI.Items {
			files = append(files, item.Path)
		}
	case s.ServiceAccountToken != nil:
		files = append(files, s.ServiceAccountToken.Path)
	case s.ClusterTrustBundle != nil:
		files = append(files, s.ClusterTrustBundle.Path)
	case s.PodCertificate != nil:
		files = append(files, s.PodCertificate.CredentialBundlePath, s.PodCertificate.KeyPath, s.PodCertificate.CertificateChainPath)
	}
	return files
}
