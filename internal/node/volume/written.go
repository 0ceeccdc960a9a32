package volume

import (
	"context"
	"fmt"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"

	"canopus/internal/node/env"
)

const defaultMode = 0o644

// contents computes the files of a volume and when they should be computed again.
type contents func(ctx context.Context, w *written) (map[string]file, error)

// written is a volume whose files come from the API: configMap, secret, downwardAPI and projected.
type written struct {
	Source
	plugin  string
	files   contents
	tokens  map[string]token // by path; projected only
	refresh time.Time
}

type token struct {
	value   string
	refresh time.Time
}

func newWritten(s Source, plugin string, files contents) *written {
	return &written{Source: s, plugin: plugin, files: files, tokens: map[string]token{}}
}

// SetUp writes the files into a tmpfs, so that Secrets never reach a disk.
func (w *written) SetUp(ctx context.Context) (string, error) {
	dir := w.dir(w.plugin)
	files, err := w.files(ctx, w)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("volume %s: %w", w.Volume.Name, err)
	}
	if w.secret() {
		mounted, err := w.Host.Mounter.IsMountPoint(dir)
		if err != nil {
			return "", fmt.Errorf("volume %s: %w", w.Volume.Name, err)
		}
		if !mounted {
			if err := w.Host.Mounter.Mount("tmpfs", dir, "tmpfs", []string{"noswap"}); err != nil {
				// Kernels before 6.3 do not know noswap.
				if err := w.Host.Mounter.Mount("tmpfs", dir, "tmpfs", nil); err != nil {
					return "", fmt.Errorf("volume %s: mount tmpfs: %w", w.Volume.Name, err)
				}
			}
		}
		// A tmpfs root is 1777; the volume's is what a directory would be.
		if err := os.Chmod(dir, 0o777); err != nil {
			return "", fmt.Errorf("volume %s: %w", w.Volume.Name, err)
		}
	}
	own := func(p string) error { return setGroup(p, w.Pod, true) }
	if _, err := writeAtomic(dir, files, own, w.Host.Clock.Now()); err != nil {
		return "", err
	}
	return dir, nil
}

// secret says whether the volume holds secrets and therefore lives in memory.
func (w *written) secret() bool {
	return w.Volume.Secret != nil || w.Volume.Projected != nil
}

func (w *written) Refresh() time.Time { return w.refresh }

func (w *written) TearDown() error { return unmount(w.Host.Mounter, w.dir(w.plugin)) }

func configMapFiles(_ context.Context, w *written) (map[string]file, error) {
	src := w.Volume.ConfigMap
	out := map[string]file{}
	return out, w.addConfigMap(out, src.Name, src.Items, mode(src.DefaultMode), isTrue(src.Optional))
}

func secretFiles(_ context.Context, w *written) (map[string]file, error) {
	src := w.Volume.Secret
	out := map[string]file{}
	return out, w.addSecret(out, src.SecretName, src.Items, mode(src.DefaultMode), isTrue(src.Optional))
}

func downwardFiles(_ context.Context, w *written) (map[string]file, error) {
	src := w.Volume.DownwardAPI
	out := map[string]file{}
	return out, w.addDownward(out, src.Items, mode(src.DefaultMode))
}

func (w *written) addConfigMap(out map[string]file, name string, items []corev1.KeyToPath, m os.FileMode, optional bool) error {
	obj, found, err := w.Objects.ConfigMap(w.Pod.Namespace, name)
	if err != nil {
		return err
	}
	if !found {
		if optional {
			return nil
		}
		return fmt.Errorf("configmap %q not found", name)
	}
	all := make(map[string][]byte, len(obj.Data)+len(obj.BinaryData))
	for k, v := range obj.Data {
		all[k] = []byte(v)
	}
	for k, v := range obj.BinaryData {
		all[k] = v
	}
	return pick(out, all, items, m, optional)
}

func (w *written) addSecret(out map[string]file, name string, items []corev1.KeyToPath, m os.FileMode, optional bool) error {
	obj, found, err := w.Objects.Secret(w.Pod.Namespace, name)
	if err != nil {
		return err
	}
	if !found {
		if optional {
			return nil
		}
		return fmt.Errorf("secret %q not found", name)
	}
	return pick(out, obj.Data, items, m, optional)
}

// pick chooses the items, or everything when there are none.
func pick(out map[string]file, all map[string][]byte, items []corev1.KeyToPath, m os.FileMode, optional bool) error {
	if len(items) == 0 {
		for k, v := range all {
			out[k] = file{v, m}
		}
		return nil
	}
	for _, it := range items {
		v, ok := all[it.Key]
		if !ok {
			if optional {
				continue
			}
			return fmt.Errorf("references non-existent config key: %s", it.Key)
		}
		fm := m
		if it.Mode != nil {
			fm = os.FileMode(*it.Mode)
		}
		out[it.Path] = file{v, fm}
	}
	return nil
}

func (w *written) addDownward(out map[string]file, items []corev1.DownwardAPIVolumeFile, m os.FileMode) error {
	for _, it := range items {
		fm := m
		if it.Mode != nil {
			fm = os.FileMode(*it.Mode)
		}
		var v string
		var err error
		switch {
		case it.FieldRef != nil:
			v, err = env.Field(w.Pod, it.FieldRef.FieldPath)
		case it.ResourceFieldRef != nil:
			c := env.ContainerOf(w.Pod, it.ResourceFieldRef.ContainerName)
			if c == nil {
				return fmt.Errorf("container %q of the downward API item %s is not in the pod", it.ResourceFieldRef.ContainerName, it.Path)
			}
			v, err = env.Resource(c, it.ResourceFieldRef, w.Host.Allocatable)
		}
		if err != nil {
			return err
		}
		out[it.Path] = file{[]byte(v), fm}
	}
	return nil
}

func mode(m *int32) os.FileMode {
	if m == nil {
		return defaultMode
	}
	return os.FileMode(*m)
}

func isTrue(b *bool) bool { return b != nil && *b }
