package node_test

import (
	"context"
	"sync"
	"testing"

	"canopus/internal/apiserver"
	"canopus/internal/kinds"
	"canopus/internal/kinds/builtin"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// reviewer answers TokenReviews about the tokens that a test knows.
type reviewer struct{ users sync.Map }

// Review implements apiserver.TokenReviewer.
func (r *reviewer) Review(_ context.Context, in *authenticationv1.TokenReview) (*authenticationv1.TokenReview, error) {
	out := in.DeepCopy()
	if u, ok := r.users.Load(in.Spec.Token); ok {
		out.Status.Authenticated = true
		out.Status.User, _ = u.(authenticationv1.UserInfo)
	}
	return out, nil
}

// allKinds adds the kinds an agent uses that the server does not have yet.
func allKinds(t testing.TB, r *reviewer) func(*apiserver.Config) {
	t.Helper()
	return func(c *apiserver.Config) {
		all := builtin.All()
		have := map[string]bool{}
		for _, k := range all {
			have[k.Plural] = true
		}
		add := func(k *kinds.Kind) {
			if !have[k.Plural] {
				all = append(all, k)
			}
		}
		add(kinds.New(kinds.Spec[corev1.Node, *corev1.Node]{GVK: corev1.SchemeGroupVersion.WithKind("Node"), Plural: "nodes", Prefix: "minions/",
			NewList: func() runtime.Object { return &corev1.NodeList{} }, Subresources: []kinds.Subresource{{Name: "status", Verbs: []string{"get", "update", "patch"}}}}))
		add(kinds.New(kinds.Spec[corev1.Service, *corev1.Service]{GVK: corev1.SchemeGroupVersion.WithKind("Service"), Plural: "services", Namespaced: true,
			NewList: func() runtime.Object { return &corev1.ServiceList{} }}))
		add(kinds.New(kinds.Spec[corev1.Event, *corev1.Event]{GVK: corev1.SchemeGroupVersion.WithKind("Event"), Plural: "events", Namespaced: true,
			NewList: func() runtime.Object { return &corev1.EventList{} }}))
		set, err := kinds.NewSet(all...)
		if err != nil {
			t.Fatal(err)
		}
		c.Kinds, c.Reviewer = set, r
	}
}
