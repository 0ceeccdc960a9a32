package plugins

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"canopus/internal/admission"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
)

const (
	defaultAccount  = "default"
	tokenMountPath  = "/var/run/secrets/kubernetes.io/serviceaccount"
	tokenVolumeName = "kube-api-access-"
	tokenSeconds    = 3607 // tells the token endpoint that this is the automatic volume's token
	rootCAConfigMap = "kube-root-ca.crt"
	enforceMount    = "kubernetes.io/enforce-mountable-secrets"
)

// ServiceAccount gives every pod an account: its name, its pull secrets, and a volume with a token, the cluster's CA
// certificate and the namespace.
type ServiceAccount struct {
	client   kubernetes.Interface
	accounts corelisters.ServiceAccountLister
}

// NewServiceAccount makes the plugin.
func NewServiceAccount(c Config) *ServiceAccount {
	i := c.Informers.Core().V1().ServiceAccounts()
	i.Informer()
	return &ServiceAccount{client: c.Client, accounts: i.Lister()}
}

// Name implements admission.Plugin.
func (s *ServiceAccount) Name() string { return "ServiceAccount" }

// Handles implements admission.Plugin. Of updates, only those that add containers to a running pod matter.
func (s *ServiceAccount) Handles(r *admission.Request) bool {
	if r.Resource.Resource != "pods" || r.Resource.Group != "" {
		return false
	}
	return r.Operation == admission.Create && r.Subresource == "" ||
		r.Operation == admission.Update && r.Subresource == "ephemeralcontainers"
}

// Admit implements admission.Mutator.
func (s *ServiceAccount) Admit(ctx context.Context, r *admission.Request) error {
	pod, ok := r.Object.(*corev1.Pod)
	if !ok || r.Operation != admission.Create {
		return nil
	}
	if isMirror(pod) {
		return nil
	}
	if pod.Spec.ServiceAccountName == "" {
		pod.Spec.ServiceAccountName = defaultAccount
	}
	pod.Spec.DeprecatedServiceAccount = pod.Spec.ServiceAccountName
	account, err := s.account(ctx, r, pod)
	if err != nil {
		return err
	}
	if automounts(account, pod) {
		mount(pod)
	}
	if len(pod.Spec.ImagePullSecrets) == 0 {
		pod.Spec.ImagePullSecrets = slices.Clone(account.ImagePullSecrets)
	}
	return nil
}

// Validate implements admission.Validator.
func (s *ServiceAccount) Validate(ctx context.Context, r *admission.Request) error {
	pod, ok := r.Object.(*corev1.Pod)
	if !ok {
		return nil
	}
	if r.Operation == admission.Create && isMirror(pod) {
		return mirrorRefusal(r, pod)
	}
	account, err := s.account(ctx, r, pod)
	if err != nil || account.Annotations[enforceMount] != "true" {
		return err
	}
	return mountable(r, account, pod)
}

func isMirror(pod *corev1.Pod) bool {
	_, ok := pod.Annotations[corev1.MirrorPodAnnotationKey]
	return ok
}

// mirrorRefusal: a mirror pod shows what a node runs from a file; it may not use the API's objects.
func mirrorRefusal(r *admission.Request, pod *corev1.Pod) error {
	if pod.Spec.ServiceAccountName != "" {
		return forbidden(r, "a mirror pod may not reference service accounts")
	}
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if v.Secret != nil {
			return forbidden(r, "a mirror pod may not reference secrets")
		}
		if v.Projected == nil {
			continue
		}
		for _, p := range v.Projected.Sources {
			if p.ServiceAccountToken != nil {
				return forbidden(r, "a mirror pod may not use ServiceAccountToken volume projections")
			}
		}
	}
	return nil
}

// account returns the pod's account. An account that the cache lacks is asked for once more: pods often follow their account at once.
func (s *ServiceAccount) account(ctx context.Context, r *admission.Request, pod *corev1.Pod) (*corev1.ServiceAccount, error) {
	name := pod.Spec.ServiceAccountName
	a, err := s.accounts.ServiceAccounts(r.Namespace).Get(name)
	if apierrors.IsNotFound(err) {
		a, err = s.client.CoreV1().ServiceAccounts(r.Namespace).Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			err = apierrors.NewNotFound(corev1.Resource("serviceaccount"), name) // clients know this text
		}
	}
	if err != nil {
		return nil, forbidden(r, fmt.Sprintf("error looking up service account %s/%s: %v", r.Namespace, name, err))
	}
	return a, nil
}

