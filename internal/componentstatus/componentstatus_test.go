package componentstatus_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"
	testclock "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"

	"canopus/internal/apiserver"
	"canopus/internal/apiserver/apitest"
	"canopus/internal/componentstatus"
)

// TestStatuses reads the parts through the API, as kubectl get componentstatuses does.
func TestStatuses(t *testing.T) {
	t.Parallel()
	statuses, err := componentstatus.New(
		componentstatus.Part{Name: "scheduler", Probe: componentstatus.Here},
		componentstatus.Part{Name: "etcd-0", Probe: func(context.Context) error { return errors.New("disk full") }},
	)
	if err != nil {
		t.Fatal(err)
	}
	warned := make(warnings, 8)
	s := apitest.Start(t, func(c *apiserver.Config) {
		c.Computed = map[schema.GroupResource]apiserver.Computed{{Resource: "componentstatuses"}: statuses}
	})
	s.Admin.WarningHandler = warned
	clients, err := kubernetes.NewForConfig(s.Admin)
	if err != nil {
		t.Fatal(err)
	}
	client := clients.CoreV1().ComponentStatuses()
	list, err := client.List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, item := range list.Items {
		for _, c := range item.Conditions {
			got = append(got, strings.Join([]string{item.Name, string(c.Type), string(c.Status), c.Message, c.Error}, "|"))
		}
	}
	if want := "scheduler|Healthy|True|ok| etcd-0|Healthy|False||disk full"; strings.Join(got, " ") != want {
		t.Errorf("%q, want %q", got, want)
	}
	if text := <-warned; text != "v1 ComponentStatus is deprecated in v1.19+" {
		t.Errorf("warned %q", text)
	}
	if one, err := client.Get(t.Context(), "scheduler", metav1.GetOptions{}); err != nil || one.Conditions[0].Status != corev1.ConditionTrue {
		t.Errorf("%v %v", one, err)
	}
	if _, err := client.Get(t.Context(), "x", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("a part that is not there: %v", err)
	}
	if list, err := client.List(t.Context(), metav1.ListOptions{LabelSelector: labels.Set{"a": "b"}.String()}); err != nil || len(list.Items) != 0 {
		t.Errorf("selected by a label that none has: %v %v", list, err)
	}
	if err := client.Delete(t.Context(), "scheduler", metav1.DeleteOptions{}); !apierrors.IsMethodNotSupported(err) {
		t.Errorf("deleted: %v", err)
	}
}

// warnings takes the texts of Warning headers.
type warnings chan string

// HandleWarningHeader implements rest.WarningHandler.
func (w warnings) HandleWarningHeader(_ int, _, text string) {
	select {
	case w <- text:
	default: // more than the test looks at
	}
}

func TestElsewhere(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t)
	clock := testclock.NewFakePassiveClock(time.Unix(1_800_000_000, 0))
	probe := componentstatus.Elsewhere(s.Client, clock, "kube-scheduler")
	verify := func(want string) {
		t.Helper()
		err := probe(t.Context())
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	verify("no process has been elected")
	leases := s.Client.CoordinationV1().Leases("kube-system")
	lease, err := leases.Create(t.Context(), &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: "kube-scheduler"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	verify("no process holds the lease")
	lease.Spec = coordinationv1.LeaseSpec{
		HolderIdentity: ptr.To("a"), LeaseDurationSeconds: ptr.To(int32(15)), RenewTime: ptr.To(metav1.NewMicroTime(clock.Now())),
	}
	if _, err := leases.Update(t.Context(), lease, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	verify("")
	clock.SetTime(clock.Now().Add(20 * time.Second))
	verify("a has not renewed the lease kube-system/kube-scheduler for 20s")
}

func TestNewWantsProbes(t *testing.T) {
	t.Parallel()
	if _, err := componentstatus.New(componentstatus.Part{Name: "x"}); err == nil {
		t.Error("a part without a probe was taken")
	}
}
