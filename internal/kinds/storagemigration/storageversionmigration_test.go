package storagemigration

import (
	"testing"

	storagemigrationv1 "k8s.io/api/storagemigration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func migration(revision string, ended ...storagemigrationv1.MigrationConditionType) *storagemigrationv1.StorageVersionMigration {
	m := &storagemigrationv1.StorageVersionMigration{ObjectMeta: metav1.ObjectMeta{Name: "a", ResourceVersion: "1"}}
	m.Spec.Resource = metav1.GroupResource{Group: "apps", Resource: "deployments"}
	m.Status.ResourceVersion = revision
	for _, t := range ended {
		m.Status.Conditions = append(m.Status.Conditions, metav1.Condition{
			Type: string(t), Status: metav1.ConditionTrue, Reason: "R", LastTransitionTime: metav1.Unix(1, 0),
		})
	}
	return m
}

func TestSpecIsValidatedAndFixed(t *testing.T) {
	t.Parallel()
	k := StorageVersionMigration()
	bad := migration("")
	bad.Spec.Resource.Resource = ""
	if errs := k.Validate(bad); len(errs) != 1 || errs[0].Field != "spec.resource.resource" {
		t.Errorf("no resource: %v", errs)
	}
	moved := migration("")
	moved.Spec.Resource.Resource = "daemonsets"
	if errs := k.ValidateUpdate(moved, migration("")); len(errs) != 1 || errs[0].Field != "spec" {
		t.Errorf("another resource: %v", errs)
	}
	if errs := k.Validate(migration("")); len(errs) != 0 {
		t.Error(errs)
	}
}

func TestStatusEndsOnce(t *testing.T) {
	t.Parallel()
	const running, succeeded, failed = storagemigrationv1.MigrationRunning, storagemigrationv1.MigrationSucceeded, storagemigrationv1.MigrationFailed
	status := StorageVersionMigration().Subresource("status")
	for name, c := range map[string]struct {
		now, old *storagemigrationv1.StorageVersionMigration
		bad      int
	}{
		"begins":              {migration("7", running), migration(""), 0},
		"ends":                {migration("7", succeeded), migration("7", running), 0},
		"both":                {migration("7", succeeded, failed), migration("7", running), 1},
		"runs after its end":  {migration("7", succeeded, running), migration("7", running), 1},
		"begins again":        {migration("7", running), migration("7", succeeded), 1},
		"from another moment": {migration("8", running), migration("7", running), 1},
		"from no moment":      {migration("x", running), migration("", running), 1},
	} {
		if errs := status.ValidateUpdate(c.now, c.old); len(errs) != c.bad {
			t.Errorf("%s: %v", name, errs)
		}
	}
}