func automounts(a *corev1.ServiceAccount, pod *corev1.Pod) bool {
	switch {
	case pod.Spec.AutomountServiceAccountToken != nil:
		return *pod.Spec.AutomountServiceAccountToken
	case a.AutomountServiceAccountToken != nil:
		return *a.AutomountServiceAccountToken
	}
	return true
}

// mount puts the token volume where a container has nothing at its path yet. A pod made from another pod's spec already has
// the volume: it is used again.
func mount(pod *corev1.Pod) {
	name, have := "", false
	for i := range pod.Spec.Volumes {
		if strings.HasPrefix(pod.Spec.Volumes[i].Name, tokenVolumeName) {
			name, have = pod.Spec.Volumes[i].Name, true
			break
		}
	}
	if !have {
		name = tokenVolumeName + rand.String(5)
	}
	needed := false
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			c := &list[i]
			if slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.MountPath == tokenMountPath }) {
				continue
			}
			c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: name, ReadOnly: true, MountPath: tokenMountPath})
			needed = true
		}
	}
	if needed && !have {
		pod.Spec.Volumes = append(pod.Spec.Volumes, tokenVolume(name))
	}
}

func tokenVolume(name string) corev1.Volume {
	mode, seconds := corev1.ProjectedVolumeSourceDefaultMode, int64(tokenSeconds)
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
		DefaultMode: &mode,
		Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: &seconds}},
			{ConfigMap: &corev1.ConfigMapProjection{
				LocalObjectReference: corev1.LocalObjectReference{Name: rootCAConfigMap},
				Items:                []corev1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}},
			}},
			{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{{
				Path: "namespace", FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.namespace"},
			}}}},
		},
	}}}
}

// mountable checks that the pod names only secrets its account lists.
func mountable(r *admission.Request, a *corev1.ServiceAccount, pod *corev1.Pod) error {
	secrets, pulls := map[string]bool{}, map[string]bool{}
	for _, s := range a.Secrets {
		secrets[s.Name] = true
	}
	for _, s := range a.ImagePullSecrets {
		pulls[s.Name] = true
	}
	refuse := func(where, name string) error {
		return forbidden(r, fmt.Sprintf(`%s with secret.secretName="%s" is not allowed because service account %s does not reference that secret`, where, name, a.Name))
	}
	for _, v := range pod.Spec.Volumes {
		if v.Secret != nil && !secrets[v.Secret.SecretName] {
			return refuse("volume", v.Secret.SecretName)
		}
	}
	var err error
	eachContainer(pod, func(name string, env []corev1.EnvVar, from []corev1.EnvFromSource) {
		for _, e := range env {
			if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil && !secrets[e.ValueFrom.SecretKeyRef.Name] && err == nil {
				err = refuse("container "+name+" with envVar "+e.Name, e.ValueFrom.SecretKeyRef.Name)
			}
		}
		for _, f := range from {
			if f.SecretRef != nil && !secrets[f.SecretRef.Name] && err == nil {
				err = refuse("container "+name+" with envFrom", f.SecretRef.Name)
			}
		}
	})
	for i, p := range pod.Spec.ImagePullSecrets {
		if err == nil && !pulls[p.Name] {
			err = forbidden(r, fmt.Sprintf(`imagePullSecrets[%d].name="%s" is not allowed because service account %s does not reference that imagePullSecret`, i, p.Name, a.Name))
		}
	}
	return err
}

func eachContainer(pod *corev1.Pod, f func(name string, env []corev1.EnvVar, from []corev1.EnvFromSource)) {
	for _, c := range pod.Spec.InitContainers {
		f(c.Name, c.Env, c.EnvFrom)
	}
	for _, c := range pod.Spec.Containers {
		f(c.Name, c.Env, c.EnvFrom)
	}
	for _, c := range pod.Spec.EphemeralContainers {
		f(c.Name, c.Env, c.EnvFrom)
	}
}
