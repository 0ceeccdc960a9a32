package apiserver

import (
	"context"
	"net/http"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// Tokens issues ServiceAccount tokens; the authority of package auth/token meets it.
type Tokens interface {
	Issue(ctx context.Context, sa *corev1.ServiceAccount, req *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error)
}

// TokenReviewer says whose a token is; the authenticator of package auth/authn meets it.
type TokenReviewer interface {
	Review(ctx context.Context, in *authenticationv1.TokenReview) (*authenticationv1.TokenReview, error)
}

// requestToken answers serviceaccounts/token.
func (s *Server) requestToken(rq *request, ep *endpoint) error {
	if s.cfg.Tokens == nil {
		return errNotServed("serviceaccounts/token")
	}
	gvk := authenticationv1.SchemeGroupVersion.WithKind("TokenRequest")
	req := &authenticationv1.TokenRequest{}
	p, err := rq.takePosted(gvk, req)
	if err != nil {
		return err
	}
	if req.Name != "" && req.Name != rq.route.name {
		return apierrors.NewBadRequest("name in URL does not match name in TokenRequest object")
	}
	if req.Namespace != "" && req.Namespace != rq.route.namespace {
		return apierrors.NewBadRequest("the namespace of the provided object does not match the namespace sent on the request")
	}
	if err := s.admitPosted(rq, ep, gvk, p); err != nil {
		return err
	}
	sa, err := lookUp[*corev1.ServiceAccount](rq, ep.gr, rq.route.namespace, rq.route.name)
	if err != nil {
		return err
	}
	out, err := s.cfg.Tokens.Issue(rq.Context(), sa, req)
	if err != nil {
		return err
	}
	dropKind(out)
	return rq.writeAs(newHead(gvk), http.StatusCreated, out, p.format)
}
