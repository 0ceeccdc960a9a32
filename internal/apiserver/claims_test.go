package apiserver_test

import (
	"context"

	"canopus/internal/admission"
	"canopus/internal/apiserver"
	"canopus/internal/apiserver/apitest"
	"canopus/internal/store"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// takenNames is somebody who is always first: it takes the name of every object that is about to be created.
type takenNames struct {
	s *apitest.Server
	n int
}

// Claim implements apiserver.Claims.
func (k *takenNames) Claim(ctx context.Context, c *apiserver.Claim) ([]store.Change, error) {
	if c.Operation != admission.Create || c.Object.GetGenerateName() == "" {
		return nil, nil
	}
	k.n++
	cs, err := kubernetes.NewForConfig(k.s.Admin)
	if err != nil {
		return nil, err
	}
	_, err = cs.CoreV1().ConfigMaps(c.Object.GetNamespace()).Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: c.Object.GetName()}}, metav1.CreateOptions{})
	return nil, err
}
