package controllers

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
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

// TestAddressRepair: what somebody deletes or writes by hand is put right.
func TestAddressRepair(t *testing.T) {
	t.Parallel()
	c := start(t, func(config *Config, _ *rest.Config) {
		config.Clock = rushed{start: time.Now(), by: time.Hour, faster: 1}
	})
	api := c.NetworkingV1().IPAddresses()
	const ip = "10.96.3.7" // given out by nobody: this server has no allocator
	_, err := c.CoreV1().Services("default").Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec:       corev1.ServiceSpec{ClusterIP: ip, ClusterIPs: []string{ip}, Ports: []corev1.ServicePort{{Port: 80}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var last types.UID
	recorded := func() {
		t.Helper()
		c.eventually("the address to be recorded", func(ctx context.Context) (string, error) {
			a, err := api.Get(ctx, ip, metav1.GetOptions{})
			if err != nil {
				return err.Error(), err
			}
			if a.UID == last || a.Spec.ParentRef.Name != "web" || a.Labels[networkingv1.LabelManagedBy] == "" {
				return fmt.Sprintf("%+v", a), nil
			}
			last = a.UID
			return "", nil
		})
	}
	recorded()
	if err := api.Delete(t.Context(), ip, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	recorded()
	c.hasEvent("default", "web", "ClusterIPNotAllocated", "is not allocated; repairing")
	for _, managed := range []bool{true, false} {
		a := &networkingv1.IPAddress{
			ObjectMeta: metav1.ObjectMeta{Name: "10.96.7.7"},
			Spec:       networkingv1.IPAddressSpec{ParentRef: &networkingv1.ParentReference{Resource: "services", Namespace: "default", Name: "none"}},
		}
		if managed {
			a.Name, a.Labels = "10.96.7.8", map[string]string{networkingv1.LabelManagedBy: "ipallocator.k8s.io"}
		}
		if _, err := api.Create(t.Context(), a, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	c.eventually("the end of the leaked address", func(ctx context.Context) (string, error) {
		if _, err := api.Get(ctx, "10.96.7.8", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			return "it is there", nil
		}
		return "", nil
	})
	if _, err := api.Get(t.Context(), "10.96.7.7", metav1.GetOptions{}); err != nil {
		t.Errorf("an address of somebody else: %v", err)
	}
}
