package controllers

import (
	"context"
	"fmt"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestServiceCIDR: a range becomes ready, and stays after its deletion until the last address of it is gone.
func TestServiceCIDR(t *testing.T) {
	t.Parallel()
	c := start(t, nil)
	api := c.NetworkingV1()
	_, err := api.ServiceCIDRs().Create(t.Context(), &networkingv1.ServiceCIDR{
		ObjectMeta: metav1.ObjectMeta{Name: "more"}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{"10.200.0.0/24"}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	is := func(status metav1.ConditionStatus) func(context.Context) (string, error) {
		return func(ctx context.Context) (string, error) {
			r, err := api.ServiceCIDRs().Get(ctx, "more", metav1.GetOptions{})
			if err != nil {
				return err.Error(), err
			}
			if len(r.Finalizers) == 1 && meta.IsStatusConditionPresentAndEqual(r.Status.Conditions, "Ready", status) {
				return "", nil
			}
			return fmt.Sprintf("%v, %+v", r.Finalizers, r.Status), nil
		}
	}
	c.eventually("ready", is(metav1.ConditionTrue))
	_, err = api.IPAddresses().Create(t.Context(), &networkingv1.IPAddress{
		ObjectMeta: metav1.ObjectMeta{Name: "10.200.0.9"},
		Spec:       networkingv1.IPAddressSpec{ParentRef: &networkingv1.ParentReference{Resource: "services", Namespace: "default", Name: "web"}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := api.ServiceCIDRs().Delete(t.Context(), "more", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventually("terminating", is(metav1.ConditionFalse))
	if err := api.IPAddresses().Delete(t.Context(), "10.200.0.9", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventually("the end of the range", func(ctx context.Context) (string, error) {
		if _, err := api.ServiceCIDRs().Get(ctx, "more", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			return "it is there", nil
		}
		return "", nil
	})
}
