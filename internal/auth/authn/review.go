package authn

import (
	"context"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"canopus/internal/auth"
)

// Review answers a TokenReview: it returns in with its status filled. A token that proves nothing is an answer, not an error.
func (a *Authenticator) Review(ctx context.Context, in *authenticationv1.TokenReview) (*authenticationv1.TokenReview, error) {
	if in.Namespace != "" {
		return nil, apierrors.NewBadRequest("namespace is not allowed on this type: " + in.Namespace)
	}
	if in.Spec.Token == "" {
		return nil, apierrors.NewBadRequest("token is required for TokenReview in authentication")
	}
	want := in.Spec.Audiences
	if len(want) == 0 {
		want = a.audiences
	}
	out := in.DeepCopy()
	u, audiences, err := a.AuthenticateToken(ctx, in.Spec.Token, want)
	switch {
	case err != nil:
		out.Status = authenticationv1.TokenReviewStatus{Error: err.Error()}
	case u == nil:
		out.Status = authenticationv1.TokenReviewStatus{}
	default:
		out.Status = authenticationv1.TokenReviewStatus{Authenticated: true, User: UserInfo(u), Audiences: audiences}
	}
	return out, nil
}

// SelfReview answers a SelfSubjectReview by u.
func SelfReview(u *auth.User, now metav1.Time) *authenticationv1.SelfSubjectReview {
	return &authenticationv1.SelfSubjectReview{
		ObjectMeta: metav1.ObjectMeta{CreationTimestamp: now},
		Status:     authenticationv1.SelfSubjectReviewStatus{UserInfo: UserInfo(u)},
	}
}

// UserInfo is u as the API shows users.
func UserInfo(u *auth.User) authenticationv1.UserInfo {
	info := authenticationv1.UserInfo{Username: u.Name, UID: u.UID, Groups: u.Groups}
	for k, v := range u.Extra {
		if info.Extra == nil {
			info.Extra = map[string]authenticationv1.ExtraValue{}
		}
		info.Extra[k] = v
	}
	return info
}
