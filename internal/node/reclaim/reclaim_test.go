package reclaim

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"canopus/internal/apiserver/apitest"
	"canopus/internal/localvolume"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"
)

// volumeOf is a released volume of node n1 that is being deleted.
func volumeOf(name, root string) *corev1.PersistentVolume {
	return &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Labels: map[string]string{"canopus.io/node": "n1"}, Annotations: map[string]string{"pv.kubernetes.io/provisioned-by": "canopus.io/local"},
			Finalizers: []string{"canopus.io/local-volume"}, DeletionTimestamp: &metav1.Time{Time: time.Unix(1, 0)},
		},
		Spec: corev1.PersistentVolumeSpec{
			Capacity: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Mi")}, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimDelete, StorageClassName: "local",
			PersistentVolumeSource: corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: filepath.Join(root, name)}},
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "kubernetes.io/hostname", Operator: corev1.NodeSelectorOpIn, Values: []string{"n1"}}},
			}}}},
		},
		Status: corev1.PersistentVolumeStatus{Phase: corev1.VolumeReleased},
	}
}

func TestDecide(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*corev1.PersistentVolume)
		want   action
	}{
		"to be deleted": {func(*corev1.PersistentVolume) {}, removal},
		"never bound":   {func(pv *corev1.PersistentVolume) { pv.Status.Phase = corev1.VolumeAvailable }, removal},
		"stays":         {func(pv *corev1.PersistentVolume) { pv.DeletionTimestamp = nil }, leave},
		"bound":         {func(pv *corev1.PersistentVolume) { pv.Status.Phase = corev1.VolumeBound }, leave},
		"protected": {func(pv *corev1.PersistentVolume) {
			pv.Finalizers = append(pv.Finalizers, "kubernetes.io/pv-protection")
		}, leave},
		"done with":      {func(pv *corev1.PersistentVolume) { pv.Finalizers = []string{"other"} }, leave},
		"another node's": {func(pv *corev1.PersistentVolume) { pv.Labels["canopus.io/node"] = "n2" }, leave},
		"retained": {func(pv *corev1.PersistentVolume) {
			pv.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimRetain
		}, letGo},
		"a directory that is not":   {func(pv *corev1.PersistentVolume) { pv.Spec.Local.Path = "/etc" }, letGo},
		"one of another volume":     {func(pv *corev1.PersistentVolume) { pv.Spec.Local.Path = "/volumes/other" }, letGo},
		"of an unknown provisioner": {func(pv *corev1.PersistentVolume) { pv.Annotations = nil }, letGo},
		"not local at all":          {func(pv *corev1.PersistentVolume) { pv.Spec.Local = nil }, letGo},
	} {
		pv := volumeOf("pv", "/volumes")
		c.change(pv)
		if got := decide(pv, "n1", "/volumes"); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

// TestReclaim removes directories against a real API server: one of a volume to delete, once no pod uses it any more, but
// not one to retain.
func TestReclaim(t *testing.T) {
	t.Parallel()
	client, err := kubernetes.NewForConfig(apitest.Start(t).Admin)
	if err != nil {
		t.Fatal(err)
	}
	ctx, root, volumes := t.Context(), t.TempDir(), t.TempDir()
	busy := filepath.Join(root, "pods", "u1", "volumes", "kubernetes.io~local-volume", "used")
	if err := os.MkdirAll(busy, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"used", "kept", "other"} {
		pv := volumeOf(name, volumes)
		switch name {
		case "kept":
			pv.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimRetain
		case "other":
			pv.Labels["canopus.io/node"] = "n2"
		}
		if err := errors.Join(os.Mkdir(localvolume.Dir(volumes, name), 0o700), os.WriteFile(filepath.Join(volumes, name, "data"), nil, 0o600)); err != nil {
			t.Fatal(err)
		}
		if _, err := client.CoreV1().PersistentVolumes().Create(ctx, pv, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := client.CoreV1().PersistentVolumes().Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	events := record.NewFakeRecorder(100)
	r, err := New(Config{Client: client, NodeName: "n1", Volumes: volumes, Root: root, Recorder: events, Clock: clock.RealClock{}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	run, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- r.Run(run) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	waitGone(t, client, "kept")
	if _, err := os.Stat(filepath.Join(volumes, "kept", "data")); err != nil {
		t.Error("data to retain is gone:", err)
	}
	if _, err := os.Stat(filepath.Join(volumes, "used", "data")); err != nil {
		t.Error("data that a pod uses is gone:", err)
	}
	if err := os.Remove(busy); err != nil {
		t.Fatal(err)
	}
	waitGone(t, client, "used")
	if _, err := os.Stat(filepath.Join(volumes, "used")); !errors.Is(err, os.ErrNotExist) {
		t.Error("the directory stays:", err)
	}
	if pv, err := client.CoreV1().PersistentVolumes().Get(ctx, "other", metav1.GetOptions{}); err != nil || len(pv.Finalizers) == 0 {
		t.Errorf("another node's volume: %+v, %v", pv, err)
	}
}

func waitGone(t *testing.T, client kubernetes.Interface, name string) {
	t.Helper()
	err := wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		_, err := client.CoreV1().PersistentVolumes().Get(ctx, name, metav1.GetOptions{})
		return apierrors.IsNotFound(err), nil
	})
	if err != nil {
		t.Fatalf("volume %s stays: %v", name, err)
	}
}
