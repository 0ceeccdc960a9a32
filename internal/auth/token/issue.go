package token

import (
	"context"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4/jwt"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

const (
	defaultSeconds  = 3600
	minSeconds      = 600
	maxSeconds      = 1 << 32
	warnOnlySeconds = 3607               // what the ServiceAccount admission asks for; clients that never reread a token are forgiven it
	extendedSeconds = 365 * 24 * 60 * 60 // what such a token really lives
)

// Issue answers a TokenRequest for the account sa: it returns req with defaults and status filled in. Errors are API
// status errors.
func (a *Authority) Issue(ctx context.Context, sa *corev1.ServiceAccount, req *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error) {
	out := req.DeepCopy()
	a.defaults(out)
	if errs := validate(out); len(errs) > 0 {
		return nil, apierrors.NewInvalid(authenticationv1.SchemeGroupVersion.WithKind("TokenRequest").GroupKind(), "", errs)
	}
	if sa.DeletionTimestamp != nil {
		return nil, apierrors.NewConflict(corev1.Resource("serviceaccounts"), sa.Name, fmt.Errorf("the service account is being deleted"))
	}
	now := a.clock.Now()
	body, err := a.bind(ctx, sa, out.Spec.BoundObjectRef)
	if err != nil {
		return nil, err
	}
	expires := now.Add(time.Duration(*out.Spec.ExpirationSeconds) * time.Second)
	out.Name, out.Namespace = sa.Name, sa.Namespace
	out.CreationTimestamp = metav1.NewTime(now)
	out.Status.ExpirationTimestamp = metav1.NewTime(expires)
	if a.extends(out, body) {
		body.WarnAfter = jwt.NewNumericDate(expires)
		expires = now.Add(extendedSeconds * time.Second)
	}
	out.Status.Token, err = a.sign(claims{
		Claims: jwt.Claims{
			Issuer: a.issuer, Subject: Username(sa.Namespace, sa.Name), ID: string(uuid.NewUUID()),
			IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(expires),
		},
		Audience: out.Spec.Audiences, Kubernetes: body,
	})
	return out, err
}

func (a *Authority) defaults(r *authenticationv1.TokenRequest) {
	if r.Spec.ExpirationSeconds == nil {
		n := int64(defaultSeconds)
		r.Spec.ExpirationSeconds = &n
	}
	if len(r.Spec.Audiences) == 0 {
		r.Spec.Audiences = append([]string(nil), a.audiences...)
	}
}

func validate(r *authenticationv1.TokenRequest) field.ErrorList {
	path, n := field.NewPath("spec", "expirationSeconds"), *r.Spec.ExpirationSeconds
	switch {
	case n < minSeconds:
		return field.ErrorList{field.Invalid(path, n, "may not specify a duration less than 10 minutes")}
	case n > maxSeconds:
		return field.ErrorList{field.Invalid(path, n, "may not specify a duration larger than 2^32 seconds")}
	}
	return nil
}

// extends says whether the token lives longer than asked: pod tokens for the API server made by admission's own volume do.
func (a *Authority) extends(r *authenticationv1.TokenRequest, body *private) bool {
	if !a.extend || body.Pod == nil || *r.Spec.ExpirationSeconds != warnOnlySeconds {
		return false
	}
	for _, want := range r.Spec.Audiences {
		if !contains(a.audiences, want) {
			return false
		}
	}
	return true
}

// bind makes the private claim, after looking up what the token is to be bound to.
func (a *Authority) bind(ctx context.Context, sa *corev1.ServiceAccount, to *authenticationv1.BoundObjectReference) (*private, error) {
	body := &private{Namespace: sa.Namespace, ServiceAccount: ref{Name: sa.Name, UID: string(sa.UID)}}
	if to == nil {
		return body, nil
	}
	var err error
	switch (metav1.TypeMeta{APIVersion: to.APIVersion, Kind: to.Kind}) {
	case metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}:
		body.Pod, body.Node, err = a.bindPod(ctx, sa, to)
	case metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}:
		var secret Object
		if secret, err = a.objects.Secret(ctx, sa.Namespace, to.Name, true); err == nil {
			body.Secret, err = bound(secret, "secrets", to.UID)
		}
	case metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}:
		var node Object
		if node, err = a.objects.Node(ctx, to.Name, true); err == nil {
			body.Node, err = bound(node, "nodes", to.UID)
		}
	default:
		err = apierrors.NewBadRequest(fmt.Sprintf("cannot bind token to object of type %s/%s, only to v1 Pod, Secret and Node", to.APIVersion, to.Kind))
	}
	return body, err
}

func (a *Authority) bindPod(ctx context.Context, sa *corev1.ServiceAccount, to *authenticationv1.BoundObjectReference) (pod, node *ref, err error) {
	p, err := a.objects.Pod(ctx, sa.Namespace, to.Name, true)
	if err != nil {
		return nil, nil, err
	}
	if p.ServiceAccount != sa.Name {
		return nil, nil, apierrors.NewBadRequest(fmt.Sprintf("cannot bind token for serviceaccount %q to pod running with different serviceaccount name.", sa.Name))
	}
	if pod, err = bound(p, "pods", to.UID); err != nil || p.Node == "" {
		return pod, nil, err
	}
	node = &ref{Name: p.Node}
	switch n, err := a.objects.Node(ctx, p.Node, true); {
	case err == nil:
		node.UID = string(n.GetUID())
	case !apierrors.IsNotFound(err):
		return nil, nil, err
	}
	return pod, node, nil
}

// bound refers to o when it is the object the client means.
func bound(o Object, resource string, uid types.UID) (*ref, error) {
	if uid != "" && uid != o.GetUID() {
		return nil, apierrors.NewConflict(corev1.Resource(resource), o.GetName(), fmt.Errorf(
			"the UID in the bound object reference (%s) does not match the UID in record. The object might have been deleted and then recreated", uid))
	}
	return &ref{Name: o.GetName(), UID: string(o.GetUID())}, nil
}

func (a *Authority) sign(c claims) (string, error) {
	s, err := jwt.Signed(a.keys.signer).Claims(c).Serialize()
	if err != nil {
		return "", apierrors.NewInternalError(fmt.Errorf("sign service account token: %w", err))
	}
	return s, nil
}

func contains(list []string, s string) bool {
	for _, have := range list {
		if have == s {
			return true
		}
	}
	return false
}
