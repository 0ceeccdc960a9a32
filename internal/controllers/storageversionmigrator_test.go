package controllers

import (
	"context"
	"fmt"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	corev1 "k8s.io/api/core/v1"
	storagemigrationv1 "k8s.io/api/storagemigration/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"canopus/internal/apiserver"
	"canopus/internal/apiserver/apitest"
	"canopus/internal/store"
)

// keyring marks values with the key they are stored under: 2, of late. It stands for encryption.
type keyring struct{}

func (keyring) ToStorage(_ context.Context, plain []byte, _ string) ([]byte, error) {
	return append([]byte("2"), plain...), nil
}

func (keyring) FromStorage(_ context.Context, stored []byte, _ string) ([]byte, bool, error) {
	return stored[1:], stored[0] != '2', nil
}

// TestStorageVersionMigration: after a change of the key, every object is stored under the new one, and keeps its content.
func TestStorageVersionMigration(t *testing.T) {
	t.Parallel()
	server := apitest.Start(t, func(c *apiserver.Config) {
		c.Transformer = func(gr schema.GroupResource) store.Transformer {
			if gr.Resource == "secrets" {
				return keyring{}
			}
			return nil
		}
	})
	c := startOn(t, server, nil)
	const n = 30
	for i := range n {
		s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("s", i)}, Data: map[string][]byte{"a": []byte("b")}}
		if _, err := c.CoreV1().Secrets("default").Create(t.Context(), s, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	// As if they had been written under an earlier key.
	stored, err := server.Etcd.Get(t.Context(), "/registry/secrets/default/", clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range stored.Kvs {
		kv.Value[0] = '1'
		if _, err := server.Etcd.Put(t.Context(), string(kv.Key), string(kv.Value)); err != nil {
			t.Fatal(err)
		}
	}
	migrate := func(name, group, resource string, want storagemigrationv1.MigrationConditionType) {
		t.Helper()
		m := &storagemigrationv1.StorageVersionMigration{ObjectMeta: metav1.ObjectMeta{Name: name}}
		m.Spec.Resource = metav1.GroupResource{Group: group, Resource: resource}
		if _, err := c.StoragemigrationV1().StorageVersionMigrations().Create(t.Context(), m, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		c.eventually("migration of "+resource, func(ctx context.Context) (string, error) {
			m, err := c.StoragemigrationV1().StorageVersionMigrations().Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				return err.Error(), err
			}
			if meta.IsStatusConditionTrue(m.Status.Conditions, string(want)) && !meta.IsStatusConditionTrue(m.Status.Conditions, "Running") {
				return "", nil
			}
			return fmt.Sprintf("%+v", m.Status), nil
		})
	}
	migrate("secrets", "", "secrets", storagemigrationv1.MigrationSucceeded)
	migrate("nothing", "example.com", "things", storagemigrationv1.MigrationFailed)
	if stored, err = server.Etcd.Get(t.Context(), "/registry/secrets/default/", clientv3.WithPrefix()); err != nil || len(stored.Kvs) != n {
		t.Fatal(len(stored.Kvs), err)
	}
	for _, kv := range stored.Kvs {
		if kv.Value[0] != '2' {
			t.Errorf("%s is stored under key %c", kv.Key, kv.Value[0])
		}
	}
	s, err := c.CoreV1().Secrets("default").Get(t.Context(), "s7", metav1.GetOptions{})
	if err != nil || string(s.Data["a"]) != "b" || len(s.ManagedFields) != 1 {
		t.Errorf("%+v, %v", s, err)
	}
}
