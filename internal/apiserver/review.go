package apiserver

import (
	"fmt"
	"net/http"

	"canopus/internal/auth"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Rules lists what a user may do in a namespace; the authorizer of package auth/rbac meets it.
type Rules interface {
	Rules(u *auth.User, namespace string) ([]rbacv1.PolicyRule, error)
}

// review answers a create that is a question: the body comes back with its status filled in.
func (s *Server) review(rq *request, ep *endpoint, answer func(*request, runtime.Object) (runtime.Object, error)) error {
	p, err := rq.takePosted(ep.GVK, ep.New())
	if err != nil {
		return err
	}
	hub, err := toHub(ep, p.obj)
	if err != nil {
		return err
	}
	if errs := ep.Kind.Validate(hub); len(errs) > 0 {
		return apierrors.NewInvalid(ep.Kind.GVK.GroupKind(), "", errs)
	}
	p.obj = hub
	if err := s.admitPosted(rq, ep, ep.Kind.GVK, p); err != nil {
		return err
	}
	out, err := answer(rq, hub)
	if err != nil {
		return err
	}
	if out, err = ep.FromHub(out); err != nil {
		return err
	}
	dropKind(out)
	return rq.writeAs(ep.head, http.StatusCreated, out, p.format)
}

func (s *Server) reviewToken(rq *request, obj runtime.Object) (runtime.Object, error) {
	if s.cfg.Reviewer == nil {
		return nil, errNotServed("tokenreviews")
	}
	return s.cfg.Reviewer.Review(rq.Context(), obj.(*authenticationv1.TokenReview))
}

func (s *Server) reviewSelf(rq *request, obj runtime.Object) (runtime.Object, error) {
	r := obj.(*authenticationv1.SelfSubjectReview)
	r.CreationTimestamp = metav1.NewTime(s.clock.Now())
	r.Status.UserInfo = userInfo(rq.user)
	return r, nil
}

// userInfo is u as the API shows users.
func userInfo(u *auth.User) authenticationv1.UserInfo {
	info := authenticationv1.UserInfo{Username: u.Name, UID: u.UID, Groups: u.Groups}
	for k, v := range u.Extra {
		if info.Extra == nil {
			info.Extra = map[string]authenticationv1.ExtraValue{}
		}
		info.Extra[k] = v
	}
	return info
}

func (s *Server) reviewAccess(rq *request, obj runtime.Object) (runtime.Object, error) {
	r := obj.(*authorizationv1.SubjectAccessReview)
	if r.Spec.User == "" && len(r.Spec.Groups) == 0 {
		return nil, invalidReview("SubjectAccessReview", field.Invalid(field.NewPath("spec", "user"), r.Spec.User, "at least one of user or group must be specified"))
	}
	status, err := s.decide(rq, "SubjectAccessReview", userOf(&r.Spec), r.Spec.ResourceAttributes, r.Spec.NonResourceAttributes)
	r.Status = status
	return r, err
}

func (s *Server) reviewLocalAccess(rq *request, obj runtime.Object) (runtime.Object, error) {
	r := obj.(*authorizationv1.LocalSubjectAccessReview)
	ra := r.Spec.ResourceAttributes
	if ra == nil || r.Spec.NonResourceAttributes != nil {
		return nil, invalidReview("LocalSubjectAccessReview", field.Required(field.NewPath("spec", "resourceAttributes"), "a local review is of a resource"))
	}
	if ra.Namespace != rq.route.namespace {
		return nil, invalidReview("LocalSubjectAccessReview", field.Invalid(field.NewPath("spec", "resourceAttributes", "namespace"), ra.Namespace, "must match metadata.namespace"))
	}
	r.Namespace = rq.route.namespace
	status, err := s.decide(rq, "LocalSubjectAccessReview", userOf(&r.Spec), ra, nil)
	r.Status = status
	return r, err
}

func (s *Server) reviewOwnAccess(rq *request, obj runtime.Object) (runtime.Object, error) {
	r := obj.(*authorizationv1.SelfSubjectAccessReview)
	status, err := s.decide(rq, "SelfSubjectAccessReview", rq.user, r.Spec.ResourceAttributes, r.Spec.NonResourceAttributes)
	r.Status = status
	return r, err
}

func invalidReview(kind string, err *field.Error) error {
	return apierrors.NewInvalid(authorizationv1.SchemeGroupVersion.WithKind(kind).GroupKind(), "", field.ErrorList{err})
}

func userOf(spec *authorizationv1.SubjectAccessReviewSpec) *auth.User {
	u := &auth.User{Name: spec.User, UID: spec.UID, Groups: spec.Groups}
	for k, v := range spec.Extra {
		if u.Extra == nil {
			u.Extra = map[string][]string{}
		}
		u.Extra[k] = v
	}
	return u
}

// decide asks the authorizer on behalf of a review of the given kind.
func (s *Server) decide(rq *request, kind string, u *auth.User, ra *authorizationv1.ResourceAttributes, na *authorizationv1.NonResourceAttributes) (authorizationv1.SubjectAccessReviewStatus, error) {
	var st authorizationv1.SubjectAccessReviewStatus
	a := &auth.Attributes{User: u}
	switch {
	case ra != nil && na == nil:
		a.IsResource, a.Verb, a.Group, a.Version = true, ra.Verb, ra.Group, ra.Version
		a.Resource, a.Subresource, a.Namespace, a.Name = ra.Resource, ra.Subresource, ra.Namespace, ra.Name
	case na != nil && ra == nil:
		a.Verb, a.Path = na.Verb, na.Path
	default:
		return st, invalidReview(kind, field.Invalid(field.NewPath("spec"), "", "exactly one of nonResourceAttributes or resourceAttributes must be specified"))
	}
	decision, reason, err := s.cfg.Authorizer.Authorize(rq.Context(), a)
	st.Allowed, st.Denied, st.Reason = decision == auth.Allow, decision == auth.Deny, reason
	if err != nil {
		st.EvaluationError = err.Error()
	}
	return st, nil
}

func (s *Server) reviewRules(rq *request, obj runtime.Object) (runtime.Object, error) {
	r := obj.(*authorizationv1.SelfSubjectRulesReview)
	if r.Spec.Namespace == "" {
		return nil, apierrors.NewBadRequest("no namespace on request")
	}
	r.Status = authorizationv1.SubjectRulesReviewStatus{ResourceRules: []authorizationv1.ResourceRule{}, NonResourceRules: []authorizationv1.NonResourceRule{}}
	if s.cfg.Rules == nil {
		r.Status.Incomplete = true
		r.Status.EvaluationError = "the authorizer of this server cannot list rules"
		return r, nil
	}
	rules, err := s.cfg.Rules.Rules(rq.user, r.Spec.Namespace)
	if err != nil {
		r.Status.Incomplete = true
		r.Status.EvaluationError = fmt.Sprint(err)
	}
	for _, rule := range rules {
		if len(rule.NonResourceURLs) > 0 {
			r.Status.NonResourceRules = append(r.Status.NonResourceRules, authorizationv1.NonResourceRule{Verbs: rule.Verbs, NonResourceURLs: rule.NonResourceURLs})
			continue
		}
		r.Status.ResourceRules = append(r.Status.ResourceRules, authorizationv1.ResourceRule{
			Verbs: rule.Verbs, APIGroups: rule.APIGroups, Resources: rule.Resources, ResourceNames: rule.ResourceNames})
	}
	return r, nil
}
