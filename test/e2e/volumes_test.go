package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"canopus/test/harness"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// stateful: a StatefulSet's pods keep their names and data through deletion, scaling and a rollout with a partition.
func stateful(t *testing.T, s *scenario) {
	s.apply(t, "stateful.yaml")
	s.k(t, "rollout", "status", "statefulset/db", "--timeout=60s")
	first := s.setOfThree(t)
	s.starts(t, "one", "one", "one")

	t.Log("deleted")
	s.k(t, "delete", "pod", "db-1", "--wait=false")
	harness.Until(t, patience, "another db-1", func() error {
		if p := s.tryPod(t, "db-1"); p == nil || p.UID == first[1].UID || !ready(p) {
			return errors.New("not yet")
		}
		return nil
	})
	s.starts(t, "one", "one one", "one")

	t.Log("scaled to one and back: the claims stay, and are found again")
	s.k(t, "scale", "statefulset/db", "--replicas=1")
	harness.Until(t, patience, "one pod", func() error {
		if n := len(s.pods(t, "app=db")); n != 1 {
			return fmt.Errorf("%d pods", n)
		}
		return nil
	})
	if got := s.jsonpath(t, "pvc", "{.items[*].metadata.name}"); got != "data-db-0 data-db-1 data-db-2" {
		t.Errorf("claims %q", got)
	}
	s.k(t, "scale", "statefulset/db", "--replicas=3")
	s.k(t, "rollout", "status", "statefulset/db", "--timeout=60s")
	s.starts(t, "one", "one one one", "one one")

	t.Log("rolled out down to a partition, then whole")
	s.k(t, "patch", "statefulset/db", "-p", `{"spec":{"updateStrategy":{"rollingUpdate":{"partition":2}}}}`)
	s.k(t, "set", "env", "statefulset/db", "VERSION=two")
	s.k(t, "rollout", "status", "statefulset/db", "--timeout=60s")
	s.starts(t, "one", "one one one", "one one two")
	s.k(t, "patch", "statefulset/db", "-p", `{"spec":{"updateStrategy":{"rollingUpdate":{"partition":0}}}}`)
	s.k(t, "rollout", "status", "statefulset/db", "--timeout=60s")
	s.starts(t, "one two", "one one one two", "one one two")
	s.setOfThree(t)
}

// setOfThree checks that the pods are db-0, db-1 and db-2, and returns them.
func (s *scenario) setOfThree(t *testing.T) []corev1.Pod {
	t.Helper()
	pods := s.pods(t, "app=db")
	var names []string
	for _, p := range pods {
		names = append(names, p.Name)
	}
	if !slices.Equal(names, []string{"db-0", "db-1", "db-2"}) {
		t.Fatalf("pods %v", names)
	}
	return pods
}

// starts waits until the volumes of db-0, db-1, … say which versions were started on them: each pod writes its name and
// version at its start.
func (s *scenario) starts(t *testing.T, want ...string) {
	t.Helper()
	for i, versions := range want {
		name, lines := fmt.Sprintf("db-%d", i), ""
		for v := range strings.FieldsSeq(versions) {
			lines += name + " " + v + "\n"
		}
		harness.Until(t, patience, "the data of "+name, func() error {
			r := s.Try(t, "", s.args([]string{"exec", name, "--", "cat", "/data/starts"})...)
			if r.Stdout != lines {
				return fmt.Errorf("%q, want %q (%s)", r.Stdout, lines, r.Stderr)
			}
			return nil
		})
	}
}

// tryPod returns nil when there is no such pod.
func (s *scenario) tryPod(t *testing.T, name string) *corev1.Pod {
	t.Helper()
	p, err := s.Client.CoreV1().Pods(s.ns).Get(t.Context(), name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// volumeDir is the directory of a claim's volume on the node.
func (s *scenario) volumeDir(t *testing.T, claim string) (volume, dir string) {
	t.Helper()
	volume = s.jsonpath(t, "pvc/"+claim, "{.spec.volumeName}")
	dir = s.jsonpath(t, "pv/"+volume, "{.spec.local.path}")
	if want := filepath.Join(s.Node.Dir, "data", "volumes", volume); dir != want {
		t.Errorf("the volume of %s is at %s, want %s", claim, dir, want)
	}
	return volume, dir
}

// volumes: what users of all sorts write is there while it should be, and no longer.
func volumes(t *testing.T, s *scenario) {
	class := "keep-" + s.ns
	s.apply(t, "volumes.yaml", "CLASS", class)
	t.Cleanup(func() { s.Try(t, "", "delete", "storageclass", class) })
	s.k(t, "wait", "pod/writer", "--for=condition=Ready", "--timeout=60s")
	script := "cat /kept/file /looked-at/file; stat -c %u:%g /lost/file; touch /mine/here; ls /lost; touch /looked-at/x /image/x 2>&1 | grep -c Read-only; /image/busybox echo of the image"
	if got, want := s.shell(t, "writer", script), "kept\nlost\n1234:4321\nfile\nof-writer\n2\nof the image\n"; got != want {
		t.Errorf("in the pod: %q, want %q", got, want)
	}
	kept, keptDir := s.volumeDir(t, "kept")
	lost, lostDir := s.volumeDir(t, "lost")
	scratch, scratchDir := s.volumeDir(t, "writer-scratch")
	if got := s.jsonpath(t, "pvc/writer-scratch", "{.metadata.labels.kind} {.metadata.ownerReferences[0].kind}/{.metadata.ownerReferences[0].name}"); got != "scratch Pod/writer" {
		t.Errorf("the ephemeral claim: %q", got)
	}
	if info, err := os.Stat(filepath.Dir(keptDir)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("others can look into the volumes: %v, %v", info.Mode(), err)
	}

	t.Log("a claim in use stays until its pod is gone; the ephemeral one goes with it")
	s.k(t, "delete", "pvc/lost", "--wait=false")
	if got := s.shell(t, "writer", "cat /lost/file"); got != "lost\n" {
		t.Errorf("a claim that is being deleted holds %q", got)
	}
	s.k(t, "delete", "pod/writer")
	s.gone(t, lost, lostDir)
	s.gone(t, scratch, scratchDir)

	t.Log("what is retained stays, even when its volume is deleted")
	s.k(t, "delete", "pvc/kept")
	harness.Until(t, patience, "a released volume", func() error {
		if phase := s.jsonpath(t, "pv/"+kept, "{.status.phase}"); phase != "Released" {
			return errors.New(phase)
		}
		return nil
	})
	s.k(t, "delete", "pv", kept, "--timeout=60s")
	if got, err := os.ReadFile(filepath.Join(keptDir, "file")); err != nil || string(got) != "kept\n" {
		t.Errorf("retained: %q, %v", got, err)
	}
}

// gone waits until a volume and its directory are no more.
func (s *scenario) gone(t *testing.T, volume, dir string) {
	t.Helper()
	harness.Until(t, patience, "volume "+volume+" gone", func() error {
		_, err := s.Client.CoreV1().PersistentVolumes().Get(t.Context(), volume, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("still there: %w", err)
	})
	if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory of %s stays: %v", volume, err)
	}
}

// volumesAfterKill: Canopus dies while a StatefulSet is being made and while its claims are being removed; pods keep their
// data, and what was to go is gone in the end.
func volumesAfterKill(t *testing.T, s *scenario) {
	s.apply(t, "stateful.yaml")
	for _, p := range s.Processes {
		p.Kill(t)
	}
	s.serves(t)
	s.k(t, "rollout", "status", "statefulset/db", "--timeout=80s")
	before := s.setOfThree(t)
	s.starts(t, "one", "one", "one")
	for _, p := range s.Processes {
		p.Settle(t)
		p.Kill(t)
	}
	s.serves(t)
	for i, p := range s.setOfThree(t) {
		if p.UID != before[i].UID || containerRestarts(&p) != 0 {
			t.Errorf("%s was replaced or restarted", p.Name)
		}
	}
	s.starts(t, "one", "one", "one") // written through the mount that the dead process made
	s.k(t, "delete", "pod", "db-0")
	s.k(t, "rollout", "status", "statefulset/db", "--timeout=80s")
	s.starts(t, "one one", "one", "one")

	volume, dir := s.volumeDir(t, "data-db-2")
	s.k(t, "delete", "statefulset/db")
	s.k(t, "delete", "pvc", "--all", "--wait=false")
	for _, p := range s.Processes {
		p.Settle(t)
		p.Kill(t)
	}
	s.serves(t)
	s.gone(t, volume, dir)
}
